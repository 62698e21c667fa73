//! A page of a foreign origin in a real browser, with a token: REST, posts and the websocket of a hydrant alone and of
//! one in front of an endpoint. Needs chromium: `make outside`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::http::Http;
use crate::common::{Hydrant, LOGIN, basic};
use crate::endpoint::{Drp, MACHINE};

/// What the page does: everything that a portal does, and a little that it may not.
const PAGE: &str = r#"<!DOCTYPE html><title>portal</title><script>
const { server, token, machine } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const api = `${server}/api/v3`, headers = { Authorization: `Bearer ${token}` };
const found = {};
const ask = async (name, path, options) => {
  try {
    const answer = await fetch(api + path, options);
    const text = await answer.text();
    const [type, retry] = ["content-type", "www-authenticate"].map(name => answer.headers.get(name));
    found[name] = { status: answer.status, type, retry, text };
  } catch (error) { found[name] = { error: String(error) }; }
};
const json = { ...headers, "Content-Type": "application/json" };
const main = async () => {
  await ask("info", "/info", { headers });
  await ask("nobody", "/info", {});
  await ask("ambient", "/info", { credentials: "include", headers });
  if (machine) await ask("machine", `/machines/${machine}`, { headers });
  const socket = new WebSocket(`${api.replace(/^http/, "ws")}/ws?token=${encodeURIComponent(token)}`);
  const messages = [];
  let heard = () => {};
  socket.onmessage = message => { messages.push(JSON.parse(message.data)); heard(); };
  const until = count => new Promise(resolve => { (heard = () => messages.length >= count && resolve())(); });
  found.opened = await new Promise(resolve => {
    socket.onopen = () => resolve(true);
    socket.onerror = () => resolve(false);
  });
  if (found.opened) {
    socket.send("register browser.made.*");
    await until(1);
    const body = JSON.stringify({ Type: "browser", Action: "made", Key: "k", Object: location.origin });
    await ask("post", "/events", { method: "POST", headers: json, body });
    await until(2);
  }
  found.messages = messages;
};
main().catch(error => { found.error = String(error); })
  .finally(() => fetch("/found", { method: "POST", body: JSON.stringify(found) }));
</script>"#;

fn browser() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let all = std::env::split_paths(&path).flat_map(|place| names.map(|name| place.join(name)));
    all.into_iter().find(|program| program.is_file()).expect("a browser is installed: make outside")
}

struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves the page at an origin of its own until it tells what it found.
async fn serve(listener: TcpListener) -> Value {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        let mut chunk = vec![0; 65_536];
        let found = loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            text.extend_from_slice(&chunk[..read]);
            let so_far = String::from_utf8_lossy(&text).into_owned();
            let Some((head, body)) = so_far.split_once("\r\n\r\n") else {
                if read == 0 {
                    break None;
                }
                continue;
            };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if read == 0 || body.len() >= length.unwrap_or(0) {
                break head.starts_with("POST /found ").then(|| body.to_owned());
            }
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PAGE}",
            PAGE.len()
        );
        // A browser that has gone takes no answer.
        let _ = stream.write_all(answer.as_bytes()).await;
        if let Some(found) = found {
            return serde_json::from_str(&found).unwrap();
        }
    }
}

/// What the page finds at a server.
async fn visit(server: SocketAddr, tls: bool, token: &str, machine: &str) -> (Value, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // By name, so that it is another host too.
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let scheme = if tls { "https" } else { "http" };
    let told =
        serde_json::json!({"server": format!("{scheme}://{server}"), "token": token, "machine": machine}).to_string();
    let encoded = told.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let home = tempfile::tempdir().unwrap();
    let child = Command::new(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--ignore-certificate-errors", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("{origin}/#{encoded}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _browser = Browser(child);
    let found = tokio::time::timeout(std::time::Duration::from_mins(2), serve(listener)).await;
    (found.expect("the page tells what it found"), origin)
}

fn check(found: &Value, origin: &str) {
    assert!(found["error"].is_null(), "{found:#}");
    assert_eq!(
        (&found["info"]["status"], &found["info"]["type"]),
        (&200.into(), &"application/json".into()),
        "{found:#}"
    );
    assert_eq!(found["nobody"]["status"], 401, "a page may read why it was refused: {found:#}");
    assert!(found["nobody"]["retry"].as_str().unwrap().contains("dr-provision"), "{found:#}");
    assert!(found["ambient"]["error"].is_string(), "no foreign page gets a browser's own credentials: {found:#}");
    assert_eq!(found["opened"], true, "{found:#}");
    assert_eq!(found["post"]["status"], 204, "{found:#}");
    assert_eq!(found["messages"][0]["Action"], "register", "{found:#}");
    let event = &found["messages"][1];
    assert_eq!((&event["Type"], &event["Object"]), (&"browser".into(), &origin.into()), "{found:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a browser: make outside"]
async fn a_page_of_a_foreign_origin_uses_a_server_with_a_token() {
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let (found, origin) = visit(server.address(), server.tls, server.token().await, "").await;
        check(&found, &origin);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a browser: make outside"]
async fn a_page_of_a_foreign_origin_uses_an_endpoint_through_a_front() {
    let drp = Drp::start().await;
    let front = Hydrant::start_tls(&drp.settings()).await;
    let mut http = Http::connect(front.address(), true).await;
    let login = basic(LOGIN);
    let reply = http.request("GET", "/api/v3/users/rocketskates/token", &[("authorization", &login)], "").await;
    let token = reply.json()["Token"].as_str().unwrap().to_owned();
    front.until(&format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address), 1).await;
    let (found, origin) = visit(front.address(), true, &token, MACHINE).await;
    check(&found, &origin);
    assert_eq!(found["machine"]["status"], 200, "the endpoint's own answers too: {found:#}");
}
