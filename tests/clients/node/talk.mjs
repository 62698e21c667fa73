// A client by ws; tests/clients/README.md says what it does.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import WebSocket from "ws";

console.log("hello ws", createRequire(import.meta.url)("ws/package.json").version);
const socket = new WebSocket(process.argv[2], { rejectUnauthorized: false });
let extensions = "";
socket.on("upgrade", (response) => (extensions = response.headers["sec-websocket-extensions"] ?? ""));
socket.on("open", () => {
  console.log("open", extensions);
  createInterface({ input: process.stdin })
    .on("line", (line) => (line === "CLOSE" ? socket.close(1000) : socket.send(line)));
});
socket.on("message", (message) => console.log("<", message.toString()));
socket.on("error", console.error);
socket.on("close", (code, reason) => {
  console.log("close", code, reason.toString());
  process.stdin.destroy();
});
