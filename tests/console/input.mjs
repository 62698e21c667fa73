// What hands do with a page that changes meanwhile: mouse, keys and the focus of the keyboard.

import { request } from "node:https";

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
    // The note moves the rows.
    await page.shows("Would have matched");
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

/** Opens a stream of the first user. Returns what ends it. */
function stream(server, spec) {
  return new Promise((registered, reject) => {
    const headers = { authorization: `Bearer ${server.token}`, accept: "text/event-stream" };
    const asked = request(`${server.url}/api/v3/events?register=${spec}`, { headers, rejectUnauthorized: false },
      (answer) => answer.once("data", () => registered(() => asked.destroy())));
    asked.on("error", reject).end();
  });
}

/** Waits until the page has had two more answers from a path. */
async function polls(page, path) {
  const answers = (path, least) => performance.getEntriesByType("resource")
    .filter(({ name }) => new URL(name).pathname.endsWith(path)).length >= least;
  for (let least = 0; ; least += 1) {
    if (await page.evaluate(answers, path, least)) continue;
    return page.until(`two answers from ${path}`, answers, path, least + 1);
  }
}

/** The focus stays where it is while lists and figures change, and a click on them counts. */
export function keepsTheFocus(browser, server) {
  return opened(browser, server, "connections?sort=RemoteAddr", {}, async (page) => {
    const ends = await Promise.all(["focus.one.*", "focus.two.*", "focus.three.*"].map((spec) => stream(server, spec)));
    try {
      await page.until("three rows", () => document.querySelectorAll(".list tbody tr").length > 2);
      const address = await page.evaluate(() => {
        const row = document.querySelectorAll(".list tbody tr")[1];
        row.querySelector("button").focus();
        return row.children[1].innerText;
      });
      const focused = () => document.activeElement.closest("tr")?.children[1]?.innerText;
      await polls(page, "/connections");
      assert(await page.evaluate(focused) === address, "the focus is in another row");
      // The rows' order is another one, too.
      await page.evaluate(() => [...document.querySelectorAll(".sort")].find((one) => one.innerText === "Age").click());
      await page.shows("Age ▾");
      assert(await page.evaluate(focused) === address, "the focus is in another row");
      await page.evaluate(() =>
        [...document.querySelectorAll(".sort")].find((one) => one.innerText === "From").focus());
      await page.key("Enter");
      await page.shows("From ▾");
      assert(await page.evaluate(() => document.activeElement.innerText === "From ▾"), "the head lost the focus");
    } finally {
      ends.forEach((end) => end());
    }
    const figure = ".figures a:nth-of-type(2)";
    await page.evaluate((figure) => document.querySelector(figure).focus(), figure);
    await polls(page, "/status");
    assert(await page.evaluate((figure) => document.activeElement.matches(figure), figure), "the bar lost the focus");
    await press(page, figure);
    await polls(page, "/status");
    await release(page, figure);
    await page.until("the view", () => location.hash === "#registrations");
  });
}

/** An opened connection is followed, and closing it hits no other client that got its address. */
export function followsAConnection(browser, server) {
  return opened(browser, server, "connections?sort=RemoteAddr", {}, async (page) => {
    const end = await stream(server, "followed.*.*");
    const { RemoteAddr: address } = JSON.parse(await server.ask("GET", "connections?Spec=followed.*.*"))[0];
    const link = `#connections?open=${encodeURIComponent(address)}`;
    await page.evaluate((link) => void (location.hash = link), link);
    await page.click("Close connection…");
    await server.post({ Type: "followed", Action: "update", Key: "one", Object: {} });
    await page.until("the hit", () => document.querySelector(".detail td.number")?.innerText === "1");
    // A failure is passing, and is read out once.
    await page.evaluate(() => {
      const ask = window.fetch;
      window.fetch = (path, options) => !path.includes("/connections/") ? ask(path, options)
        : Promise.resolve(Response.json({ Messages: ["a failure"] }, { status: 500 }));
      window.heal = () => void (window.fetch = ask);
    });
    await page.until("the failure", () => (window.failure = document.querySelector(".detail .failure")) !== null);
    await polls(page, "/connections");
    assert(await page.evaluate(() => window.failure.isConnected), "the failure is another one");
    await page.evaluate(() => window.heal());
    await page.until("its end", () => !document.querySelector(".detail .failure"));
    // As if another client had connected from there.
    await page.evaluate(() => {
      window.asks = window.fetch;
      window.fetch = async (path, options) => {
        if (options.method === "DELETE") window.deleted = true;
        const answer = await window.asks(path, options);
        return path.includes("/connections/") ? Response.json({ ...await answer.json(), CreateTime: "later" }) : answer;
      };
    });
    await page.click("Close now");
    await page.until("that it has ended", () => document.querySelector(".detail").innerText
      .includes("This connection has ended."));
    assert(!await page.evaluate(() => window.deleted), "another client was closed");
    await page.evaluate(() => void (window.fetch = window.asks));
    await page.click("Close detail");
    await page.evaluate((address) => [...document.querySelectorAll(".list tbody tr")]
      .find((row) => row.innerText.includes(address)).querySelector("button").click(), address);
    await page.click("Close connection…");
    end();
    await page.until("that it has ended", () => document.querySelector(".detail").innerText
      .includes("This connection has ended."));
    assert(await page.evaluate(() => !document.querySelector(".closing")), "it can still be closed");
  }, [/status of 404 .*connections/]);
}

/** Keys act on the dialogue that is open, not on what is behind it. */
export function closesTheDialogue(browser, server) {
  return opened(browser, server, "tail?spec=*.*.*", {}, async (page) => {
    await page.until("rows", () => document.querySelectorAll(".rows .row").length > 5);
    await page.key("j");
    await page.until("the detail", () => document.querySelector(".detail h2"));
    await page.key("?");
    await page.until("the keys", () => document.querySelector("dialog").open);
    await page.key("g");
    await page.key("n");
    await page.key("Escape");
    await page.until("the end of the dialogue", () => !document.querySelector("dialog").open);
    assert(await page.evaluate(() => location.hash.startsWith("#tail")), "another view was opened behind it");
    assert(await page.evaluate(() => !document.querySelector(".detail").hidden), "the detail was closed behind it");
  });
}

/** The list of events and the completions tell a screen reader what is selected; Enter moves to the detail and Escape
 * back. */
export function tellsWhatIsSelected(browser, server) {
  return opened(browser, server, "tail?spec=machines.*.*", {}, async (page) => {
    const selected = (selector, but) => {
      const list = document.querySelector(selector);
      const one = document.getElementById(list.getAttribute("aria-activedescendant"));
      return one?.ariaSelected === "true" && one.textContent !== but && one.textContent;
    };
    await page.until("rows", () => document.querySelectorAll(".rows .row").length > 3);
    await page.click("Pause");
    await page.evaluate(() => document.querySelector(".rows").focus());
    await page.key("ArrowDown");
    const first = await page.until("the first event", selected, ".rows");
    await page.key("ArrowDown");
    await page.until("the second event", selected, ".rows", first);
    await page.key("Enter");
    await page.until("the detail's focus", () => document.activeElement.closest(".detail"));
    await page.key("Escape");
    await page.until("the list's focus", () => document.activeElement.matches(".rows"));
    await page.type("[data-key=spec]", "mach");
    await page.until("completions", () => document.querySelector("[data-key=spec]").ariaExpanded === "true");
    await page.key("ArrowDown");
    await page.until("the first completion", selected, "[data-key=spec]");
    await page.key("Escape");
    assert(await page.evaluate(() => document.querySelector("[data-key=spec]").ariaExpanded === "false"), "it is open");
  }, [/status of 400 .*hydrant\/check/]);
}
