// What the page asks of the server.
//
// The credential is kept in this module's memory and goes into the `Authorization` header only: never into a URL,
// storage or a cookie. It comes from the sign-in form, which trades a password for a token, or once from the URL's
// fragment (`#token=...`), which is wiped.

/** What the server refused, with its messages and its status. */
export class Refused extends Error {
  constructor(status, messages) {
    super(messages[0] ?? `The server answered ${status}.`);
    this.status = status;
    this.messages = messages.length ? messages : [this.message];
  }
}

/** Milliseconds after which the server does not answer. */
const PATIENCE = 10000;

let token = null;
let rights = null;
let listeners = [];

/** The token, for snippets that the user asks for. */
export const currentToken = () => token;
export const isSignedIn = () => token !== null;

/** Has somebody told when the credential comes or goes, and why it went. */
export function onSession(listener) {
  listeners.push(listener);
}

function setToken(value, why) {
  token = value;
  rights = null;
  listeners.forEach((listener) => listener(why));
}

export const signOut = () => setToken(null, "You are signed out.");

/** Why a token that was good is refused. */
function whyRefused() {
  const { exp } = tokenClaims();
  const why = exp * 1000 <= Date.now() ? "Your session has expired." : "The server no longer accepts your token.";
  return `${why} Sign in again to continue in this view.`;
}

/** Who the token says it is for: its claims, unverified, for display only. */
function tokenClaims() {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** The name of the user that the token is for. */
export function userName() {
  const { sub, name, user } = tokenClaims();
  return String(sub ?? name ?? user ?? "").replace(/^user:/, "");
}

function request(path, options, credential) {
  const headers = { ...(credential && { Authorization: credential }), ...options.headers };
  const signal = options.signal ?? AbortSignal.timeout(PATIENCE);
  return fetch(path, { ...options, signal, headers, credentials: "omit", cache: "no-store" });
}

async function raw(path, options = {}, credential = token && `Bearer ${token}`) {
  let answer;
  try {
    answer = await request(path, options, credential);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, ["The server did not answer."]);
  }
  if (answer.ok) return answer;
  const messages = (await answer.json().catch(() => ({}))).Messages ?? [];
  // 403 is said about a missing claim, too. A token that was tried, or an old one, does not end the present session.
  const unknown = answer.status === 401 || messages[0] === "credentials are not valid";
  if (unknown && token && credential === `Bearer ${token}`) setToken(null, whyRefused());
  throw new Refused(answer.status, messages);
}

/** Trades user and password for a token of twelve hours. */
export async function signIn(user, password) {
  const login = btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)));
  const answer = await raw(`/api/v3/users/${encodeURIComponent(user)}/token?ttl=12h`, {}, `Basic ${login}`);
  setToken((await answer.json()).Token);
}

/** Takes a token, if it is good. */
export async function signInWith(text) {
  await raw("/api/v3/hydrant/me", {}, `Bearer ${text}`);
  setToken(text);
}

/**
 * An answer that may be `age` seconds old: all who permit that share the server's work for it. A list has the property
 * `lacks` if something is missing.
 */
export async function get(path, age = 0) {
  const answer = await raw(`/api/v3/${path}`, age ? { headers: { "Cache-Control": `max-age=${age}` } } : {});
  const lacks = answer.headers.get("X-Hydrant-Incomplete");
  return Object.assign(await answer.json(), lacks && { lacks });
}

export async function post(path, body) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return (await raw(`/api/v3/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: text }))
    .json();
}

export const remove = async (path) => (await raw(`/api/v3/${path}`, { method: "DELETE" })).json();

/** An answer whose body is read as it comes. */
export const open = (path, headers, signal) => raw(`/api/v3/${path}`, { headers, signal });

/** Who the caller is and what the caller may do; asked once a session. */
export function me() {
  rights ??= get("hydrant/me").catch((error) => {
    rights = null;
    throw error;
  });
  return rights;
}

/** Whether the caller's claims permit something: what a page offers. The server decides again. */
export async function may(scope, action, specific) {
  const fits = (names, one) => names.split(",").some((name) => name === "*" || name === one);
  const permit = (claims) => claims.map((claim) => claim.split("/"))
    .some(([s, a, k]) => fits(s, scope) && fits(a, action) && fits(k, specific));
  const { Claims: claims, Narrowing: narrowing } = await me();
  return permit(claims) && (!narrowing.length || permit(narrowing));
}

/** What is said of a registration: {Warnings, Looked, Matched}, or a Refused with the place. */
export const checkSpec = (spec) => post("hydrant/check", { Spec: spec });

/**
 * Does something now, and again so long after it has ended: what is slow does not pile up. Nothing is done while the
 * page is hidden, and at once when it is seen again. Returns what ends it.
 */
export function repeat(work, pause) {
  let timer = null;
  let ended = false;
  const next = async () => {
    timer = null;
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(next, pause);
  };
  const seen = () => {
    // Without a timer it is being done.
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
