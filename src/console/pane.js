// A list that is polled, and beside it a pane with the row named by the parameter `open`.

import { repeat } from "./api.js";
import { button, bytes, count, failure, fill, h, millis, quiet, table } from "./dom.js";
import { parameters, setParameters } from "./route.js";

/** Rows: a page of more than some thousand elements is slow. */
export const MOST = 150;
/** Seconds between two looks, and how old what is seen may be. */
const PAUSE = 3;
export const AGE = 2;

/** What is said of connections sorted by queued bytes, if there may be more of them than are shown. */
export const cut = (all) => all.length >= MOST && `The ${MOST} connections with the most queued bytes`;

/** Connections in short, each with a link to more. */
export function clients(caption, all) {
  const columns = [{ head: "Client" }, { head: "From" }, { head: "Queued", number: true },
    { head: "Oldest", number: true }, { head: "Dropped", number: true }];
  const rows = all.map((one) => [
    h("a", { href: `#connections?open=${encodeURIComponent(one.RemoteAddr)}` }, one.Principal), one.RemoteAddr,
    bytes(one.QueuedBytes), millis(one.QueuedAgeMilliseconds), count(one.DroppedEvents)]);
  return rows.length ? table(caption, columns, rows)
    : quiet("No connection that you may see has it. This requires the claim connections/get.");
}

/** Why a list is incomplete. */
const LACKS = {
  endpoint: "The endpoint did not return its connections; the server's log says why.",
  warnings: "Types and actions were not compared with those of events: the server was too busy.",
};

/** What a list lacks, if anything. */
export const incomplete = ({ lacks }) => lacks &&
  h("p", { class: "attention", role: "status" }, `This list is incomplete. ${LACKS[lacks] ?? lacks}`);

/**
 * Fills a view. `look` returns the list, `draw` shows it, `load(name)` what is in the pane. Returns `choose(name)`,
 * `again(age)` for another look, and what ends it.
 */
export function listing(element, label, note, look, draw, load) {
  const [list, problem] = [h("div", { class: "list" }), h("div")];
  const pane = h("aside", { class: "detail", hidden: true, "aria-label": label });
  let looks = 0;

  async function again(age) {
    const own = ++looks;
    try {
      const all = await look(age);
      // A newer look may be for another order.
      if (own !== looks) return;
      const found = draw(all);
      // A button that has the focus keeps it.
      const focused = list.contains(document.activeElement) && document.activeElement.textContent;
      fill(problem, incomplete(all));
      fill(list, found);
      if (focused) [...list.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
    } catch (error) {
      // The list stays as it was.
      if (own === looks && error.status !== 401) fill(problem, failure(error, PAUSE));
    }
  }

  async function inspect(name) {
    pane.hidden = false;
    const found = await load(name).then((body) => [body], (error) => [h("h2", name), failure(error)]);
    // Another row may have been opened meanwhile.
    if (parameters().open === name) fill(pane, button("Close detail", close, { class: "corner" }), ...found);
  }

  function choose(name) {
    setParameters({ open: name });
    again();
    return inspect(name);
  }

  function close() {
    setParameters({ open: null });
    pane.hidden = true;
    again();
  }

  fill(element, h("div", { class: "split" }, h("div", { class: "list-side" }, note, problem, list), pane));
  if (parameters().open) inspect(parameters().open);
  return { choose, again, end: Object.assign(repeat(again, PAUSE * 1000), { keys: { Escape: close } }) };
}
