//! A copy of the data directory is all that a new server needs to be the old one.

use std::path::Path;

use hydrant::auth::edit_store;
use rustls::pki_types::CertificateDer;

use crate::common::people::{HASH, PASSWORD};
use crate::common::program::Program;
use crate::common::{LOGIN, basic, canary, http, socket};

const LOG: &str = "level = 'info'";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What clients recognise a server by: its id, and its certificate.
async fn identity(program: &Program) -> (String, CertificateDer<'static>) {
    let headers = [("authorization", &*basic(LOGIN))];
    let info = http::request(program.api, true, "GET", "/api/v3/info", &headers, "").await.json();
    let stream = tokio::net::TcpStream::connect(program.api).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(socket::config(rustls::ALL_VERSIONS));
    let tls = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    (info["id"].as_str().unwrap().to_owned(), certificate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_copy_of_the_data_directory_is_the_same() {
    canary::validator(PASSWORD);
    let first = Program::start("self-signed", LOG, "");
    edit_store(&first.data_dir(), |store| store.add_user("alice", HASH.clone(), &[])).unwrap();
    let (token, before) = (first.token().await, identity(&first).await);
    let dir = tempfile::tempdir().unwrap();
    copy(&first.data_dir(), &dir.path().join("data"));
    first.end();
    let second = Program::start_in(dir, &[], "self-signed", LOG, "");
    assert_eq!(identity(&second).await, before);
    for credentials in [format!("Bearer {token}"), basic(&format!("alice:{PASSWORD}"))] {
        let headers = [("authorization", credentials.as_str())];
        let me = http::request(second.api, true, "GET", "/api/v3/hydrant/me", &headers, "").await;
        assert_eq!(me.status.as_u16(), 200, "{}", me.body);
    }
}
