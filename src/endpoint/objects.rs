//! Reads which object types the endpoint has, so that a registration for one of them is not reported as a mistake.
//!
//! Contract: read once, when the endpoint first answers. An endpoint without such a list is not queried again. Whatever
//! the endpoint answers, at most [`MOST`] names of at most [`LONGEST`] bytes are stored.

use std::time::Duration;

use hyper::StatusCode;

use super::http::Upstream;

const PATH: &str = "/api/v3/objects";

/// Delay between two attempts.
const PAUSE: Duration = Duration::from_secs(30);

/// Maximum number of stored names.
const MOST: usize = 512;

/// Maximum length of a name in bytes.
const LONGEST: usize = 64;

/// Maximum length of the answer in bytes.
const ANSWER: usize = 64 << 10;

/// Returns the object types, retrying until the endpoint answers; `None` if it has no such list.
pub async fn types(upstream: &Upstream) -> Option<Vec<String>> {
    loop {
        if let Ok(credential) = upstream.own_credential()
            && let Ok(answer) = upstream.get(PATH, &credential, ANSWER).await
        {
            if answer.is_missing() {
                return None;
            }
            // Other content with status 200, such as a web page, is not a list.
            if let Some(types) = read(&answer.body).filter(|_| answer.status == StatusCode::OK) {
                return Some(types);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn read(body: &[u8]) -> Option<Vec<String>> {
    let names: Vec<String> = serde_json::from_slice(body).ok()?;
    Some(names.into_iter().filter(|name| name.len() <= LONGEST).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_and_bounded() {
        assert_eq!(read(br#"["machines","dns_zones"]"#), Some(vec!["machines".to_owned(), "dns_zones".to_owned()]));
        assert_eq!(read(br#"{"Code":404}"#), None);
        let many = serde_json::to_vec(
            &vec!["a".repeat(LONGEST + 1); 3].into_iter().chain(vec!["b".to_owned(); 600]).collect::<Vec<_>>(),
        );
        assert_eq!(read(&many.unwrap()).unwrap().len(), MOST);
    }
}
