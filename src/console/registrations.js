// Registrations: what matches most, what costs most, and who has them.

import { get, repeat } from "./api.js";
import { ago, button, count, empty, failure, fill, h, millis, sortable, table } from "./dom.js";
import { AGE, MOST, PAUSE, clients, pane, refill } from "./pane.js";
import { parameters, setParameters } from "./route.js";

export const title = "Registrations";

const SORTS = { hits: "Hits", deliveries: "Deliveries", work: "Cost" };

export function show(element) {
  const list = h("div", { class: "list" });
  const detail = pane("Who has it", look, async (spec) => {
    const query = new URLSearchParams({ Spec: spec, sort: "queued", limit: MOST });
    return [h("h2", {}, h("code", {}, spec)), clients("Who has it", await get(`connections?${query}`))];
  });
  const note = h("p", { class: "quiet" },
    "Counts begin when the first of the connections that share a registration was opened.");
  fill(element, h("div", { class: "split" }, h("div", { class: "list-side" }, note, list), detail.element));

  async function look() {
    const { sort = "hits" } = parameters();
    try {
      draw(await get(`hydrant/registrations?limit=${MOST}&sort=${encodeURIComponent(sort)}`, AGE), sort);
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
          button(count(one.Shared), () => detail.choose(one.Spec), { class: "link", title: "Who has it" }),
          h("a", { href: `#tail?spec=${encodeURIComponent(one.Spec)}` }, "open")],
    }));
    refill(list, rows.length ? table("Registrations", columns, rows)
      : empty("There are no registrations. Try one:", "hydrant watch 'machines.*.*'"));
  }

  return Object.assign(repeat(look, PAUSE * 1000), { keys: { Escape: detail.close } });
}
