// What hands do with a page that changes meanwhile: mouse, keys and the focus of the keyboard.

import { opened } from "./session.mjs";

function assert(holds, what) {
  if (!holds) throw new Error(what);
}

const press = (page, selector) => page.mouse("mousePressed", selector);
const release = (page, selector) => page.mouse("mouseReleased", selector);
/** The number before a word in the toolbar of the tail, if it is as high as this. */
const figure = (word, least) => {
  const [, number = "0"] = document.querySelector(".toolbar").innerText.match(`([0-9,]+) ${word}`) ?? [];
  const n = Number(number.replaceAll(",", ""));
  return n >= least && n;
};
const grows = async (page, word) => page.until(`more ${word}`, figure, word, await page.evaluate(figure, word, 0) + 3);

/** A row is opened by the mouse while others arrive, and stays in the page. */
export function opensARow(browser, server) {
  return opened(browser, server, "tail?spec=*.*.*", {}, async (page) => {
    const third = ".rows .row:nth-child(3)";
    await press(page, third);
    await grows(page, "seen");
    await release(page, third);
    await page.until("the detail", () => document.querySelector(".detail h2")?.getClientRects().length > 0);
    await page.click("Close detail");
    await page.click("Pause");
    await grows(page, "held");
    const key = await page.evaluate((third) => {
      window.row = document.querySelector(third);
      return window.row.children[3].title;
    }, third);
    await press(page, third);
    await grows(page, "held");
    await release(page, third);
    const title = await page.until("the detail", () => document.querySelector(".detail h2")?.innerText);
    assert(title.endsWith(`.${key.split(" ").at(-1)}`), `${title} is open instead of ${key}`);
    assert(await page.evaluate(() => window.row.isConnected), "the row was replaced, with what was selected in it");
  });
}
