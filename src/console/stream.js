// Events as they come: Server-Sent Events over fetch, so that the credential stays in a header.
//
// What EventSource does by itself is done here: it connects again after growing pauses, and `Last-Event-ID` resumes
// without a gap. Another node, or run, would answer that with all it keeps: it is asked again, by time, and what comes
// twice is passed over (docs/protocol.md, "Resuming", rule 5). It ends for good when closed, or when the server refuses
// what was asked.

import { open } from "./api.js";

const LONGEST_PAUSE = 15000;
/** Milliseconds after which a connection that was closed again does not count as refused. */
const STEADY = 5000;
/** Milliseconds without a byte after which a connection counts as lost, until the server says how often it pings. */
const SILENCE = 90000;
const LOST = "the connection was lost";
/** Milliseconds before the last event, or the beginning: nodes' orders and clocks differ. */
const OVERLAP = 5000;
/** Milliseconds ahead that clocks may be. */
const SKEW = 240000;
/** Events that are known again. */
const KNOWN = 20000;

/** Nothing for a time. */
const runOf = (position) => position?.match(/^\w{16}(?=:)/)?.[0];
const early = (time) => new Date(time - OVERLAP).toISOString();

/** Follows registrations. `on` has event(json text, id, event), answer(event), state(word, detail), refused(error). */
export function follow(specs, on, since) {
  const controller = new AbortController();
  let last = null;
  // When it began, and when the last event was; 0 where that is not known.
  let first = Date.parse(since) || 0;
  let time = 0;
  // What is asked for until events have told a later time.
  let from = since;
  const recent = [];
  // How often each of them may come again.
  let old;
  // The run that goes on with its own numbers.
  let same;
  let pause = 500;
  let attempt = null;
  let heard = 0;
  let silence = SILENCE;
  // Of a network that is gone nothing is heard, not even an end.
  const timer = setInterval(() => Date.now() - heard > silence && attempt?.abort(), 1000);
  const query = new URLSearchParams(specs.map((spec) => ["register", spec]));
  query.append("overflow", "drop-oldest");

  async function once() {
    if (time - OVERLAP > first) from = early(time);
    if (from) query.set("since", from);
    const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    heard = Date.now();
    silence = SILENCE;
    attempt = new AbortController();
    const answer = await open(`events?${query}`, headers, attempt.signal);
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
    on.state("live");
    // Three pings may be missed.
    silence = answer.headers.get("X-Hydrant-Ping") * 4000 || SILENCE;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      heard = Date.now();
      const { value, done } = await reader.read();
      if (done) return LOST;
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      if (Date.now() - begun > STEADY) pause = 500;
      for (const message of messages) {
        const ended = take(message);
        if (ended) return ended;
      }
    }
  }

  function take(message) {
    let [name, data, id] = ["", "", null];
    for (const line of message.split("\n")) {
      if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (!data) return null;
    if (name === "close") return JSON.parse(data).Reason;
    const event = JSON.parse(data);
    if (name === "answer") on.answer(event);
    else if (isNew(event, id)) on.event(data, id, event);
    last = id ?? last;
    return null;
  }

  function isNew(event, id) {
    const then = Date.parse(event.Time);
    if (then > 0 && then < Date.now() + SKEW) time = Math.min(then, Date.now());
    const known = [event.Time, event.Type, event.Action, event.Key].join();
    const times = old.get(known);
    old.delete(known);
    // What the same run numbers later has not come before.
    if (times && !(same && runOf(id) === same)) {
      if (times > 1) old.set(known, times - 1);
      return false;
    }
    recent.push(known);
    if (recent.length > KNOWN) recent.shift();
    return true;
  }

  async function run() {
    while (!controller.signal.aborted) {
      let reason;
      try {
        reason = await once();
      } catch (error) {
        if (controller.signal.aborted) return;
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          clearInterval(timer);
          return on.refused(error);
        }
        reason = attempt.signal.aborted ? LOST : error.message;
      }
      if (controller.signal.aborted) return;
      const wait = pause * (0.5 + Math.random() / 2);
      on.state("reconnecting", `${reason}; retrying in ${(wait / 1000).toFixed(1)} s`);
      await new Promise((done) => setTimeout(done, wait));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  run();
  return () => {
    clearInterval(timer);
    controller.abort();
    attempt?.abort();
  };
}
