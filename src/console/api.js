// Requests to the server, and the credential that they carry.
//
// The credential is kept in memory and sent in the `Authorization` header only, never in a URL, storage or a cookie. It
// comes from the sign-in form, which exchanges a password for a token, or from the fragment (`#token=...`), which is
// removed from the address.

import { noteTime } from "./dom.js";

// A refusal by the server, with its messages and status.
export class RefusedError extends Error {
  constructor(status, messages) {
    super(messages[0] ?? `The server answered ${status}.`);
    this.status = status;
    this.messages = messages.length ? messages : [this.message];
  }
}

// Request timeout in milliseconds.
const TIMEOUT = 10000;

let token = null;
let rights = null;
let listeners = [];

export const currentToken = () => token;
export const isSignedIn = () => token !== null;

// Calls `listener` when a session begins or ends, with the reason why it ended.
export function onSession(listener) {
  listeners.push(listener);
}

function setToken(value, why) {
  token = value;
  rights = null;
  listeners.forEach((listener) => listener(why));
}

export const signOut = () => setToken(null, "You are signed out.");

// Why the current token is no longer accepted.
function whyRefused() {
  const { exp } = tokenClaims();
  const why = exp * 1000 <= Date.now() ? "Your session has expired." : "The server no longer accepts your token.";
  return `${why} Sign in again to continue in this view.`;
}

// The content of the token, unverified, for display only.
function tokenClaims() {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

export function userName() {
  const { sub, name, user } = tokenClaims();
  return String(sub ?? name ?? user ?? "").replace(/^user:/, "");
}

async function raw(path, options = {}, credential = token && `Bearer ${token}`) {
  const headers = { ...(credential && { Authorization: credential }), ...options.headers };
  const signal = options.signal ?? AbortSignal.timeout(TIMEOUT);
  let answer;
  try {
    answer = await fetch(`/api/v3/${path}`, { ...options, signal, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RefusedError(0, ["The server did not answer."]);
  }
  noteTime(answer.headers.get("Date"));
  if (answer.ok) return answer;
  const { Messages: messages = [], Model: model, Key: key } = await answer.json().catch(() => ({}));
  if (answer.status === 404 && model) messages[0] = `${model} ${key}: ${messages[0]}`;
  // The server also answers 403 if a claim is missing. Only a refusal of the current token ends the session.
  const unknown = answer.status === 401 || messages[0] === "credentials are not valid";
  if (unknown && token && credential === `Bearer ${token}`) setToken(null, whyRefused());
  throw new RefusedError(answer.status, messages);
}

// Exchanges user and password for a token of twelve hours.
export async function signIn(user, password) {
  const login = btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)));
  const answer = await raw(`users/${encodeURIComponent(user)}/token?ttl=12h`, {}, `Basic ${login}`);
  setToken((await answer.json()).Token);
}

// Signs in with a token if the server accepts it.
export async function signInWith(text) {
  await raw("hydrant/me", {}, `Bearer ${text}`);
  setToken(text);
}

// An answer that may be `age` seconds old, so that pages share it. An incomplete list has the property `lacks`.
export async function get(path, age = 0) {
  const answer = await raw(path, age ? { headers: { "Cache-Control": `max-age=${age}` } } : {});
  const lacks = answer.headers.get("X-Hydrant-Incomplete");
  return Object.assign(await answer.json(), lacks && { lacks });
}

// Posts a body in JSON.
export async function post(path, body) {
  return (await raw(path, { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();
}

export const remove = async (path) => (await raw(path, { method: "DELETE" })).json();

// A response with its body as a stream.
export const open = (path, headers, signal) => raw(path, { headers, signal });

// The caller and its claims; requested once per session.
export function me() {
  rights ??= get("hydrant/me").catch((error) => {
    rights = null;
    throw error;
  });
  return rights;
}

// Whether the caller's claims permit an action, so that the page offers it. The server checks again.
export async function may(scope, action, specific) {
  const fits = (names, one) => names.split(",").some((name) => name === "*" || name === one);
  const permit = (claims) => claims.map((claim) => claim.split("/"))
    .some(([s, a, k]) => fits(s, scope) && fits(a, action) && fits(k, specific));
  const { Claims: claims, Narrowing: narrowing } = await me();
  return permit(claims) && (!narrowing.length || permit(narrowing));
}

// Checks a registration: returns {Warnings, Looked, Matched}, or throws an error with the position.
export const checkSpec = (spec) => post("hydrant/check", JSON.stringify({ Spec: spec }));

// Runs `work` now and again `pause` ms after each run has ended. Pauses while the page is hidden. Returns a function
// that stops it.
export function repeat(work, pause) {
  let timer = null;
  let ended = false;
  const next = async () => {
    timer = null;
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(next, pause);
  };
  const seen = () => {
    // Without a timer it is running.
    if (document.hidden || timer === null) return;
    clearTimeout(timer);
    next();
  };
  document.addEventListener("visibilitychange", seen);
  next();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
