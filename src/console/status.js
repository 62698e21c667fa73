// The status of the broker: polled while signed in, kept for fifteen minutes.

import { currentToken, get, onSession } from "./api.js";

const EVERY = 2000;
// Poll intervals in ms without the claim, and while the page is hidden.
const HIDDEN = 60000;
const UNSEEN = 10000;
// Rates and latencies are measured over so many ms, as by the server.
const WINDOW = 5000;
const KEPT = 15 * 60 * 1000;

// Points: {time, status}; status is null after a failed request.
export const history = [];

// "live", "reconnecting", "hidden" (without the claim) or "out".
export const state = { word: "out", detail: "" };

const listeners = new Set();
const notify = () => listeners.forEach((listener) => listener());
let timer = null;

// Calls a listener now and after each answer. Returns its removal.
export function watch(listener) {
  listeners.add(listener);
  listener();
  return () => listeners.delete(listener);
}

export const latest = () => history.at(-1)?.status ?? null;

// The token of the request in progress.
let asking = null;
let [hiddenUntil, looked] = [0, 0];

async function look() {
  const token = currentToken();
  if (asking === token || Date.now() < hiddenUntil || document.hidden && Date.now() - looked < UNSEEN) return;
  asking = token;
  looked = Date.now();
  let now = { word: "live", detail: "" };
  const status = await get("hydrant/status", 1).catch((error) => {
    now = error.status === 403 ? { word: "hidden", detail: "" }
      : { word: "reconnecting", detail: `${error.message} Retrying in ${EVERY / 1000} s.` };
    return null;
  });
  if (asking === token) asking = null;
  // The session may have ended.
  if (token !== currentToken()) return;
  if (now.word === "hidden") hiddenUntil = Date.now() + HIDDEN;
  Object.assign(state, now);
  history.push({ time: Date.now(), status });
  while (looked - history[0].time > KEPT) history.shift();
  notify();
}

document.addEventListener("visibilitychange", () => {
  if (currentToken() && !document.hidden) look();
});

onSession(() => {
  clearInterval(timer);
  hiddenUntil = 0;
  history.length = 0;
  Object.assign(state, { word: "out", detail: "" });
  notify();
  if (!currentToken()) return;
  timer = setInterval(look, EVERY);
  look();
});

// The run of the node that answered. Counters can be compared within one only.
export const runOf = (status) => status && status.Id + status.Started;

// The point with which to compare the one at this index, WINDOW earlier if the run is that old; null if unknown.
export function before(at) {
  const { time, status } = history[at];
  const run = runOf(status);
  let first = at;
  while (first > 0 && time - history[first].time < WINDOW && runOf(history[first - 1].status) === run) first -= 1;
  return run && first < at ? history[first] : null;
}

const steps = (compare) => history.map((point, at) => {
  const one = before(at);
  return one ? compare(one, point) : null;
});

// The growth per second of a counter; null where unknown.
export function rates(pick) {
  return steps((before, point) => {
    const grown = pick(point.status) - pick(before.status);
    return grown < 0 ? null : (grown * 1000) / (point.time - before.time);
  });
}

export const values = (pick) => history.map((point) => (point.status ? pick(point.status) : null));

// A quantile of the latency at each point: the upper bound of its bucket.
export function quantiles(share) {
  return steps((before, point) => {
    const { BoundsMicroseconds: bounds, Counts: now } = point.status.Latency;
    const counts = now.map((n, bucket) => Math.max(0, n - before.status.Latency.Counts[bucket]));
    const all = counts.reduce((sum, n) => sum + n, 0);
    if (!all) return null;
    let seen = 0;
    const bucket = counts.findIndex((n) => (seen += n) >= all * share && n > 0);
    return bounds[Math.min(bucket, bounds.length - 1)];
  });
}

export const received = (status) => Object.values(status.Received).reduce((sum, n) => sum + n, 0);
