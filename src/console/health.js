// Now: what needs attention, in sentences.

import { ago, count, h, micros, span } from "./dom.js";
import { runOf } from "./status.js";

// Thresholds of warnings: ms of queueing, us at p99, % of a shard's time.
const MOST = { waits: 5000, latency: 1e6, busy: 90 };
const MARKS = { bad: "✕", attention: "▲", good: "✓" };
const CONNECTIONS = "#connections";

// Counts that should stay zero: severity, count, name, link.
const LOSSES = [
  ["bad", (s) => s.Refused, "Events refused because the inboxes were full"],
  ["bad", (s) => s.Upstreams.reduce((n, link) => n + link.Gaps, 0), "Gaps in the events of endpoints"],
  ["bad", ({ Nats: nats }) => nats?.LostIn + nats?.LostOut, "Events lost between nodes"],
  ["attention", (s) => s.Disconnects.slow_consumer, "Slow consumers closed", CONNECTIONS],
  ["attention", (s) => s.Dropped.drop_oldest, "Events dropped for slow clients", CONNECTIONS],
  ["attention", (s) => s.Disconnects.filter_work, "Clients closed because their filters cost too much",
    "#registrations"],
  ["", (s) => s.Conflated, "Updates conflated", CONNECTIONS],
  ["", (s) => s.Rejected.forbidden + s.Rejected.unauthenticated, "Logins refused"],
];

export function line(kind, text, link) {
  return h("li", { class: kind }, MARKS[kind] && h("span", { "aria-hidden": "true" }, `${MARKS[kind]} `), text,
    link && [" ", h("a", { href: link }, "Show")]);
}

const lost = ([kind, , name, link], n) => n > 0 && line(kind, `${name}: ${count(n)}.`, link);

// Losses since the server's start, in lines.
export const losses = (status) => LOSSES.map((loss) => lost(["", ...loss.slice(1)], loss[1](status))).filter(Boolean);

// The growth of a counter over all points, in each run of each node.
function growth(history, pick) {
  const last = {};
  return history.reduce((sum, { status }) => {
    if (!status) return sum;
    const [run, n] = [runOf(status), pick(status) || 0];
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

// The sentences as a list, the worst first. `busy`: the percentage of each shard.
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
    h("p", { class: "quiet note" }, `Losses counted over the last ${span(Date.now() - history[0].time)}.`)];
}
