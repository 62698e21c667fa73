// The tail where the server refuses, closes or loses its stream.

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
