// Registrations: what matches most, and what costs most.

import { get, repeat } from "./api.js";
import { ago, count, empty, failure, fill, h, millis, table } from "./dom.js";
import { parameters, setParameters } from "./route.js";

export const title = "Registrations";

/** Rows: a page of more than some thousand elements is slow. */
const MOST = 150;
const SORTS = { hits: "Hits", deliveries: "Deliveries", work: "Cost" };

export function show(element) {
  const list = h("div", { class: "list" });
  fill(element, h("p", { class: "quiet" },
    "The most active registrations. Counts begin when the first of the connections that share a registration opened."),
    list);

  async function look() {
    const { sort = "hits" } = parameters();
    try {
      draw(await get(`hydrant/registrations?limit=${MOST}&sort=${encodeURIComponent(sort)}`), sort);
    } catch (error) {
      if (error.status !== 401) fill(list, failure(error), error.status === 0
        && h("p", { class: "quiet" }, "Retrying every 4 s."));
    }
  }

  function draw(all, sort) {
    const head = (key) => h("button",
      { type: "button", class: "sort", onclick: () => { setParameters({ sort: key }); look(); } },
      SORTS[key], key === sort ? " ▾" : "");
    const sorted = (key) => (key === sort ? "descending" : undefined);
    const columns = [
      { head: "Registration" },
      ...Object.keys(SORTS).map((key) => ({ head: SORTS[key], number: true, node: head(key),
        sorted: sorted(key), title: key === "work" ? "Total work of the filter" : undefined })),
      { head: "Last hit", number: true }, { head: "Shared by", number: true, title: "Connections" }, { head: "Tail" },
    ];
    const rows = all.map((one) => ({
      attributes: { class: one.Hits === 0 ? "dim" : "" },
      cells: [[h("code", {}, one.Spec), one.Warnings?.map((text) => h("p", { class: "attention note" }, `▲ ${text}`))],
        count(one.Hits), count(one.Deliveries), one.FilterBytes ? millis(one.FilterWork / 1e6) : "–",
        one.LastHit ? ago(one.LastHit) : "never", count(one.Shared),
          h("a", { href: `#tail?spec=${encodeURIComponent(one.Spec)}` }, "open")],
    }));
    fill(list, rows.length ? table("Registrations", columns, rows)
      : empty("There are no registrations. Try one:", "hydrant watch 'machines.*.*'"));
  }

  return repeat(look, 4000);
}
