// Now: is it healthy? Four charts, then what is behind them in rows.

import { get, repeat } from "./api.js";
import { chart } from "./chart.js";
import { ago, bytes, count, fill, h, micros, millis, rate, table } from "./dom.js";
import { history, latest, quantiles, rates, received, state, values, watch } from "./status.js";

export const title = "Now";

const SOURCES = ["post", "upstream", "nats", "demo"];

export function show(element) {
  const charts = [
    chart("Events received per second", SOURCES, rate),
    chart("Deliveries per second", ["to all clients"], rate),
    chart("Queued for clients", ["queued"], bytes),
    chart("Latency, received to written", ["p50", "p99"], micros),
  ];
  const slow = h("section", { class: "panel" });
  const rows = h("div", { class: "panels" });
  const problem = h("div", {});
  const all = h("div", { class: "charts" }, charts.map((one) => one.element));
  fill(element, problem, all, rows);

  function draw() {
    const status = latest();
    const hidden = "The server's status requires the claim connections/list, and is not shown to users of a tenant.";
    all.hidden = state.word === "hidden";
    fill(problem, all.hidden && h("p", { class: "empty" }, hidden));
    const times = history.map((point) => point.time);
    charts[0].draw(times, SOURCES.map((source) => rates((s) => s.Received[source] ?? 0)));
    charts[1].draw(times, [rates((s) => s.Delivered)]);
    charts[2].draw(times, [values((s) => s.Queue.Bytes)]);
    charts[3].draw(times, [quantiles(0.5), quantiles(0.99)]);
    if (status) fill(rows, shards(status), around(status), losses(status), slow);
  }

  async function lookAtSlow() {
    try {
      fill(slow, slowest(await get("connections?Type=In(websocket,stream)&sort=queued&limit=5", 2)));
    } catch (error) {
      if (error.status !== 401) fill(slow, h("h2", {}, "Slowest clients"), h("p", {}, error.message));
    }
  }

  const ends = [repeat(lookAtSlow, 4000), watch(draw)];
  return () => ends.forEach((end) => end());
}

function panel(name, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, name), children);
}

function shards(status) {
  const before = history.at(-2)?.status;
  const seconds = before ? (history.at(-1).time - history.at(-2).time) / 1000 : 0;
  const rows = status.Shards.map((shard, at) => {
    const busy = before ? ((shard.BusySeconds - before.Shards[at].BusySeconds) / seconds) * 100 : null;
    return [String(at), count(shard.Events), busy == null ? "–" : `${busy.toFixed(0)} %`,
      millis(shard.LongestTurnMilliseconds)];
  });
  const columns = [{ head: "Shard" }, { head: "Events", number: true }, { head: "Busy", number: true },
    { head: "Longest turn", number: true, title: "In the last minute" }];
  return panel("Shards", table("Shards", columns, rows));
}

function mark(good, text) {
  return h("span", { class: good ? "good" : "bad" }, text);
}

function around(status) {
  const lines = [];
  for (const link of status.Upstreams) {
    lines.push(["Endpoint", link.Endpoint, mark(link.Connected, link.Connected ? "connected"
      : `not connected: ${link.Error || "first try"}`), ago(link.Since)]);
  }
  if (status.Nats) lines.push(["NATS", status.Nats.Stream?.Name ?? "",
    mark(status.Nats.Connected, status.Nats.Connected ? "connected" : "not connected"), ago(status.Nats.Since)]);
  if (status.Identity) lines.push(["Identity", status.Identity.Endpoint, mark(status.Identity.Readable,
    status.Identity.Readable ? "readable" : status.Identity.Error || "not read yet"), ago(status.Identity.Since)]);
  const columns = [{ head: "What" }, { head: "Where" }, { head: "State" }, { head: "Since", number: true }];
  const from = status.Received.demo ? "the simulated fleet and by POST" : "POST";
  const none = h("p", { class: "quiet" },
    `No endpoint and no other nodes: events arrive from ${from}.`.replace("from POST", "by POST"));
  return panel("This server", lines.length ? table("Around the broker", columns, lines) : none,
    h("dl", {}, term("Up for", ago(status.Started)), term("History", `${ago(status.HistoryFrom)} back`),
      term("Position", status.Sequence), term("Version", status.Version)));
}

const term = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function losses(status) {
  const sentences = [];
  const say = (n, one, many, link) => {
    if (n > 0) sentences.push(h("li", {}, `${count(n)} ${n === 1 ? one : many}. `,
      link && h("a", { href: link }, "Show")));
  };
  say(status.Disconnects.slow_consumer, "client was closed as a slow consumer", "clients were closed as slow consumers",
    "#connections");
  say(status.Dropped.drop_oldest, "event was dropped for a slow client", "events were dropped for slow clients",
    "#connections");
  say(status.Conflated, "update was conflated", "updates were conflated", "#connections");
  say(status.Refused, "event was refused: the inboxes were full", "events were refused: the inboxes were full");
  say(status.Rejected.forbidden + status.Rejected.unauthenticated, "login was refused", "logins were refused");
  say(status.Disconnects.filter_work, "client was closed: its filters cost too much",
    "clients were closed: their filters cost too much", "#registrations");
  const body = sentences.length ? h("ul", {}, sentences)
    : h("p", { class: "quiet" }, "Nothing was dropped or refused.");
  return panel("Refused and dropped since the start", body,
    h("p", { class: "quiet" },
      `${count(received(status))} events received, ${count(status.Delivered)} deliveries, `,
      `${bytes(status.DeliveredBytes)}.`));
}

function slowest(all) {
  const waiting = all.filter((one) => one.QueuedBytes > 0);
  const columns = [{ head: "Client" }, { head: "From" }, { head: "Queued", number: true },
    { head: "Oldest", number: true }, { head: "Dropped", number: true }];
  const rows = waiting.map((one) => [
    h("a", { href: `#connections?open=${encodeURIComponent(one.RemoteAddr)}` }, one.Principal), one.RemoteAddr,
    bytes(one.QueuedBytes), millis(one.QueuedAgeMilliseconds), count(one.DroppedEvents)]);
  return [h("h2", {}, "Slowest clients"),
    rows.length ? table("Slowest clients", columns, rows)
      : h("p", { class: "quiet" }, "No client is behind: nothing is queued.")];
}
