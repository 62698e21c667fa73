// A newcomer's first look: signs in to the console at a URL and ends when the tail shows an event. Run by `scripts/tour
// clone`.
//
// usage: node first.mjs URL

import { Chromium } from "./chromium.mjs";

const browser = new Chromium();
try {
  const page = await browser.page(process.argv[2]);
  await page.type("#password", "r0cketsk8ts");
  await page.key("Enter");
  await page.shows("events/s");
  await page.evaluate(() => void (location.hash = "#tail?spec=*.*.*"));
  await page.until("an event", () => document.querySelectorAll(".rows .row").length > 0);
} finally {
  await browser.end();
}
