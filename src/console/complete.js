// The field of a SPEC: its check, and its completion by operators and the types, actions, keys and fields of events.

import { onSession, post } from "./api.js";
import { VERBATIM, button, count, fill, h } from "./dom.js";

const fresh = () => ({
  types: new Set(["*", "machines", "jobs", "work_orders", "machine_jobs", "work_order_jobs",
    "profiles", "params", "stages", "workflows", "users", "connections", "leases", "templates"]),
  actions: new Set(["*", "create", "update", "save", "delete", "action"]),
  keys: new Set(["*"]),
  fields: new Set(),
});
let known = fresh();
let lists = 0;
onSession(() => (known = fresh()));
const OPERATORS = ["Eq(", "Ne(", "In(", "Nin(", "Re(", "Exists()", "Changed("];
const MOST = 400;

const note = (set, value) => set.size < MOST && typeof value === "string" && value && set.add(value);

export function learn(event) {
  note(known.types, event.Type);
  note(known.actions, event.Action);
  if (known.keys.size < 100) note(known.keys, event.Key);
  if (event.Object && typeof event.Object === "object" && known.fields.size < MOST) {
    for (const [name, value] of Object.entries(event.Object)) {
      note(known.fields, name);
      if (name === "Params" && value) Object.keys(value).slice(0, 50)
        .forEach((inner) => note(known.fields, `Params.${inner}`));
    }
  }
}

// The word at the end of a text, and what may replace it.
function candidates(text) {
  const parts = text.split(".");
  const last = (part) => part.split(",").at(-1);
  if (parts.length <= 3) {
    const word = last(parts.at(-1));
    return [word, [known.types, known.actions, known.keys][parts.length - 1]];
  }
  const filter = parts.slice(3).join(".");
  const operator = filter.match(/=([A-Za-z]*)$/);
  if (operator) return [operator[1], new Set(OPERATORS)];
  const word = filter.match(/[^(),]*$/)[0];
  return [word, new Set([...known.fields].map((field) => `${field}=`))];
}

// Completions of an input: arrows select, Tab or Enter accepts.
function suggest(input) {
  const id = `tips-${++lists}`;
  const list = h("ul.tips", { role: "listbox", id, "aria-label": "Completions" });
  input.setAttribute("aria-controls", id);
  let at = -1;
  let found = [];
  let word = "";

  function open(is) {
    list.hidden = !is;
    input.ariaExpanded = is;
  }

  function draw() {
    const text = input.value.slice(0, input.selectionStart);
    const [typed, names] = candidates(text);
    word = typed;
    found = [...names].filter((name) => name.toLowerCase().startsWith(typed.toLowerCase()) && name !== typed)
      .sort().slice(0, 8);
    at = -1;
    open(found.length > 0 && (typed !== "" || !text || text.endsWith(".")));
    fill(list, found.map((name, index) => h("li", { role: "option", "aria-selected": "false", id: `${id}-${index}`,
      onpointerdown: (event) => { event.preventDefault(); take(index); } }, name)));
  }

  function move(by) {
    at = (at + by + found.length) % found.length;
    [...list.children].forEach((item, index) => (item.ariaSelected = index === at));
    input.setAttribute("aria-activedescendant", `${id}-${at}`);
  }

  function take(index) {
    const end = input.selectionStart;
    const rest = input.value.slice(end);
    const start = input.value.slice(0, end - word.length) + found[index];
    input.value = start + rest;
    input.setSelectionRange(start.length, start.length);
    open(false);
    input.dispatchEvent(new Event("input"));
  }

  input.addEventListener("input", draw);
  input.onblur = () => open(false);
  input.onkeydown = (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape") {
      open(false);
    } else if (event.key === "Tab" && !event.shiftKey || event.key === "Enter" && at >= 0) {
      event.preventDefault();
      take(Math.max(0, at));
    }
  };
  open(false);
  return list;
}

// The class and text of the note under an accepted SPEC.
function praise({ Warnings: warnings, Looked: looked, Matched: matched }) {
  const past = looked > 0 ? `Would have matched ${count(matched)} of the last ${count(looked)} events.` : "";
  return [warnings.length ? "attention" : "quiet", [...warnings.map((text) => `▲ ${text}`), past].join("\n").trim()];
}

// The same for a refused one.
const blame = (error) => (error.status === 400 ? ["bad", error.messages.join("\n")] : ["quiet", ""]);

// A field; `commit(value)` takes a new SPEC that is accepted.
export function specField(spec, message, commit, drop) {
  const note = h("pre.note");
  const input = h("input.spec", { value: spec, "aria-label": "SPEC: type.action.key.filter", "data-key": "spec",
    role: "combobox", ...VERBATIM });
  const tips = suggest(input);
  let timer;

  function say([kind, said]) {
    note.className = `note ${kind}`;
    note.textContent = said;
    input.ariaInvalid = kind === "bad";
    return kind !== "bad";
  }

  // Says what is wrong. Returns the SPEC if it is accepted, and the field has not changed meanwhile.
  async function check() {
    const value = input.value.trim();
    const found = await post("hydrant/check", JSON.stringify({ Spec: value })).then(praise, blame);
    return value === input.value.trim() && input.isConnected && say(found) && value;
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, 250);
  });
  input.onchange = async () => {
    const value = await check();
    if (value !== false) commit(value);
  };
  if (message) say(["bad", message.join("\n")]);
  else check();
  return h("div.field", h("div.field-line", input, drop && button("Remove", drop)), note, tips);
}
