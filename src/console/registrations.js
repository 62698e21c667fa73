// Registrations: what matches most, what costs most, and who has them.

import { get } from "./api.js";
import { ago, button, count, empty, h, millis, quiet, sortable, spoken, table } from "./dom.js";
import { AGE, MOST, clients, cut, listing } from "./pane.js";
import { parameters, setParameters } from "./route.js";

const SORTS = { hits: "Hits", deliveries: "Deliveries", work: "Cost" };

export function show(element) {
  const note = quiet(
    "The busiest 100 of each shard. Counts begin when the first connection with the registration was opened.");

  const sort = () => parameters().sort ?? "hits";
  const look = () => get(`hydrant/registrations?limit=${MOST}&sort=${encodeURIComponent(sort())}`, AGE);

  async function holders(spec) {
    const query = new URLSearchParams({ Spec: spec, sort: "queued", limit: MOST });
    const all = await get(`connections?${query}`, AGE);
    return [h("h2", h("code", spec)), quiet(cut(all)), clients("Who has it", all)];
  }

  function draw(all) {
    const columns = [
      "Registration",
      ...Object.entries(SORTS).map(([key, head]) => sortable({ head, number: true,
        title: key === "work" ? "Total work of the filter" : undefined }, key === sort(), () => {
        setParameters({ sort: key });
        view.again();
      })),
      "#Last hit", { head: "Shared by", number: true, title: "Connections" }, "Tail",
    ];
    const rows = all.map((one) => ({
      attributes: { "data-row": one.Spec,
        class: one.Spec === parameters().open ? "chosen" : one.Hits === 0 ? "dim" : "" },
      cells: [[h("code", one.Spec),
        one.Warnings?.map((text) => h("p.attention.note", "▲ ", spoken(text)))],
        count(one.Hits), count(one.Deliveries), one.FilterBytes ? millis(one.FilterWork / 1e6) : "–",
        one.LastHit ? ago(one.LastHit) : "never",
          button(count(one.Shared), () => view.choose(one.Spec), { class: "link", title: "Who has it" }),
          h("a", { href: `#tail?spec=${encodeURIComponent(one.Spec)}` }, "open")],
    }));
    return rows.length ? table("Registrations", columns, rows)
      : empty("There are no registrations. Try one:", `hydrant watch -E ${location.origin} 'machines.*.*'`);
  }

  const view = listing(element, "Who has it", note, look, draw, holders);
  return view.end;
}
