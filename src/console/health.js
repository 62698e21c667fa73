// What needs attention, in sentences.

import { ago, count, h, micros } from "./dom.js";
import { runOf } from "./status.js";

/** Milliseconds that an event waits for a client, microseconds at p99, and percent of a shard's time: all too much. */
const MOST = { waits: 5000, latency: 1e6, busy: 90 };
const MARKS = { bad: "✕", attention: "▲", good: "✓" };
const CONNECTIONS = "#connections";

/** What is counted that should not happen: how bad it is, the count, one of them and several, and where to look. */
const LOSSES = [
  ["bad", (s) => s.Refused, "event was refused", "events were refused: the inboxes were full"],
  ["attention", (s) => s.Disconnects.slow_consumer, "client was closed as a slow consumer",
    "clients were closed as slow consumers", CONNECTIONS],
  ["attention", (s) => s.Dropped.drop_oldest, "event was dropped for a slow client",
    "events were dropped for slow clients", CONNECTIONS],
  ["attention", (s) => s.Disconnects.filter_work, "client was closed: its filters cost too much",
    "clients were closed: their filters cost too much", "#registrations"],
  ["", (s) => s.Conflated, "update was conflated", "updates were conflated", CONNECTIONS],
  ["", (s) => s.Rejected.forbidden + s.Rejected.unauthenticated, "login was refused", "logins were refused"],
];

export function line(kind, text, link) {
  return h("li", { class: kind }, MARKS[kind] && h("span", { "aria-hidden": "true" }, `${MARKS[kind]} `), text,
    link && [" ", h("a", { href: link }, "Show")]);
}

function lost([kind, , one, many, link], n) {
  return n > 0 && line(kind, `${count(n)} ${n === 1 ? one : many}.`, link);
}

/** What was lost since the server's start, in lines. */
export const losses = (status) => LOSSES.map((loss) => lost(["", ...loss.slice(1)], loss[1](status))).filter(Boolean);

/** How much a count has grown over the points that are kept, in each run of each node. */
function growth(history, pick) {
  const last = {};
  return history.reduce((sum, { status }) => {
    if (!status) return sum;
    const [run, n] = [runOf(status), pick(status) ?? 0];
    const grown = n - (last[run] ?? n);
    last[run] = n;
    return sum + grown;
  }, 0);
}

function links({ Upstreams: upstreams, Nats: nats, Identity: identity }) {
  const gone = (what, link) => !link.Connected && line("bad",
    `${what} has not been connected for ${ago(link.Since)}${link.Error ? `: ${link.Error}` : ""}.`);
  const stream = nats?.Stream;
  return [upstreams.map((link) => gone(`The endpoint ${link.Endpoint}`, link)), nats && gone("NATS", nats),
    stream && !stream.Usable && line("bad",
      `The stream ${stream.Name} cannot be read: ${stream.Error ?? "not tried yet"}.`),
    identity && !identity.Readable && line("bad",
      `The endpoint's users cannot be read: ${identity.Error || "not tried yet"}.`)];
}

/** The sentences as a list, the worst first. `busy` is the percentage of each shard. */
export function health(status, history, busy) {
  const { OldestMilliseconds: oldest } = status.Queue;
  const { P99Microseconds: latency } = status.Rates;
  const found = [links(status), LOSSES.map((loss) => loss[0] && lost(loss, growth(history, loss[1]))),
    oldest > MOST.waits && line("attention", `An event has waited ${micros(oldest * 1000)} for a client.`, CONNECTIONS),
    latency > MOST.latency && line("attention", `One delivery in a hundred takes more than ${micros(latency)}.`),
    busy.map((percent, shard) => percent > MOST.busy && line("attention",
      `Shard ${shard} is busy ${percent.toFixed(0)} % of the time.`))].flat(3).filter(Boolean);
  if (!found.length) found.push(line("good", "Nothing needs attention."));
  return [h("ul", { class: "plain health" }, found),
    h("p", { class: "quiet note" }, `Losses counted over the last ${ago(new Date(history[0].time).toISOString())}.`)];
}
