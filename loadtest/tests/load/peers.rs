//! The peers do the same work, plain, compressed and over TLS, and every delivery of theirs is checked.
//!
//! `make test` puts nats-server there. What needs mosquitto is for `make peers`, which installs it. A peer that is
//! missing is a failure.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use hydrant_loadtest::args::{Cli, Command, CompareArgs, Peer, StallSize};
use hydrant_loadtest::burst::{Candidate, Group, Open, Shape, Transport};
use hydrant_loadtest::cpu::Cores;
use hydrant_loadtest::server::System;
use hydrant_loadtest::session::Session;
use hydrant_loadtest::stall;

fn peer(system: System) -> Peer {
    let mut line = vec!["hydrant-loadtest", "compare", "--serve", "hydrant"];
    // Where `make test` puts it.
    let nats = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin/nats-server");
    if Path::new(nats).is_file() {
        line.extend(["--nats", nats]);
    }
    let cli = Cli::try_parse_from(line).unwrap();
    let Some(Command::Compare(CompareArgs { peers, .. })) = cli.command else { unreachable!("compare was asked for") };
    let peer = peers.all(Cores::ANY).unwrap().into_iter().find(|peer| peer.system == system).unwrap();
    assert!(peer.program.is_some(), "{} is not installed", system.name());
    peer
}

/// Two rounds of at most three turns.
fn group() -> Group {
    let cli = Cli::try_parse_from(["hydrant-loadtest", "floor", "--rounds", "2", "--turns", "3"]).unwrap();
    let Some(Command::Floor(args)) = cli.command else { unreachable!("floor was asked for") };
    let mut group = Group::new(&args.work, "peers", Cores::ANY);
    group.floor = false;
    group
}

/// Five clients.
fn candidate(peer: &Peer, transport: Transport) -> Candidate {
    Candidate {
        name: peer.system.name().to_owned(),
        system: peer.system,
        transport,
        clients: 5,
        spec: None,
        open: Open::Peer(peer.launch(transport == Transport::Tls).unwrap()),
        beside: None,
    }
}

fn run(peer: &Peer, transport: Transport, selective: bool) {
    let deflate = transport == Transport::Deflate;
    let shape = |payload, k| Shape { payload, k, selective, deflate, single_post: false };
    let (_, cases) = group().run(&[shape(1_024, 1), shape(12_288, 40)], &[candidate(peer, transport)]).unwrap();
    for case in cases {
        assert_eq!(case.left_out, None, "{}", case.name());
        assert!(case.counts.is_clean(), "{}: {}", case.name(), case.counts);
        let receivers = if selective { 1 } else { 5 };
        // Two rounds of one to three turns, as time allows, and one to warm up before each, or before the first only if
        // it is slow.
        let turns = case.counts.received / (case.k * receivers);
        assert!((3..=8).contains(&turns) && case.counts.received == turns * case.k * receivers, "{}", case.name());
        let bytes = case.wire_bytes.unwrap();
        assert_eq!(bytes < 6_000.0, deflate || case.payload == 1_024, "{}: {bytes} bytes", case.name());
    }
}

#[test]
fn nats_server_is_measured() {
    let peer = peer(System::Nats);
    for transport in [Transport::Plain, Transport::Tls, Transport::Deflate] {
        run(&peer, transport, false);
    }
    run(&peer, Transport::Plain, true);
}

#[test]
#[ignore = "needs mosquitto: make peers"]
fn mosquitto_is_measured() {
    let peer = peer(System::Mosquitto);
    run(&peer, Transport::Plain, false);
    run(&peer, Transport::Tls, true);
}

/// Clients that come later do not throw out earlier ones, nor the publisher.
fn keeps_all_clients_of_a_stall(system: System) {
    let size = StallSize { healthy: 3, stalled: 2, megabytes: 1, payload: 4_096, k: 64 };
    let session = Session::peer(&peer(system).launch(false).unwrap()).unwrap();
    let rounds = vec![stall::once(&size, "bench", &session, None).unwrap()];
    let told = serde_json::to_value(&rounds).unwrap();
    assert_eq!(told[0]["counts"]["closed"], 0, "{}: {told}", system.name());
    assert_eq!(told[0]["fates"]["complete"], 2, "{}: {told}", system.name());
}

#[test]
fn nats_server_keeps_all_clients_of_a_stall() {
    keeps_all_clients_of_a_stall(System::Nats);
}

#[test]
#[ignore = "needs mosquitto: make peers"]
fn mosquitto_keeps_all_clients_of_a_stall() {
    keeps_all_clients_of_a_stall(System::Mosquitto);
}

/// Work that a peer fails at is left out with the reason, and its next work is not disturbed by it.
#[test]
fn what_a_peer_cannot_do_is_left_out_and_told() {
    let peer = peer(System::Nats);
    let shape = |payload| Shape { payload, k: 4, selective: false, deflate: false, single_post: false };
    // Its messages are at most a megabyte, unless it is told otherwise.
    let (_, cases) = group().run(&[shape(2 << 20), shape(1_024)], &[candidate(&peer, Transport::Plain)]).unwrap();
    let why = cases[0].left_out.as_deref().unwrap();
    assert!(why.contains("publish"), "{why}");
    assert!(cases[0].rounds.is_empty() && cases[1].left_out.is_none());
    assert!(cases[1].rounds.len() == 2 && cases[1].counts.is_clean(), "{}", cases[1].counts);
}

/// Nothing that a slow peer has not delivered yet is called lost.
fn is_left_out_if_it_is_too_slow(system: System) {
    let mut group = group();
    group.peer_timeout = Duration::ZERO;
    let shape = Shape { payload: 12_288, k: 1_000, selective: false, deflate: false, single_post: false };
    let (_, cases) = group.run(&[shape], &[candidate(&peer(system), Transport::Plain)]).unwrap();
    let why = cases[0].left_out.as_deref().unwrap();
    assert!(why.contains(" of 5000 deliveries of a turn arrived within"), "{why}");
    assert!(cases[0].rounds.is_empty() && cases[0].counts.is_clean(), "{}", cases[0].counts);
}

#[test]
fn a_nats_server_that_is_too_slow_is_left_out_and_told() {
    is_left_out_if_it_is_too_slow(System::Nats);
}

#[test]
#[ignore = "needs mosquitto: make peers"]
fn a_mosquitto_that_is_too_slow_is_left_out_and_told() {
    is_left_out_if_it_is_too_slow(System::Mosquitto);
}
