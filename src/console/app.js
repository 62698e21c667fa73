// The frame: the bar with figures, the rail of views, signing in, and the keys.

import { currentToken, isSignedIn, onSession, signIn, signInWith, signOut, userName } from "./api.js";
import { announce, button, bytes, failure, field, fill, h, micros, quiet, rate, renew } from "./dom.js";
import { place } from "./route.js";
import { latest, quantiles, rates, received, state, watch } from "./status.js";
import * as now from "./now.js";
import * as tail from "./tail.js";
import * as connections from "./connections.js";
import * as registrations from "./registrations.js";
import * as explain from "./explain.js";
import * as me from "./me.js";

const VIEWS = { now, tail, connections, registrations, explain, me };
const KEYS = { n: "now", t: "tail", c: "connections", r: "registrations", e: "explain", m: "me" };

const app = document.getElementById("app");
const figures = h("div", { class: "figures" });
const rail = h("nav", { class: "rail", "aria-label": "Views" });
const main = h("main", { tabindex: "0" });
const help = h("dialog", { "aria-label": "Keys" });
let leave = null;
let user = "rocketskates";

// Signs in with the token in the fragment and removes it. Returns the error; null on success.
async function tokenOfFragment() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  const parts = new URLSearchParams(view.startsWith("token=") ? view : query);
  const token = parts.get("token");
  if (!token) return undefined;
  parts.delete("token");
  const rest = parts.toString();
  const name = view.startsWith("token=") ? "now" : view;
  history.replaceState(null, "", `#${name}${rest && `?${rest}`}`);
  return signInWith(token).then(() => null, (error) => error);
}

function frame() {
  user = userName() || user;
  fill(app,
    h("header", { class: "bar" }, h("a", { href: "#now", class: "brand" }, "hydrant"), figures,
      h("span", { class: "who" }, button("?", showHelp, { title: "Keys", "aria-label": "Keys" }),
        h("a", { href: "#me" }, userName() || "signed in"), button("Sign out", signOut))),
    rail, main, help);
  fill(rail, Object.entries(VIEWS).map(([view, { title }]) => h("a", { href: `#${view}`, "data-view": view }, title)));
}

function drawBar() {
  if (!isSignedIn()) return;
  const word = { hidden: "status hidden", out: "connecting" }[state.word] ?? state.word;
  const dot = h("span", { class: `state ${state.word}`, role: "status" }, state.detail ? `${word}: ${state.detail}` : word);
  const status = latest();
  const figure = (view, value, unit) => h("a", { href: `#${view}` }, h("b", value), ` ${unit}`);
  // The charts' values, once they have two points.
  renew(figures, dot, status && [
    h("span", { class: "node", title: "Node" }, status.Id),
    figure("tail", rate(rates(received).at(-1) ?? status.Rates.ReceivedPerSecond), "events/s"),
    figure("registrations", rate(rates((s) => s.Delivered).at(-1) ?? status.Rates.DeliveredPerSecond), "deliveries/s"),
    figure("connections", bytes(status.Queue.Bytes), "queued"),
    figure("now", micros(quantiles(0.99).at(-1) ?? status.Rates.P99Microseconds), "p99"),
  ]);
}

function draw(note) {
  const { view } = place();
  const known = VIEWS[view] ? view : "now";
  leave?.();
  const { title, show } = VIEWS[known];
  document.title = `${title} · hydrant`;
  for (const link of rail.children) link.ariaCurrent = link.dataset.view === known ? "page" : null;
  const body = h("div", { class: `view view-${known}` });
  fill(main, h("h1", { class: "unseen" }, title), body);
  leave = show(body) ?? null;
  if (note) body.prepend(note);
  announce(title);
}

function signInForm(note) {
  const problem = h("div", note);
  const name = h("input", { id: "user", type: "text", autocomplete: "username", value: user, required: true });
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password" });
  const token = h("input", { id: "token", type: "password", autocomplete: "off" });
  const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h("form", { class: "form narrow" }, h("h1", "hydrant"),
    quiet("Your password is exchanged for a token that this page keeps only in memory, so a reload signs you out."),
    problem,
    field("User", name), field("Password", password),
    h("details", h("summary", "Or a token"), field("Token", token)), submit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    submit.textContent = "Signing in…";
    try {
      await (token.value ? signInWith(token.value.trim()) : signIn(name.value.trim(), password.value));
    } catch (error) {
      fill(problem, failure(error));
      submit.disabled = false;
      submit.textContent = "Sign in";
      password.select();
    }
  });
  fill(app, h("main", { class: "door" }, form));
  password.focus();
}

function session(why) {
  leave?.();
  leave = null;
  if (currentToken()) {
    frame();
    draw();
    drawBar();
  } else {
    signInForm(why && h("p", { class: "attention", role: "alert" }, why));
  }
}

let prefix = false;

addEventListener("keydown", (event) => {
  if (help.open) return;
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !isSignedIn()) {
    if (event.key === "Escape" && typing) event.target.blur();
    return;
  }
  const { key } = event;
  if (prefix && KEYS[key]) {
    location.hash = KEYS[key];
  } else if (key === "/") {
    event.preventDefault();
    const field = document.querySelector("[data-key=spec]");
    if (field) field.focus();
    else location.hash = "tail";
  } else if (key === "?") {
    showHelp();
  } else if (leave?.keys?.[key] && !(event.target.closest("button, a, summary") && (key === " " || key === "Enter"))) {
    event.preventDefault();
    leave.keys[key]();
  }
  prefix = key === "g" && !prefix;
});

function showHelp() {
  const rows = [["/", "go to the SPEC"], ["space", "pause or resume"], ["j k", "next, previous event"],
    ["Enter", "to its detail"], ["e", "explain the event"],
    ...Object.entries(KEYS).map(([key, view]) => [`g ${key}`, VIEWS[view].title]), ["?", "this list"]];
  fill(help, h("h2", "Keys"),
    h("dl", rows.map(([key, does]) => h("div", h("dt", h("kbd", key)), h("dd", does)))),
    button("Close", () => help.close()));
  help.showModal();
}

const unusable = ({ message }, ...more) =>
  failure({ messages: [`The token in the link was not accepted: ${message}`, ...more] });

addEventListener("hashchange", async () => {
  const refused = await tokenOfFragment();
  // An accepted token has drawn the view.
  if (isSignedIn()) refused === null || draw(refused && unusable(refused, `You are still signed in as ${user}.`));
  else if (refused) signInForm(unusable(refused));
});
onSession(session);
watch(drawBar);
const refused = await tokenOfFragment();
if (!isSignedIn()) signInForm(refused && unusable(refused));
