//! The server's certificate, at start and while it runs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Server, vital};
use crate::clock;
use crate::config::{Settings, TlsMode};
use crate::tasks;
use crate::transport::tls::{self, LiveTls, TlsError};

/// The interval at which the self-signed certificate is checked for renewal.
const RENEWAL: Duration = Duration::from_hours(1);

impl Server {
    /// Reloads the certificate when its files change, and renews a self-signed one.
    pub(super) fn follow_certificate(&mut self, stop: watch::Receiver<bool>) {
        let Some(tls) = &self.tls else { return };
        let metrics = Arc::clone(self.api.broker.metrics());
        tls.report_expiry(&metrics);
        let follow = Arc::clone(tls).follow(metrics, stop.clone());
        self.tasks.push(vital("the reloading of certificates", stop.clone(), follow));
        if self.settings.tls == TlsMode::SelfSigned {
            let renew = renew(Box::clone(&self.settings), stop.clone());
            self.tasks.push(vital("the renewal of the certificate", stop, renew));
        }
    }
}

/// Loads the certificate, creating a missing self-signed one; returns `None` for plain HTTP.
pub(super) fn live(settings: &Settings) -> Result<Option<LiveTls>, TlsError> {
    let (certificate, key) = match settings.tls {
        TlsMode::Off => return Ok(None),
        TlsMode::SelfSigned => self_signed(settings)?,
        TlsMode::Files => match (settings.tls_cert.clone(), settings.tls_key.clone()) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => unreachable!("the settings were checked when they were read"),
        },
    };
    let client_ca = settings.tls_client_ca.clone();
    let files = [&certificate, &key].into_iter().chain(&client_ca).cloned().collect();
    LiveTls::new(files, move || tls::from_files(&certificate, &key, client_ca.as_deref())).map(Some)
}

/// Returns the files of the self-signed certificate, creating or renewing it if necessary.
fn self_signed(settings: &Settings) -> Result<(PathBuf, PathBuf), TlsError> {
    let addresses: Vec<IpAddr> = settings.listen.iter().map(SocketAddr::ip).collect();
    tls::self_signed(&settings.data_dir, &addresses, clock::now())
}

/// Renews the self-signed certificate when due, until told to stop. The new one is loaded like any other change.
async fn renew(settings: Box<Settings>, mut stop: watch::Receiver<bool>) {
    let settings: Arc<Settings> = settings.into();
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            _ = stop.changed() => return,
        }
        let settings = Arc::clone(&settings);
        let renewed = tasks::spawn_blocking(move || self_signed(&settings)).await;
        if let Ok(Err(error)) = renewed {
            tracing::error!(%error, "the self-signed certificate is missing and cannot be created again");
        }
    }
}
