// Events as they come: Server-Sent Events over fetch, so that the credential stays in a header.
//
// What EventSource does by itself is done here: it connects again after growing pauses, and `Last-Event-ID`
// resumes without a gap. It ends for good when closed, or when the server refuses what was asked.

import { open } from "./api.js";

const LONGEST_PAUSE = 15000;
/** Milliseconds after which a connection that was closed again does not count as refused. */
const STEADY = 5000;
/** Milliseconds without a byte after which a connection counts as lost, until the server says how often it pings. */
const SILENCE = 90000;
const LOST = "the connection was lost";

/** Follows registrations. `on` has event(json text, id), answer(event), state(word, detail) and refused(error). */
export function follow(specs, on, since) {
  const controller = new AbortController();
  let last = null;
  let pause = 500;
  let attempt = null;
  let heard = 0;
  let silence = SILENCE;
  // Of a network that is gone nothing is heard, not even an end.
  const timer = setInterval(() => Date.now() - heard > silence && attempt?.abort(), 1000);
  const query = new URLSearchParams(specs.map((spec) => ["register", spec]));
  query.append("overflow", "drop-oldest");
  if (since) query.append("since", since);

  async function once() {
    const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    const begun = Date.now();
    heard = begun;
    silence = SILENCE;
    attempt = new AbortController();
    const answer = await open(`events?${query}`, headers, attempt.signal);
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
    let [name, data] = ["", ""];
    for (const line of message.split("\n")) {
      if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("id: ")) last = line.slice(4);
    }
    if (!data) return null;
    if (name === "close") return JSON.parse(data).Reason;
    if (name === "answer") on.answer(JSON.parse(data));
    else on.event(data, message.includes("id: ") ? last : null);
    return null;
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
