// A browser's EventSource: what it gets while its connection is cut again and again is what a stream gets that nobody
// cuts.

import { connect, createServer } from "node:net";
import { request } from "node:https";

import { until } from "./chromium.mjs";

const EVENTS = 3000;
const AT_A_TIME = 25;
const CUTS = 4;

/** A way to the server that can be cut. */
async function passage(address) {
  const [host, port] = address.split(":");
  const open = new Set();
  const listener = createServer((from) => {
    const to = connect({ host, port });
    for (const [one, other] of [[from, to], [to, from]]) {
      open.add(one);
      one.pipe(other);
      // Either end takes the other with it.
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise((done) => listener.listen(0, "127.0.0.1", done));
  const cut = () => open.forEach((one) => one.destroy());
  return { port: listener.address().port, cut, end: () => { listener.close(); cut(); } };
}

/** The ids and the events of a stream that nobody cuts, as they come. */
function reference(server, query) {
  const seen = [];
  const headers = { Authorization: `Bearer ${server.token}`, Accept: "text/event-stream" };
  const asked = request(`${server.url}/api/v3/events?${query}`, { headers, rejectUnauthorized: false }, (answer) => {
    let rest = "";
    answer.setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        const [, id, data] = message.match(/^id: (.*)\ndata: (.*)$/) ?? [];
        if (id) seen.push([id, JSON.parse(data).Key]);
      }
    });
  });
  asked.on("error", () => {});
  asked.end();
  return { seen, end: () => asked.destroy() };
}

/** Fails if anything is skipped or doubled. */
export async function resumes(browser, server) {
  const way = await passage(server.address);
  const query = "register=eventsource.*.*";
  const whole = reference(server, query);
  const page = await browser.page(`https://127.0.0.1:${way.port}/hydrant/`);
  // A cut connection is told in the console.
  page.expected.push(/net::ERR_|Failed to load resource/);
  try {
    await page.evaluate((query) => {
      window.got = [];
      window.opened = 0;
      const source = new EventSource(`/api/v3/events?${query}`);
      source.onopen = () => (window.opened += 1);
      source.onmessage = ({ lastEventId, data }) => window.got.push([lastEventId, JSON.parse(data).Key]);
    }, `${query}&token=${server.token}`);
    await page.until("the stream", () => window.opened === 1);
    await until("both registrations", async () => JSON.parse(await server.ask("GET", "hydrant/registrations"))
      .some((one) => one.Spec === "eventsource.*.*" && one.Shared === 2));
    const cutAt = new Set(Array.from({ length: CUTS },
      (_, at) => Math.round(((at + Math.random()) * EVENTS) / CUTS / AT_A_TIME)));
    for (let first = 0, part = 0; first < EVENTS; first += AT_A_TIME, part += 1) {
      await server.post(...Array.from({ length: AT_A_TIME },
        (_, at) => ({ Type: "eventsource", Action: "made", Key: String(first + at), Object: null })));
      if (cutAt.has(part)) {
        const opened = await page.evaluate(() => window.opened);
        way.cut();
        // While it is away the next ones come; now and then it is back in the middle of them.
        if (part % 2) await page.until("the stream again", (opened) => window.opened > opened, opened);
      }
    }
    await page.until("all events", (all) => window.got.length >= all, EVENTS);
    const got = await page.evaluate(() => window.got);
    await until("the whole stream", () => whole.seen.length >= EVENTS);
    const differs = got.findIndex(([id, key], at) => id !== whole.seen[at]?.[0] || key !== String(at));
    if (differs >= 0 || got.length !== EVENTS) {
      const pair = `${got[differs]} and not ${whole.seen[differs]}`;
      throw new Error(`${got.length} events, and the one at ${differs} is ${pair}`);
    }
    const opened = await page.evaluate(() => window.opened);
    if (opened < 2) throw new Error("it was never cut");
    if (page.faults.length) throw new Error(page.faults.join("\n"));
  } finally {
    whole.end();
    await page.close();
    way.end();
  }
}
