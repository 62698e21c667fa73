// Requests to the server, and the credential that they carry.
//
// The credential is kept in memory and sent in the `Authorization` header only, never in a URL, storage or a cookie.

import { noteTime, quote } from "./dom.js";

// A refusal by the server.
export class RefusedError extends Error {
  constructor(status, messages) {
    super(messages[0] ?? `The server answered ${status}.`);
    this.status = status;
    this.messages = messages.length ? messages : [this.message];
  }
}

const TIMEOUT_MS = 10000;

let token = null;
let rights = null;
const listeners = [];

export const currentToken = () => token;

// Calls `listener` when a session begins, or ends for a reason.
export const onSession = (listener) => listeners.push(listener);

function setToken(value, why) {
  token = value;
  rights = null;
  listeners.forEach((listener) => listener(why));
}

export const signOut = () => setToken(null, "You are signed out.");

// The content of the token, unverified, for display only.
function tokenClaims() {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

function whyRefused() {
  const why = tokenClaims().exp * 1000 <= Date.now() ? "Your session has expired."
    : "The server no longer accepts your token.";
  return `${why} Sign in again to continue in this view.`;
}

export function userName() {
  const { sub, name, user } = tokenClaims();
  return String(sub ?? name ?? user ?? "").replace(/^user:/, "");
}

// A curl command with the user's name; curl prompts for the password.
export const curl = (options) => `curl -k -u ${quote(userName())} ${options}`;

export async function raw(path, options = {}, credential = token && `Bearer ${token}`) {
  const answer = await fetch(`/api/v3/${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS), ...options,
    headers: { ...(credential && { Authorization: credential }), ...options.headers },
    credentials: "omit", cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new RefusedError(0, ["The server did not answer."]);
  });
  noteTime(answer.headers.get("Date"));
  if (answer.ok) return answer;
  const { Messages: messages = [], Model: model, Key: key } = await answer.json().catch(() => ({}));
  if (answer.status === 404 && model) messages[0] = `${model} ${key}: ${messages[0]}`;
  // 403 may be for a missing claim. Only a refusal of the current token ends the session.
  const unknown = answer.status === 401 || messages[0] === "credentials are not valid";
  if (unknown && token && credential === `Bearer ${token}`) setToken(null, whyRefused());
  throw new RefusedError(answer.status, messages);
}

export async function signIn(user, password) {
  const login = btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)));
  const answer = await raw(`users/${encodeURIComponent(user)}/token?ttl=12h`, {}, `Basic ${login}`);
  setToken((await answer.json()).Token);
}

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

export const post = async (path, body) =>
  (await raw(path, { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();

export const remove = async (path) => (await raw(path, { method: "DELETE" })).json();

// The caller and its claims; requested once per session.
export const me = () => rights ??= get("hydrant/me").catch((error) => {
  rights = null;
  throw error;
});

// Whether the page offers an action. The server checks again.
export async function may(scope, action, specific) {
  const fits = (names, one) => names.split(",").some((name) => name === "*" || name === one);
  const permit = (claims) => claims.map((claim) => claim.split("/"))
    .some(([s, a, k]) => fits(s, scope) && fits(a, action) && fits(k, specific));
  const { Claims: claims, Narrowing: narrowing } = await me();
  return permit(claims) && (!narrowing.length || permit(narrowing));
}

// Runs `work` now and `pause` ms after each run, unless the page is hidden. Returns a function that stops it.
export function repeat(work, pause) {
  let timer;
  let ended = false;
  const next = async () => {
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(next, pause);
  };
  next();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
