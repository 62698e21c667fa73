// A client with permessage-deflate, for tests/wire/clients.rs, which says what it has to do.
import WebSocket from "ws";

const [url, count] = process.argv.slice(2);
const socket = new WebSocket(url, { perMessageDeflate: true });
let left = Number(count) + 2;
const long = "c".repeat(3000);

socket.on("upgrade", (response) => console.log(response.headers["sec-websocket-extensions"]));
socket.on("open", () => ["*.*.*", `a.b.${long}`].forEach((spec) => socket.send(`register ${spec}`)));
socket.on("message", (message) => {
  console.log(message.toString());
  if (--left === 0) socket.close(1000);
});
socket.on("error", console.error);
// Not `exit`, which would cut off what is still to be printed.
socket.on("close", (code) => (process.exitCode = code === 1000 ? 0 : 1));
