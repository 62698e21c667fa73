// What consoles cost the others: the load test's fleet beside twenty sessions that ask what a console asks, in turn
// with the same sessions at another server, and with none.
//
// usage: node consoles.mjs HYDRANT AXE LOADTEST [CONSOLES [SECONDS [ROUNDS [RATE]]]]    Run by `make console-cost`, on
// a quiet machine.
//
// A session looks at the status every two seconds, and has one view open: five the tail of machines, five each of the
// lists. They begin one after the other, as people do. The server has core 0, the fleet's clients have core 1. The
// sessions have core 1 too, and only what the clients leave of it (SCHED_IDLE). Even so they take caches and wake-ups
// from the clients, which says nothing about the server. So the comparison is with the same sessions at another server
// on their core, which has as many connections and events: all that differs is what the measured server does for them.
// Prints p99 of the deliveries to the fleet's clients, as they see it and by the server's own count from intake to
// kernel.

import { fork, spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";

import { sleep } from "./chromium.mjs";
import { Hydrant } from "./hydrant.mjs";

const SESSIONS = "sessions";
const [program, , loadtest, consoles = 20, seconds = 20, rounds = 5, rate = 200] = process.argv.slice(2);
const LISTS = [["connections?Type=In(websocket,stream)&sort=queued&limit=150", 3000],
  ["hydrant/registrations?sort=hits&limit=150", 3000],
  ["connections?Type=In(websocket,stream)&sort=queued&limit=5", 4000]];
/** As old as the console lets an answer be (status.js, connections.js), so that sessions share it. */
const SHARED = (seconds) => ({ "Cache-Control": `max-age=${seconds}` });
const STREAM = { Accept: "text/event-stream" };
/** Of the fleet, by default. */
const CLIENTS = 215;
/** Milliseconds until all sessions have begun. */
const WARM_UP = 4500;
const RESULT = join("target", "console", "fleet.json");

/** A request of a session that goes on; what comes is thrown away. */
function ask(url, token, path, more = {}, agent) {
  const headers = { Authorization: `Bearer ${token}`, ...more };
  const asked = request(`${url}/api/v3/${path}`, { agent, headers, rejectUnauthorized: false }, (answer) =>
    answer.resume());
  asked.on("error", (error) => console.error(`${path}: ${error.message}`));
  asked.end();
}

/** One console, for as long as the process lives. */
function session(url, token, number) {
  const agent = new Agent({ keepAlive: true });
  /** Twenty people do not ask in the same millisecond. */
  const repeat = (path, pause, age) => setTimeout(
    () => setInterval(() => ask(url, token, path, SHARED(age), agent), pause), (pause * number) / consoles);
  repeat("hydrant/status", 2000, 1);
  if (number % 4 === 3) ask(url, token, "events?register=machines.*.*&overflow=drop-oldest", STREAM, agent);
  else repeat(...LISTS[number % 4], 2);
}

/** Deliveries of a server by latency, by its own count. */
async function latencies(server) {
  const { Latency: latency } = JSON.parse(await server.ask("GET", "hydrant/status"));
  return latency;
}

/** Microseconds below which 99 of 100 of the deliveries between two looks stay; within a bucket they lie evenly. */
function inside(before, after) {
  const { BoundsMicroseconds: bounds, Counts: counts } = after;
  const grown = counts.map((n, bucket) => n - before.Counts[bucket]);
  let left = grown.reduce((sum, n) => sum + n, 0) * 0.99;
  const bucket = grown.findIndex((n) => (left -= n) <= 0 && n > 0);
  const [low, high] = [bounds[bucket - 1] ?? 0, bounds[Math.min(bucket, bounds.length - 1)]];
  return Math.round(high + (high - low) * (left / grown[bucket]));
}

/** Microseconds below which 99 of 100 of the fleet's deliveries stay: as clients see it, and by the server. */
async function fleet(server) {
  const before = await latencies(server);
  const command = ["fleet", "--endpoint", server.url, "--insecure", "--client-core", "1", "--rate",
    rate, "--seconds", seconds, "--json", RESULT];
  const child = spawn(loadtest, command.map(String), { stdio: ["ignore", "ignore", "inherit"] });
  const status = await new Promise((done) => child.on("exit", done));
  if (status !== 0) throw new Error(`${loadtest} ${command.join(" ")}: ${status}`);
  const seen = JSON.parse(readFileSync(RESULT, "utf8")).rates[0].server[0].latency.p99;
  return { seen, inside: inside(before, await latencies(server)) };
}

/** What only takes what the fleet's clients leave of their core. */
function yields(pid) {
  spawnSync("taskset", ["-a", "-c", "-p", "1", String(pid)]);
  const { status, stderr } = spawnSync("chrt", ["-a", "-i", "-p", "0", String(pid)]);
  if (status !== 0) throw new Error(`chrt: ${stderr}`);
}

/** The fleet at a server, beside consoles of a server, in a process of their own. */
async function beside(server, watched, idlers) {
  const others = fork(process.argv[1], [SESSIONS, watched.url, watched.token, String(consoles), String(idlers)]);
  yields(others.pid);
  await sleep(WARM_UP);
  try {
    return await fleet(server);
  } finally {
    others.kill("SIGKILL");
  }
}

async function compare() {
  // Events about the fleet's own connecting would count, by the server's count.
  process.env.HYDRANT_CONNECTION_EVENTS = "false";
  const server = await Hydrant.start(program);
  process.env.HYDRANT_DEMO_RATE = String(rate);
  const other = await Hydrant.start(program, "--demo", "200");
  const arms = {
    without: () => fleet(server),
    elsewhere: () => beside(server, other, CLIENTS),
    with: () => beside(server, server, 0),
  };
  const found = Object.fromEntries(Object.keys(arms).map((name) => [name, []]));
  try {
    spawnSync("taskset", ["-a", "-c", "-p", "0", String(server.pid)]);
    yields(other.pid);
    for (let round = 0; round < rounds; round += 1) {
      const names = Object.keys(arms);
      // Each begins a round in turn.
      for (const name of [...names.slice(round % 3), ...names.slice(0, round % 3)]) {
        const latency = await arms[name]();
        console.log(`${name}: p99 ${latency.seen} us, inside the server ${latency.inside} us`);
        found[name].push(latency);
      }
    }
  } finally {
    await server.end();
    await other.end();
    rmSync(RESULT, { force: true });
  }
  report(found);
}

function report(found) {
  const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
  for (const [kind, where] of [["seen", "as clients see it"], ["inside", "inside the server"]]) {
    const of = Object.fromEntries(Object.entries(found)
      .map(([name, all]) => [name, median(all.map((one) => one[kind]))]));
    const by = (name) => `${(of.with / of[name]).toFixed(3)} by ${name}`;
    console.log(`median p99 ${where}: without ${of.without} us, consoles elsewhere ${of.elsewhere} us, ` +
      `with ${of.with} us; ratio ${by("elsewhere")} (goal 1.1), ${by("without")}`);
  }
}

if (program === SESSIONS) {
  const [, url, token, , idlers] = process.argv.slice(2);
  for (let number = 0; number < Number(consoles); number += 1) session(url, token, number);
  for (let number = 0; number < Number(idlers); number += 1) ask(url, token, "events?register=nothing.*.*", STREAM);
} else {
  await compare();
}
