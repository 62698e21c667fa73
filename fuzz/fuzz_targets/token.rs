//! Tokens: whatever is not a token that this server wrote is refused, a changed one too, and nothing panics.

#![no_main]

use std::sync::LazyLock;

use hydrant::auth::{AuthOptions, Authority, Secret, TokenRequest};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// An authority of its own in a directory that stays as long as the process, and a token of the first user.
static WORLD: LazyLock<(Authority, String)> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("hydrant-fuzz-{}", std::process::id()));
    let (authority, _) = Authority::open(&dir, AuthOptions::default()).expect("the directory can be made");
    let user = "user:rocketskates".parse().expect("a principal");
    let issued = authority.issue_local(&user, &TokenRequest::default(), Timestamp::UNIX_EPOCH).expect("a token");
    let token = issued.token.expose().to_owned();
    (authority, token)
});

fuzz_target!(|bytes: &[u8]| {
    let (authority, good) = &*WORLD;
    let inspect = |text: &str| authority.inspect(&Secret::new(text), Timestamp::UNIX_EPOCH);
    assert!(inspect(good).is_ok());
    let text = String::from_utf8_lossy(bytes);
    assert!(text == *good || inspect(&text).is_err(), "{text}");
    // The good one with a piece of it replaced.
    if let Some((at, piece)) = bytes.split_first() {
        let piece = String::from_utf8_lossy(piece);
        let at = usize::from(*at).min(good.len());
        let changed = format!("{}{piece}{}", &good[..at], good.get(at + piece.len()..).unwrap_or_default());
        assert!(changed == *good || inspect(&changed).is_err(), "{changed}");
    }
});
