// What a session may do, how it ends, and what a page says of a server that falls silent.

import { createServer } from "node:http";

import { until } from "./chromium.mjs";
import { Hydrant, update } from "./hydrant.mjs";

/** A token of the first user with these restrictions. */
async function token(server, restrictions) {
  const query = new URLSearchParams(restrictions);
  return JSON.parse(await server.ask("GET", `users/${server.login.user}/token?${query}`)).Token;
}

/** Opens a view with a token of one's own, does something there, and closes the page. */
export async function opened(browser, server, fragment, restrictions, work, expected = []) {
  const url = `${server.url}/hydrant/#${fragment}&token=${await token(server, restrictions)}`;
  const page = await browser.page(url, { expected });
  try {
    await work(page);
    if (page.faults.length > 0) throw new Error(page.faults.join("\n"));
  } finally {
    await page.close();
  }
}

/** Whoever may look at connections but not close them is told so, and has no button. A connection has to be open. */
export function offersWhatIsPermitted(browser, server) {
  const restrictions = { scope: "connections", action: "list,get", specific: "*" };
  return opened(browser, server, "connections?sort=RemoteAddr", restrictions, async (page) => {
    await page.click("user:rocketskates", ".list");
    await page.shows("Closing it requires the claim connections/delete.");
    const offered = await page.evaluate(() =>
      document.querySelector(".closing").innerText.includes("Close connection"));
    if (offered) throw new Error("closing is offered");
  });
}

/** Whoever's token expires is told why, and continues in the same view. */
export function expires(browser, server) {
  return opened(browser, server, "tail?spec=jobs.*.*", { ttl: "20" }, async (page) => {
    page.expected.push(/status of 40[13]/);
    await page.shows("Your session has expired. Sign in again to continue in this view.");
    await page.type("#password", server.login.password);
    await page.key("Enter");
    await page.until("the same view", () => document.querySelector("[data-key=spec]")?.value === "jobs.*.*");
  });
}

/** Whoever lacks a claim is refused, and not asked about by each refusal. */
export function isRefusedOnce(browser, server) {
  const expected = [/status of 403 .*hydrant\/(status|registrations)/];
  return opened(browser, server, "registrations?", { scope: "jobs", action: "get", specific: "*" }, async (page) => {
    const asked = (path, least) => {
      const all = performance.getEntriesByType("resource");
      const { length } = all.filter(({ name }) => new URL(name).pathname.endsWith(path));
      return length >= least ? length : 0;
    };
    // The list is asked for every three seconds.
    await page.until("two refusals", asked, "hydrant/registrations", 2);
    const times = await page.evaluate(asked, "hydrant/me", 0);
    if (times !== 1) throw new Error(`asked ${times} times who it is, not once for the token`);
  }, expected);
}

/** The list of who has a registration ends somewhere, and says so. */
export function saysWhereAListEnds(browser, server) {
  return opened(browser, server, "tail?spec=jobs.*.*", {}, () =>
    opened(browser, server, "registrations?", {}, async (page) => {
      // As many as are asked for, without opening as many connections.
      await page.evaluate(() => {
        const ask = window.fetch;
        const many = Array.from({ length: 150 }, (_, n) => ({ Principal: "user:many", RemoteAddr: `192.0.2.1:${n}` }));
        window.fetch = (path, options) =>
          path.includes("connections?Spec=") ? Promise.resolve(Response.json(many)) : ask(path, options);
      });
      await page.until("a registration", () => {
        const holders = document.querySelector("[title='Who has it']");
        holders?.click();
        return Boolean(holders);
      });
      await page.shows("The 150 connections with the most queued bytes");
    }));
}

/** A list never names one order and has another: an answer that was asked for before the click comes after it. */
export function keepsHeadsAndRowsTogether(browser, server) {
  return opened(browser, server, "registrations?", {}, async (page) => {
    await page.evaluate(() => {
      const [ask, asked] = [window.fetch, { hits: 0, deliveries: 0 }];
      window.asked = asked;
      window.fetch = (path, options) => {
        if (!path.includes("hydrant/registrations?")) return ask(path, options);
        const sort = new URL(path, location).searchParams.get("sort");
        const list = Response.json([{ Spec: `by.${sort}.*`, Hits: 1, Deliveries: 1, Shared: 1 }]);
        asked[sort] += 1;
        // The first list has the button to click on.
        return sort === "hits" && asked.hits > 1 ? new Promise((done) => (window.late = () => done(list)))
          : Promise.resolve(list);
      };
    });
    await page.until("a look that is not answered", () => Boolean(window.late));
    await page.click("Deliveries", ".list");
    await page.shows("by.deliveries.*");
    await page.evaluate(() => {
      window.seen = [];
      const note = () => window.seen.push(document.querySelector(".list").innerText);
      new MutationObserver(note).observe(document.querySelector(".list"),
        { childList: true, subtree: true, characterData: true, attributes: true });
      window.late();
    });
    await page.until("the next list", () => window.asked.deliveries > 1 && window.seen.length > 0);
    const seen = await page.evaluate(() => window.seen.join());
    if (seen.includes("by.hits.*")) throw new Error(`an old list in the new order: ${seen}`);
  });
}

/** A server that says nothing for some of its pings is lost, and found again. */
export async function noticesSilence(browser, program) {
  process.env.HYDRANT_TIMEOUTS_PING = "1s";
  const server = await Hydrant.start(program);
  delete process.env.HYDRANT_TIMEOUTS_PING;
  try {
    await opened(browser, server, "tail?spec=jobs.*.*", {}, async (page) => {
      const live = () => document.querySelector(".state.live") &&
        document.querySelector(".toolbar [role=status]").textContent === "";
      await page.until("the tail", live);
      process.kill(server.pid, "SIGSTOP");
      await page.shows("the connection was lost");
      process.kill(server.pid, "SIGCONT");
      await page.until("the tail again", live);
    }, [/Failed to load|ERR_/]);
  } finally {
    await server.end();
  }
}

/** A link with a token that is opened in a page that is there already signs in, and leaves no token in the address. */
export async function takesATokenLater(browser, server) {
  const page = await browser.page(`${server.url}/hydrant/`, { expected: [/status of 40[13]/] });
  const follow = (fragment) => page.evaluate((fragment) => void (location.hash = fragment), fragment);
  const wiped = () => !location.hash.includes("token");
  try {
    await page.until("the door", () => document.querySelector("#password"));
    await follow("#tail?spec=jobs.*.*&token=nonsense");
    await page.until("why not", () => document.querySelector(".failure")?.innerText.length > 0);
    await page.until("a clean address", wiped);
    await follow(`#tail?spec=jobs.*.*&token=${await token(server, {})}`);
    await page.until("the tail", () => document.querySelector("[data-key=spec]")?.value === "jobs.*.*");
    await page.until("a clean address", wiped);
    // Signed in, too.
    await follow(`#tail?spec=machines.*.*&token=${await token(server, {})}`);
    await page.until("another tail", () => document.querySelector("[data-key=spec]")?.value === "machines.*.*");
    await page.until("a clean address", wiped);
    // One that is not good is told, and ends no session.
    await follow("#tail?spec=stages.*.*&token=nonsense");
    await page.shows("The token in the link was not accepted");
    await page.shows(`You are still signed in as ${server.login.user}.`);
    await page.until("the view all the same", () => document.querySelector("[data-key=spec]")?.value === "stages.*.*");
    const over = await page.evaluate(() => {
      const { scrollHeight: all, clientHeight: seen } = document.querySelector("main");
      return all - seen;
    });
    if (over > 0) throw new Error(`the message makes the view ${over} pixels too high`);
    await page.until("a clean address", wiped);
    if (page.faults.length > 0) throw new Error(page.faults.join("\n"));
  } finally {
    await page.close();
  }
}

/** A link with another token begins a session of its own: without charts and names that the one before has seen. */
export function forgetsTheSessionBefore(browser, server) {
  return opened(browser, server, "tail?spec=somebodys.*.*", {}, async (page) => {
    await until("the registration", async () => (await server.ask("GET", "hydrant/registrations?sort=hits"))
      .includes("somebodys.*.*"));
    await server.post({ ...update("one", "a", "b"), Type: "somebodys" });
    const points = async () => (await import("/hydrant/status.js")).history.length;
    await page.until("points of the charts", points);
    await page.until("the event", () => document.querySelector(".rows .row"));
    const since = await page.evaluate(() => Date.now());
    const link = `#tail?spec=jobs.*.*&token=${await token(server, { ttl: "1h" })}`;
    await page.evaluate((link) => void (location.hash = link), link);
    await page.until("the other tail", () => document.querySelector("[data-key=spec]")?.value === "jobs.*.*");
    await page.until("points of the charts", points);
    const first = await page.evaluate(async () => (await import("/hydrant/status.js")).history[0].time);
    if (first < since) throw new Error("the charts begin in the session before");
    await page.type("[data-key=spec]", "s");
    const tips = await page.until("completions", () => {
      const all = [...document.querySelectorAll(".tips:not([hidden]) li")].map((one) => one.innerText);
      return all.includes("stages") && all.join();
    });
    if (tips.includes("somebodys")) throw new Error(`names of the session before: ${tips}`);
  }, [/status of 400 .*hydrant\/check/]);
}

/** Behind a balancer another node may answer: its counts are not compared, and it may have fewer shards. */
export function comparesNoOtherNodes(browser, server) {
  return opened(browser, server, "now?", {}, async (page) => {
    await page.evaluate(() => {
      const ask = window.fetch;
      window.looks = 0;
      window.fetch = async (path, options) => {
        const answer = await ask(path, options);
        if (!path.includes("hydrant/status")) return answer;
        window.looks += 1;
        const status = await answer.json();
        const other = { ...status, Id: "other", Shards: [], Refused: 1000, Received: { post: 1e9 } };
        return Response.json(window.looks % 2 ? other : status);
      };
    });
    await page.until("looks at both", () => window.looks >= 6);
    await page.shows("Nothing needs attention.");
  });
}

/** Gaps of an endpoint and events lost between nodes need attention, and stay on the page. */
export function tellsOfLostEvents(browser, server) {
  return opened(browser, server, "now?", {}, async (page) => {
    await page.evaluate(() => {
      const ask = window.fetch;
      let looks = 0;
      window.fetch = async (path, options) => {
        const answer = await ask(path, options);
        if (!path.includes("hydrant/status")) return answer;
        looks += 1;
        const [Connected, Since, Error] = [true, new Date().toISOString(), ""];
        const upstream = (Gaps) => ({ Endpoint: "https://drp", Connected, Since, Error, Gaps });
        const Nats = { Connected, Since, LostIn: 100 + looks, LostOut: 1000 + looks };
        const Upstreams = [upstream(5), upstream(7 + looks)];
        return Response.json({ ...await answer.json(), Id: "front", Upstreams, Nats });
      };
    });
    // Counted from the first answer on.
    for (const what of ["Gaps in the events of endpoints", "Events lost between nodes"]) {
      await page.until(what, (what) => {
        const found = [...document.querySelectorAll(".health .bad")].find((one) => one.innerText.includes(what));
        return found && Number(/: (\d+)\./.exec(found.innerText)[1]) < 100;
      }, what);
    }
    await page.shows("Events lost between nodes: 1,1");
  });
}

/** Another run repeats what a page has, and the page does not. */
export async function continuesAtAnotherRun(browser, program) {
  const server = await Hydrant.start(program);
  // Two are equal.
  const events = ["one", "two", "two"].map((key) => ({ ...update(key, "a", "b"), Time: new Date().toISOString() }));
  // Without the notice of what the new run cannot know.
  const keys = () => [...document.querySelectorAll(".rows .row")].map((row) => row.children[3].textContent)
    .filter((key) => key !== "replay").join();
  try {
    await opened(browser, server, "tail?spec=machines.*.*", {}, async (page) => {
      await page.until("the tail", () => document.querySelector(".state.live"));
      await server.post(...events);
      await page.until("three rows", () => document.querySelectorAll(".rows .row").length === 3);
      await server.restart();
      await server.post(...events, update("three", "a", "b"));
      await page.until("the new one",
        () => [...document.querySelectorAll(".rows .row")].some((row) => row.children[3].textContent === "three"));
      const found = await page.evaluate(keys);
      if (found !== "three,two,two,one") throw new Error(`rows: ${found}`);
    }, [/Failed to load|ERR_/]);
  } finally {
    await server.end();
  }
}

/** What came in a tail's first seconds is from before it, by a clock that is behind: so the tail asks for that, too. */
export async function asksForWhatAnotherClockHas(browser, program) {
  const server = await Hydrant.start(program);
  try {
    await opened(browser, server, "now?", {}, async (page) => {
      await page.until("the view", () => document.querySelector(".state.live"));
      await page.evaluate(() => {
        const ask = window.fetch;
        window.asked = [];
        window.fetch = async (path, options) => {
          const answer = await ask(path, options);
          if (path.includes("/events?")) {
            const since = new URL(path, location).searchParams.get("since");
            window.asked.push([since, Date.parse(answer.headers.get("Date"))]);
          }
          return answer;
        };
        location.hash = "#tail?spec=jobs.*.*";
      });
      await page.until("the tail", () => window.asked.length === 1);
      await server.restart();
      const asked = await page.until("the tail elsewhere", () => window.asked.length > 2 && window.asked);
      const [[live, began], [position], [time]] = asked;
      if (live !== null || !/^\w{16}:\d+$/.test(position) || Date.parse(time) !== began - 5000) {
        throw new Error(`asked for ${JSON.stringify(asked)}`);
      }
    }, [/Failed to load|ERR_/]);
  } finally {
    await server.end();
  }
}

/** An endpoint that tells of one connection, and refuses hydrant's own user when it is asked about that. */
function endpoint() {
  const row = { Principal: "user:theirs", RemoteAddr: "192.0.2.9:99", Type: "websocket" };
  const server = createServer((request, answer) => {
    const { pathname } = new URL(request.url, "http://endpoint");
    const [status, body] = pathname === "/api/v3/connections" ? [200, [row]]
      : [401, { Code: 401, Key: "", Messages: ["credentials are not valid"], Model: "", Type: "AUTH" }];
    answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  return new Promise((listens) => server.listen(0, "127.0.0.1", () => listens(server)));
}

/** What the endpoint refuses hydrant ends no session, and a list without the endpoint's part says so. */
export async function saysWhatTheEndpointLacks(browser, program) {
  const drp = await endpoint();
  const settings = { URLS: `http://127.0.0.1:${drp.address().port}`, USERNAME: "hydrant", PASSWORD: "a long password" };
  const names = [...Object.keys(settings).map((name) => `HYDRANT_UPSTREAM_${name}`), "HYDRANT_AUTH_MODE"];
  [...Object.values(settings), "local"].forEach((value, at) => (process.env[names[at]] = value));
  const server = await Hydrant.start(program).finally(() => names.forEach((name) => delete process.env[name]));
  try {
    await opened(browser, server, "connections?sort=RemoteAddr", {}, async (page) => {
      await page.shows("Websockets and streams: 1");
      await page.click("user:theirs", ".list");
      await page.shows("refuses hydrant's own user");
      drp.close();
      drp.closeAllConnections();
      await page.shows("This list is incomplete. The endpoint did not return its connections");
      await page.evaluate(() => void (location.hash = "#now"));
      await page.shows("Slowest clients");
      await page.shows("This list is incomplete. The endpoint did not return its connections");
      if (await page.evaluate(() => !document.querySelector(".rail"))) throw new Error("the page signed its user out");
    }, [/status of 502 .*connections/]);
  } finally {
    drp.close();
    await server.end();
  }
}

/** The chart of received events has all that the figure above it counts, and nothing from before its picture. */
export function chartsWhatTheBarCounts(browser, server) {
  return opened(browser, server, "now?", {}, async (page) => {
    await page.evaluate(() => {
      const ask = window.fetch;
      let events = 0;
      window.fetch = async (path, options) => {
        const answer = await ask(path, options);
        if (!path.includes("hydrant/status")) return answer;
        events += 1000;
        return Response.json({ ...await answer.json(), Received: { post: events, connections: events } });
      };
    });
    await page.until("a status", async () => {
      const { history } = await import("/hydrant/status.js");
      if (!history[0]?.status) return false;
      const spike = { ...history[0].status, Queue: { ...history[0].status.Queue, Bytes: 1e9 } };
      return history.unshift({ time: Date.now() - 16 * 60 * 1000, status: spike });
    });
    await page.until("the source", () => document.querySelector(".legend").innerText.includes("connections"));
    await page.until("both in one", () => {
      const number = (text) => Number(text.replaceAll(",", ""));
      const parts = [...document.querySelector(".legend").querySelectorAll("b")].map((one) => number(one.innerText));
      const all = number(document.querySelector(".figures a b").innerText);
      return all > 100 && Math.abs(all - parts.reduce((sum, part) => sum + part, 0)) <= 2;
    });
    const top = await page.evaluate(() => document.querySelectorAll(".plot-box .top")[2].innerText);
    if (/[MG]B/.test(top)) throw new Error(`the scale is that of long ago: ${top}`);
  });
}

/** Ages are those of the server's clock. */
export function countsByTheServersClock(browser, server) {
  return opened(browser, server, "tail?spec=clock.*.*", {}, (open) =>
    opened(browser, server, "now?", {}, async (page) => {
      await open.until("the tail", () => document.querySelector(".state.live"));
      await page.evaluate(() => {
        const now = Date.now;
        Date.now = () => now() + 600_000;
        location.hash = "#connections";
      });
      await page.until("an age in seconds", () =>
        [...document.querySelectorAll("td[data-head=Age]")].some((one) => one.innerText.endsWith(" s")));
    }));
}
