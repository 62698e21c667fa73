// How the Tail bears 500 events a second: frames, heap, and nodes of the page. Prints figures; fails if they are beyond
// the budget.
//
// usage: node load.mjs HYDRANT AXE [SECONDS [EVENTS-A-SECOND]]    Run by `make console-load`, on a quiet machine.

import { Chromium, sleep, until } from "./chromium.mjs";
import { Hydrant } from "./hydrant.mjs";

const [program, , seconds = 60, rate = 500] = process.argv.slice(2);
const WARM_UP = 5;
/** Milliseconds of a frame at p99, bytes by which the heap may grow from the middle to the end, and nodes. */
const BUDGET = { frame: 100, heap: 8 << 20, nodes: 2500 };

process.env.HYDRANT_DEMO_RATE = String(rate);
const server = await Hydrant.start(program, "--demo", "1000");
const browser = new Chromium();
const heaps = [];
try {
  const page = await browser.page(`${server.url}/hydrant/#tail?spec=*.*.*&token=${server.token}`);
  await until("events", () => page.evaluate(() => document.querySelectorAll(".rows .row").length > 10));
  await page.key("j");
  await sleep(WARM_UP * 1000);
  await page.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const frame = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  for (let second = 0; second < seconds; second += 5) {
    await sleep(5000);
    await page.send("HeapProfiler.collectGarbage");
    heaps.push((await page.send("Runtime.getHeapUsage")).usedSize);
  }
  const [frames, nodes, word] = await page.evaluate(() => [window.frames_, document.querySelectorAll("*").length,
    document.querySelector(".toolbar").innerText]);
  frames.sort((a, b) => a - b);
  const quantile = (share) => frames[Math.min(frames.length - 1, Math.floor(frames.length * share))];
  // The list is full after 10,000 events; from there on nothing may grow.
  const full = Math.min(heaps.length - 1, Math.ceil((10_500 / rate - WARM_UP) / 5));
  const grown = heaps.at(-1) - Math.max(...heaps.slice(Math.max(0, full), Math.max(1, full + 2)));
  console.log(JSON.stringify({
    seconds: Number(seconds), rate: Number(rate), said: word.replace(/\s+/g, " "), frames: frames.length,
    "frame ms": { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max: frames.at(-1) }, nodes,
    "heap MB every 5 s": heaps.map((bytes) => Math.round(bytes / 1e5) / 10),
      "grown since it was full MB": Math.round(grown / 1e5) / 10,
  }, null, 1));
  const beyond = [quantile(0.99) > BUDGET.frame && "frames", grown > BUDGET.heap && "heap",
    nodes > BUDGET.nodes && "nodes"].filter(Boolean);
  if (beyond.length || page.faults.length) {
    throw new Error(`beyond the budget: ${beyond.join(", ")}\n${page.faults.join("\n")}`);
  }
} finally {
  await browser.end();
  await server.end();
}
