//! `hydrant health`, beside a server, and beside what is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Instant;

use super::ports::Held;
use super::support::{Done, PATIENCE, run, start};

fn health(flags: &[&str], address: SocketAddr) -> Done {
    let address = address.to_string();
    run(&[&["health"], flags, &[address.as_str()]].concat(), "", &[])
}

/// An address that answers one request with this, and what says whether it was one.
fn answering(answer: &'static str) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1024];
        let length = stream.read(&mut asked).unwrap();
        assert!(asked[..length].starts_with(b"GET /"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    (address, asked)
}

#[test]
fn a_server_that_runs_is_healthy_and_ready() {
    let (dir, port) = (tempfile::tempdir().unwrap(), Held::any());
    let (data, probe, listen) = (dir.path().join("data"), port.address, port.address.to_string());
    let server =
        ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", &listen, "--data-dir", data.to_str().unwrap()];
    let server = start(&server, &[]);
    let (mut done, begun) = (health(&[], probe), Instant::now());
    while done.err.contains("refused") && begun.elapsed() < PATIENCE {
        done = health(&[], probe);
    }
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "ok\n", ""));
    let ready = health(&["--ready"], probe);
    assert!(ready.code == Some(0) && ready.out.contains("\"Ready\":true"), "{} {}", ready.out, ready.err);
    let by_variable = run(&["health"], "", &[("HYDRANT_METRICS_LISTEN", &listen)]);
    assert_eq!(by_variable.code, Some(0));
    server.signal("TERM");
    assert_eq!(server.finish().code, Some(0));
}

#[test]
fn what_is_no_healthy_server_is_told_with_1() {
    let nobody = Held::any();
    let done = health(&[], nobody.address);
    assert!(done.code == Some(1) && done.err.contains("refused"), "{}", done.err);
    let (draining, asked) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"Ready\":false}\n");
    let done = health(&["--ready"], draining);
    asked.join().unwrap();
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("answered 503: {\"Ready\":false}"), "{}", done.err);
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 \u{e9}\r\n\r\n"] {
        let (other, asked) = answering(answer);
        let done = health(&[], other);
        asked.join().unwrap();
        assert!(done.code == Some(1) && done.err.contains("did not answer with HTTP"), "{answer}: {}", done.err);
    }
    let (hostile, asked) = answering("HTTP/1.1 500 Broken\r\n\r\n\u{1b}]0;x\u{7}y\nz");
    let done = health(&[], hostile);
    asked.join().unwrap();
    assert!(done.err.contains("answered 500: \u{fffd}]0;x\u{fffd}y\nhydrant: z"), "{:?}", done.err);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let done = health(&[], silent.local_addr().unwrap());
    assert!(done.code == Some(1) && done.err.contains("did not answer within 5 s"), "{}", done.err);
    for (args, variable) in [(&["health", "nonsense"][..], "x"), (&["health"], "")] {
        let wrong = run(args, "", &[("HYDRANT_METRICS_LISTEN", variable)]);
        let advice = "is not an address with a port, such as 127.0.0.1:8093 (the argument, or HYDRANT_METRICS_LISTEN)";
        assert!(wrong.code == Some(1) && wrong.err.contains(advice), "{}", wrong.err);
    }
    let off = run(&["health", "--ready"], "", &[("HYDRANT_METRICS_LISTEN", "off")]);
    assert!(off.code == Some(1) && off.err.contains("metrics_listen is off"), "{}", off.err);
}
