// The status of the broker: polled every two seconds while signed in, kept for fifteen minutes.

import { currentToken, get, isSignedIn, onSession } from "./api.js";

const EVERY = 2000;
/** So often whoever may not know asks again. */
const HIDDEN = 60000;
/** So often a page asks that nobody sees: its charts go on, with fewer points. */
const UNSEEN = 10000;
const KEPT = (15 * 60 * 1000) / EVERY;

/** Points of the last fifteen minutes: {time, status}; status is null where nothing was answered. */
export const history = [];

/** "live", "reconnecting", "hidden" (the caller may not know) or "out"; and what goes with it. */
export const state = { word: "out", detail: "" };

const listeners = new Set();
let timer = null;

/** Calls a listener after each answer. Returns a function that takes it off. */
export function watch(listener) {
  listeners.add(listener);
  listener();
  return () => listeners.delete(listener);
}

export const latest = () => history.at(-1)?.status ?? null;

/** The token with which an answer is awaited. */
let asking = null;
let hiddenUntil = 0;
let looked = 0;

async function look() {
  const token = currentToken();
  // One that is late is waited for, so that questions do not pile up.
  if (asking === token || Date.now() < hiddenUntil || document.hidden && Date.now() - looked < UNSEEN) return;
  asking = token;
  looked = Date.now();
  let status = null;
  let now = { word: "live", detail: "" };
  try {
    status = await get("hydrant/status", 1);
  } catch (error) {
    now = error.status === 403 ? { word: "hidden", detail: "" }
      : { word: "reconnecting", detail: `${error.message} Retrying in ${EVERY / 1000} s.` };
  }
  if (asking === token) asking = null;
  // What a session that has ended asked is no other's.
  if (token !== currentToken()) return;
  if (now.word === "hidden") hiddenUntil = Date.now() + HIDDEN;
  Object.assign(state, now);
  history.push({ time: Date.now(), status });
  if (history.length > KEPT) history.shift();
  listeners.forEach((listener) => listener());
}

document.addEventListener("visibilitychange", () => {
  if (isSignedIn() && !document.hidden) look();
});

onSession(() => {
  clearInterval(timer);
  hiddenUntil = 0;
  history.length = 0;
  Object.assign(state, { word: "out", detail: "" });
  listeners.forEach((listener) => listener());
  if (!isSignedIn()) return;
  timer = setInterval(look, EVERY);
  look();
});

/** Of which run of which node an answer is: behind a balancer another may answer. Counts go on in one run only. */
export const runOf = (status) => status && status.Id + status.Started;

/** The point before one of the last, if what has grown since then is known. */
export function before(at) {
  const [one, other] = [history.at(at - 1), history.at(at)];
  return one?.status && runOf(one.status) === runOf(other?.status) ? one : null;
}

/** What `compare` says of each of the last points and the one before it; null where it is not known. */
const steps = (compare) => history.map((point, at) => {
  const one = at > 0 && before(at);
  return one ? compare(one, point) : null;
});

/** What a count has grown by a second, for each of the last points; null where it is not known. */
export function rates(pick) {
  return steps((before, point) => {
    const grown = pick(point.status) - pick(before.status);
    return grown < 0 ? null : (grown * 1000) / (point.time - before.time);
  });
}

/** A figure of each of the last points. */
export const values = (pick) => history.map((point) => (point.status ? pick(point.status) : null));

/** The bound below which a share of the deliveries between two looks stays, microseconds. */
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
