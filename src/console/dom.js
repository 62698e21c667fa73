// Creates all nodes, and formats numbers and times.
//
// Data of the server becomes a text or an attribute, never markup, so an event cannot contain any.

// An element; attributes may be omitted. A function becomes a listener, a text never does.
export const h = (tag, ...parts) => made(document.createElement(tag), parts);

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

// The old node with the content of the new one.
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
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

export const count = (n) => (n == null ? "–" : Math.round(n).toLocaleString("en-US"));

export const rate = (n) => (n == null ? "–" : n < 10 ? String(Math.round(n * 10) / 10) : count(n));

// Bytes, in powers of 1,024.
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

// Milliseconds; a dash for none.
export const millis = (ms) => (ms ? micros(ms * 1000) : "–");

const trim = (n) => (n < 10 && !Number.isInteger(n) ? n.toFixed(1) : String(Math.round(n)));

// Milliseconds by which the server's clock is ahead, if it is by more than the whole seconds of `Date` can tell.
let ahead = 0;

export function noteTime(text) {
  const found = Date.parse(text) - Date.now();
  if (Math.abs(found - ahead) > 2000) ahead = found;
}

// The time since a time of the server.
export const ago = (text) => !text || text.startsWith("0001-") ? "–" : span(Date.now() + ahead - Date.parse(text));

export function span(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

// A time of day in the viewer's zone.
export function clock(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// A text quoted for a shell.
export const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// A line of a list of facts; nothing without a value.
export const fact = (name, value) => value && h("div", h("dt", name), h("dd", value));

// A curl command with the user's name; curl prompts for the password.
export const curl = (user, options) => `curl -k -u ${quote(user)} ${options}`;

// A sentence; parts between backticks become code.
export const spoken = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", part) : part));

// A secondary paragraph.
export const quiet = (...children) => h("p", { class: "quiet" }, children);

export const field = (label, input, hint) =>
  h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint && quiet(hint));

// Attributes of a field for names and code.
export const VERBATIM = { type: "text", spellcheck: "false", autocapitalize: "off", autocomplete: "off" };

export function button(label, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, label);
}

// A button that copies a text.
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

// A table: `columns` are {head, number, title}, `rows` arrays of nodes or texts.
export function table(caption, columns, rows, attributes = {}) {
  const cells = (row) =>
    row.map((cell, at) => h("td", { class: columns[at].number ? "number" : "", "data-head": columns[at].head }, cell));
  const heads = columns.map((column) =>
    h("th", { scope: "col", class: column.number ? "number" : "", title: column.title, "aria-sort": column.sorted },
      column.node ?? column.head));
  return h("table", attributes, h("caption", { class: "unseen" }, caption), h("thead", h("tr", heads)),
    h("tbody", rows.map((row) => h("tr", row.attributes ?? {}, cells(row.cells ?? row)))));
}

// A column whose head sorts the table.
export function sortable(column, isSorted, onclick) {
  return { ...column, sorted: isSorted ? "descending" : undefined,
    node: button(`${column.head}${isSorted ? " ▾" : ""}`, onclick, { class: "sort" }) };
}

// The empty state of a list: what to do, with a command to copy.
export function empty(text, command) {
  return h("div", { class: "empty" }, h("p", text), command && h("pre", command),
    command && copier("Copy", command));
}

// An error; with the interval in seconds if the request is repeated.
export function failure(error, seconds) {
  const inWords = (text) => text.replace(/^Requires: (\S+) (\S+) (\S+)$/, "You need the claim $1/$2/$3.");
  const lines = (error.messages ?? [error.message]).map(inWords);
  return h("div", { class: "failure", role: "alert" }, h("pre", lines.join("\n")),
    seconds && error.status === 0 && h("p", `Retrying every ${seconds} s.`));
}
