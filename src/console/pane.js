// A list that is polled, and beside it a pane with the row named by the parameter `open`.

import { repeat } from "./api.js";
import { button, bytes, count, failure, fill, h, millis, quiet, renew, table } from "./dom.js";
import { parameters, setParameters } from "./route.js";

// More rows make a page slow.
export const MOST = 150;
// Poll interval and permitted age of an answer, in seconds.
const PAUSE = 3;
export const AGE = 2;

// The note on a list that may be cut off.
export const cut = (all) => all.length >= MOST && `The ${MOST} connections with the most queued bytes`;

export function clients(caption, all) {
  const rows = all.map((one) => ({
    attributes: { "data-row": one.RemoteAddr },
    cells: [h("a", { href: `#connections?open=${encodeURIComponent(one.RemoteAddr)}` }, one.Principal), one.RemoteAddr,
      bytes(one.QueuedBytes), millis(one.QueuedAgeMilliseconds), count(one.DroppedEvents)],
  }));
  return rows.length ? table(caption, ["Client", "From", "#Queued", "#Oldest", "#Dropped"], rows)
    : quiet("No connection that you may see has it. This requires the claim connections/get.");
}

const LACKS = {
  endpoint: "The endpoint did not return its connections; the server's log says why.",
  warnings: "Types and actions were not compared with those of events: the server was too busy.",
};

export const incomplete = ({ lacks }) => lacks &&
  h("p.attention", { role: "status" }, `This list is incomplete. ${LACKS[lacks] ?? lacks}`);

// Fills a view: `look` requests the list, `draw` and `load(name, isNew)` return what the list and the pane show.
// Returns `choose(name)` to open a row, `again(age)` to poll at once, and `end`.
export function listing(element, label, note, look, draw, load) {
  const [list, problem] = [h("div.list"), h("div")];
  const pane = h("aside.detail", { hidden: true, "aria-label": label });
  const corner = button("Close detail", close, { class: "corner" });
  let looks = 0;
  let opened = null;

  async function again(age) {
    const own = ++looks;
    inspect(parameters().open);
    try {
      const all = await look(age);
      // A newer request may have another order.
      if (own !== looks) return;
      renew(problem, incomplete(all));
      renew(list, draw(all));
    } catch (error) {
      // Keeps the last answer on the page.
      if (own === looks && error.status !== 401) renew(problem, failure(error, PAUSE));
    }
  }

  async function inspect(name) {
    const isNew = name !== opened;
    opened = name;
    pane.hidden = !name;
    if (!name) return;
    if (isNew) fill(pane, corner, h("h2", name));
    // Without an answer the last one stays.
    const found = await load(name, isNew).catch((error) => (isNew || error.status) && [h("h2", name), failure(error)]);
    // Another row may have been opened meanwhile.
    if (found && parameters().open === name) renew(pane, corner, found);
  }

  function choose(name) {
    opened = null;
    setParameters({ open: name });
    again();
  }

  function close() {
    setParameters({ open: null });
    again();
    list.querySelector(".chosen button")?.focus();
  }

  fill(element, h("div.split", h("div.list-side", note, problem, list), pane));
  return { choose, again, end: Object.assign(repeat(again, PAUSE * 1000), { keys: { Escape: close } }) };
}
