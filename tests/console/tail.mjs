// The tail where the server refuses, closes or loses its stream.

import { until } from "./chromium.mjs";
import { Hydrant, update } from "./hydrant.mjs";
import { opened } from "./session.mjs";

/** Runs the program with these settings, by their names without the prefix. */
async function configured(program, settings, work) {
  const names = Object.keys(settings).map((name) => `HYDRANT_${name}`);
  Object.values(settings).forEach((value, at) => (process.env[names[at]] = value));
  const server = await Hydrant.start(program).finally(() => names.forEach((name) => delete process.env[name]));
  try {
    await work(server);
  } finally {
    await server.end();
  }
}

/** Where the page may not choose its policy, it takes the one that there is, and says so. */
export function takesThePolicyOfTheServer(browser, program) {
  return configured(program, { OUTBOX_QUERY_OVERFLOW: "disconnect" }, (server) =>
    opened(browser, server, "tail?spec=machines.*.*", {}, async (page) => {
      await page.shows("live: drop-oldest is not allowed here: a slow tail may be disconnected");
      await server.post(update("one", "a", "b"));
      await page.until("the row", () => document.querySelector(".rows .row")?.innerText.includes("one"));
    }, [/status of 400 .*overflow=drop-oldest/]));
}

/** Answers the page's requests for a stream by this list of statuses and bodies, and then by the server. */
const answered = (page, ...answers) => page.evaluate((answers) => {
  const ask = window.fetch;
  window.asked = 0;
  window.fetch = (path, options) => {
    if (!path.includes("/events?")) return ask(path, options);
    window.asked += 1;
    const [status, body] = answers.shift() ?? [];
    return status ? Promise.resolve(new Response(body, { status })) : ask(path, options);
  };
}, answers);

/** A tail stops, and says so, when a retry is of no use; otherwise it tries again. */
export function stopsWhereItIsRefused(browser, server) {
  const close = (Code, Reason) => [200, `event: close\ndata: ${JSON.stringify({ Code, Reason })}\n\n`];
  const refused = [400, JSON.stringify({ Messages: ["a limit of one connection", "more"] })];
  const expensive = close(1008, "filters cost too much: over filter.work");
  return opened(browser, server, "now?", {}, async (page) => {
    const stops = async (why, ...answers) => {
      await answered(page, ...answers);
      await page.evaluate((n) => void (location.hash = `#tail?spec=machines.*.*&n=${n}`), why);
      const found = await page.until("that it stopped", (why) => {
        const { innerText: text = "" } = document.querySelector(".toolbar [role=status]") ?? {};
        return text.startsWith("stopped: ") && text.includes(why) && text;
      }, why);
      if (found !== `stopped: ${why} Try again`) throw new Error(found);
      const asked = await page.evaluate(() => window.asked);
      if (asked !== answers.length) throw new Error(`asked ${asked} times`);
    };
    await stops("filters cost too much: over filter.work", expensive);
    await stops("a limit of one connection", [503, ""], [404, ""], close(1008, "credentials revoked"), refused);
    await page.click("Try again");
    await page.until("events", () => document.querySelectorAll(".rows .row").length > 2);
    await page.until("that it is live", () => document.querySelector(".toolbar [role=status]").innerText === "");
  });
}

/** A row's event is explained after the history has lost it; elsewhere the page asks for it. */
export function explainsWhatTheHistoryLost(browser, program) {
  return configured(program, { REPLAY_EVENTS: "10" }, (server) =>
    opened(browser, server, "tail?spec=machines.*.*", {}, async (page) => {
      await page.until("the tail", () => document.querySelector(".state.live"));
      await server.post(update("one", "a", "b"));
      await page.until("the row", () => document.querySelector(".rows .row"));
      await page.key("j");
      await page.until("the detail", () => document.querySelector(".detail h2"));
      for (let n = 0; n < 20; n += 1) await server.post(update("other", "a", "b"));
      await page.key("e");
      await page.until("the verdict", () =>
        document.querySelector(".verdict.good")?.innerText.startsWith("Delivered: machines.*.* matches"));
      const link = await page.evaluate(() => location.hash.slice(1));
      await opened(browser, server, link, {}, (other) =>
        other.shows("The history no longer holds this event: paste it."), [/status of 404 .*explain/]);
    }, [/status of 404 .*explain/]));
}

/** No event keeps those after it from being shown, whatever its object has in place of a name. */
export function drawsEveryEvent(browser, server) {
  return opened(browser, server, "tail?spec=odd.*.*", {}, async (page) => {
    await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
      .includes("odd.*.*"));
    const odd = (Key, Name) => ({ Type: "odd", Action: "update", Key, Object: { Name } });
    await server.post(odd("one", { toString: 1 }), odd("two", [{ toString: 1 }]), odd("three", "a name"));
    const said = await page.until("three rows", () => {
      const rows = [...document.querySelectorAll(".rows .row")];
      return rows.length === 3 && rows.map((row) => row.children[5].innerText).join();
    });
    if (said !== "a name,,") throw new Error(said);
  });
}

/** A page that has been hidden for minutes ends its stream, and resumes it when it is seen. */
export function restsWhileItIsHidden(browser, server) {
  return opened(browser, server, "tail?spec=hidden.*.*", {}, async (page) => {
    const registered = async () => (await server.ask("GET", "hydrant/registrations?sort=hits")).includes("hidden.*.*");
    const hide = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await until("the stream", registered);
    await hide(true);
    await page.evaluate(() => {
      const now = Date.now;
      Date.now = () => now() + 200_000;
    });
    await page.shows("paused: the page is hidden");
    await until("the end of the stream", async () => !await registered());
    await server.post({ ...update("one", "a", "b"), Type: "hidden" });
    await hide(false);
    await page.until("the row", () => document.querySelector(".rows .row")?.innerText.includes("one"));
  });
}

/** Integers beyond those of JavaScript are shown, compared and offered as filters as they came. */
export function keepsIntegers(browser, server) {
  return opened(browser, server, "tail?spec=exact.*.*", {}, async (page) => {
    await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
      .includes("exact.*.*"));
    const [before, after] = ["12345678901234567890", "12345678901234567891"];
    const object = (big) => `{"Big":${big},"All":[${big}],"Small":1}`;
    await server.ask("POST", "events",
      `{"Type":"exact","Action":"update","Key":"one","Object":${object(after)},"Original":${object(before)}}`);
    await page.until("what changed", (text) => document.querySelector(".rows .row")?.innerText.includes(text),
      `Big ${before} → ${after}, All [1] → [1]`);
    await page.key("j");
    await page.until("the differences", (text) => document.querySelector(".changes")?.innerText.includes(text),
      `[${after}]`);
    const filter = await page.evaluate(() => document.querySelector(".tree a").title);
    if (filter !== `exact.update.*.Big=Eq(${after})`) throw new Error(filter);
  });
}

/** The rate is that of the seconds that have gone by. */
export function showsTheRate(browser, server) {
  return opened(browser, server, "now?", {}, async (page) => {
    const set = (now) => page.evaluate((now) => void (Date.now = () => now), now);
    const now = Date.now();
    await set(now);
    await page.evaluate(() => void (location.hash = "#tail?spec=rate.*.*"));
    await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
      .includes("rate.*.*"));
    await server.post(...Array.from({ length: 30 }, () => ({ ...update("one", "a", "b"), Type: "rate" })));
    await page.shows("30 seen");
    await set(now + 2000);
    await page.shows("15 events/s, 30 seen");
  });
}

/** What was held while the tail was paused does not move what is read. */
export function staysWhereItIsRead(browser, server) {
  return opened(browser, server, "tail?spec=*.*.*", {}, async (page) => {
    await page.shows("Would have matched");
    await page.until("rows", () => {
      const rows = document.querySelector(".rows");
      return rows.scrollHeight > 2 * rows.clientHeight;
    });
    await page.click("Pause");
    await page.evaluate(() => void (document.querySelector(".rows").scrollTop = 300));
    await page.shows("held while paused");
    const before = await page.until("a row", () => {
      const { x, y } = document.querySelector(".rows").getBoundingClientRect();
      window.row = document.elementFromPoint(x + 20, y + 100).closest(".row");
      return window.row?.getBoundingClientRect().y;
    });
    await page.click("Resume");
    await page.until("its end", () => !document.querySelector(".toolbar").innerText.includes("held"));
    const after = await page.evaluate(() => window.row.isConnected && window.row.getBoundingClientRect().y);
    if (after !== before) throw new Error(`a row moved from ${before} to ${after}`);
  });
}
