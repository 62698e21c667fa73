// Explain: why an event does or does not arrive, in a sentence and as a tree.

import { post } from "./api.js";
import { opened } from "./detail.js";
import { VERBATIM, button, failure, field, fill, h, quiet, spoken } from "./dom.js";
import { parameters, setParameters } from "./route.js";

const EXAMPLE = '{"Type":"machines","Action":"update","Key":"m1",' +
  '"Object":{"Stage":"local"},"Original":{"Stage":"none"}}';

export function show(element) {
  const given = parameters();
  const event = h("textarea", { id: "x-event", rows: "6", spellcheck: "false", placeholder: EXAMPLE });
  event.value = given.event ?? "";
  const input = (name, placeholder) =>
    h("input.spec", { id: `x-${name}`, value: given[name], placeholder, ...VERBATIM });
  const position = input("position", "EPOCH:SEQUENCE");
  const spec = input("spec", "machines.update.*.Stage=Eq(local)");
  const user = input("user", "you");
  const connection = input("connection", "ADDR:PORT");
  const answer = h("div.answer", { role: "region", "aria-live": "polite" });

  async function ask(submitted) {
    submitted?.preventDefault();
    const inputs = Object.entries({ event, position, spec, user, connection });
    const named = Object.fromEntries(inputs.map(([name, { value }]) => [name, value.trim()]));
    setParameters(named);
    const text = (name, value) => value && `"${name}":${JSON.stringify(value)}`;
    // Concatenated as text, so that the event's bytes are not changed.
    const explain = async (event) => fill(answer, told(await post("hydrant/explain", `{${[
      event ? `"Event":${event}` : text("Position", named.position), text("Spec", named.spec),
      named.connection ? text("Connection", named.connection) : text("User", named.user)].filter(Boolean)}}`)));
    const isGone = (error) => error.message.startsWith("events ");
    try {
      await explain(named.event).catch((error) => {
        const copy = isGone(error) && opened(named.position);
        if (!copy) throw error;
        return explain(copy);
      });
    } catch (error) {
      fill(answer, failure(error), isGone(error) && quiet("The history no longer holds this event: paste it."));
    }
  }

  fill(element, h("form.form", { onsubmit: ask },
    h("div.columns",
      h("fieldset", h("legend", "Event"), field("Pasted, as JSON", event),
        field("or its position in the history", position, "From a row of the tail, or the id of a stream.")),
      h("fieldset", h("legend", "Reaches"), field("Registration (SPEC)", spec),
        field("of the user", user),
        field("or an open connection", connection, "With its own registrations and rights."))),
    h("div.toolbar", h("button.primary", "Explain"),
      button("Example", () => { event.value = EXAMPLE; position.value = "";
        spec.value = "machines.update.*.Stage=Eq(none)"; ask(); }))), answer);
  if ((given.event || given.position) && (given.spec || given.connection)) ask();
  else event.focus();
}

function told(answer) {
  const { Reason: reason } = answer;
  return [h(`p.verdict.${answer.Delivered ? "good" : "bad"}`, spoken(reason[0].toUpperCase() + reason.slice(1)), "."),
    answer.Roles?.length && h("p", "Roles that may see it: ", answer.Roles.join(", ")),
    answer.Loss && h("p.attention", answer.Loss),
    answer.Rights && steps([answer.Rights]),
    answer.Registrations.slice(0, 50).map((one) => [h("h3", h("code", one.Spec)), steps(one.Steps)]),
    answer.Registrations.length > 50 && quiet(`and ${answer.Registrations.length - 50} more that are further away`)];
}

// What was found instead, or which part of a claim does not match.
const found = (text) => (text.endsWith(" not match") ? `: ${text}`
  : [": it is ", h("code", text.replace(/^`(.*)`$/, "$1"))]);

const WORDS = { held: "yes", failed: "no", skipped: "not asked" };

const steps = (all) => h("ul.steps", all.map(step));

function step(one) {
  return h(`li.step.${one.Verdict}`, h("span.mark", WORDS[one.Verdict]), " ", spoken(one.Asked),
    one.Found != null && found(one.Found), one.Steps?.length && steps(one.Steps));
}
