// Tail: events as they arrive. Only the visible rows are in the page.

import { curl } from "./api.js";
import { learn, specField } from "./complete.js";
import { detail } from "./detail.js";
import { changed } from "./diff.js";
import { announce, button, clock, count, empty, fill, h, quote, rate } from "./dom.js";
import { all, parameters, setParameters } from "./route.js";
import { follow } from "./stream.js";

const MOST = 10000;
// Characters of all kept events.
const LARGEST = 64e6;
const REDRAW_MS = 80;
// On a phone a row has two lines.
const rowHeight = () => (matchMedia("(max-width: 720px)").matches ? 46 : 28);

export function show(element) {
  const kept = [];
  // `draws`: the times of those in the last five seconds, and how many events had been seen.
  let [held, draws, seen, size, missed] = [[], [], 0, 0, 0];
  let [paused, chosen, stop, due, waiting] = [false];
  // Rows added above the visible ones since the last draw.
  let scrolled = 0;
  // The entries whose rows are in the page.
  let drawn = new Set();
  let lines = 0;

  const fields = h("div.specs");
  const word = h("span.quiet");
  const pause = button("Pause", togglePause);
  const link = h("span", { role: "status" });
  const spacer = h("div.spacer");
  const rows = h("div.rows", { tabindex: "0", role: "listbox", "aria-label": "Events" }, spacer);
  const side = h("aside.detail", { hidden: true, "aria-label": "Event" });
  const nothing = h("div");
  fill(element, fields, h("div.toolbar", pause, button("Clear", clear),
    button("Add a SPEC", () => change([...specs(), "jobs.*.*"])), word, link),
  h("div.split", h("div.list-side", h("div.row.head", { "aria-hidden": "true" },
    ["Time", "Type", "Action", "Name, key", "Principal", "What changed"].map((name) => h("span", name))),
  rows, nothing), side));

  function draw() {
    clearTimeout(waiting);
    due = waiting = null;
    const height = rowHeight();
    spacer.style.setProperty("--height", `${kept.length * height}px`);
    rows.scrollTop += scrolled * height;
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
    const figure = (n, what) => n > 0 && `, ${count(n)} ${what} while paused`;
    fill(word, `${rate((seen - had) * 1000 / Math.max(1000, now - began))} events/s, ${count(seen)} seen, `,
      `${count(kept.length)} kept`, figure(held.length, "held"), figure(missed, "dropped"));
    rows.hidden = !kept.length;
    nothing.hidden = !rows.hidden;
  }

  const later = () => due ??= requestAnimationFrame(draw);

  // A row is opened by pressing: at the release another may be under the pointer.
  function line(entry) {
    const { event } = entry;
    const { Time: time, Type: type, Action: action, Principal: principal } = event;
    const cells = [[clock(time), time], [type], [action], named(event), [principal], [changed(event)]];
    return h(`div.row${type === "hydrant" ? ".attention" : ""}`, { id: `row-${++lines}`, role: "option",
      onmousedown: ({ button }) => button || choose(entry) },
    cells.map(([text, title = text]) => h("span", { title }, text)));
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
    waiting ??= setTimeout(later, REDRAW_MS);
  }

  function trim() {
    if (kept.length > MOST + 500) drop(kept, kept.length - MOST);
    while (size > LARGEST && kept.length > 1) drop(kept, Math.ceil(kept.length / 20));
  }

  function drop(list, number) {
    for (const entry of list.splice(0, number)) size -= entry.text.length;
    if (list === held) missed += number;
  }

  function togglePause() {
    paused = !paused;
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
    [held, draws, seen, size, missed] = [[], [], 0, 0, 0];
    later();
  }

  function choose(entry) {
    chosen = entry;
    side.hidden = false;
    detail(side, entry, specs(), start, () => {
      chosen = null;
      side.hidden = true;
      later();
      rows.focus();
    });
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

  const specs = () => [all("spec"), ["*.*.*"]].find((list) => list.some(Boolean));

  function start(since = parameters().since) {
    stop?.();
    clear();
    const messages = new Map();
    fill(nothing, empty("No events yet. Send one:", curl(
      `-H 'Content-Type: application/json' '${location.origin}/api/v3/events' -d ${quote(example(specs()[0]))}`)));
    stop = follow(specs(), {
      event: take,
      answer: ({ Action: action, Key: spec, Object: object }) =>
        action === "error" && drawFields(messages.set(spec, object.Messages)),
      state: (word, why, again) => {
        fill(link, why && `${word}: ${why}`, again && [" ", button("Try again", again)]);
        link.className = word === "live" ? "quiet" : "attention";
      },
    }, since);
  }

  function drawFields(messages = new Map()) {
    const list = specs();
    fill(fields, list.map((spec, at) => specField(spec, messages.get(spec),
      (value) => value !== spec && change(list.with(at, value).filter(Boolean)),
      list.length > 1 && (() => change(list.toSpliced(at, 1))))));
  }

  function change(next) {
    setParameters({ spec: next, since: null });
    drawFields();
    start();
  }

  rows.onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  };
  rows.onscroll = later;
  const timer = setInterval(later, 1000);
  drawFields();
  start();
  draw();
  return Object.assign(() => {
    clearInterval(timer);
    clearTimeout(waiting);
    stop?.();
  }, {
    keys: {
      " ": togglePause, j: () => step(1), k: () => step(-1),
      Enter: () => side.querySelector("button")?.focus(),
      Escape: () => side.querySelector("button")?.click(),
      e: () => chosen && side.querySelector("[data-key=explain]").click(),
    },
  });
}

// An event that a registration without a filter matches.
function example(spec) {
  const [Type, Action, Key] = ["machines", "update", "m1"].map((usual, at) =>
    spec.split(".")[at]?.replace(/,.*/, "").replace("*", "") || usual);
  return JSON.stringify({ Type, Action, Key, Object: { Stage: "local" } });
}

function named({ Key: key, Object: object }) {
  const name = object?.Name;
  if (typeof name !== "string" || !name || name === key) return [key];
  return [[name, h("span.quiet", ` ${key}`)], `${name} ${key}`];
}
