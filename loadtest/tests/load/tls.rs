//! `burst` over TLS, by a terminator in front of the plain server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use hydrant_loadtest::args::Cli;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::fake::{Fake, Fault};

/// A server's side of TLS for 127.0.0.1; its certificate is written to `file`.
fn acceptor(file: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap()))
}

/// Ends TLS and hands on to `target`.
async fn terminate(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr) {
    while let Ok((socket, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut near = acceptor.accept(socket).await.ok()?;
            let mut far = TcpStream::connect(target).await.ok()?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()
        });
    }
}

#[test]
fn tls_is_spoken_and_certificates_are_checked() {
    let fake = Fake::start(Fault::None);
    let file = tempfile::NamedTempFile::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    runtime.spawn(terminate(listener, acceptor(file.path()), fake.address));

    let run = |trust: &[&str]| {
        let mut line = vec!["hydrant-loadtest", "burst", "--endpoint", &url, "--no-pin", "--connections", "3"];
        line.extend(["--turns", "3", "--rounds", "1", "--k", "1,64", "--payload", "12288", "--no-floor"]);
        line.extend(trust);
        hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut Vec::new())
    };
    assert!(run(&["--insecure"]).unwrap());
    assert!(run(&["--ca", file.path().to_str().unwrap()]).unwrap());
    assert!(run(&[]).unwrap_err().to_string().contains("--insecure"));

    let stranger = tempfile::NamedTempFile::new().unwrap();
    acceptor(stranger.path());
    assert!(run(&["--ca", stranger.path().to_str().unwrap()]).is_err());
}
