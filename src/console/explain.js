// Explain: why an event did or did not arrive, in one sentence and as a tree.

import { post } from "./api.js";
import { VERBATIM, button, failure, field, fill, h, quiet, spoken } from "./dom.js";
import { parameters, setParameters } from "./route.js";

export const title = "Explain";

const EXAMPLE = '{"Type":"machines","Action":"update","Key":"m1",' +
  '"Object":{"Stage":"local"},"Original":{"Stage":"none"}}';

export function show(element) {
  const given = parameters();
  const event = h("textarea", { id: "x-event", rows: "6", spellcheck: "false", placeholder: EXAMPLE });
  event.value = given.event ?? "";
  const input = (id, value, placeholder) => h("input", { id, class: "spec", value: value ?? "", placeholder,
    ...VERBATIM });
  const position = input("x-position", given.position, "EPOCH:SEQUENCE");
  const spec = input("x-spec", given.spec, "machines.update.*.Stage=Eq(local)");
  const user = input("x-user", given.user, "you");
  const connection = input("x-connection", given.connection, "ADDR:PORT");
  const answer = h("div", { class: "answer", role: "region", "aria-live": "polite" });

  async function ask(submitted) {
    submitted?.preventDefault();
    const named = { event: event.value.trim(), position: position.value.trim(), spec: spec.value.trim(),
      user: user.value.trim(), connection: connection.value.trim() };
    setParameters(named);
    const parts = [];
    const text = (name, value) => value && parts.push(`"${name}":${JSON.stringify(value)}`);
    // As text: what stands in an event passes byte for byte.
    if (named.event) parts.push(`"Event":${named.event}`);
    else text("Position", named.position);
    text("Spec", named.spec);
    if (named.connection) text("Connection", named.connection);
    else text("User", named.user);
    try {
      fill(answer, told(await post("hydrant/explain", `{${parts.join(",")}}`)));
    } catch (error) {
      fill(answer, failure(error));
    }
  }

  fill(element, h("form", { class: "form", onsubmit: ask },
    h("div", { class: "columns" },
      h("fieldset", h("legend", "Event"), field("Pasted, as JSON", event),
        field("or its position in the history", position, "From a row of the tail, or the id of a stream.")),
      h("fieldset", h("legend", "Reaches"), field("Registration (SPEC)", spec),
        field("of the user", user),
        field("or an open connection", connection, "With its own registrations and rights."))),
    h("div", { class: "toolbar" }, h("button", { type: "submit", class: "primary" }, "Explain"),
      button("Example", () => { event.value = EXAMPLE; position.value = "";
        spec.value = "machines.update.*.Stage=Eq(none)"; ask(); }))), answer);
  if ((given.event || given.position) && (given.spec || given.connection)) ask();
  else event.focus();
}

function told(answer) {
  const cause = (one) => h("li", spoken(sentence(one)));
  return [
    h("p", { class: `verdict ${answer.Delivered ? "good" : "bad"}` }, verdict(answer)),
    answer.Roles?.length && h("p", "Roles that may see it: ", answer.Roles.join(", ")),
    answer.Loss && h("p", { class: "attention" }, answer.Loss),
    answer.Causes.length > 1 && h("ul", answer.Causes.map(cause)),
    answer.Rights && h("ul", { class: "steps" }, step(answer.Rights)),
    answer.Registrations.slice(0, 50)
      .map((one) => [h("h3", h("code", one.Spec)), h("ul", { class: "steps" }, one.Steps.map(step))]),
    answer.Registrations.length > 50
      && quiet(`and ${answer.Registrations.length - 50} more that are further away`),
  ];
}

function verdict({ Reason: reason, Causes: causes }) {
  if (causes.length > 1) return `Not delivered, for ${causes.length} reasons:`;
  return [spoken(reason[0].toUpperCase() + reason.slice(1)), "."];
}

function sentence(cause) {
  switch (cause.Kind) {
    case "Claim": return `The claim ${cause.Claim} is missing.`;
    case "Narrowing": return `The token is restricted to ${cause.Claim}.`;
    case "Tenant": return `The tenant does not list ${cause.Model} ${cause.Key}.`;
    case "Rights": return "This principal may not see it. Only callers who may read users are shown the reason.";
    case "NoRegistration": return "Nothing is registered.";
    case "Filter": {
      const found = cause.Value == null ? "the field is missing" : `the value is ${cause.Value}`;
      return `${cause.Term} is false: ${found}.`;
    }
    default: return `The ${cause.Kind.toLowerCase()} is ${cause.Found}, not ${cause.Wanted}.`;
  }
}

/** What stands there instead, or how a claim falls short. */
const found = (text) => (text.endsWith(" not match") ? `: ${text}`
  : [": it is ", h("code", text.replace(/^`(.*)`$/, "$1"))]);

const WORDS = { held: "yes", failed: "no", skipped: "not asked" };

function step(one) {
  return h("li", { class: `step ${one.Verdict}` }, h("span", { class: "mark" }, WORDS[one.Verdict]),
    " ", spoken(one.Asked),
    one.Found != null && found(one.Found), one.Steps?.length && h("ul", { class: "steps" }, one.Steps.map(step)));
}
