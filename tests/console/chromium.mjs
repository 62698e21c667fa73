// Chromium without a window, driven over the DevTools protocol through two pipes: no port, no driver, no library.
//
// A page notes what it must not do: exceptions, errors in the console, violations of its policy, requests to anybody
// but its own server.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
/** A machine that is busy with other things is given so long for anything, milliseconds. */
export const PATIENCE = 60_000;
/** Files of the console are taken from this folder, so that an edit shows without a build. */
const FILES = process.env.CONSOLE_FILES;
const KINDS = { js: "text/javascript", css: "text/css", html: "text/html", svg: "image/svg+xml" };

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until a condition returns something. */
export async function until(what, condition, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(30);
  }
}

export class Chromium {
  #home = mkdtempSync(join(tmpdir(), "hydrant-console-"));
  #process;
  #waiting = new Map();
  #sessions = new Map();
  #last = 0;

  constructor() {
    const program = NAMES.find((name) => spawnSync("which", [name]).status === 0);
    if (!program) throw new Error("no browser is installed: scripts/need browser");
    this.#process = spawn(program, [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--ignore-certificate-errors",
      "--disable-background-networking", "--disable-component-update", "--disable-extensions",
        "--force-color-profile=srgb",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
        `--user-data-dir=${this.#home}`, "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
    this.#process.on("exit", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the browser has ended"));
    });
    let rest = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      for (const message of messages) this.#heard(JSON.parse(message));
    });
  }

  #heard({ id, sessionId, method, params, result, error }) {
    if (!id) return this.#sessions.get(sessionId)?.(method, params);
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  send(method, params = {}, sessionId) {
    const id = (this.#last += 1);
    this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** A page of a window of its own size and theme, and with errors that are asked for. */
  async page(url, look = {}) {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page((method, params) => this.send(method, params, sessionId), new URL(url).origin);
    this.#sessions.set(sessionId, (method, params) => page.heard(method, params));
    page.expected.push(...(look.expected ?? []));
    page.close = () => this.send("Target.disposeBrowserContext", { browserContextId });
    await page.begin(look);
    await page.go(url);
    return page;
  }

  async end() {
    const ended = new Promise((done) => this.#process.on("exit", done));
    // With all its processes: those that are left would write into its folder.
    process.kill(-this.#process.pid, "SIGKILL");
    await ended;
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

export class Page {
  /** What it must not do. */
  faults = [];
  /** Patterns of errors in the console that are asked for, such as a refused request. */
  expected = [];
  #send;
  #origin;

  constructor(send, origin) {
    this.#send = send;
    this.#origin = origin;
  }

  async begin({ width = 1280, height = 800, dark = false, phone = false }) {
    const send = this.#send;
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
    await this.look({ width, height, dark, phone });
    if (FILES) await send("Fetch.enable", { patterns: [{ urlPattern: "*/hydrant/*" }] });
  }

  /** Changes size and theme. */
  async look({ width = 1280, height = 800, dark = false, phone = false }) {
    await this.#send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: phone });
    const value = dark ? "dark" : "light";
    await this.#send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
  }

  heard(method, params) {
    if (method === "Runtime.exceptionThrown") {
      this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    } else if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) {
      this.faults.push(`console.${params.type}: ${params.args.map((one) => one.value ?? one.description).join(" ")}`);
    } else if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) {
      const { text, url = "" } = params.entry;
      if (!this.expected.some((pattern) => pattern.test(`${text} ${url}`))) this.faults.push(`${text} ${url}`);
    } else if (method === "Network.requestWillBeSent") {
      const { url } = params.request;
      if (!url.startsWith(`${this.#origin}/`) && !url.startsWith("data:")) this.faults.push(`a request to ${url}`);
    } else if (method === "Page.javascriptDialogOpening") {
      this.faults.push(`a dialogue: ${params.message}`);
      this.#send("Page.handleJavaScriptDialog", { accept: false });
    } else if (method === "Fetch.requestPaused") {
      this.#serve(params);
    }
  }

  #serve({ requestId, request }) {
    const name = basename(new URL(request.url).pathname);
    const file = name === "hydrant" ? "index.html" : name;
    if (!/^[a-z]+\.(js|css|html|svg)$/.test(file)) return this.#send("Fetch.continueRequest", { requestId });
    return this.#send("Fetch.fulfillRequest", {
      requestId, responseCode: 200, body: readFileSync(join(FILES, file)).toString("base64"),
      responseHeaders: [{ name: "Content-Type", value: KINDS[file.split(".").at(-1)] }],
    });
  }

  async go(url) {
    await this.#send("Page.navigate", { url });
    await this.until("the page", () => document.readyState === "complete");
  }

  send(method, params) {
    return this.#send(method, params);
  }

  /** Runs a function in the page with these arguments. */
  async evaluate(run, ...given) {
    const expression = `(${run})(...${JSON.stringify(given)})`;
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until a function in the page returns something; tells what the page shows if it does not. */
  async until(what, run, ...given) {
    // What a navigation interrupts is asked again of the page that it leads to.
    const ask = () => this.evaluate(run, ...given).catch((error) => {
      if (!/context was destroyed|Cannot find context|navigated or closed/.test(error.message)) throw error;
    });
    try {
      return await until(what, ask);
    } catch (error) {
      const shown = await this.evaluate(() => document.body.innerText).catch(() => "");
      throw new Error(`${error.message}; the page shows:\n${shown.slice(0, 2000)}\n${this.faults.join("\n")}`);
    }
  }

  /** Waits until the page shows a text. */
  shows(text) {
    return this.until(`"${text}"`, (text) => document.body.innerText.includes(text), text);
  }

  /** Clicks on the button, link or summary with this text, once there is one. */
  async click(text, within = "body") {
    const find = (text, within, click) => {
      const all = [...document.querySelectorAll(`${within} :is(button, a, summary)`)];
      const found = all.find((one) => one.textContent.trim() === text && one.getClientRects().length > 0);
      if (found && click) found.click();
      return Boolean(found);
    };
    await this.until(`the button "${text}"`, find, text, within, true);
  }

  /** Types into a field, from the keyboard as far as the page can tell. */
  async type(selector, text) {
    await this.until(selector, (selector) => {
      const field = document.querySelector(selector);
      field?.focus();
      field?.select?.();
      return Boolean(field);
    }, selector);
    await this.#send("Input.insertText", { text });
  }

  /** Presses the mouse's button at the middle of what is found, or releases it there. */
  async mouse(type, selector) {
    const [x, y] = await this.until(selector, (selector) => {
      const box = document.querySelector(selector)?.getBoundingClientRect();
      return box?.width > 0 && [box.x + box.width / 2, box.y + box.height / 2];
    }, selector);
    await this.#send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
  }

  async key(key) {
    const code = { Enter: 13, Escape: 27, Tab: 9, " ": 32, ArrowDown: 40 }[key];
    const text = key === "Enter" ? "\r" : key.length === 1 ? key : undefined;
    await this.#send("Input.dispatchKeyEvent", { type: "keyDown", key, text, windowsVirtualKeyCode: code });
    await this.#send("Input.dispatchKeyEvent", { type: "keyUp", key, windowsVirtualKeyCode: code });
  }

  /** The picture of the window, PNG. */
  async picture() {
    const { data } = await this.#send("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }
}
