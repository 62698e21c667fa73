// Creates all nodes, and formats numbers and times.
//
// Data of the server becomes a text or an attribute, never markup.

// An element, as "div" or "div.class"; attributes may be omitted. A function becomes a listener, a text never does.
export function h(tag, ...parts) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes[0]) element.className = classes.join(" ");
  return made(element, parts);
}

export const svg = (tag, attributes) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", tag), [attributes]);

function made(element, parts) {
  const attributes = parts[0]?.constructor === Object ? parts.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[name] = value;
    else if (value !== false && value != null && !/^on/i.test(name)) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  return fill(element, parts);
}

const present = (children) => children.flat(Infinity).filter((child) => child != null && child !== false);

export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

// Fills an element again and keeps its nodes, with focus, selection and clicks that have begun. Nodes are matched in
// their order, by their name and `data-row`.
export function renew(element, ...children) {
  const name = (node) => node.nodeName + node.dataset?.row;
  const focused = document.activeElement;
  const old = Map.groupBy(element.childNodes, name);
  const nodes = present(children).map((child) => {
    const node = child.nodeType ? child : new Text(child);
    return merged(old.get(name(node))?.shift() ?? node, node);
  });
  old.forEach((rest) => rest.forEach((node) => node.remove()));
  nodes.forEach((node, at) => {
    if (element.childNodes[at] !== node) element.insertBefore(node, element.childNodes[at]);
  });
  // A node that is moved loses the focus.
  if (focused !== document.activeElement && element.contains(focused)) focused.focus({ preventScroll: true });
}

function merged(old, node) {
  if (old === node) return old;
  if (old.nodeName === "#text") {
    if (old.data !== node.data) old.data = node.data;
    return old;
  }
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of node.attributes) old.setAttribute(name, value);
  old.onclick = node.onclick;
  renew(old, ...node.childNodes);
  return old;
}

// Announces a text to screen readers.
export const announce = (text) => (document.getElementById("announcer").textContent = text);

export const count = (n) => (n == null ? "–" : Math.round(n).toLocaleString("en-US"));

export const rate = (n) => (n == null ? "–" : n < 10 ? String(Math.round(n * 10) / 10) : count(n));

export function bytes(n) {
  if (n == null) return "–";
  const at = n < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(n) / 10));
  const size = n / 1024 ** at;
  return `${at && size < 10 ? size.toFixed(1) : Math.round(size)} ${["B", "KB", "MB", "GB", "TB"][at]}`;
}

export function micros(us) {
  if (us == null) return "–";
  if (us < 1000) return `${trim(us)} µs`;
  return us < 1e6 ? `${trim(us / 1000)} ms` : `${trim(us / 1e6)} s`;
}

export const millis = (ms) => (ms ? micros(ms * 1000) : "–");

const trim = (n) => (n < 10 && !Number.isInteger(n) ? n.toFixed(1) : String(Math.round(n)));

// Milliseconds by which the server's clock is ahead. `Date` has whole seconds.
let ahead = 0;

export function noteTime(text) {
  const found = Date.parse(text) - Date.now();
  if (Math.abs(found - ahead) > 2000) ahead = found;
}

export const ago = (text) => !text || text.startsWith("0001-") ? "–" : span(Date.now() + ahead - Date.parse(text));

export function span(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

export function clock(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// Quoted for a shell.
export const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// A line of a list of facts; nothing without a value.
export const fact = (name, value) => value && h("div", h("dt", name), h("dd", value));

// A sentence; parts between backticks become code.
export const spoken = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", part) : part));

export const quiet = (...children) => h("p.quiet", children);

export const field = (label, input, hint) =>
  h("div.field", h("label", { for: input.id }, label), input, hint && quiet(hint));

// Attributes of a field for names and code.
export const VERBATIM = { spellcheck: "false", autocapitalize: "off", autocomplete: "off" };

export const button = (label, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, label);

export function copier(label, text) {
  return button(label, async ({ currentTarget: it }) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages without TLS have no clipboard.
      window.prompt("Copy:", text);
    }
    it.textContent = "Copied";
    announce("Copied");
    setTimeout(() => (it.textContent = label), 1500);
  });
}

// A table: `columns` are {head, number, title} or texts, with # before numbers; `rows` arrays of nodes or texts.
export function table(caption, given, rows) {
  const columns = given.map((one) => one.head ? one : { head: one.replace("#", ""), number: one[0] === "#" });
  const number = (column) => (column.number ? ".number" : "");
  const cells = (row) => row.map((cell, at) => h(`td${number(columns[at])}`, { "data-head": columns[at].head }, cell));
  const heads = columns.map((column) => h(`th${number(column)}`,
    { scope: "col", title: column.title, "aria-sort": column.sorted }, column.node ?? column.head));
  return h("table", h("caption.unseen", caption), h("thead", h("tr", heads)),
    h("tbody", rows.map((row) => h("tr", row.attributes ?? {}, cells(row.cells ?? row)))));
}

export function sortable(column, isSorted, onclick) {
  return { ...column, sorted: isSorted ? "descending" : undefined,
    node: button(`${column.head}${isSorted ? " ▾" : ""}`, onclick, { class: "sort" }) };
}

// What to do where a list is empty, with a command to copy.
export const empty = (text, command) =>
  h("div.empty", h("p", text), command && [h("pre", command), copier("Copy", command)]);

// An error; with the seconds after which the request is repeated.
export function failure(error, seconds) {
  const inWords = (text) => text.replace(/^Requires: (\S+) (\S+) (\S+)$/, "You need the claim $1/$2/$3.");
  const lines = (error.messages ?? [error.message]).map(inWords);
  return h("div.failure", { role: "alert" }, h("pre", lines.join("\n")),
    seconds && error.status === 0 && h("p", `Retrying every ${seconds} s.`));
}
