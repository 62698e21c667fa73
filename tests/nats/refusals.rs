//! A NATS server that refuses what it is asked for, as a real one does for want of memory or of a leader, or that is
//! about to end when somebody comes.

use std::sync::Arc;

use hydrant::cluster::NatsOptions;
use hydrant::metrics::Source;
use hydrant::server::Server;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::brokers::{Node, options, until};
use crate::common::{Hydrant, patiently, settings};
use crate::process::NatsServer;
use crate::stream::stream;

type Subjects = Arc<Mutex<Vec<String>>>;

/// What a server answers to every request.
type Answer = Arc<Mutex<String>>;

/// A server that says this of itself and gives this answer to every request. Returns its address, the subjects of the
/// requests so far, and the answer, which can be changed.
async fn server(info: String, answer: &str) -> (String, Subjects, Answer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("nats://{}", listener.local_addr().unwrap());
    let (asked, answer) = (Subjects::default(), Arc::new(Mutex::new(answer.to_owned())));
    let (subjects, answers) = (Arc::clone(&asked), Arc::clone(&answer));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes ends its task.
            tokio::spawn(serve(client, info.clone(), Arc::clone(&answers), Arc::clone(&subjects)));
        }
    });
    (address, asked, answer)
}

async fn serve(client: TcpStream, info: String, answer: Answer, asked: Subjects) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    write.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    let mut line = String::new();
    while read.read_line(&mut line).await? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["PUB" | "HPUB", .., length] = words[..] {
            let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
            read.read_exact(&mut payload).await?;
        }
        match words[..] {
            ["PING"] => write.write_all(b"PONG\r\n").await?,
            ["PUB", subject, reply, _] => {
                asked.lock().push(subject.to_owned());
                let answer = answer.lock().clone();
                write.write_all(format!("MSG {reply} 1 {}\r\n{answer}\r\n", answer.len()).as_bytes()).await?;
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

const INFO: &str = r#"{"max_payload":1048576,"headers":true}"#;

/// The settings of a node with a stream at this server.
fn with_stream(address: &str) -> String {
    format!("shards = 1\n[nats]\nurls = [\"{address}\"]\nstream = \"EVENTS\"\n")
}

fn refusal(status: u16, code: u16, description: &str) -> String {
    format!(r#"{{"error":{{"code":{status},"err_code":{code},"description":"{description}"}}}}"#)
}

/// Whatever else is wrong, making a stream is no remedy, and there may be one already.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_made_only_where_there_is_none() {
    let refused = [(400, 10_003, "bad request"), (500, 10_074, "replicas > 1 not supported in non-clustered mode")];
    for (status, code, description) in refused {
        let (address, asked, _) = server(INFO.to_owned(), &refusal(status, code, description)).await;
        let dir = tempfile::tempdir().unwrap();
        let started = Server::start(settings(dir.path(), &with_stream(&address), "off")).await;
        let Err(error) = started else { panic!("it starts") };
        assert!(error.to_string().contains(&format!("refused the stream EVENTS: {description}")), "{error}");
        assert!(error.is_configuration(), "{error}");
        assert_eq!(*asked.lock(), ["$JS.API.STREAM.INFO.EVENTS"]);
    }
}

/// The state of a NATS server says nothing about the settings, and live events need no stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_while_its_stream_is_offline_and_reads_it_later() {
    let away = [
        (500, 10_118, "stream is offline"),
        (503, 10_023, "insufficient resources"),
        (500, 10_047, "insufficient storage resources available"),
        (400, 10_005, "no suitable peers for placement"),
    ];
    let (address, _, answer) = server(INFO.to_owned(), "").await;
    for (status, code, description) in away {
        *answer.lock() = refusal(status, code, description);
        let node = Hydrant::start(&with_stream(&address)).await;
        let stream = stream(&node).await;
        let error = stream["Error"].as_str().unwrap_or_default();
        assert!(stream["Usable"] == false && error.contains(description), "{stream}");
        if code == 10_118 {
            let config =
                r#"{"name":"EVENTS","subjects":["hydrant.EVENTS.>"],"retention":"limits","allow_direct":true}"#;
            let state = r#"{"first_seq":0,"last_seq":0,"first_ts":"","last_ts":""}"#;
            *answer.lock() = format!(r#"{{"config":{config},"created":"2026-01-01T00:00:00Z","state":{state}}}"#);
            node.until("hydrant_nats_stream_usable", 1).await;
        }
    }
}

/// It may have just been started, and not have found the servers that have `JetStream`.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_streams_is_no_mistake_in_the_settings() {
    let nats = NatsServer::start();
    let dir = tempfile::tempdir().unwrap();
    let Err(error) = Server::start(settings(dir.path(), &with_stream(&nats.url()), "off")).await else {
        panic!("it starts")
    };
    assert!(error.to_string().contains("JetStream is not enabled") && !error.is_configuration(), "{error}");
}

/// It says so once, before anybody could have listened for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_end_already_is_left_for_another() {
    let nats = NatsServer::start();
    let other = Node::start(&options(&nats, 1), 100).await;
    let named = nats.url().trim_start_matches("nats://").to_owned();
    let info = format!(r#"{{"max_payload":1048576,"headers":true,"ldm":true,"connect_urls":["{named}"]}}"#);
    let (address, ..) = server(info, "").await;
    let node = Node::start(&NatsOptions { urls: vec![address], ..options(&nats, 2) }, 100).await;
    patiently("the move", until(|| node.broker.metrics().nats.moves.get() == 1)).await;
    node.until_peers(1).await;
    node.publish(Source::Post, [7]);
    assert_eq!(other.take(1).await, ["7"]);
}
