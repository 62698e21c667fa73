// Now: is it healthy? Four charts, and what is behind them.

import { get, repeat } from "./api.js";
import { chart } from "./chart.js";
import { ago, bytes, count, fact, fill, h, micros, millis, quiet, rate, renew, table } from "./dom.js";
import { health, line, losses } from "./health.js";
import { clients, incomplete } from "./pane.js";
import { before, history, latest, quantiles, rates, received, state, values, watch } from "./status.js";

const SOURCES = ["post", "upstream", "nats", "demo", "connections"];

export function show(element) {
  const charts = [
    chart("Events received per second", SOURCES, rate),
    chart("Deliveries per second", ["to all clients"], rate),
    chart("Queued for clients", ["queued"], bytes),
    chart("Latency, received to written", ["p50", "p99"], micros),
  ];
  // Returns what the panel of the slowest clients shows.
  let slow = () => null;
  const rows = h("div.panels");
  const problem = h("div");
  const verdict = h("div");
  const all = h("div.charts", charts.map((one) => one.element));
  fill(element, problem, verdict, all, rows);

  function draw() {
    const status = latest();
    all.hidden = state.word === "hidden";
    renew(problem, all.hidden && h("p.empty",
      "The server's status requires the claim connections/list, and is not shown to users of a tenant."));
    // Keeps the last answer on the page.
    if (state.word === "reconnecting") renew(verdict, h("ul.plain.health", line("bad", state.detail)));
    else renew(verdict, status && health(status, history, busy(status).map((percent) => percent ?? 0)));
    const times = history.map((point) => point.time);
    charts[0].draw(times, SOURCES.map((source) => rates((s) => s.Received[source] ?? 0)));
    charts[1].draw(times, [rates((s) => s.Delivered)]);
    charts[2].draw(times, [values((s) => s.Queue.Bytes)]);
    charts[3].draw(times, [quantiles(0.5), quantiles(0.99)]);
    if (status) renew(rows, shards(status), around(status), lost(status), panel("Slowest clients", slow()));
  }

  async function lookAtSlow() {
    try {
      const all = await get("connections?Type=In(websocket,stream)&sort=queued&limit=5", 2);
      slow = () => slowest(all);
    } catch (error) {
      slow = () => h("p", error.message);
    }
    draw();
  }

  const ends = [repeat(lookAtSlow, 4000), watch(draw)];
  return () => ends.forEach((end) => end());
}

const panel = (name, ...children) => h("section.panel", h("h2", name), children);

// The busy percentage of each shard; null where unknown.
function busy(status) {
  const one = before(history.length - 1);
  const seconds = one && (history.at(-1).time - one.time) / 1000;
  return status.Shards.map((shard, at) =>
    one && ((shard.BusySeconds - one.status.Shards[at].BusySeconds) / seconds) * 100);
}

function shards(status) {
  const percent = busy(status);
  const rows = status.Shards.map((shard, at) => [String(at), count(shard.Connections), count(shard.InboxEvents),
    percent[at] == null ? "–" : `${Math.max(0, percent[at]).toFixed(0)} %`, millis(shard.LongestTurnMilliseconds)]);
  const columns = ["Shard", "#Clients", "#Inbox", "#Busy",
    { head: "Longest turn", number: true, title: "In the last minute" }];
  return panel("Shards", table("Shards", columns, rows));
}

function around(status) {
  const mark = (good, yes, no) => h(`span.${good ? "good" : "bad"}`, good ? yes : no);
  const line = (what, where, link, state) => link && [what, where, state, ago(link.Since)];
  const { Upstreams: upstreams, Nats: nats, Identity: identity } = status;
  const lines = [
    ...upstreams.map((link) => line("Endpoint", link.Endpoint, link,
      mark(link.Connected, "connected", `not connected: ${link.Error || "first try"}`))),
    line("NATS", nats?.Stream?.Name ?? "", nats, mark(nats?.Connected, "connected", "not connected")),
    line("Identity", identity?.Endpoint, identity,
      mark(identity?.Readable, "readable", identity?.Error || "not read yet")),
  ].filter(Boolean);
  const from = status.Received.demo ? "from the simulated fleet and by POST" : "by POST";
  return panel("This server",
    lines.length ? table("Around the broker", ["What", "Where", "State", "#Since"], lines)
      : quiet(`No endpoint and no other nodes: events arrive ${from}.`),
    h("dl", fact("Clients", `${count(status.Connections)}, ${count(status.Registrations)} registrations`),
      fact("Node", h("code", status.Id)), fact("Up for", ago(status.Started)),
      fact("History", `${ago(status.HistoryFrom)} back`),
      fact("Position", status.Sequence), fact("Version", status.Version)));
}

function lost(status) {
  const lines = losses(status);
  return panel("Refused and dropped since the start",
    lines.length ? h("ul", lines) : quiet("Nothing was dropped or refused."),
    quiet(`${count(received(status))} events received, ${count(status.Delivered)} deliveries, `,
      `${bytes(status.DeliveredBytes)}.`));
}

function slowest(all) {
  const waiting = all.filter((one) => one.QueuedBytes > 0);
  return [incomplete(all), waiting.length ? clients("Slowest clients", waiting)
    : quiet("No client is behind: nothing is queued.")];
}
