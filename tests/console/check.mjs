// The console in a real browser against the real program, view by view, as an operator uses it.
//
// usage: node check.mjs HYDRANT AXE    HYDRANT: the program; AXE: axe.min.js. Run by scripts/console.
//
// Nothing may be wrong with the page meanwhile: no error in the browser's console but those that are asked for, no
// request to anybody but the server, and no serious finding of axe, in no view, theme or width.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Chromium, until } from "./chromium.mjs";
import { resumes } from "./eventsource.mjs";
import { Hydrant, update } from "./hydrant.mjs";
import { closesTheDialogue, followsAConnection, keepsTheFocus, opensARow, tellsWhatIsSelected } from "./input.mjs";
import {
  asksForWhatAnotherClockHas, chartsWhatTheBarCounts, comparesNoOtherNodes, continuesAtAnotherRun,
  countsByTheServersClock, expires, forgetsTheSessionBefore, isRefusedOnce, keepsHeadsAndRowsTogether, noticesSilence,
  offersWhatIsPermitted, saysWhatTheEndpointLacks, saysWhereAListEnds, takesATokenLater, tellsOfLostEvents,
} from "./session.mjs";
import {
  drawsEveryEvent, explainsWhatTheHistoryLost, keepsIntegers, restsWhileItIsHidden, showsTheRate, staysWhereItIsRead,
  stopsWhereItIsRefused, takesThePolicyOfTheServer,
} from "./tail.mjs";

const [program, axe] = process.argv.slice(2);
const VIEWS = ["now", "tail?spec=machines.*.*", "connections", "registrations", "explain", "me"];
const PHONE = { width: 390, height: 780, phone: true };
const MARKUP = '<img src=x onerror="window.taken=1">';

function assert(holds, what) {
  if (!holds) throw new Error(what);
}

/** Goes to a view, by its link. */
const view = (page, fragment) => page.evaluate((fragment) => void (location.hash = fragment), `#${fragment}`);

async function signsIn(page, server) {
  page.expected.push(/status of 403 .*\/token/);
  await page.type("#password", "wrong");
  await page.key("Enter");
  await page.until("the refusal", () => document.querySelector(".failure")?.innerText.length > 0);
  await page.type("#password", server.login.password);
  await page.key("Enter");
  await page.shows("events/s");
  await page.until("the state", () => document.querySelector(".state.live"));
  await page.until("the charts", () => document.querySelectorAll(".plot").length === 4);
  await page.shows("Slowest clients");
  await page.shows("Nothing needs attention.");
}

async function tailsTheFleet(page) {
  await view(page, "tail?spec=machines.*.*");
  await page.until("an event of the fleet",
    () => [...document.querySelectorAll(".rows .row")].some((row) => row.innerText.includes("machines")));
  await page.shows("Would have matched");
}

async function pointsAtMistakes(page) {
  page.expected.push(/status of 400 .*hydrant\/check/);
  await page.type("[data-key=spec]", "machines.update.*.Stage=Eq(local");
  const said = await page.until("the caret", () => {
    const note = document.querySelector(".note.bad");
    return note?.textContent.endsWith("^") && note.textContent;
  });
  const [reason, spec, caret] = said.split("\n");
  assert(reason && spec === "machines.update.*.Stage=Eq(local" && caret.trim() === "^", said);
  assert(await page.evaluate(() => document.querySelector("[data-key=spec]").getAttribute("aria-invalid") === "true"),
    "the field is marked");
  await page.type("[data-key=spec]", "machine.update.*");
  await page.key("Enter");
  await page.until("the warning",
    () => document.querySelector(".note.attention")?.textContent.includes("did you mean `machines`?"));
}

/** Field names of objects that came by, and operators. */
async function completes(page) {
  await view(page, "tail?spec=machines.*.*");
  await page.until("an event", () => document.querySelector(".rows .row"));
  await page.type("[data-key=spec]", "machines.update.*.Sta");
  await page.until("the name of a field",
    () => [...document.querySelectorAll(".tips:not([hidden]) li")].some((one) => one.innerText === "Stage="));
  await page.key("Tab");
  const text = await page.evaluate(() => document.querySelector("[data-key=spec]").value);
  assert(text === "machines.update.*.Stage=", text);
  await page.key("Escape");
}

async function showsMarkupAsText(page, server) {
  await view(page, "tail?spec=markup.*.*");
  await page.shows("No events yet");
  await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
    .includes("markup.*.*"));
  await server.post({ Type: "markup", Action: "made", Key: MARKUP, Principal: MARKUP,
    Object: { [MARKUP]: MARKUP, deep: { list: [MARKUP] } }, Original: { [MARKUP]: 1 } });
  await page.until("the row", (text) => document.querySelector(".rows .row")?.innerText.includes(text), MARKUP);
  await page.key("j");
  await page.until("the detail", (text) => document.querySelector(".detail h2")?.innerText === `markup.made.${text}`,
    MARKUP);
  const [taken, images] = await page.evaluate(() => [window.taken ?? null,
    document.querySelectorAll("img, script:not([src])").length]);
  assert(taken === null && images === 0, "markup in an event became an element");
  const names = await page.evaluate(async () => (await import("/hydrant/dom.js")).h("p",
    { onclick: "window.taken = 1", ONFOCUS: "window.taken = 1", title: "a text" }).getAttributeNames());
  assert(names.join() === "title", `a text became a listener: ${names}`);
}

async function showsWhatChanged(page, server) {
  await view(page, "tail?spec=machines.update.one");
  await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
    .includes("machines.update.one"));
  await server.post(update("one", "none", "local"));
  await page.until("the change in words",
    () => document.querySelector(".rows .row")?.innerText.includes("Stage none → local, Params +1"));
  await page.key("j");
  const table = await page.until("the differences", () => document.querySelector(".changes tbody")?.innerText);
  assert(/Stage\s+"none"\s+"local"/.test(table) && /Params\.b\s+\(nothing\)\s+2/.test(table), table);
  await page.key(" ");
  await server.post(update("one", "local", "none"));
  await page.shows("1 held while paused");
  await page.key(" ");
  await page.until("what was held back", () => document.querySelectorAll(".rows .row").length === 2);
}

/** From a row on, that row included. */
async function replays(page) {
  const words = await page.evaluate(() => [...document.querySelectorAll(".rows .row")].map((row) => row.innerText));
  await page.key("j");
  await page.click("Replay from here");
  await page.until("the older event and the newer one", (words) =>
    [...document.querySelectorAll(".rows .row")].map((row) => row.innerText).join() === words.join(), words);
}

async function explains(page) {
  await page.click("Explain for…");
  await page.until("a delivery",
    () => document.querySelector(".verdict.good")?.innerText.startsWith("Delivered: machines.update.one matches"));
  await page.type("#x-spec", "machines.update.*.Stage=Eq(none)");
  await page.click("Explain", "form");
  await page.until("why not", () =>
    document.querySelector(".verdict.bad")?.innerText.includes('Stage=Eq("none") is false: the value is "local"'));
  await page.until("the tree", () => document.querySelector(".step.failed .step.failed"));
}

async function closesConnections(page, server) {
  const address = `${server.url}/api/v3/events?register=machines.*.*&register=machine.*.*`;
  const curl = spawn("curl", ["-sNk", "-H", `Authorization: Bearer ${server.token}`, address]);
  let said = "";
  curl.stdout.on("data", (text) => (said += text));
  await until("curl to be registered", () => said.includes("event: answer"));
  await view(page, "registrations");
  await page.until("the warning",
    () => document.querySelector(".list .attention")?.innerText.includes("did you mean machines?"));
  await page.evaluate(() => [...document.querySelectorAll(".list tr")]
    .find((row) => row.innerText.includes("machine.*.*")).querySelector("button").click());
  await page.until("who has it",
    () => document.querySelector(".detail table")?.innerText.includes("user:rocketskates"));
  await offersWhatIsPermitted(browser, server);
  await view(page, "connections");
  await page.click("user:rocketskates", ".list");
  await page.until("its registrations",
    () => document.querySelector(".detail table")?.innerText.includes("machines.*.*"));
  await page.click("Close connection…");
  await page.click("Close now");
  await page.until("that it is closed", () => document.querySelector(".detail .good")?.innerText === "Closed.");
  await until("the end of curl", () => curl.exitCode != null);
  assert(said.includes("event: close\n") && said.includes("connection deleted"), said.slice(-300));
}

/** The lines of the view Me do what they say. */
async function helpsElsewhere(page, server) {
  await view(page, "me");
  await page.shows("*/*/*");
  await page.click("Create a restricted token");
  const lines = await page.until("the lines", () => {
    const all = [...document.querySelectorAll(".snippet")].map((one) =>
      [one.querySelector("h3").textContent, one.querySelector("pre").textContent]);
    return all.length > 0 && Object.fromEntries(all);
  });
  const home = program.replace(/[^/]*$/, "");
  const folder = mkdtempSync(join(tmpdir(), "console-"));
  const source = join(folder, "main.go");
  writeFileSync(source, lines.Go);
  const programs = [["curl", "sh", "-c", lines.curl.replace("curl ", "curl -s ")],
    ["Python", "python3", "-u", "-c", lines.Python],
    ["Go", "sh", "-c", `go vet ${source} && exec go run ${source}`],
    ["hydrant", "sh", "-c", lines.hydrant]];
  const heard = [];
  const running = programs.map(([name, ...command]) => {
    const child = spawn(command[0], command.slice(1),
      { env: { ...process.env, PATH: `${home}:${process.env.PATH}` }, detached: true });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => heard.push(`${name}: ${text}`));
    return child;
  });
  try {
    await page.evaluate((script) => {
      window.heard = [];
      new Function("EventSource", "console", script)(EventSource, { log: ({ Key: key }) => window.heard.push(key) });
    }, lines.JavaScript);
    for (const name of [...programs.map(([name]) => name), "JavaScript"]) {
      await until(`an event by ${name}; ${heard.join("\n").slice(-1000)}`, async () => {
        await server.post(update("from-the-lines", "a", "b"));
        return name === "JavaScript" ? page.evaluate(() => window.heard.includes("from-the-lines"))
          : heard.some((text) => text.startsWith(name) && text.includes("from-the-lines"));
      });
    }
  } finally {
    for (const child of running) {
      try {
        // With its own children. Who has ended already is no failure here.
        process.kill(-child.pid, "SIGKILL");
      } catch {
        continue;
      }
    }
    rmSync(folder, { recursive: true });
  }
}

/** No serious finding in any view, and nothing wider than a phone. */
async function suitsEverybody(page) {
  await page.evaluate(readFileSync(axe, "utf8").replace(/^/, "() => { ").concat("\n}"));
  for (const look of [{}, { dark: true }, PHONE, { ...PHONE, dark: true }]) {
    await page.look(look);
    for (const fragment of VIEWS) {
      await view(page, fragment);
      await page.until(fragment, (name) => document.querySelector(`.view-${name}`)?.innerText.length > 0,
        fragment.split("?")[0]);
      if (fragment === "explain") await page.click("Example");
      const found = await page.evaluate(async () => {
        const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
        const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
        return serious.map((one) =>
          `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html.slice(0, 200)).join(" | ").slice(0, 600)}`);
      });
      assert(found.length === 0, `${fragment} ${JSON.stringify(look)}: ${found.join("\n")}`);
      const [wide, has] = await page.evaluate(() =>
        [Math.max(document.documentElement.scrollWidth, document.querySelector("main").scrollWidth + 0), innerWidth]);
      assert(wide <= has, `${fragment} ${JSON.stringify(look)}: ${wide} pixels wide of ${has}`);
    }
  }
  await page.look(PHONE);
  const [rail, bar] = await page.evaluate(() =>
    [".rail", ".bar"].map((name) => document.querySelector(name).getBoundingClientRect().top));
  assert(rail > 700 && bar === 0, "the rail is at the bottom of a phone");
  await page.look({});
}

async function signsOut(page) {
  await page.click("Sign out");
  await page.shows("You are signed out.");
  assert(await page.evaluate(() => Object.keys(localStorage).length + Object.keys(sessionStorage).length +
    document.cookie.length === 0), "nothing is kept");
}

/** A narrowed token is one too: what it does not show is said to be hidden, and is no error. */
async function takesATokenFromALink(browser, server) {
  const narrowed = JSON.parse(await server.ask("GET",
    `users/${server.login.user}/token?scope=jobs&action=get&specific=*`)).Token;
  for (const token of [server.token, narrowed]) {
    const expected = [/status of 403 .*hydrant\/(status|registrations)/];
    const page = await browser.page(`${server.url}/hydrant/#tail?spec=*.*.*&token=${token}`, { expected });
    await page.until("the tail", () => document.querySelector("[data-key=spec]")?.value === "*.*.*");
    assert(await page.evaluate(() => location.hash === "#tail?spec=*.*.*"), "the token is wiped from the address");
    await page.until("events", () => document.querySelectorAll(".rows .row").length > 5);
    const kinds = new Set(await page.evaluate(() =>
      [...document.querySelectorAll(".rows .row")].map((row) => row.children[1].textContent)));
    // And what happens to one's own connections.
    assert(token === server.token || [...kinds].every((kind) => ["jobs", "connections"].includes(kind)),
      [...kinds].join());
    if (token === narrowed) {
      await page.shows("status hidden");
      await view(page, "registrations");
      await page.until("why there is nothing", () => document.querySelector(".failure")?.innerText.length > 0);
    }
    assert(page.faults.length === 0, page.faults.join("\n"));
    await page.close();
  }
}

const server = await Hydrant.start(program, "--demo", "50");
const browser = new Chromium();
const timed = async (name, work) => {
  const begun = Date.now();
  await work;
  console.log(`${name}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
};
try {
  const page = await browser.page(`${server.url}/hydrant/`);
  for (const step of [signsIn, tailsTheFleet, pointsAtMistakes, completes, showsMarkupAsText, showsWhatChanged,
    replays, explains, closesConnections, helpsElsewhere, suitsEverybody, signsOut]) {
    await timed(step.name, step(page, server));
    assert(page.faults.length === 0, `${step.name}:\n${page.faults.join("\n")}`);
    page.expected.length = 0;
  }
  await timed(takesATokenFromALink.name, takesATokenFromALink(browser, server));
  for (const step of [
    takesATokenLater, forgetsTheSessionBefore, comparesNoOtherNodes, tellsOfLostEvents, expires, isRefusedOnce,
    saysWhereAListEnds, keepsHeadsAndRowsTogether, opensARow, keepsTheFocus, followsAConnection, closesTheDialogue,
    stopsWhereItIsRefused, drawsEveryEvent, chartsWhatTheBarCounts, restsWhileItIsHidden, keepsIntegers, showsTheRate,
    staysWhereItIsRead, countsByTheServersClock, tellsWhatIsSelected,
  ]) {
    await timed(step.name, step(browser, server));
  }
  for (const step of [
    continuesAtAnotherRun, asksForWhatAnotherClockHas, noticesSilence, saysWhatTheEndpointLacks,
    takesThePolicyOfTheServer, explainsWhatTheHistoryLost,
  ]) {
    await timed(step.name, step(browser, program));
  }
  await timed(resumes.name, resumes(browser, server));
} finally {
  await browser.end();
  await server.end();
}
