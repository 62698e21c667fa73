// Tail: events as they arrive. Only the visible rows are in the page.

import { checkSpec, userName } from "./api.js";
import { VERBATIM, announce, button, clock, count, curl, empty, fill, h, quote, rate } from "./dom.js";
import { detail } from "./detail.js";
import { changed } from "./diff.js";
import { all, parameters, setParameters } from "./route.js";
import { follow } from "./stream.js";
import { suggest, learn } from "./complete.js";

export const title = "Tail";

const MOST = 10000;
// Maximum total length of the kept events.
const LARGEST = 64e6;
// Redraw interval in ms.
const REDRAW_INTERVAL = 80;
// Pixels; on a phone a row has two lines.
const phone = window.matchMedia("(max-width: 720px)");
const rowHeight = () => (phone.matches ? 46 : 28);

export function show(element) {
  const kept = [];
  let held = [];
  let [seen, size, missed] = [0, 0, 0];
  let paused = false;
  let chosen = null;
  let stop = null;
  // The times of draws in the last five seconds, and how many events had been seen.
  let draws = [];
  let due = false;
  let waiting = null;
  // Rows added above the visible ones since the last draw.
  let scrolled = 0;
  // The entries whose rows are in the page.
  let drawn = new Set();
  let lines = 0;

  const fields = h("div", { class: "specs" });
  const word = h("span", { class: "quiet" });
  const pause = button("Pause", () => setPaused(!paused), { "data-key": "pause" });
  const link = h("span", { role: "status" });
  const bar = h("div", { class: "toolbar" }, pause, button("Clear", clear),
    button("Add a SPEC", () => change([...specs(), "jobs.*.*"])), word, link);
  const head = h("div", { class: "row head", "aria-hidden": "true" },
    ["Time", "Type", "Action", "Name, key", "Principal", "What changed"].map((name) => h("span", name)));
  const spacer = h("div", { class: "spacer" });
  const rows = h("div", { class: "rows", tabindex: "0", role: "listbox", "aria-label": "Events" }, spacer);
  const side = h("aside", { class: "detail", hidden: true, "aria-label": "Event" });
  const nothing = h("div");
  fill(element, fields, bar, h("div", { class: "split" }, h("div", { class: "list-side" }, head, rows, nothing), side));

  function draw() {
    due = false;
    const height = rowHeight();
    spacer.style.setProperty("--height", `${kept.length * height}px`);
    // Keeps the visible rows in place.
    if (scrolled) rows.scrollTop += scrolled * height;
    scrolled = 0;
    const from = Math.max(0, Math.floor(rows.scrollTop / height) - 4);
    const until = Math.min(kept.length, from + Math.ceil(rows.clientHeight / height) + 8);
    const visible = new Set(kept.slice(kept.length - until, kept.length - from).reverse());
    for (const entry of drawn) {
      if (visible.has(entry)) continue;
      entry.row.remove();
      entry.row = null;
    }
    drawn = visible;
    // Rows that stay are not moved, so that text in them can be selected.
    let [next, top] = [spacer.firstChild, from * height];
    for (const entry of visible) {
      const row = entry.row ??= line(entry);
      if (row === next) next = next.nextSibling;
      else spacer.insertBefore(row, next);
      row.style.setProperty("--top", `${top}px`);
      row.ariaSelected = entry === chosen;
      top += height;
    }
    rows.setAttribute("aria-activedescendant", chosen?.row?.id ?? "");
    const now = Date.now();
    draws = [...draws.filter(([time]) => now - time < 5000), [now, seen]];
    const [[began, had]] = draws;
    const figures = [`${rate((seen - had) * 1000 / Math.max(1000, now - began))} events/s`, `${count(seen)} seen`, `${count(kept.length)} kept`];
    if (held.length) figures.push(`${count(held.length)} held while paused`);
    if (missed) figures.push(`${count(missed)} dropped while paused`);
    word.textContent = figures.join(", ");
    nothing.hidden = kept.length > 0;
    rows.hidden = kept.length === 0;
  }

  function later() {
    if (!due) {
      due = true;
      requestAnimationFrame(draw);
    }
  }

  // Redraws at most every `REDRAW_INTERVAL` ms.
  function atLeisure() {
    waiting ??= setTimeout(() => {
      waiting = null;
      later();
    }, REDRAW_INTERVAL);
  }

  // A row. It is opened by pressing: at the release another row may be under the pointer.
  function line(entry) {
    const { event } = entry;
    const cells = [[clock(event.Time), event.Time], [event.Type], [event.Action], named(event), [event.Principal],
      [changed(event)]];
    return h("div", { class: `row${event.Type === "hydrant" ? " attention" : ""}`, role: "option", id: `row-${++lines}`,
      onmousedown: ({ button }) => button || choose(entry),
    }, cells.map(([text, title = text]) => h("span", { title }, text)));
  }

  function take(text, id, event) {
    seen += 1;
    const entry = { text, id, event, row: null };
    learn(event);
    size += text.length;
    (paused ? held : kept).push(entry);
    if (paused && (held.length > MOST || size > LARGEST)) drop(held, Math.ceil(held.length / 20));
    trim();
    if (!paused && rows.scrollTop > 0) scrolled += 1;
    atLeisure();
  }

  function trim() {
    if (kept.length > MOST + 500) drop(kept, kept.length - MOST);
    while (size > LARGEST && kept.length > 1) drop(kept, Math.ceil(kept.length / 20));
  }

  function drop(list, number) {
    for (const entry of list.splice(0, number)) size -= entry.text.length;
    if (list === held) missed += number;
  }

  function setPaused(value) {
    paused = value;
    pause.textContent = paused ? "Resume" : "Pause";
    pause.ariaPressed = paused;
    announce(paused ? "Paused" : "Resumed");
    if (!paused) {
      if (rows.scrollTop > 0) scrolled += held.length;
      kept.push(...held);
      held = [];
      trim();
    }
    later();
  }

  function clear() {
    kept.length = 0;
    [held, draws] = [[], []];
    [seen, size, missed] = [0, 0, 0];
    later();
  }

  function choose(entry) {
    chosen = entry;
    side.hidden = false;
    detail(side, entry, { specs: specs(), close: () => { chosen = null; side.hidden = true; later(); rows.focus(); },
      start });
    later();
  }

  function step(by) {
    const at = chosen ? kept.indexOf(chosen) - by : kept.length - 1;
    const next = kept[Math.max(0, Math.min(kept.length - 1, at))];
    if (!next) return;
    choose(next);
    const height = rowHeight();
    const top = (kept.length - 1 - kept.indexOf(next)) * height;
    if (top < rows.scrollTop) rows.scrollTop = top;
    if (top + height > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + height - rows.clientHeight;
  }

  const specs = () => {
    const found = all("spec").filter(Boolean);
    return found.length ? found : ["*.*.*"];
  };

  function start(since) {
    stop?.();
    clear();
    const messages = new Map();
    fill(nothing, empty("No events yet. Send one:", curl(userName(), "-H 'Content-Type: application/json' " +
      `${quote(`${location.origin}/api/v3/events`)} -d ${quote(example(specs()[0]))}`)));
    stop = follow(specs(), {
      event: take,
      answer: (answer) => {
        if (answer.Action !== "error") return;
        messages.set(answer.Key, answer.Object.Messages);
        drawFields(messages);
      },
      state: (word, why, again) => {
        fill(link, why && `${word}: ${why}`, again && [" ", button("Try again", again)]);
        link.className = word === "live" ? "quiet" : "attention";
      },
    }, since ?? parameters().since);
  }

  function drawFields(messages = new Map()) {
    const list = specs();
    fill(fields, list.map((spec, at) => field(spec, messages.get(spec), (value) => {
      const next = [...list];
      next[at] = value;
      if (value !== spec) change(next.filter(Boolean));
    }, list.length > 1 && (() => change(list.filter((_, other) => other !== at))))));
  }

  function change(next) {
    setParameters({ spec: next, since: null });
    drawFields();
    start();
  }

  function field(spec, message, commit, drop) {
    const note = h("pre", { class: "note" });
    const input = h("input", { value: spec, "aria-label": "SPEC: type.action.key.filter", "data-key": "spec", role: "combobox",
      class: "spec", ...VERBATIM });
    let timer;
    const tips = suggest(input);

    // Shows under the field what is wrong. Returns whether it is accepted.
    async function check() {
      const value = input.value.trim();
      const [kind, said] = await checkSpec(value).then(praise, blame);
      if (value === input.value.trim()) {
        note.className = `note ${kind}`;
        note.textContent = said;
        input.ariaInvalid = kind === "bad";
      }
      return kind !== "bad";
    }

    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(check, 250);
    });
    input.addEventListener("change", async () => {
      const value = input.value.trim();
      // The view may have changed meanwhile.
      if (await check() && input.isConnected) commit(value);
    });
    if (message) [note.className, note.textContent] = ["note bad", message.join("\n")];
    else check();
    return h("div", { class: "field" }, h("div", { class: "field-line" }, input, drop && button("Remove", drop)),
      note, tips);
  }

  rows.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  rows.addEventListener("scroll", later);
  phone.addEventListener("change", later);
  const timer = setInterval(later, 1000);
  drawFields();
  start();
  draw();
  return Object.assign(() => {
    clearInterval(timer);
    clearTimeout(waiting);
    phone.removeEventListener("change", later);
    stop?.();
  }, {
    keys: {
      " ": () => setPaused(!paused), j: () => step(1), k: () => step(-1),
      Enter: () => side.querySelector("button")?.focus(),
      Escape: () => side.querySelector("button")?.click(),
      e: () => chosen && (window.location.hash = side.querySelector("[data-key=explain]")?.getAttribute("href") ?? ""),
    },
  });
}

// An event that a registration without a filter matches.
function example(spec) {
  const [Type, Action, Key] = ["machines", "update", "m1"].map((usual, at) => {
    const [name] = (spec.split(".")[at] ?? "*").split(",");
    return name === "*" ? usual : name;
  });
  return JSON.stringify({ Type, Action, Key, Object: { Stage: "local" } });
}

// The name of an event's object, if it has one, and the key.
function named({ Key: key, Object: object }) {
  const name = object?.Name;
  if (typeof name !== "string" || !name || name === key) return [key];
  return [[name, h("span", { class: "quiet" }, ` ${key}`)], `${name} ${key}`];
}

// The class and text of the note under an accepted registration.
function praise({ Warnings: warnings, Looked: looked, Matched: matched }) {
  const past = looked > 0 ? `Would have matched ${count(matched)} of the last ${count(looked)} events.` : "";
  return warnings.length ? ["attention", [...warnings.map((text) => `▲ ${text}`), past].join("\n").trim()]
    : ["quiet", past];
}

// The same for a refused one; empty if the server did not answer.
const blame = (error) => (error.status === 400 ? ["bad", error.messages.join("\n")] : ["quiet", ""]);
