//! From the settings to the listeners' certificate.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Settings, TlsMode};
use crate::transport::tls::{self, LiveTls, TlsError};

/// The certificate, which is made if it is to be and is missing; nothing for plain HTTP.
pub(super) fn live(settings: &Settings) -> Result<Option<LiveTls>, TlsError> {
    let (certificate, key) = match settings.tls {
        TlsMode::Off => return Ok(None),
        TlsMode::SelfSigned => {
            let addresses: Vec<IpAddr> = settings.listen.iter().map(SocketAddr::ip).collect();
            tls::self_signed(&settings.data_dir, &addresses)?
        }
        TlsMode::Files => match (settings.tls_cert.clone(), settings.tls_key.clone()) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => unreachable!("the settings were checked when they were read"),
        },
    };
    let client_ca = settings.tls_client_ca.clone();
    let files = [&certificate, &key].into_iter().chain(&client_ca).cloned().collect();
    LiveTls::new(files, move || tls::from_files(&certificate, &key, client_ca.as_deref())).map(Some)
}
