// One event: its differences, the object as a tree, the raw text, and commands.

import { curl, onSession } from "./api.js";
import { button, copier, fill, h, quiet, quote, table } from "./dom.js";
import { differences } from "./diff.js";
import { setParameters } from "./route.js";

// The event that was opened last, since the history may lose it before it is explained.
let last = null;
onSession(() => (last = null));
export const opened = (position) => last?.id === position && last.text;

// By its position or, if it has none, by its text.
const explainLink = ({ id, text }, spec) =>
  `#explain?${new URLSearchParams({ ...(id && !id.includes("T") ? { position: id } : { event: text }), spec })}`;

export function detail(pane, entry, specs, start, close) {
  const { event } = last = entry;
  const found = event.Object && event.Original ? differences(event.Original, event.Object) : [];
  const spec = specs.length === 1 ? specs[0] : `${event.Type}.${event.Action}.*`;
  const quoted = quote(spec);
  const stream = `${location.origin}/api/v3/events?register=${encodeURIComponent(spec)}`;
  fill(pane,
    button("Close detail", close, { class: "corner" }),
    h("h2", `${event.Type}.${event.Action}.${event.Key}`),
    quiet(event.Time, event.Principal && ` by ${event.Principal}`),
    h("div.toolbar",
      h("a.button", { href: explainLink(entry, spec), "data-key": "explain" }, "Explain for…"),
      entry.id && button("Replay from here", () => { setParameters({ since: entry.id }); start(entry.id); }),
      copier("Copy curl", curl(`-N ${quote(stream)}`)),
      copier("Copy watch", `hydrant watch -E ${location.origin} ${quoted}`),
      copier("Copy drpcli", `drpcli -E ${location.origin} events watch ${quoted}`)),
    found.length > 0 && [h("h3", "What changed"), changes(found)],
    h("h3", "Object"), event.Object == null ? quiet("null") : tree(event.Object, [], event),
    h("details", h("summary", "Raw"), h("pre.raw", entry.text), copier("Copy", entry.text)));
}

const text = (value) => (value === undefined ? "(nothing)" : JSON.stringify(value));

function changes(found) {
  return h("div.changes", table("What changed", ["Field", "Before", "After"],
    found.slice(0, 200).map((one) => [one.path.join("."), h("del", text(one.before)), h("ins", text(one.after))])));
}

// A tree of a value; large ones are closed.
function tree(value, path, event) {
  if (value === null || typeof value !== "object") return leaf(value, path, event);
  const entries = Object.entries(value);
  if (!entries.length) return h("code", Array.isArray(value) ? "[]" : "{}");
  return h("ul.tree",
    entries.slice(0, 300).map(([name, child]) => branch(name, child, [...path, name], event)),
    entries.length > 300 && h("li.quiet", `and ${entries.length - 300} more, in the raw text`));
}

function branch(name, child, path, event) {
  const inner = child !== null && typeof child === "object" && Object.keys(child).length;
  const label = h("span.name", name);
  if (!inner) return h("li", label, " ", tree(child, path, event));
  const box = h("details", { open: path.length < 2 && inner <= 20 },
    h("summary", label, h("span.quiet", ` ${inner}`)));
  const open = () => box.open && box.children.length === 1 && box.append(tree(child, path, event));
  box.ontoggle = open;
  open();
  return h("li", box);
}

function leaf(value, path, event) {
  const shown = typeof value === "string" && value.length > 300 ? `${value.slice(0, 300)}…` : JSON.stringify(value);
  const pointer = path.some((name) => /[.,()=]/.test(name))
    ? `/${path.map((name) => name.replaceAll("~", "~0").replaceAll("/", "~1")).join("/")}` : path.join(".");
  const filter = `${event.Type}.${event.Action}.*.${pointer}=Eq(${JSON.stringify(value)})`;
  return h("span", h(`code.${typeof value}`, shown), h("span.actions",
    copier("path", pointer), h("a", { href: `#tail?spec=${encodeURIComponent(filter)}`, title: filter }, "filter")));
}
