//! The console: a web page embedded in the binary, at `/hydrant/` and, if no endpoint has a page to show, at `/`.
//!
//! The files are in `src/console/`; there is no build step. They are the same for everybody and contain nothing about
//! this server, so they need no credentials. The page asks for credentials and sends them with its requests below
//! `/api/v3`.
//!
//! Contract: the page can load and query nothing but this server (`Content-Security-Policy`), has no inline script or
//! style, and cannot be framed by another page.

use bytes::Bytes;
use http_body_util::Either;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

use crate::transport::listener::Answer;
use crate::transport::slices::Slices;

/// The path of the page.
const HOME: &str = "/hydrant/";

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file's name, media type and content.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_bytes!(concat!("../console/", $name)).as_slice())
    };
}

const FILES: [(&str, &str, &[u8]); 21] = [
    file!("index.html", HTML),
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("api.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("complete.js", SCRIPT),
    file!("connections.js", SCRIPT),
    file!("detail.js", SCRIPT),
    file!("diff.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("explain.js", SCRIPT),
    file!("health.js", SCRIPT),
    file!("me.js", SCRIPT),
    file!("now.js", SCRIPT),
    file!("pane.js", SCRIPT),
    file!("registrations.js", SCRIPT),
    file!("route.js", SCRIPT),
    file!("status.js", SCRIPT),
    file!("stream.js", SCRIPT),
    file!("tail.js", SCRIPT),
];

/// Returns the answer to a request for the console, if it is one. `at_root` says whether `/` redirects there too.
pub(super) fn find(method: &Method, path: &str, at_root: bool) -> Option<Answer> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    if path == "/hydrant" || (path == "/" && at_root) {
        return Some(to_home());
    }
    let name = path.strip_prefix(HOME)?;
    let name = if name.is_empty() { "index.html" } else { name };
    let (_, kind, body) = FILES.iter().find(|(other, ..)| *other == name)?;
    Some(page(kind, body))
}

fn page(kind: &'static str, body: &'static [u8]) -> Answer {
    let mut answer = Response::new(Either::Left(Bytes::from_static(body).into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Not cached, so that a page never mixes the files of two versions.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn to_home() -> Answer {
    let mut answer = Response::new(Either::Left(Slices::default()));
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(HOME));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_console_is_served_and_keeps_its_budget() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        let (mut names, mut script) = (Vec::new(), 0);
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            if let Some(module) = name.strip_suffix(".js") {
                script += text.len();
                assert!(text.lines().count() < 300 && text.starts_with("// "), "{module}");
                for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage"] {
                    assert!(!text.contains(banned), "{name}: {banned}");
                }
            }
            assert!(!text.contains("http://") || text.contains("http://www.w3.org/"), "{name}: a foreign host");
            names.push(name);
        }
        names.sort();
        let mut served: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        served.sort_unstable();
        assert_eq!(names, served);
        let style = FILES.iter().find(|(name, ..)| *name == "style.css").unwrap().2.len();
        assert!(script <= 80 << 10 && style <= 20 << 10, "{script} bytes of script, {style} of style");
    }

    /// By this text the page tells a token that is no longer valid from a claim that is missing.
    #[test]
    fn the_page_knows_the_text_that_ends_a_session() {
        let script = FILES.iter().find(|(name, ..)| *name == "api.js").unwrap().2;
        let text = crate::auth::AuthError::Denied.to_string();
        assert!(script.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }

    #[test]
    fn the_page_is_at_its_own_path_and_perhaps_at_the_root() {
        let find = |path, at_root| find(&Method::GET, path, at_root).map(|answer| answer.status().as_u16());
        assert_eq!([find("/hydrant/", false), find("/hydrant/app.js", false)], [Some(200); 2]);
        assert_eq!([find("/hydrant", false), find("/", true)], [Some(307); 2]);
        assert_eq!([find("/", false), find("/hydrant/x", true), find("/x", true)], [None; 3]);
        assert!(super::find(&Method::POST, "/hydrant/", true).is_none());
    }
}
