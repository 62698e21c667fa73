// Registrations: what matches most, what costs most, and who has them.

import { get, repeat } from "./api.js";
import { ago, button, bytes, count, empty, failure, fill, h, millis, sortable, table } from "./dom.js";
import { parameters, setParameters } from "./route.js";

export const title = "Registrations";

/** Rows: a page of more than some thousand elements is slow. */
const MOST = 150;
/** Seconds between two looks. */
const PAUSE = 4;
const SORTS = { hits: "Hits", deliveries: "Deliveries", work: "Cost" };

export function show(element) {
  const list = h("div", { class: "list" });
  const detail = h("aside", { class: "detail", hidden: true, "aria-label": "Who has it" });
  fill(element, h("div", { class: "split" }, h("div", { class: "list-side" }, h("p", { class: "quiet" },
    "The most active registrations. Counts begin when the first of the connections that share a registration opened."),
    list), detail));

  async function look() {
    const { sort = "hits" } = parameters();
    try {
      draw(await get(`hydrant/registrations?limit=${MOST}&sort=${encodeURIComponent(sort)}`), sort);
    } catch (error) {
      if (error.status !== 401) fill(list, failure(error, PAUSE));
    }
  }

  function draw(all, sort) {
    const columns = [
      { head: "Registration" },
      ...Object.entries(SORTS).map(([key, head]) => sortable({ head, number: true,
        title: key === "work" ? "Total work of the filter" : undefined }, key === sort, () => {
        setParameters({ sort: key });
        look();
      })),
      { head: "Last hit", number: true }, { head: "Shared by", number: true, title: "Connections" }, { head: "Tail" },
    ];
    const rows = all.map((one) => ({
      attributes: { class: one.Spec === parameters().open ? "chosen" : one.Hits === 0 ? "dim" : "" },
      cells: [[h("code", {}, one.Spec), one.Warnings?.map((text) => h("p", { class: "attention note" }, `▲ ${text}`))],
        count(one.Hits), count(one.Deliveries), one.FilterBytes ? millis(one.FilterWork / 1e6) : "–",
        one.LastHit ? ago(one.LastHit) : "never",
          button(count(one.Shared), () => choose(one.Spec), { class: "link", title: "Who has it" }),
          h("a", { href: `#tail?spec=${encodeURIComponent(one.Spec)}` }, "open")],
    }));
    fill(list, rows.length ? table("Registrations", columns, rows)
      : empty("There are no registrations. Try one:", "hydrant watch 'machines.*.*'"));
  }

  function choose(spec) {
    setParameters({ open: spec });
    look();
    inspect(spec);
  }

  async function inspect(spec) {
    detail.hidden = false;
    const head = [button("Close detail", () => {
      setParameters({ open: null });
      detail.hidden = true;
      look();
    }, { class: "corner" }), h("h2", {}, h("code", {}, spec))];
    try {
      const query = new URLSearchParams({ Spec: spec, sort: "queued", limit: MOST });
      fill(detail, head, holders(await get(`connections?${query}`)));
    } catch (error) {
      fill(detail, head, failure(error));
    }
  }

  if (parameters().open) inspect(parameters().open);
  return repeat(look, PAUSE * 1000);
}

/** The connections that have a registration. */
function holders(all) {
  const columns = [{ head: "Connection" }, { head: "From" }, { head: "Queued", number: true },
    { head: "Dropped", number: true }];
  const rows = all.map((one) => [
    h("a", { href: `#connections?open=${encodeURIComponent(one.RemoteAddr)}` }, one.Principal), one.RemoteAddr,
    bytes(one.QueuedBytes), count(one.DroppedEvents)]);
  return rows.length ? table("Who has it", columns, rows)
    : h("p", { class: "quiet" }, "No connection has it any more, or you lack the claim connections/get.");
}
