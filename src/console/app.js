// The frame: the bar with figures, the rail of views, signing in, and the keys.

import { currentToken, onSession, signIn, signInWith, signOut, userName } from "./api.js";
import { announce, button, bytes, fact, failure, field, fill, h, micros, quiet, rate, renew } from "./dom.js";
import { parameters, place, setParameters } from "./route.js";
import { latest, quantiles, rates, received, state, watch } from "./status.js";
import * as now from "./now.js";
import * as tail from "./tail.js";
import * as connections from "./connections.js";
import * as registrations from "./registrations.js";
import * as explain from "./explain.js";
import * as me from "./me.js";

const VIEWS = { now, tail, connections, registrations, explain, me };
const titleOf = (view) => view[0].toUpperCase() + view.slice(1);
// By their first letters.
const KEYS = Object.fromEntries(Object.keys(VIEWS).map((view) => [view[0], view]));

const app = document.getElementById("app");
const figures = h("div.figures");
const rail = h("nav.rail", { "aria-label": "Views" });
const main = h("main", { tabindex: "0" });
const help = h("dialog", { "aria-label": "Keys" });
let leave = null;
let user = "rocketskates";

// Signs in with the token in the fragment and removes it. Returns the error; null on success.
async function tokenOfFragment() {
  const { token } = parameters();
  if (!token) return undefined;
  setParameters({ token: null });
  return signInWith(token).then(() => null, (error) => error);
}

function frame() {
  user = userName() || user;
  fill(app,
    h("header.bar", h("a.brand", { href: "#now" }, "hydrant"), figures,
      h("span.who", button("?", showHelp, { "aria-label": "Keys" }),
        h("a", { href: "#me" }, userName() || "signed in"), button("Sign out", signOut))),
    rail, main, help);
  fill(rail, Object.keys(VIEWS).map((view) => h("a", { href: `#${view}`, "data-view": view }, titleOf(view))));
}

function drawBar() {
  if (!currentToken()) return;
  const word = { hidden: "status hidden", out: "connecting" }[state.word] ?? state.word;
  const dot = h(`span.state.${state.word}`, { role: "status" }, word, state.detail && `: ${state.detail}`);
  const status = latest();
  const figure = (view, value, unit) => h("a", { href: `#${view}` }, h("b", value), ` ${unit}`);
  // The charts' values, once they have two points.
  renew(figures, dot, status && [
    h("span.node", { title: "Node" }, status.Id),
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
  const title = titleOf(known);
  document.title = `${title} · hydrant`;
  for (const link of rail.children) link.ariaCurrent = link.dataset.view === known ? "page" : null;
  const body = h(`div.view.view-${known}`);
  fill(main, h("h1.unseen", title), body);
  leave = VIEWS[known].show(body);
  if (note) body.prepend(note);
  announce(title);
}

function signInForm(note) {
  const problem = h("div", note);
  const name = h("input", { id: "user", autocomplete: "username", value: user, required: true });
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password" });
  const token = h("input", { id: "token", type: "password", autocomplete: "off" });
  const submit = h("button.primary", "Sign in");
  const form = h("form.form.narrow", h("h1", "hydrant"),
    quiet("Your password is exchanged for a token that this page keeps only in memory, so a reload signs you out."),
    problem,
    field("User", name), field("Password", password),
    h("details", h("summary", "Or a token"), field("Token", token)), submit);
  form.onsubmit = async (event) => {
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
  };
  fill(app, h("main.door", form));
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
    signInForm(why && h("p.attention", { role: "alert" }, why));
  }
}

let prefix = false;

addEventListener("keydown", (event) => {
  if (help.open) return;
  const typing = event.target.closest?.("input, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !currentToken()) {
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
    ...Object.entries(KEYS).map(([key, view]) => [`g ${key}`, titleOf(view)]), ["?", "this list"]];
  fill(help, h("h2", "Keys"), h("dl", rows.map(([key, does]) => fact(h("kbd", key), does))),
    button("Close", () => help.close()));
  help.showModal();
}

const unusable = ({ message }, more = "") =>
  failure({ message: `The token in the link was not accepted: ${message}\n${more}` });

addEventListener("hashchange", async () => {
  const refused = await tokenOfFragment();
  // An accepted token has drawn the view.
  if (currentToken()) refused === null || draw(refused && unusable(refused, `You are still signed in as ${user}.`));
  else if (refused) signInForm(unusable(refused));
});
onSession(session);
watch(drawBar);
const refused = await tokenOfFragment();
if (!currentToken()) signInForm(refused && unusable(refused));
