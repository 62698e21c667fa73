// The program itself, as a server of its own for a test, and what is asked of it beside the browser.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./chromium.mjs";

const LOGIN = { user: "rocketskates", password: "r0cketsk8ts" };

/** A free port. The kernel gives none of these to whoever asks for any: it stays free while a server is restarted. */
async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(20_000 * Math.random());
    const listener = createServer();
    const listens = await new Promise((done) =>
      listener.on("error", () => done(false)).listen(port, "127.0.0.1", () => done(true)));
    if (listens) return new Promise((done) => listener.close(() => done(port)));
  }
}

export class Hydrant {
  login = LOGIN;
  #home = mkdtempSync(join(tmpdir(), "hydrant-console-"));
  #process;
  #said = "";

  /** Starts the program on a free port, with more arguments. */
  static async start(program, ...more) {
    const server = new Hydrant();
    server.program = program;
    await server.#begin(`127.0.0.1:${await freePort()}`, more);
    server.token = JSON.parse(await server.ask("GET", `users/${LOGIN.user}/token`)).Token;
    return server;
  }

  async #begin(listen, more) {
    this.#said = "";
    this.#process = spawn(this.program, ["serve", "--listen", listen, "--metrics-listen",
      "127.0.0.1:0", "--data-dir", this.#home, ...more]);
    const hear = (text) => (this.#said = (this.#said + text).slice(-10_000));
    this.#process.stdout.setEncoding("utf8").on("data", hear);
    this.#process.stderr.setEncoding("utf8").on("data", hear);
    try {
      this.address = await until("the server to listen", () => {
        if (this.#process.exitCode != null) throw new Error(`it ended:\n${this.#said}`);
        return this.#said.match(/: listening.*?(127\.0\.0\.1:\d+)/)?.[1];
      });
    } catch (error) {
      await this.end();
      throw new Error(`${error.message}\n${this.#said}`);
    }
    this.pid = this.#process.pid;
    this.url = `https://${this.address}`;
  }

  /** Kills it and starts it again at the same address: another run, as another node is, with the same users. */
  async restart() {
    await this.#kill();
    await this.#begin(this.address, []);
  }

  /** Asks the API as the first user. Returns the body; fails unless it went well. */
  ask(method, path, body) {
    const authorization = this.token ? `Bearer ${this.token}` : `Basic ${btoa(`${LOGIN.user}:${LOGIN.password}`)}`;
    const headers = { authorization, "content-type": "application/json" };
    return new Promise((resolve, reject) => {
      const asked = request(`${this.url}/api/v3/${path}`, { method, headers, rejectUnauthorized: false }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (part) => (text += part));
        answer.on("end", () => (answer.statusCode < 300 ? resolve(text)
          : reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`))));
      });
      asked.on("error", reject);
      asked.end(body);
    });
  }

  /** Posts events, in this order. */
  post(...events) {
    return this.ask("POST", "events", JSON.stringify(events));
  }

  async #kill() {
    if (this.#process.exitCode == null && this.#process.signalCode == null) {
      const ended = new Promise((done) => this.#process.on("exit", done));
      this.#process.kill("SIGKILL");
      await ended;
    }
  }

  async end() {
    await this.#kill();
    rmSync(this.#home, { recursive: true, force: true });
  }
}

/** An update of a machine. */
export const update = (key, before, after) => ({
  Type: "machines", Action: "update", Key: key, Principal: "user:rocketskates",
  Object: { Name: key, Stage: after, Params: { a: 1, b: 2 } }, Original: { Name: key, Stage: before, Params: { a: 1 } },
});
