// A client in a page of a real browser; tests/clients/README.md says what it does. The page asks this program for lines
// and tells it what it hears, by HTTP on loopback.
//
// usage: talk-browser.mjs chromium|firefox PROGRAM URL
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import tls from "node:tls";

const [kind, program, url] = process.argv.slice(2);

const PAGE = `<!doctype html><title>talk</title><script type="module">
const tell = (line) => fetch("/tell", { method: "POST", body: line });
// One after the other, in the order in which they were heard.
let told = Promise.resolve();
const say = (line) => (told = told.then(() => tell(line)));
const socket = new WebSocket(${JSON.stringify(url)});
socket.onopen = async () => {
  say("open " + socket.extensions);
  for (;;) {
    const line = await (await fetch("/next")).text();
    if (line === "CLOSE") return socket.close(1000);
    socket.send(line);
  }
};
socket.onmessage = ({ data }) => say("< " + data);
socket.onclose = ({ code, reason }) => say("close " + code + " " + reason);
</script>`;

const home = mkdtempSync(join(tmpdir(), "talk-"));
const lines = [];
const waiting = [];
const serve = () => {
  while (lines.length > 0 && waiting.length > 0) waiting.shift().end(lines.shift());
};
createInterface({ input: process.stdin }).on("line", (line) => {
  lines.push(line);
  serve();
});

let browser;
const server = createServer(async (request, response) => {
  if (request.url === "/next") {
    waiting.push(response);
    return serve();
  }
  if (request.url !== "/tell") return response.setHeader("Content-Type", "text/html")
    .end(request.url === "/" ? PAGE : "");
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  response.end();
  console.log(text);
  if (text.startsWith("close ")) browser.kill();
});

// Firefox has no switch for certificates that nobody vouches for: an exception for this one stands in its profile.
const exception = () =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const socket = tls.connect({ host: hostname, port, rejectUnauthorized: false }, () => {
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      writeFileSync(join(home, "cert_override.txt"),
        `${hostname}:${port}:\tOID.2.16.840.1.101.3.4.2.1\t${fingerprint256}\t\n`);
      resolve();
    });
    socket.on("error", reject);
  });

const arguments_ = async (page) => {
  if (kind === "chromium") {
    const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--disable-quic"];
    const headless = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--ignore-certificate-errors"];
    return [...headless, ...quiet, "--remote-debugging-port=0", `--user-data-dir=${home}`, page];
  }
  writeFileSync(join(home, "user.js"),
    `user_pref("datareporting.policy.dataSubmissionEnabled", false);\nuser_pref("app.update.enabled", false);\n`);
  if (url.startsWith("wss:")) await exception();
  return ["--headless", "--no-remote", "--profile", home, page];
};

console.log("hello", execFileSync(program, ["--version", "--no-sandbox"]).toString().trim()
  .replace(/ (built|running) .*/, ""));
server.listen(0, "127.0.0.1", async () => {
  browser = spawn(program, await arguments_(`http://127.0.0.1:${server.address().port}/`),
    { stdio: "ignore", env: { ...process.env, HOME: home } });
  const end = () => {
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    process.exit(0);
  };
  browser.on("exit", end);
  process.on("SIGTERM", () => browser.kill());
});
