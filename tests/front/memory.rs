//! Bodies stream through: what is under way takes memory, what has gone through does not. Measured on the program
//! itself, in a process of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::common::program::Program;
use crate::common::{patiently, socket};
use crate::endpoint::Drp;

const MIB: usize = 1 << 20;
const CHUNK: usize = 64 << 10;
static PART: [u8; CHUNK] = [b'x'; CHUNK];
const BODY: usize = 100 * MIB;
const ALLOWED: u64 = 20 << 20;

/// Sends so many bytes and counts those that come back.
async fn transfer(api: SocketAddr, method: &str, path: &str, up: usize) -> (u16, usize) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket::connect(api, true).await)).await.unwrap();
    tokio::spawn(connection);
    let frames = futures_util::stream::iter(
        (0..up / CHUNK).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&PART)))),
    );
    let request = Request::builder().method(method).uri(path).header("host", "front");
    let answer =
        patiently("an answer", sender.send_request(request.body(StreamBody::new(frames)).unwrap())).await.unwrap();
    let (status, mut body, mut down) = (answer.status().as_u16(), answer.into_body(), 0);
    while let Some(frame) = patiently("a part", body.frame()).await {
        down += frame.unwrap().into_data().unwrap().len();
    }
    (status, down)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_take_no_memory() {
    let drp = Drp::start().await;
    let program = Program::start("self-signed", "format = 'json'", &drp.settings());
    transfer(program.api, "GET", &format!("/blob/{MIB}"), 0).await;
    transfer(program.api, "PUT", "/sink", MIB).await;
    let before = program.memory("VmRSS");
    assert_eq!(transfer(program.api, "GET", &format!("/blob/{BODY}"), 0).await, (200, BODY));
    assert_eq!(transfer(program.api, "PUT", "/sink", BODY).await.0, 200);
    let received = drp.state.received.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(received, (BODY + MIB) as u64);
    let peak = program.memory("VmHWM");
    assert!(peak < before + ALLOWED, "from {before} to {peak} bytes");
}
