// Streams events: Server-Sent Events over fetch, so that the credential stays in a header.
//
// It reconnects after growing pauses and resumes with `Last-Event-ID`. Another node or run would answer that with its
// whole history: it is asked again, by time, and duplicates are dropped (docs/protocol.md, "Resuming", rule 5).

import { RefusedError, raw } from "./api.js";

// In milliseconds: the longest pause; after what a connection resets the pause; without a byte until it is lost, if the
// server does not send its ping interval; until a hidden page ends its stream, since browsers permit six to a server;
// what is requested again, because nodes' orders and clocks differ; the tolerated clock skew.
const [LONGEST, STEADY, SILENCE, UNSEEN, OVERLAP, SKEW] = [15000, 5000, 90000, 180000, 5000, 240000];
const LOST = "the connection was lost";
// The policy if this page is slow, unless it is not allowed.
const POLICY = "drop-oldest";
// Events remembered to drop duplicates.
const KNOWN = 20000;

// The EPOCH of a position, undefined for a time.
const runOf = (position) => position?.match(/^\w{16}(?=:)/)?.[0];
// Integers that a number would round, as BigInt.
const exact = (_, value, context) => /^-?\d{16,}$/.test(context?.source) ? BigInt(context.source) : value;
BigInt.prototype.toJSON = function toJSON() {
  return JSON.rawJSON(this);
};
// Whether the client has to change. After other closes, refused credentials are found out by the next request.
const isFinal = ({ Code: code, Reason: reason }) => [1002, 1007, 1009].includes(code) || /^filters/.test(reason);
const early = (time) => new Date(time - OVERLAP).toISOString();

// Follows registrations. `on` has event(json text, id, event), answer(event), state(word, detail, again): `again`
// continues a stream that stopped.
export function follow(specs, on, since) {
  let ended = false;
  let last = null;
  // The times of the beginning and of the last event; 0 if unknown.
  let [first, time] = [Date.parse(since) || 0, 0];
  // The start of the replay until an event with a later Time has arrived.
  let from = since;
  const recent = [];
  // How often each of them may arrive again.
  let old;
  // The run whose ids continue those received before.
  let same;
  let pause = 500;
  let attempt = null;
  let [heard, silence, seen] = [0, SILENCE, Date.now()];
  const isUnseen = () => document.hidden && Date.now() - seen > UNSEEN;
  // A lost network reports no error, so silence ends the connection.
  const timer = setInterval(() => {
    if (!document.hidden) seen = Date.now();
    if (Date.now() - heard > silence || isUnseen()) attempt?.abort();
  }, 1000);
  const query = new URLSearchParams(specs.map((spec) => ["register", spec]));
  query.append("overflow", POLICY);

  async function once() {
    if (time - OVERLAP > first) from = early(time);
    if (from) query.set("since", from);
    [heard, silence] = [Date.now(), SILENCE];
    attempt = new AbortController();
    const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    const answer = await raw(`events?${query}`, { headers, signal: attempt.signal });
    const position = answer.headers.get("X-Hydrant-Sequence");
    same = runOf(last);
    const asked = same ?? (first && runOf(from));
    if (asked && asked !== runOf(position)) {
      attempt.abort();
      last = null;
      if (first) from = early(first);
      return once();
    }
    if (!from) [from, first] = [position, Date.parse(answer.headers.get("Date")) || Date.now()];
    else if (from === since && first) from = early(first);
    old = new Map();
    for (const one of recent) old.set(one, (old.get(one) ?? 0) + 1);
    const begun = Date.now();
    on.state("live", query.has("overflow") ? "" : `${POLICY} is not allowed here: a slow tail may be disconnected`);
    // Three pings may be missed.
    silence = answer.headers.get("X-Hydrant-Ping") * 4000 || SILENCE;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      heard = Date.now();
      const { value, done } = await reader.read();
      if (done) return;
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      if (Date.now() - begun > STEADY) pause = 500;
      messages.forEach(take);
    }
  }

  function take(message) {
    const fields = message.split("\n").map((line) => line.split(/: (.*)/s));
    const { event: name, data, id } = Object.fromEntries(fields);
    if (!data) return;
    const event = JSON.parse(data, /\d{16}/.test(data) ? exact : null);
    if (name === "close") throw new RefusedError(isFinal(event) ? 400 : 0, [event.Reason]);
    if (name === "answer") on.answer(event);
    else if (isNew(event, id)) on.event(data, id, event);
    last = id ?? last;
  }

  function isNew(event, id) {
    const then = Date.parse(event.Time);
    if (then > 0 && then < Date.now() + SKEW) time = Math.min(then, Date.now());
    const known = [event.Time, event.Type, event.Action, event.Key].join();
    const times = old.get(known);
    old.delete(known);
    // Events that the same run numbers later are new.
    if (times && !(same && runOf(id) === same)) {
      if (times > 1) old.set(known, times - 1);
      return false;
    }
    recent.push(known);
    if (recent.length > KNOWN) recent.shift();
    return true;
  }

  async function run() {
    while (!ended) {
      let reason = LOST;
      try {
        await once();
      } catch (error) {
        if (ended) return;
        if (error.message.startsWith(`overflow=${POLICY} `) && query.has("overflow")) {
          query.delete("overflow");
          continue;
        }
        // 404 and 408 may be a balancer's.
        if (error.status >= 400 && error.status < 500 && ![404, 408, 429].includes(error.status)) {
          return on.state("stopped", error.message, () => {
            on.state("reconnecting", "trying again");
            run();
          });
        }
        if (!attempt.signal.aborted) reason = error.message;
      }
      if (ended) return;
      const wait = pause * (0.5 + Math.random() / 2);
      if (isUnseen()) {
        on.state("paused", "the page is hidden");
        await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
        continue;
      }
      on.state("reconnecting", `${reason}; retrying in ${(wait / 1000).toFixed(1)} s`);
      await new Promise((done) => setTimeout(done, wait));
      pause = Math.min(pause * 2, LONGEST);
    }
  }

  run();
  return () => {
    clearInterval(timer);
    ended = true;
    attempt?.abort();
  };
}
