//! Places of those who have not shown who they are: silent sockets lose theirs to whoever speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::common::raw::Raw;
use crate::common::ws::Show;
use crate::common::{Hydrant, LOGIN, basic, patiently};

/// Whoever says nothing would be waited for much longer than a test waits.
const SETTINGS: &str = "limits = { pending_handshakes = 32 }\ntimeouts = { header = \"10m\", handshake = \"10m\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_shut_nobody_out() {
    for tls in [false, true] {
        let server = if tls { Hydrant::start_tls(SETTINGS).await } else { Hydrant::start(SETTINGS).await };
        let mut silent = Vec::new();
        for _ in 0..64 {
            silent.push(tokio::net::TcpStream::connect(server.address()).await.unwrap());
        }
        // All 32 places are held; whoever comes after that and is honest gets in, at the latest with its second try.
        for _ in 0..8 {
            let mut tries = 0;
            loop {
                tries += 1;
                let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
                if let Some(socket) = crate::common::socket::try_over(stream, tls).await
                    && Raw(socket).is_served(&basic(LOGIN)).await
                {
                    break;
                }
                assert!(tries < 50);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let token = format!("Bearer {}", server.token().await);
        server.try_connect(&Show::Header(&token), &[]).await.unwrap();
        drop(silent);
    }
}

/// They are never silent for long enough to lose their places for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_keeps_asking_shuts_out_nobody_from_elsewhere() {
    let server = Hydrant::start("limits = { pending_handshakes = 8 }").await;
    let (mut asking, answered) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..12 {
        let (mut raw, answered) = (server.dial().await, Arc::clone(&answered));
        asking.spawn(async move {
            // Until it is cut.
            while raw.0.write_all(b"GET /api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() {
                let mut answer = [0; 4096];
                match raw.0.read(&mut answer).await {
                    Ok(1..) => {
                        answered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    _ => break,
                }
            }
        });
    }
    let begun = async {
        while answered.load(Ordering::Relaxed) < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the crowd", begun).await;
    let (mut tries, mut successes) = (0, 0);
    while successes < 5 {
        // Another network of the loopback device.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.1.1:0".parse().unwrap()).unwrap();
        let mut raw = Raw(Box::new(socket.connect(server.address()).await.unwrap()));
        tries += 1;
        successes += usize::from(raw.is_served(&basic(LOGIN)).await);
        assert!(tries < 50, "answered {successes} times");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asking.abort_all();
}
