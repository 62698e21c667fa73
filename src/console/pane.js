// A list that is looked at again and again, and the pane beside it: what a row opens to, by the parameter `open` of the
// address.

import { button, bytes, count, failure, fill, h, millis, table } from "./dom.js";
import { parameters, setParameters } from "./route.js";

/** Rows: a page of more than some thousand elements is slow. */
export const MOST = 150;
/** Seconds between two looks, and how old what is seen may be. */
export const PAUSE = 3;
export const AGE = 2;

/** Replaces a list; a button in it that has the focus keeps it. */
export function refill(list, ...children) {
  const focused = list.contains(document.activeElement) && document.activeElement.textContent;
  fill(list, children);
  if (focused) [...list.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
}

/** Connections in short, each with a link to more. */
export function clients(caption, all) {
  const columns = [{ head: "Client" }, { head: "From" }, { head: "Queued", number: true },
    { head: "Oldest", number: true }, { head: "Dropped", number: true }];
  const rows = all.map((one) => [
    h("a", { href: `#connections?open=${encodeURIComponent(one.RemoteAddr)}` }, one.Principal), one.RemoteAddr,
    bytes(one.QueuedBytes), millis(one.QueuedAgeMilliseconds), count(one.DroppedEvents)]);
  return rows.length ? table(caption, columns, rows)
    : h("p", { class: "quiet" }, "None that you may see: this requires the claim connections/get.");
}

/** A pane: its element, `choose(name)`, and `close()`. `load` returns what is shown; `redraw` draws the list again. */
export function pane(label, redraw, load) {
  const element = h("aside", { class: "detail", hidden: true, "aria-label": label });

  async function inspect(name) {
    element.hidden = false;
    const corner = button("Close detail", close, { class: "corner" });
    try {
      fill(element, corner, await load(name));
    } catch (error) {
      fill(element, corner, h("h2", {}, name), failure(error));
    }
  }

  function choose(name) {
    setParameters({ open: name });
    redraw();
    return inspect(name);
  }

  function close() {
    setParameters({ open: null });
    element.hidden = true;
    redraw();
  }

  if (parameters().open) inspect(parameters().open);
  return { element, choose, close };
}
