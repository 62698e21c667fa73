// Line charts in SVG: y from zero, gaps as gaps, the value at the end and under the pointer.

import { fill, h, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;
const MINUTE = 60000;
// In minutes.
const SPANS = [1, 2, 5, 10, 15];

// A chart of the named `series`; `draw(times, rows)` takes a row of values for each.
export function chart(title, series, format) {
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
    role: "img", class: "plot" });
  const legend = h("div.legend");
  const top = h("span.top");
  const tip = h("div.tip", { hidden: true });
  const box = h("div.plot-box", plot, top, tip);
  const from = h("span");
  let shown = null;
  const words = (at) => series.map((name, which) => `${name} ${format(shown.rows[which].at(at))}`).join(", ");

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
    // Omits series that are always zero, unless all are.
    const isThere = (values) => values.some((value) => value > 0);
    const some = rows.some(isThere);
    rows.forEach((values, which) => {
      if (some && !isThere(values)) return;
      const path = values.map((value, at) => value == null ? ""
        : `${values[at - 1] == null ? "M" : "L"}${x(times[at]).toFixed(1)} ${y(value).toFixed(1)}`);
      plot.append(svg("path", { d: path.join("") || "M0 0", class: `line line-${which}` }));
    });
    fill(legend, series.map((name, which) => (!some || isThere(rows[which])) &&
      h(`span.key.key-${which}`, `${name} `, h("b", format(rows[which]?.at(-1))))));
    top.textContent = most > 1e-8 ? format(most / 1.08) : "";
    plot.ariaLabel = `${title}, last ${minutes} min: now ${words(-1)}`;
  }

  box.onpointermove = (event) => {
    if (!shown?.times.length) return;
    const { left, width } = box.getBoundingClientRect();
    const time = shown.now - shown.span + (shown.span * (event.clientX - left)) / width;
    const nearest = shown.times.reduce((best, at, index) =>
      Math.abs(at - time) < Math.abs(shown.times[best] - time) ? index : best, 0);
    const date = new Date(shown.times[nearest]);
    tip.textContent = `${date.toLocaleTimeString()} ${words(nearest)}`;
    tip.title = date.toISOString();
    tip.hidden = false;
  };
  box.onpointerleave = () => (tip.hidden = true);
  return { draw, element: h("section.chart", h("header", h("h2", title), legend), box,
    h("div.axis", from, h("span", "now"))) };
}
