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
use crate::common::{patiently, settings};
use crate::process::NatsServer;

type Subjects = Arc<Mutex<Vec<String>>>;

/// A server that says this of itself and gives this answer to every request. Returns its address, and the subjects of
/// the requests so far.
async fn server(info: String, answer: &'static str) -> (String, Subjects) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("nats://{}", listener.local_addr().unwrap());
    let asked = Subjects::default();
    let subjects = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes ends its task.
            tokio::spawn(serve(client, info.clone(), answer, Arc::clone(&subjects)));
        }
    });
    (address, asked)
}

async fn serve(client: TcpStream, info: String, answer: &str, asked: Subjects) -> std::io::Result<()> {
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
                write.write_all(format!("MSG {reply} 1 {}\r\n{answer}\r\n", answer.len()).as_bytes()).await?;
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

/// Whatever else is wrong, making a stream is no remedy, and there may be one already.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_made_only_where_there_is_none() {
    let answer = r#"{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}"#;
    let (address, asked) = server(r#"{"max_payload":1048576,"headers":true}"#.to_owned(), answer).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = format!("shards = 1\n[nats]\nurls = [\"{address}\"]\nstream = \"EVENTS\"\n");
    let Err(error) = Server::start(settings(dir.path(), &toml, "off")).await else { panic!("it starts") };
    assert!(error.to_string().contains("refused the stream EVENTS: insufficient resources"), "{error}");
    assert_eq!(*asked.lock(), ["$JS.API.STREAM.INFO.EVENTS"]);
}

/// It says so once, before anybody could have listened for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_end_already_is_left_for_another() {
    let nats = NatsServer::start();
    let other = Node::start(&options(&nats, 1), 100).await;
    let named = nats.url().trim_start_matches("nats://").to_owned();
    let info = format!(r#"{{"max_payload":1048576,"headers":true,"ldm":true,"connect_urls":["{named}"]}}"#);
    let (address, _) = server(info, "").await;
    let node = Node::start(&NatsOptions { urls: vec![address], ..options(&nats, 2) }, 100).await;
    patiently("the move", until(|| node.broker.metrics().nats.moves.get() == 1)).await;
    node.until_peers(1).await;
    node.publish(Source::Post, [7]);
    assert_eq!(other.take(1).await, ["7"]);
}
