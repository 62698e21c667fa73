// Pictures of every view, in light and dark, on a desk and on a phone, for people to look at; with `docs` only those of
// docs/images.
//
// usage: node look.mjs HYDRANT AXE FOLDER [docs]    Run by `scripts/console HYDRANT look FOLDER [docs]`.
//
// With CONSOLE_FILES=src/console an edit of the page shows without a build.

import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Chromium, sleep, until } from "./chromium.mjs";
import { Hydrant } from "./hydrant.mjs";

const [program, , folder, only] = process.argv.slice(2);
const PHONE = { width: 390, height: 780, phone: true };
const LOOKS = { light: {}, dark: { dark: true }, phone: PHONE, "phone-dark": { ...PHONE, dark: true } };
const DOCS = ["tail-light", "now-dark", "explain-light", "tail-list-phone-dark"];
/** What others watch meanwhile. */
const WATCHED = ["machines.update.*", "jobs.*.*", "machines.update.*.Stage=Changed(,local)",
  "machine.update.*", "machines.*.*.And(Runnable=Eq(true),Stage=Re(^disc))"];

const server = await Hydrant.start(program, "--demo");
const watching = [];
const browser = new Chromium();
mkdirSync(folder, { recursive: true });

/** Takes the view that is shown in every look. */
async function take(page, name) {
  for (const [look, size] of Object.entries(LOOKS)) {
    if (only && !DOCS.includes(`${name}-${look}`)) continue;
    await page.look(size);
    await sleep(600);
    writeFileSync(join(folder, `${name}-${look}.png`), await page.picture());
  }
  await page.look({});
}

const go = (page, fragment) => page.evaluate((fragment) => void (location.hash = fragment), `#${fragment}`);
const has = (page, selector) => page.until(selector, (selector) => document.querySelector(selector), selector);

const SCENES = {
  async login(page) {
    await take(page, "login");
  },
  async "login-refused"(page) {
    await page.type("#password", "wrong");
    await page.key("Enter");
    await has(page, ".failure");
    await take(page, "login-refused");
    await page.type("#password", server.login.password);
    await page.key("Enter");
    await page.shows("events/s");
  },
  async empty(page) {
    for (const fragment of ["tail?spec=nothing.*.*", "connections", "registrations", "explain"]) {
      await go(page, fragment);
      await sleep(800);
      await take(page, `empty-${fragment.split("?")[0]}`);
    }
  },
  async tail(page) {
    for (const spec of WATCHED) {
      watching.push(spawn("curl", ["-sNk", "-H", `Authorization: Bearer ${server.token}`,
        `${server.url}/api/v3/events?register=${encodeURIComponent(spec)}`], { stdio: "ignore" }));
    }
    await go(page, `tail?spec=machines.*.*&spec=${encodeURIComponent("jobs.*.*.State=Changed()")}`);
    await until("events", () => page.evaluate(() => document.querySelectorAll(".rows .row").length > 20));
    await take(page, "tail-list");
    await until("an update", () => page.evaluate(() => {
      const row = [...document.querySelectorAll(".rows .row")].find((one) => one.innerText.includes("Stage"));
      row?.dispatchEvent(new MouseEvent("mousedown"));
      return Boolean(row);
    }));
    await take(page, "tail");
  },
  async "tail-wrong"(page) {
    await page.click("Close detail");
    await page.type("[data-key=spec]", "machines.update.*.And(Stage=Eq(local),Name=Re([)");
    await has(page, ".note.bad");
    await take(page, "tail-wrong");
    await page.type("[data-key=spec]", "machine.update.*");
    await page.key("Enter");
    await has(page, ".note.attention");
    await take(page, "tail-warned");
  },
  async connections(page) {
    await go(page, "connections");
    await has(page, ".list table");
    await take(page, "connections-list");
    await page.evaluate(() => document.querySelector("td .link").click());
    await has(page, ".detail table");
    await page.click("Close connection…");
    await take(page, "connections");
  },
  async registrations(page) {
    await go(page, "registrations");
    await has(page, ".list table");
    await take(page, "registrations");
    await page.evaluate(() => document.querySelector("td button.link").click());
    await has(page, ".detail table");
    await take(page, "registrations-open");
  },
  async explain(page) {
    await go(page, "explain");
    await page.click("Example");
    await has(page, ".verdict");
    await take(page, "explain");
  },
  async me(page) {
    await go(page, "me");
    await page.shows("*/*/*");
    await take(page, "me");
    await page.click("Create a restricted token");
    await has(page, ".snippet");
    await take(page, "me-token");
  },
  async now(page) {
    await go(page, "now");
    await sleep(only ? 60_000 : 15_000);
    await take(page, "now");
  },
  async away(page) {
    await server.end();
    await has(page, ".state.reconnecting");
    await take(page, "away-now");
    await go(page, "connections");
    await has(page, ".failure");
    await take(page, "away-connections");
  },
};

try {
  const page = await browser.page(`${server.url}/hydrant/`);
  for (const [name, scene] of Object.entries(SCENES)) {
    console.log(name);
    await scene(page);
  }
} finally {
  watching.forEach((one) => one.kill());
  await browser.end();
  await server.end();
}
