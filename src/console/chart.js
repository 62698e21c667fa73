// Line charts in SVG: y from zero, gaps as gaps, the value at the end and under the pointer.

import { fill, h, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;
const MINUTE = 60 * 1000;
/** What a chart may span: as much as there is, fifteen minutes at most. */
const SPANS = [1, 2, 5, 10, 15];

/** A chart. `series` are names; `draw(times, rows)` redraws it with a row of values for each series. */
export function chart(title, series, format) {
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
    role: "img", class: "plot" });
  const legend = h("div", { class: "legend" });
  const top = h("span", { class: "top" });
  const tip = h("div", { class: "tip", hidden: true });
  const box = h("div", { class: "plot-box" }, plot, top, tip);
  const from = h("span");
  const axis = h("div", { class: "axis" }, from, h("span", "now"));
  const element = h("section", { class: "chart" }, h("header", h("h2", title), legend), box, axis);
  let shown = null;

  function draw(times, rows) {
    const now = Date.now();
    const most = Math.max(1e-9, ...rows.flat().filter((value) => value != null)) * 1.08;
    const minutes = SPANS.find((span) => span * MINUTE >= now - (times[0] ?? now)) ?? SPANS.at(-1);
    const span = minutes * MINUTE;
    shown = { times, rows, now, span };
    from.textContent = `${minutes} min ago`;
    const x = (time) => (WIDTH * (time - now + span)) / span;
    const y = (value) => HEIGHT - (HEIGHT - 2) * (value / most);
    plot.replaceChildren(...[0.25, 0.5, 0.75].map((at) =>
      svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT * at, y2: HEIGHT * at, class: "grid" })));
    // What never was is left out, unless nothing was.
    const isThere = (values) => values.some((value) => value > 0);
    const some = rows.some(isThere);
    rows.forEach((values, which) => {
      if (some && !isThere(values)) return;
      let path = "";
      let pen = "M";
      values.forEach((value, at) => {
        if (value == null) {
          pen = "M";
        } else {
          path += `${pen}${x(times[at]).toFixed(1)} ${y(value).toFixed(1)}`;
          pen = "L";
        }
      });
      plot.append(svg("path", { d: path || "M0 0", class: `line line-${which}` }));
    });
    fill(legend, series.map((name, which) => (!some || isThere(rows[which])) &&
      h("span", { class: `key key-${which}` }, `${name} `, h("b", format(rows[which]?.at(-1))))));
    top.textContent = most > 1e-8 ? format(most / 1.08) : "";
    const said = series.map((name, which) => `${name} ${format(rows[which]?.at(-1))}`).join(", ");
    plot.setAttribute("aria-label", `${title}, last ${minutes} min: now ${said}`);
  }

  box.addEventListener("pointermove", (event) => {
    if (!shown?.times.length) return;
    const { left, width } = box.getBoundingClientRect();
    const time = shown.now - shown.span + (shown.span * (event.clientX - left)) / width;
    const nearest = shown.times.reduce((best, at, index) =>
      Math.abs(at - time) < Math.abs(shown.times[best] - time) ? index : best, 0);
    const date = new Date(shown.times[nearest]);
    const values = series.map((name, which) => `${name} ${format(shown.rows[which][nearest])}`).join(", ");
    tip.textContent = `${date.toLocaleTimeString()} ${values}`;
    tip.title = date.toISOString();
    tip.hidden = false;
  });
  box.addEventListener("pointerleave", () => (tip.hidden = true));
  return { element, draw };
}
