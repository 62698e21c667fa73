// Line charts of the last fifteen minutes: SVG, y from zero, gaps shown as gaps, the value at the line's end and under the pointer.

import { fill, h, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;
const SPAN = 15 * 60 * 1000;

/** A chart. `series` are {name, mark}; `draw(times, rows)` redraws it with a row of values for each series. */
export function chart(title, series, format) {
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "plot" });
  const legend = h("div", { class: "legend" });
  const top = h("span", { class: "top" });
  const tip = h("div", { class: "tip", hidden: true });
  const box = h("div", { class: "plot-box" }, plot, top, tip);
  const element = h("section", { class: "chart" }, h("header", {}, h("h2", {}, title), legend), box);
  let shown = null;

  function draw(times, rows) {
    const now = Date.now();
    const most = Math.max(1e-9, ...rows.flat().filter((value) => value != null)) * 1.08;
    shown = { times, rows, now };
    const x = (time) => (WIDTH * (time - now + SPAN)) / SPAN;
    const y = (value) => HEIGHT - (HEIGHT - 2) * (value / most);
    plot.replaceChildren(...[0.25, 0.5, 0.75].map((at) =>
      svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT * at, y2: HEIGHT * at, class: "grid" })));
    rows.forEach((values, which) => {
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
    const last = (values) => values.findLast((value) => value != null);
    fill(legend, series.map((name, which) =>
      h("span", { class: `key key-${which}` }, `${name} `, h("b", {}, rows[which] ? format(last(rows[which])) : "–"))));
    top.textContent = most > 1e-8 ? format(most / 1.08) : "";
    const said = series.map((name, which) => `${name} ${format(last(rows[which] ?? []))}`).join(", ");
    plot.setAttribute("aria-label", `${title}, last fifteen minutes: now ${said}`);
  }

  box.addEventListener("pointermove", (event) => {
    if (!shown?.times.length) return;
    const { left, width } = box.getBoundingClientRect();
    const time = shown.now - SPAN + (SPAN * (event.clientX - left)) / width;
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
