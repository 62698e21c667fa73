//! Copies bytes between two connections that have changed their protocol, without interpreting them.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::Held;
use crate::endpoint::http::Activity;
use crate::tasks;

/// Time without data after which a tunnel is closed. Long-lived protocols send pings more often.
const IDLE: Duration = Duration::from_mins(10);

/// Size of the buffer in bytes, per direction.
const BUFFER: usize = 16 << 10;

/// Copies between both sides once both are upgraded, until both have ended. `held` is released at the end.
pub(super) fn join(client: OnUpgrade, endpoint: OnUpgrade, held: Held) {
    tasks::spawn(async move {
        match tokio::try_join!(client, endpoint) {
            Ok((client, endpoint)) => run(client, endpoint, &held).await,
            Err(error) => tracing::debug!(%error, "cannot switch a proxied connection to another protocol"),
        }
    });
}

async fn run(client: Upgraded, endpoint: Upgraded, held: &Held) {
    let counters = (held.exchange().up(), held.exchange().down());
    carry(TokioIo::new(client), TokioIo::new(endpoint), counters).await;
}

/// Copies in both directions until both have ended, one has failed, or no data has arrived for [`IDLE`].
async fn carry(
    client: impl AsyncRead + AsyncWrite,
    endpoint: impl AsyncRead + AsyncWrite,
    (up, down): (IntCounter, IntCounter),
) {
    let activity = Activity::default();
    let (from_client, to_client) = split(client);
    let (from_endpoint, to_endpoint) = split(endpoint);
    tokio::select! {
        both = async {
            tokio::try_join!(
                copy(from_client, to_endpoint, &activity, &up),
                copy(from_endpoint, to_client, &activity, &down)
            )
        } => {
            if let Err(error) = both {
                tracing::debug!(%error, "a proxied tunnel failed");
            }
        }
        () = activity.quiet(IDLE) => tracing::debug!("closing an idle proxied tunnel"),
    }
}

/// Copies one direction, including its end.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
    bytes: &IntCounter,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        activity.touch();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        bytes.inc_by(read as u64);
        activity.touch();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_without_data_is_closed_and_one_with_a_little_is_not() {
        let counter = |name| IntCounter::new(name, "bytes").unwrap();
        let ((mut client, of_client), (mut endpoint, of_endpoint)) = (duplex(64), duplex(64));
        let tunnel = tokio::spawn(carry(of_client, of_endpoint, (counter("up"), counter("down"))));
        let mut byte = [0];
        for _ in 0..5 {
            sleep(IDLE / 10 * 9).await;
            client.write_all(b"x").await.unwrap();
            endpoint.read_exact(&mut byte).await.unwrap();
        }
        let last = Instant::now();
        assert_eq!(endpoint.read(&mut byte).await.unwrap(), 0, "closed");
        assert_eq!(client.read(&mut byte).await.unwrap(), 0, "closed");
        assert!((IDLE..IDLE * 2).contains(&last.elapsed()), "{:?}", last.elapsed());
        tunnel.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_reader_takes_is_data_too() {
        let counter = |name| IntCounter::new(name, "bytes").unwrap();
        let ((mut client, of_client), (mut endpoint, of_endpoint)) = (duplex(64), duplex(64));
        let tunnel = tokio::spawn(carry(of_client, of_endpoint, (counter("up"), counter("down"))));
        client.write_all(&[b'x'; 64]).await.unwrap();
        sleep(IDLE / 10 * 9).await;
        // It is read, and waits for room.
        client.write_all(&[b'x'; 64]).await.unwrap();
        sleep(IDLE / 10 * 9).await;
        endpoint.read_exact(&mut [0; 64]).await.unwrap();
        sleep(IDLE / 10 * 9).await;
        client.write_all(b"x").await.expect("it is open");
        endpoint.read_exact(&mut [0; 65]).await.expect("it is open");
        tunnel.abort();
    }
}
