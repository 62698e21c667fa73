//! A front that ends: requests that are under way are answered first.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::common::{Hydrant, patiently, socket};
use crate::endpoint::Drp;

/// Until nobody listens any more.
async fn closed(address: std::net::SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the listener to close", refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_under_way_is_answered_before_the_end() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("timeouts = {{ drain = \"30s\" }}\n{}", drp.settings())).await;
    let address = hydrant.address();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket::connect(address, true).await)).await.unwrap();
    tokio::spawn(connection);
    let (feed, frames) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let frames = futures_util::stream::unfold(frames, |mut frames| async move { Some((frames.recv().await?, frames)) });
    let request = Request::put("/sink").header("host", "front").body(StreamBody::new(Box::pin(frames))).unwrap();
    let sending = tokio::spawn(sender.send_request(request));
    feed.send(Ok(Frame::data(Bytes::from_static(b"first ")))).await.unwrap();
    let came = async {
        while drp.state.received.load(Ordering::Relaxed) < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the first part", came).await;
    let mut ending = tokio::spawn(hydrant.stop());
    closed(address).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut ending).await.is_err(), "it did not wait");
    feed.send(Ok(Frame::data(Bytes::from_static(b"last")))).await.unwrap();
    drop(feed);
    let answer = patiently("an answer", sending).await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let body = patiently("the body", answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body, r#"{"received":10}"#.as_bytes());
    patiently("the end of the server", ending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_is_not_waited_for_longer_than_the_drain() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("timeouts = {{ drain = \"500ms\" }}\n{}", drp.settings())).await;
    let mut raw = hydrant.dial().await;
    raw.send(b"GET /silent HTTP/1.1\r\nHost: front\r\n\r\n").await;
    hydrant.until("hydrant_proxy_requests_in_flight", 1).await;
    patiently("the end of the server", hydrant.stop()).await;
    patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
}
