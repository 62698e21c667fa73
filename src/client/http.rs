//! One kept-alive HTTP/1.1 connection.
//!
//! Requests are sent one after another. A server may close a kept connection at any moment. Therefore one that was idle
//! for [`IDLE`] is not used again, and a request that was certainly not sent, or a GET, is sent once more on a new
//! connection. Others are not repeated here: after a broken connection it is unknown whether the server processed the
//! request, and only the caller knows whether a second one would do harm.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::InvalidMessage;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::endpoint::Target;
use super::error::{ClientError, RefusedError, printable};

use crate::tasks;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// A connection that was idle for so long is not used again: servers close idle ones, hydrant after 5 s.
const IDLE: Duration = Duration::from_secs(3);
/// Maximum number of bytes that are read of an error's body.
const ERROR_BODY_LIMIT: usize = 64 * 1024;
/// Maximum number of bytes that are read of an answer's body.
const ANSWER_BODY_LIMIT: usize = 64 << 20;
/// Longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The header of a list that lacks something.
const INCOMPLETE: &str = "x-hydrant-incomplete";

/// A list, as the server sends it.
#[derive(Debug)]
pub struct ListAnswer {
    /// Its body.
    pub body: Bytes,
    /// What the list lacks, as the server names it.
    pub missing: Option<String>,
}

/// A connection, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection for requests.
#[derive(Debug)]
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
    /// When the last answer came, if there was one.
    answered: Option<Instant>,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Tls`], [`ClientError::Timeout`] or [`ClientError::Broken`].
    pub async fn open(target: &Target) -> Result<Self, ClientError> {
        let stream = dial(target, CONNECT_LIMIT).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broken(target, &e))?;
        // How the connection ends is reported to the request that uses it.
        tasks::spawn(connection.with_upgrades());
        Ok(Self { sender, target: target.clone(), answered: None })
    }

    /// Returns the connection in `slot` if it can still take a request; otherwise opens one and keeps it there.
    ///
    /// # Errors
    /// As [`Http::open`].
    pub async fn kept<'s>(slot: &'s mut Option<Self>, target: &Target) -> Result<&'s mut Self, ClientError> {
        let mut kept = slot.take();
        if let Some(http) = &mut kept
            && !http.is_ready().await
        {
            kept = None;
        }
        let http = match kept {
            Some(http) => http,
            None => Self::open(target).await?,
        };
        Ok(slot.insert(http))
    }

    /// Returns whether another request can be sent: a server may close a connection after any answer, and while it is
    /// idle.
    async fn is_ready(&mut self) -> bool {
        self.answered.is_none_or(|at| at.elapsed() < IDLE) && self.sender.ready().await.is_ok()
    }

    /// Posts a body and discards the body of a successful answer.
    ///
    /// # Errors
    /// Returns [`ClientError::Refused`] if the server answers with an error, and [`ClientError::Broken`] or
    /// [`ClientError::Timeout`] if it is unknown whether the server accepted the body.
    pub async fn post(&mut self, path: &str, content_type: &'static str, body: Bytes) -> Result<(), ClientError> {
        let mut request = self.request(Method::POST, path, body);
        request.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await);
        }
        // The connection can only be reused if the answer is read to its end.
        let rest = limited(&self.target, ANSWER_LIMIT, async {
            answer.into_body().collect().await.map_err(|e| broken(&self.target, &e))
        });
        rest.await?;
        self.answered = Some(Instant::now());
        Ok(())
    }

    /// Posts a body and returns the body of a successful answer.
    ///
    /// # Errors
    /// As [`Http::post`]; an answer that is too long is [`ClientError::Broken`].
    pub async fn ask(&mut self, path: &str, content_type: &'static str, body: Bytes) -> Result<Bytes, ClientError> {
        let mut request = self.request(Method::POST, path, body);
        request.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
        Ok(self.whole(request).await?.into_body())
    }

    /// Gets what is at a path.
    ///
    /// # Errors
    /// As [`Http::ask`].
    pub async fn get(&mut self, path: &str) -> Result<Bytes, ClientError> {
        Ok(self.get_list(path).await?.body)
    }

    /// Gets a list.
    ///
    /// # Errors
    /// As [`Http::ask`].
    pub async fn get_list(&mut self, path: &str) -> Result<ListAnswer, ClientError> {
        let request = self.request(Method::GET, path, Bytes::new());
        let answer = self.whole(request).await?;
        let missing = answer.headers().get(INCOMPLETE).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        Ok(ListAnswer { body: answer.into_body(), missing })
    }

    /// Reads a refusal. The connection may be used again.
    async fn refused(&mut self, answer: Response<Incoming>) -> ClientError {
        let refusal = refusal(answer).await;
        self.answered = Some(Instant::now());
        ClientError::Refused(refusal)
    }

    /// Sends a request and reads a good answer to its end.
    async fn whole(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await);
        }
        let (head, body) = answer.into_parts();
        let body = limited(&self.target, ANSWER_LIMIT, async {
            let body = Limited::new(body, ANSWER_BODY_LIMIT).collect().await;
            body.map_err(|e| broken(&self.target, &*e))
        });
        let body = body.await?.to_bytes();
        self.answered = Some(Instant::now());
        Ok(Response::from_parts(head, body))
    }

    /// Returns a request with the headers that all requests have.
    pub(super) fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let agent = concat!("hydrant/", env!("CARGO_PKG_VERSION"));
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.endpoint.authority())
            .header(USER_AGENT, agent)
            .header(AUTHORIZATION, self.target.authorization.clone())
            .body(Full::new(body))
            .expect("the paths are literals and the host was read from a URL")
    }

    /// Sends a request and waits for the head of the answer. If a kept connection turns out to be closed, the request
    /// is sent again on a new one, unless it may have been processed and was not a GET.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let again = self.answered.map(|_| request.clone());
        match (self.send_once(request).await, again) {
            (Err(error), Some(request)) if may_repeat(&error, request.method()) => {
                *self = Self::open(&self.target).await?;
                self.send_once(request).await
            }
            (result, _) => result,
        }
    }

    async fn send_once(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let target = self.target.clone();
        limited(&target, ANSWER_LIMIT, async {
            self.sender.ready().await.map_err(|_| unsent(&target))?;
            self.sender.send_request(request).await.map_err(|e| unanswered(&target, &e))
        })
        .await
    }
}

fn may_repeat(error: &ClientError, method: &Method) -> bool {
    match error {
        ClientError::Unsent { .. } => true,
        ClientError::Broken { .. } => method == Method::GET,
        _ => false,
    }
}

fn unsent(target: &Target) -> ClientError {
    ClientError::Unsent { endpoint: target.endpoint.to_string() }
}

/// Opens a new connection, including its TLS handshake, within `limit`.
///
/// # Errors
/// [`ClientError::Connect`], [`ClientError::Tls`] or [`ClientError::Timeout`].
pub async fn dial(target: &Target, limit: Duration) -> Result<Pin<Box<dyn Stream>>, ClientError> {
    limited(target, limit, connect(target)).await
}

async fn connect(target: &Target) -> Result<Pin<Box<dyn Stream>>, ClientError> {
    let endpoint = &target.endpoint;
    let refuse = |source| ClientError::Connect { endpoint: endpoint.to_string(), source };
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(refuse)?;
    // Commands and answers are small and latency matters.
    tcp.set_nodelay(true).map_err(refuse)?;
    if target.receive_buffer > 0 {
        SockRef::from(&tcp).set_recv_buffer_size(target.receive_buffer).map_err(refuse)?;
    }
    let Some(config) = &target.tls else { return Ok(Box::pin(tcp)) };
    let refuse = |source| ClientError::Tls { endpoint: endpoint.to_string(), source };
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| refuse(std::io::Error::other(e)))?;
    let handshake = TlsConnector::from(config.clone()).connect(name, tcp).await;
    let stream = handshake.map_err(|source| {
        let plain = ClientError::NotTls { endpoint: endpoint.to_string(), authority: endpoint.authority() };
        if is_not_tls(&source) { plain } else { refuse(source) }
    })?;
    Ok(Box::pin(stream))
}

/// Returns whether the peer answered the handshake with something else, such as HTTP.
fn is_not_tls(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// Returns the error for a request without an answer; a TLS server answers plain HTTP with an alert.
fn unanswered(target: &Target, error: &hyper::Error) -> ClientError {
    let endpoint = &target.endpoint;
    if error.is_canceled() {
        return unsent(target);
    }
    if !error.is_parse() {
        return broken(target, error);
    }
    let hint = if endpoint.tls { String::new() } else { format!("; did you mean https://{}?", endpoint.authority()) };
    ClientError::NotHttp { endpoint: endpoint.to_string(), reason: error.to_string(), hint }
}

/// Waits for `work` at most for `limit`.
async fn limited<T>(
    target: &Target,
    limit: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = |_| ClientError::Timeout { endpoint: target.endpoint.to_string(), after: limit };
    timeout(limit, work).await.map_err(late)?
}

/// Builds an error from the whole chain of causes: hyper's own text is only the first of them.
pub(super) fn broken(target: &Target, error: &(dyn std::error::Error + 'static)) -> ClientError {
    let mut reason = plain(error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        reason = format!("{reason}: {}", plain(cause.to_string()));
        next = cause.source();
    }
    ClientError::Broken { endpoint: target.endpoint.to_string(), reason }
}

/// Returns the text of a cause in plain words, where it is meant for programmers.
fn plain(cause: String) -> String {
    if cause.contains("TLS close_notify") { "the server has broken the connection".to_owned() } else { cause }
}

/// The body that DRP sends with a status of 400 and above.
#[derive(Deserialize)]
struct DrpError {
    #[serde(rename = "Messages", default)]
    messages: Vec<String>,
    #[serde(rename = "Model", default)]
    model: String,
}

/// Reads an answer that is no success. If its body does not arrive, the status suffices. Redirects are not followed:
/// the credentials are for this endpoint.
pub(super) async fn refusal(answer: Response<Incoming>) -> RefusedError {
    let status = answer.status().as_u16();
    if answer.status().is_redirection() {
        let to =
            answer.headers().get(LOCATION).map(|to| printable(&String::from_utf8_lossy(to.as_bytes())).into_owned());
        let messages = to.map(|to| format!("it redirects to {to}")).into_iter().collect();
        return RefusedError { status, messages, retry_after: None, model: String::new() };
    }
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(retry_after);
    let body = timeout(ANSWER_LIMIT, Limited::new(answer.into_body(), ERROR_BODY_LIMIT).collect()).await;
    let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let DrpError { messages, model } = error_of(&body);
    RefusedError { status, messages, retry_after, model }
}

/// Parses how long to wait, in seconds.
fn retry_after(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Reads a DRP Error; the beginning of any other body is its message.
fn error_of(body: &[u8]) -> DrpError {
    if let Ok(DrpError { messages, model }) = serde_json::from_slice(body) {
        return DrpError { messages: messages.iter().map(|message| printable(message).into_owned()).collect(), model };
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(200).collect();
    DrpError {
        messages: (!text.is_empty()).then(|| printable(&text).into_owned()).into_iter().collect(),
        model: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::{Credentials, Trust};

    #[test]
    fn error_bodies_become_messages() {
        let messages = |body| error_of(body).messages;
        let drp = br#"{"Model":"users","Key":"","Type":"AUTH","Messages":["a","b\u001b[2J\u202e"],"Code":403}"#;
        assert_eq!(messages(drp), ["a", "b\u{fffd}[2J\u{fffd}"]);
        assert_eq!(messages(b"<h1>Bad Gateway</h1>\n"), ["<h1>Bad Gateway</h1>"]);
        assert_eq!(messages(b""), [""; 0]);
        let DrpError { messages, model } = error_of(drp);
        let refusal = RefusedError { status: 403, messages, retry_after: None, model };
        assert_eq!(refusal.model, "users");
        assert_eq!(refusal.to_string(), "the server answered 403 (Forbidden): a; b\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn a_server_may_not_ask_for_any_wait() {
        let seconds = ["2", " 7 ", "18446744073709551615", "soon"].map(|text| retry_after(text).map(|it| it.as_secs()));
        assert_eq!(seconds, [Some(2), Some(7), Some(3600), None]);
    }

    /// A server that answers so many requests on each connection and closes it when the next has come. Returns where,
    /// and the first lines of the requests.
    async fn server(answers: &'static [usize]) -> (Target, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&requests);
        tasks::spawn(async move {
            for answers in answers {
                let (socket, _) = listener.accept().await.unwrap();
                serve(socket, *answers, &into).await;
            }
        });
        let login = Credentials::Token("t".to_owned());
        (Target::new(endpoint, &login, &Trust::Any).unwrap(), requests)
    }

    async fn serve(mut socket: TcpStream, answers: usize, into: &Mutex<Vec<String>>) {
        for n in 0..=answers {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = socket.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            into.lock().push(head.lines().next().unwrap().to_owned());
            if n < answers {
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_get_on_a_kept_connection_that_was_closed_is_sent_again() {
        let (target, requests) = server(&[1, 1]).await;
        let mut http = Http::open(&target).await.unwrap();
        assert_eq!(http.get("/1").await.unwrap(), "ok");
        assert_eq!(http.get("/2").await.unwrap(), "ok");
        assert_eq!(*requests.lock(), ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /2 HTTP/1.1"]);
    }

    #[tokio::test]
    async fn a_post_that_the_server_may_have_processed_is_not_sent_again() {
        let (target, requests) = server(&[1, 1]).await;
        let mut http = Http::open(&target).await.unwrap();
        http.get("/1").await.unwrap();
        let error = http.post("/2", "text/plain", Bytes::new()).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        assert_eq!(*requests.lock(), ["GET /1 HTTP/1.1", "POST /2 HTTP/1.1"]);
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_not_used_again() {
        let (target, requests) = server(&[2, 1]).await;
        let mut slot = None;
        for path in ["/1", "/2"] {
            Http::kept(&mut slot, &target).await.unwrap().get(path).await.unwrap();
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
        // On the old connection it would be the one that is not answered any more.
        Http::kept(&mut slot, &target).await.unwrap().post("/3", "text/plain", Bytes::new()).await.unwrap();
        assert_eq!(requests.lock().len(), 3);
    }
}
