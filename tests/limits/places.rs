//! Places of those who have not shown who they are: silent sockets lose theirs to whoever speaks.

use crate::common::raw::Raw;
use crate::common::ws::Show;
use crate::common::{Hydrant, LOGIN, basic};

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
                if let Some(socket) = crate::common::socket::try_over(stream, tls).await {
                    let mut raw = Raw(socket);
                    let request =
                        format!("GET /api/v3/info HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", basic(LOGIN));
                    raw.send(request.as_bytes()).await;
                    if raw.head().await.starts_with("HTTP/1.1 200 ") {
                        break;
                    }
                }
                assert!(tries < 50);
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        let token = format!("Bearer {}", server.token().await);
        server.try_connect(&Show::Header(&token), &[]).await.unwrap();
        drop(silent);
    }
}
