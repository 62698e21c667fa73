//! Answers to requests whose body is not read. A client that sends everything before it reads gets them whole: closing
//! the connection in the middle would reset it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Hydrant, LOGIN, basic, patiently};

const PIECES: usize = 16;
const PIECE: usize = 64 << 10;

/// What a client gets that sends its whole body before it reads. A server goes on taking it for two seconds: if the
/// machine has held the client up for so long it is tried again.
pub(crate) async fn answer(server: &Hydrant, head: &str) -> String {
    for _ in 0..10 {
        let begun = Instant::now();
        match try_answer(server, head).await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() >= Duration::from_secs(1), "{head:?}: {error}"),
        }
    }
    panic!("the machine is too busy to send a body");
}

async fn try_answer(server: &Hydrant, head: &str) -> std::io::Result<String> {
    let mut socket = server.dial().await.0;
    socket.write_all(head.as_bytes()).await?;
    for _ in 0..PIECES {
        tokio::time::sleep(Duration::from_millis(5)).await;
        patiently("a write", socket.write_all(&vec![b'x'; PIECE])).await?;
        socket.flush().await?;
    }
    let mut answer = String::new();
    patiently("the answer and the end", socket.read_to_string(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_still_sends_its_body_gets_the_answer_and_no_reset() {
    let settings = "limits = { event_bytes = \"2KiB\", body_bytes = \"8KiB\" }";
    let (length, login) = (PIECES * PIECE, basic(LOGIN));
    let plain = format!("Content-Length: {length}\r\n\r\n");
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
    let events =
        |rest: &str| format!("POST /api/v3/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{rest}");
    let authorized = format!("Authorization: {login}\r\n");
    for tls in [false, true] {
        let server = if tls { Hydrant::start_tls(settings).await } else { Hydrant::start(settings).await };
        for (head, status) in [
            (events(&format!("{authorized}{plain}")), 413),
            (events(&format!("{authorized}{chunked}")), 413),
            (events(&plain), 401),
            (format!("PUT /api/v3/nothing HTTP/1.1\r\nHost: a\r\n{authorized}{plain}"), 404),
            // What hyper answers by itself.
            (events("Content-Length: many\r\n\r\n"), 400),
        ] {
            let answer = answer(&server, &head).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "tls {tls}, {head:?}: {answer}");
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(body.starts_with('{') && body.ends_with('}'), "tls {tls}, {head:?}: {answer}");
        }
    }
}
