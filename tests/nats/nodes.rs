//! Nodes in the test's own process, and what their clients hear.

use crate::common::{Hydrant, Seen};
use crate::process::NatsServer;

/// `count` nodes that hear each other.
pub(crate) async fn nodes(nats: &NatsServer, count: u64) -> Vec<Hydrant> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node(nats, "").await);
    }
    for node in &nodes {
        node.until("hydrant_nats_peers", count - 1).await;
    }
    nodes
}

pub(crate) async fn node(nats: &NatsServer, more: &str) -> Hydrant {
    let toml = format!("shards = 1\n{more}\n[nats]\nurls = [\"{}\"]\n", nats.url());
    let node = Hydrant::start(&toml).await;
    node.until("hydrant_nats_connected", 1).await;
    node
}

/// An event whose key tells where it stands: the node that it is posted to and its number there.
pub(crate) fn numbered(node: usize, number: u64) -> String {
    format!(r#"{{"Type":"machines","Action":"update","Key":"{node}/{number}","Object":{{"N":{number}}}}}"#)
}

/// What a client heard, by the node that it was posted to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The numbers of each node's events, in the order in which they came.
    pub(crate) numbers: Vec<Vec<u64>>,
    /// Objects of gap notices.
    pub(crate) gaps: Vec<serde_json::Value>,
}

impl Heard {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { numbers: vec![Vec::new(); nodes], gaps: Vec::new() }
    }

    pub(crate) fn hear(&mut self, seen: &Seen) {
        if seen.r#type == "hydrant" {
            assert_eq!(seen.name(), "hydrant.gap.nats");
            self.gaps.push(serde_json::from_str(seen.object.get()).unwrap());
            return;
        }
        let (node, number) = seen.key.split_once('/').unwrap();
        self.numbers[node.parse::<usize>().unwrap()].push(number.parse().unwrap());
    }

    /// Each node's events in its order, each once.
    pub(crate) fn assert_ordered(&self) {
        for numbers in &self.numbers {
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice");
        }
    }

    /// Events that gaps with this reason speak of; nothing if there is no such gap.
    pub(crate) fn told(&self, reason: &str) -> Option<u64> {
        let gaps = self.gaps.iter().filter(|gap| gap["Reason"] == reason);
        gaps.map(|gap| gap["Events"].as_u64().unwrap_or(0)).reduce(|a, b| a + b)
    }
}
