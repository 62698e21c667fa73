// Prints events from hydrant (or a DRP endpoint) as they happen: node watch.mjs SPEC...
// After a lost connection hydrant sends what happened meanwhile; a DRP endpoint does not.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";

// Close codes after which trying again would not help: docs/protocol.md, section 8.
const FINAL = new Set([1002, 1003, 1007, 1008, 1009]);

// Milliseconds without any frame after which a connection counts as lost: the server pings every 25 s.
const SILENCE = 90_000;
// A later connection asks for so many milliseconds more than it needs: another node has another order and clock. So a
// few events may come that are older than this program.
const OVERLAP = 5_000;
// How far ahead a clock may be, in milliseconds, and how many events are known again.
const AHEAD = 240_000;
const KNOWN = 65_536;

const { RS_ENDPOINT = "https://127.0.0.1:8092", RS_KEY = "rocketskates:r0cketsk8ts", RS_TOKEN, RS_CACERT } =
  process.env;
const url = RS_ENDPOINT.replace(/^http/, "ws").replace(/\/+$/, "") + "/api/v3/ws";
const authorization = RS_TOKEN ? `Bearer ${RS_TOKEN}` : `Basic ${Buffer.from(RS_KEY).toString("base64")}`;
// Without RS_CACERT the certificate is not checked, as with drpcli: DRP endpoints sign their own.
const tls = RS_CACERT ? { ca: readFileSync(RS_CACERT) } : { rejectUnauthorized: false };

class Final extends Error {}

// When this began and the time of the last event, by the server's clock; what was shown, and what of it may come again.
let began = 0;
let last = 0;
const shown = [];
let old = new Map();

const since = () => (began ? `?since=${new Date(Math.max(began, last) - OVERLAP).toISOString()}` : "");

function connected(date) {
  began ||= Date.parse(date) || Date.now();
  old = new Map();
  for (const text of shown) old.set(text, (old.get(text) ?? 0) + 1);
}

// Shows an event, unless it was shown before.
function take(text, event) {
  const name = [event.Time, event.Type, event.Action, event.Key].join();
  const times = old.get(name);
  if (times) {
    old.set(name, times - 1);
    return;
  }
  shown.push(name);
  if (shown.length > KNOWN) shown.shift();
  const time = Date.parse(event.Time);
  if (time > 0 && time < Date.now() + AHEAD) last = Math.min(time, Date.now());
  // As it came: JavaScript's numbers would round large integers.
  process.stdout.write(`${text}\n`);
}

// Nobody reads on, as in `watch.mjs ... | head`.
process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1));

// One connection: registers, then prints until it is lost. Resolves with the reason, or rejects with Final.
function watch(specs) {
  return new Promise((lost, end) => {
    const headers = { Authorization: authorization };
    const socket = new WebSocket(url + since(), { headers, maxPayload: 64 << 20, ...tls });
    let answers = 0;
    let reason = "";
    const refuse = (text) => {
      end(new Final(text));
      socket.terminate();
    };
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => socket.terminate(), SILENCE);
    };
    heard();
    socket.on("upgrade", (response) => connected(response.headers.date));
    socket.on("ping", heard);
    socket.on("open", () => specs.forEach((spec) => socket.send(`register ${spec}`)));
    socket.on("message", (data) => {
      heard();
      const event = JSON.parse(data);
      if (event.Type !== "websocket") {
        take(data, event);
        return;
      }
      answers += 1;
      if (event.Action === "error") refuse(`${event.Key}: ${event.Object.Messages.join("; ")}`);
      else if (answers === specs.length) console.error("registered; now is the time to read the present state");
    });
    socket.on("unexpected-response", (request, response) => {
      const status = response.statusCode;
      reason = `refused: ${status}`;
      if (status >= 400 && status < 500 && ![408, 429].includes(status)) end(new Final(reason));
      request.destroy();
      lost(reason);
    });
    socket.on("error", (error) => (reason = error.message));
    socket.on("close", (code, text) => {
      clearTimeout(timer);
      const said = `closed: ${code} ${text}`.trim();
      if (FINAL.has(code)) end(new Final(said));
      else lost(reason || said);
    });
  });
}

const specs = process.argv.slice(2);
if (specs.length === 0) {
  console.error("usage: watch.mjs SPEC...   such as 'machines.update.*'");
  process.exit(64);
}
for (let failures = 0; ; failures = Math.min(failures + 1, 16)) {
  const started = Date.now();
  const lost = await watch(specs).catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
  if (Date.now() - started > 10_000) failures = 0;
  const wait = Math.random() * Math.min(30_000, 500 * 2 ** failures);
  console.error(`${lost}; retrying in ${(wait / 1000).toFixed(1)} s`);
  await sleep(wait);
}
