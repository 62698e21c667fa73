// Tail: what is happening? Events as they come, ten thousand of them without slowing down: only the rows in sight are in the page.

import { checkSpec } from "./api.js";
import { announce, button, clock, count, empty, fill, h, rate } from "./dom.js";
import { detail } from "./detail.js";
import { changed } from "./diff.js";
import { all, parameters, setParameters } from "./route.js";
import { follow } from "./stream.js";
import { suggest, learn } from "./complete.js";

export const title = "Tail";

const MOST = 10000;
/** Characters of all of them. */
const LARGEST = 64e6;
/** Pixels; on a phone a row has two lines. */
const ROW = window.matchMedia("(max-width: 720px)").matches ? 46 : 28;

export function show(element) {
  const kept = [];
  let held = [];
  let size = 0;
  let missed = 0;
  let paused = false;
  let chosen = null;
  let stop = null;
  let arrivals = [];
  let due = false;
  let seen = 0;

  const fields = h("div", { class: "specs" });
  const word = h("span", { class: "quiet" });
  const pause = button("Pause", () => setPaused(!paused), { "data-key": "pause" });
  const bar = h("div", { class: "toolbar" }, pause, button("Clear", clear), word);
  const head = h("div", { class: "row head", "aria-hidden": "true" }, ["Time", "Type", "Action", "Key", "Principal", "What changed"].map((name) => h("span", {}, name)));
  const spacer = h("div", { class: "spacer" });
  const rows = h("div", { class: "rows", tabindex: "0", role: "listbox", "aria-label": "Events" }, spacer);
  const side = h("aside", { class: "detail", hidden: true, "aria-label": "Event" });
  const nothing = h("div", {});
  fill(element, fields, bar, h("div", { class: "split" }, h("div", { class: "list-side" }, head, rows, nothing), side));

  function draw() {
    due = false;
    spacer.style.setProperty("--height", `${kept.length * ROW}px`);
    const from = Math.max(0, Math.floor(rows.scrollTop / ROW) - 4);
    const until = Math.min(kept.length, from + Math.ceil(rows.clientHeight / ROW) + 8);
    const visible = [];
    for (let at = from; at < until; at += 1) visible.push(line(kept[kept.length - 1 - at], at));
    spacer.replaceChildren(...visible);
    const now = Date.now();
    arrivals = arrivals.filter((time) => now - time < 5000);
    word.textContent = `${rate(arrivals.length / 5)} events/s, ${count(seen)} seen, ${count(kept.length)} kept${held.length ? `, ${count(held.length)} held back` : ""}${missed ? `, ${count(missed)} dropped while paused` : ""}`;
    nothing.hidden = kept.length > 0;
    rows.hidden = kept.length === 0;
  }

  function later() {
    if (!due) {
      due = true;
      requestAnimationFrame(draw);
    }
  }

  function line(entry, at) {
    const { event } = entry;
    const cells = [clock(event.Time), event.Type, event.Action, event.Key, event.Principal, entry.words ??= changed(event)];
    const it = h("div", {
      class: `row${entry === chosen ? " chosen" : ""}${event.Type === "hydrant" ? " attention" : ""}`, role: "option",
      "aria-selected": String(entry === chosen), onclick: () => choose(entry),
    }, cells.map((text, column) => h("span", { title: column === 0 ? event.Time : text }, text)));
    it.style.setProperty("--top", `${at * ROW}px`);
    return it;
  }

  function take(text, id) {
    seen += 1;
    arrivals.push(Date.now());
    if (arrivals.length > 20000) arrivals.splice(0, 10000);
    const entry = { text, id, event: JSON.parse(text), words: null };
    learn(entry.event);
    size += text.length;
    (paused ? held : kept).push(entry);
    if (paused && (held.length > MOST || size > LARGEST)) drop(held, Math.ceil(held.length / 20));
    trim();
    if (!paused && rows.scrollTop > 0) rows.scrollTop += ROW;
    later();
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
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    announce(paused ? "Paused" : "Going on");
    if (!paused) {
      kept.push(...held);
      held = [];
      trim();
    }
    later();
  }

  function clear() {
    kept.length = 0;
    held = [];
    [seen, size, missed] = [0, 0, 0];
    later();
  }

  function choose(entry) {
    chosen = entry;
    side.hidden = false;
    detail(side, entry, { specs: specs(), close: () => { chosen = null; side.hidden = true; later(); rows.focus(); }, start });
    later();
  }

  function step(by) {
    const at = chosen ? kept.indexOf(chosen) - by : kept.length - 1;
    const next = kept[Math.max(0, Math.min(kept.length - 1, at))];
    if (!next) return;
    choose(next);
    const top = (kept.length - 1 - kept.indexOf(next)) * ROW;
    if (top < rows.scrollTop) rows.scrollTop = top;
    if (top + ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW - rows.clientHeight;
  }

  const specs = () => {
    const found = all("spec").filter(Boolean);
    return found.length ? found : ["*.*.*"];
  };

  function start(since) {
    stop?.();
    clear();
    const messages = new Map();
    stop = follow(specs(), {
      event: take,
      answer: (answer) => {
        const said = answer.Action === "error" ? answer.Object.Messages : answer.Object?.Warnings ?? [];
        messages.set(answer.Key, { said, bad: answer.Action === "error" });
        drawFields(messages);
      },
      state: (word, why) => {
        bar.dataset.state = word;
        bar.title = why ?? "";
        if (word !== "live") announce(`${word}: ${why}`);
      },
      refused: (error) => {
        for (const spec of specs()) messages.set(spec, { said: error.messages, bad: true });
        drawFields(messages);
      },
    }, since ?? parameters().since);
  }

  function drawFields(messages = new Map()) {
    const list = specs();
    const change = (next) => {
      setParameters({ spec: next, since: null });
      drawFields();
      start();
    };
    fill(fields, list.map((spec, at) => field(spec, messages.get(spec), (value) => {
      const next = [...list];
      next[at] = value;
      if (value !== spec) change(next.filter(Boolean));
    }, list.length > 1 && (() => change(list.filter((_, other) => other !== at))))),
    button("Add a SPEC", () => change([...list, "jobs.*.*"])));
  }

  function field(spec, message, commit, drop) {
    const note = h("pre", { class: `note ${message?.bad ? "bad" : "attention"}` }, message?.said.join("\n") ?? "");
    const input = h("input", { type: "text", value: spec, spellcheck: "false", autocapitalize: "off", autocomplete: "off",
      "aria-label": "SPEC: type.action.key.filter", "data-key": "spec", class: "spec" });
    let timer;
    const tips = suggest(input);
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const error = await checkSpec(input.value.trim()).catch(() => null);
        note.className = "note bad";
        note.textContent = error ? error.messages.join("\n") : "";
        input.setAttribute("aria-invalid", String(Boolean(error)));
      }, 250);
    });
    input.addEventListener("change", async () => {
      const value = input.value.trim();
      if (!(await checkSpec(value).catch(() => null))) commit(value);
    });
    return h("div", { class: "field" }, h("div", { class: "field-line" }, input, tips, drop && button("Remove", drop)), note);
  }

  fill(nothing, empty("Nothing yet. Send one:", `curl -k -u USER -H 'Content-Type: application/json' '${location.origin}/api/v3/events' -d '{"Type":"machines","Action":"update","Key":"m1","Object":{"Stage":"local"}}'`));
  rows.addEventListener("scroll", later);
  const timer = setInterval(later, 1000);
  drawFields();
  start();
  draw();
  return Object.assign(() => {
    clearInterval(timer);
    stop?.();
  }, {
    keys: {
      " ": () => setPaused(!paused), j: () => step(1), k: () => step(-1), Enter: () => chosen && choose(chosen),
      Escape: () => side.querySelector("button")?.click(),
      e: () => chosen && (window.location.hash = side.querySelector("[data-key=explain]")?.getAttribute("href") ?? ""),
    },
  });
}
