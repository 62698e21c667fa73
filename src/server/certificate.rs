//! The server's certificate while it runs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Server;
use crate::clock;
use crate::config::{Settings, TlsMode};
use crate::transport::tls::{self, TlsError};

/// How often it is seen whether the self-signed certificate is to be renewed.
const RENEWAL: Duration = Duration::from_hours(1);

impl Server {
    /// Takes another certificate when its files have changed, and renews the self-signed one.
    pub(super) fn follow_certificate(&mut self, stop: watch::Receiver<bool>) {
        let Some(tls) = &self.tls else { return };
        let metrics = Arc::clone(self.api.broker.metrics());
        self.tasks.push(tokio::spawn(Arc::clone(tls).follow(metrics, stop.clone())));
        if self.settings.tls == TlsMode::SelfSigned {
            self.tasks.push(tokio::spawn(renew(Box::clone(&self.settings), stop)));
        }
    }
}

/// The files of the self-signed certificate, as they should be now.
pub(super) fn self_signed(settings: &Settings) -> Result<(PathBuf, PathBuf), TlsError> {
    let addresses: Vec<IpAddr> = settings.listen.iter().map(SocketAddr::ip).collect();
    tls::self_signed(&settings.data_dir, &addresses, clock::now())
}

/// Renews the self-signed certificate when it is time, until told to stop. It is taken as any other change is.
async fn renew(settings: Box<Settings>, mut stop: watch::Receiver<bool>) {
    let settings: Arc<Settings> = settings.into();
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            _ = stop.changed() => return,
        }
        let settings = Arc::clone(&settings);
        let renewed = tokio::task::spawn_blocking(move || self_signed(&settings)).await;
        if let Ok(Err(error)) = renewed {
            tracing::error!(%error, "the self-signed certificate is gone and cannot be made again");
        }
    }
}
