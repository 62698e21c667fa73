//! Which types of objects the endpoint has: so that a registration for one of them is not taken for a mistake.
//!
//! Contract: asked for once, when the endpoint first answers. An endpoint that has no such list is not asked again;
//! whatever it says, [`MOST`] names of [`LONGEST`] bytes are kept.

use std::time::Duration;

use hyper::StatusCode;

use super::http::Upstream;

const PATH: &str = "/api/v3/objects";

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(30);

/// Names that are kept.
const MOST: usize = 512;

/// Bytes of a name.
const LONGEST: usize = 64;

/// Bytes of the answer.
const ANSWER: usize = 64 << 10;

/// The types; nothing if the endpoint does not tell them.
pub async fn types(upstream: &Upstream) -> Option<Vec<String>> {
    loop {
        if let Ok(credential) = upstream.own_credential()
            && let Ok(answer) = upstream.get(PATH, &credential, ANSWER).await
        {
            if answer.status == StatusCode::NOT_FOUND {
                return None;
            }
            // A page that says 200 is no list.
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
