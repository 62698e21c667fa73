//! What stands in a request's head and in its query: addresses of proxies, credentials, offers of compression, and the
//! position to resume from. Nothing panics, nobody but a trusted proxy is believed, and positions read back.

#![no_main]

use std::net::SocketAddr;

use hydrant::auth::Credential;
use hydrant::broker::history::Since;
use hydrant::transport::forwarded::TrustedProxies;
use hydrant::websocket::extension::agree;
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};
use libfuzzer_sys::fuzz_target;

fn proxies(headers: &HeaderMap) {
    let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let [proxy, stranger]: [SocketAddr; 2] =
        ["10.0.0.1:80", "192.0.2.1:80"].map(|address| address.parse().expect("an address"));
    assert_eq!(trusted.read(headers, stranger), None);
    let _ = trusted.read(headers, proxy);
}

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    let names = [HeaderName::from_static("x-forwarded-for"), FORWARDED, SEC_WEBSOCKET_EXTENSIONS];
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        if let Ok(text) = value.to_str() {
            let _ = Credential::from_authorization(text);
            let _ = Credential::from_query(text);
            if let Ok(Since::Position(position)) = text.parse() {
                assert_eq!(position.to_string().parse(), Ok(Since::Position(position)));
            }
        }
        headers.append(names[at % names.len()].clone(), value);
    }
    proxies(&headers);
    let answer = agree(&headers);
    assert!(answer.is_none_or(|answer| answer.starts_with("permessage-deflate;")), "{answer:?}");
});
