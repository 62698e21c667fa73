// What consoles cost the others: the load test's fleet with and without twenty sessions that ask what a console asks,
// in turn.
//
// usage: node consoles.mjs HYDRANT AXE LOADTEST [CONSOLES [SECONDS [ROUNDS [RATE]]]]    Run by `make console-cost`, on
// a quiet machine.
//
// A session looks at the status every two seconds, and has one view open: five the tail of machines, five each of the
// lists. The server has core 0; the fleet's clients and, behind them, the sessions have core 1. Prints p99 of the
// deliveries to the fleet's clients.

import { fork, spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { Agent, request } from "node:https";
import { setPriority } from "node:os";
import { join } from "node:path";

import { sleep } from "./chromium.mjs";
import { Hydrant } from "./hydrant.mjs";

const SESSIONS = "sessions";
const [program, , loadtest, consoles = 20, seconds = 20, rounds = 5, rate = 200] = process.argv.slice(2);
const LISTS = [["connections?Type=In(websocket,stream)&sort=queued&limit=150", 3000],
  ["hydrant/registrations?sort=hits&limit=150", 4000],
  ["connections?Type=In(websocket,stream)&sort=queued&limit=5", 4000]];
/** As old as the console lets an answer be (status.js, connections.js), so that sessions share it. */
const SHARED = (seconds) => ({ "Cache-Control": `max-age=${seconds}` });
const RESULT = join("target", "console", "fleet.json");

/** One console, for as long as the process lives. */
function session(url, token, number) {
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  const ask = (path, more) => {
    const headers = { Authorization: `Bearer ${token}`, ...more };
    const asked = request(`${url}/api/v3/${path}`, { agent, headers }, (answer) => answer.resume());
    asked.on("error", (error) => console.error(`console ${number}: ${error.message}`));
    asked.end();
  };
  setInterval(() => ask("hydrant/status", SHARED(1)), 2000);
  if (number % 4 === 3) {
    ask("events?register=machines.*.*&overflow=drop-oldest", { Accept: "text/event-stream" });
  } else {
    const [path, pause] = LISTS[number % 4];
    setInterval(() => ask(path, SHARED(2)), pause);
  }
}

/** Microseconds below which 99 of 100 of the fleet's deliveries stay. */
async function fleet(server) {
  const command = ["fleet", "--endpoint", server.url, "--insecure", "--client-core", "1", "--rate",
    rate, "--seconds", seconds, "--json", RESULT];
  const child = spawn(loadtest, command.map(String), { stdio: ["ignore", "ignore", "inherit"] });
  const status = await new Promise((done) => child.on("exit", done));
  if (status !== 0) throw new Error(`${loadtest} ${command.join(" ")}: ${status}`);
  return JSON.parse(readFileSync(RESULT, "utf8")).rates[0].server[0].latency.p99;
}

/** The same beside consoles, in a process of their own that yields to the fleet's clients. */
async function beside(server) {
  const others = fork(process.argv[1], [SESSIONS, server.url, server.token, String(consoles)]);
  setPriority(others.pid, 19);
  spawnSync("taskset", ["-a", "-c", "-p", "1", String(others.pid)]);
  await sleep(2000);
  try {
    return await fleet(server);
  } finally {
    others.kill("SIGKILL");
  }
}

async function compare() {
  const server = await Hydrant.start(program);
  const found = { without: [], with: [] };
  try {
    spawnSync("taskset", ["-a", "-c", "-p", "0", String(server.pid)]);
    for (let round = 0; round < rounds; round += 1) {
      for (const name of round % 2 ? ["with", "without"] : ["without", "with"]) {
        const latency = await (name === "with" ? beside(server) : fleet(server));
        console.log(`${name} ${consoles} consoles: p99 ${latency} us`);
        found[name].push(latency);
      }
    }
  } finally {
    await server.end();
    rmSync(RESULT, { force: true });
  }
  const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
  const [alone, together] = [median(found.without), median(found.with)];
  const ratio = (together / alone).toFixed(3);
  console.log(`median p99: without ${alone} us, with ${together} us, ratio ${ratio} (goal 1.1)`);
}

if (program === SESSIONS) {
  const [, url, token, all] = process.argv.slice(2);
  for (let number = 0; number < Number(all); number += 1) session(url, token, number);
} else {
  await compare();
}
