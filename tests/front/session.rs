//! What drpcli asks, in its order, with hydrant in between.

use crate::common::Hydrant;
use crate::endpoint::Drp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_is_the_endpoints_with_ours_added() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&drp.settings()).await;
    let reply = hydrant.request("GET", "/api/v3/info?token=canary", &[("accept-encoding", "gzip")], "").await;
    let start = r#"{"License":{"Data":"12345678901234567890"},"arch":"amd64","features":["api-v3","secure-params","#;
    assert!(reply.body.starts_with(start), "{}", reply.body);
    let features = reply.json()["features"].clone();
    assert!(features.as_array().unwrap().contains(&"websocket-changed-filter".into()), "{features}");
    assert_eq!(reply.json()["stats"][0]["name"], "machines.count");
    assert_eq!(reply.json()["stats"][1]["name"], "connections.count");
    let got = drp.last("/api/v3/info");
    assert_eq!(got.header("accept-encoding"), "");
}
