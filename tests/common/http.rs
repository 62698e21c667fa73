//! Requests by hyper's client: one connection each, or several on one.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::{PATIENCE, patiently, socket};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The events of a post must have been taken.
    pub fn taken(&self) {
        assert_eq!(self.status, StatusCode::NO_CONTENT, "{}", self.body);
    }

    /// It must be an error with a DRP Error in it; its message.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        let error = self.json();
        let names: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(names, ["Code", "Key", "Messages", "Model", "Type"], "{error}");
        assert_eq!(error["Code"], status, "{error}");
        error["Messages"][0].as_str().unwrap().to_owned()
    }
}

/// A connection that is kept.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Http {
    pub async fn connect(address: SocketAddr, tls: bool) -> Self {
        Self::over(socket::connect(address, tls).await, address).await
    }

    /// On a socket that is connected already.
    pub async fn over(socket: socket::Socket, address: SocketAddr) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.try_request(method, path, headers, body).await.expect("an answer")
    }

    /// Nothing if the server goes away.
    pub async fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Reply> {
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        super::canary::guard_query(path);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("authorization") {
                super::canary::guard_header(value);
            }
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        patiently("the connection", self.sender.ready()).await.ok()?;
        let answer = patiently("an answer", self.sender.send_request(request)).await.ok()?;
        let (parts, body) = answer.into_parts();
        let body = patiently("a body", body.collect()).await.ok()?.to_bytes();
        let reply =
            Reply { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() };
        super::canary::check("an answer's head", &format!("{:?}", reply.headers));
        // A token may show where it was asked for.
        if !path.split('?').next().unwrap().ends_with("/token") {
            super::canary::check("an answer", &reply.body);
        }
        super::document::check(self.address, method, path, &reply);
        Some(reply)
    }
}

/// One request on a connection of its own.
pub async fn request(
    address: SocketAddr,
    tls: bool,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    Http::connect(address, tls).await.request(method, path, headers, body.to_owned()).await
}

/// The value of a metric at a probe.
pub async fn metric(probe: SocketAddr, name: &str) -> u64 {
    let text = request(probe, false, "GET", "/metrics", &[], "").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Waits until a metric at a probe has this value.
pub async fn metric_reaches(probe: SocketAddr, name: &str, value: u64) {
    metric_satisfies(probe, name, |found| found == value).await;
}

/// Waits until a metric at a probe satisfies.
pub async fn metric_satisfies(probe: SocketAddr, name: &str, good: impl Fn(u64) -> bool) {
    let mut last = 0;
    let poll = async {
        while !{
            last = metric(probe, name).await;
            good(last)
        } {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "{name} stays at {last}");
}
