//! A change that is not in force shows where operators look, and goes when it is.

use serde_json::Value;

use crate::common::ws::Show;
use crate::common::{Hydrant, http};

async fn not_in_force(server: &Hydrant) -> Value {
    let probe = server.server.probe_address().unwrap();
    let answer = http::request(probe, false, "GET", "/readyz", &[], "").await;
    assert_eq!(answer.status.as_u16(), 200, "it takes connections all the same");
    answer.json()["NotInForce"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_is_told_until_it_is_in_force() {
    const USERS: &str = "hydrant_change_not_in_force{file=\"users\"}";
    let server = Hydrant::with_people("", |_| Ok(())).await;
    let path = server.data_dir().join("auth.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    assert_eq!((server.metric(USERS).await, not_in_force(&server).await), (0, Value::Null));
    std::fs::write(&path, format!("{good}\n[users.half")).unwrap();
    server.until(USERS, 1).await;
    let told = not_in_force(&server).await;
    assert_eq!((told.as_array().unwrap().len(), &told[0]["File"]), (1, &"users".into()), "{told}");
    assert!(told[0]["Reason"].as_str().unwrap().contains("auth.toml:") && told[0]["Since"].is_string(), "{told}");
    assert!(
        server.try_connect(&Show::Query("token=rocketskates:r0cketsk8ts"), &[]).await.is_ok(),
        "its previous contents stay in force"
    );
    std::fs::write(&path, good).unwrap();
    server.until(USERS, 0).await;
    assert_eq!(not_in_force(&server).await, Value::Null);
    assert_eq!(server.metric("hydrant_passwords_hashed_total").await, 1);
}
