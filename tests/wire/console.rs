//! The console's files, as a browser asks for them.

use crate::common::Hydrant;
use crate::common::http::request;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_needs_no_credentials_and_loads_nothing_foreign() {
    let server = Hydrant::start("").await;
    let get = async |method: &str, path: &str| request(server.address(), false, method, path, &[], "").await;
    let root = get("GET", "/").await;
    assert_eq!((root.status.as_u16(), root.header("location")), (307, "/hydrant/"));
    let page = get("GET", "/hydrant/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(
        policy
            .starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'")
    );
    assert!(
        !page.body.contains("<style") && !page.body.contains("style=") && !page.body.contains(" on"),
        "{}",
        page.body
    );
    for line in page.body.lines().filter(|line| line.contains("src=") || line.contains("href=")) {
        let (_, rest) = line.split_once("src=\"").or_else(|| line.split_once("href=\"")).unwrap();
        let name = rest.split('"').next().unwrap();
        let file = get("GET", &format!("/hydrant/{name}")).await;
        assert_eq!((file.status.as_u16(), file.header("x-content-type-options")), (200, "nosniff"), "{name}");
    }
    assert_eq!(
        (get("HEAD", "/hydrant/app.js").await.status.as_u16(), get("GET", "/hydrant/nothing").await.status.as_u16()),
        (200, 404)
    );
    assert_eq!(get("POST", "/hydrant/").await.status.as_u16(), 404);
}
