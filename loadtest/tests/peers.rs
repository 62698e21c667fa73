//! The peers that are installed do the same work, plain, compressed and over TLS, and every delivery of theirs is checked.
//!
//! Where a peer is not installed there is nothing to test, and the test says so.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use clap::Parser as _;
use hydrant_loadtest::args::{Cli, Command, CompareArgs, Peer};
use hydrant_loadtest::burst::{Group, Lane, Open, Shape, Transport};
use hydrant_loadtest::cpu::Cores;
use hydrant_loadtest::server::System;

fn peer(system: System) -> Option<Peer> {
    let cli = Cli::try_parse_from(["hydrant-loadtest", "compare", "--serve", "hydrant"]).unwrap();
    let Some(Command::Compare(CompareArgs { peers, .. })) = cli.command else { unreachable!("compare was asked for") };
    let found = peers.all(Cores::ANY).into_iter().find(|peer| peer.system == system);
    let found = found.filter(|peer| peer.program.is_some());
    if found.is_none() {
        eprintln!("{} is not installed: not tested", system.name());
    }
    found
}

fn run(peer: &Peer, transport: Transport, selective: bool) {
    let cli = Cli::try_parse_from(["hydrant-loadtest", "floor", "--rounds", "2", "--turns", "3"]).unwrap();
    let Some(Command::Floor(args)) = cli.command else { unreachable!("floor was asked for") };
    let mut group = Group::new(&args.work, "peers", Cores::ANY);
    group.floor = false;
    let deflate = transport == Transport::Deflate;
    let shape = |payload, k| Shape { payload, k, selective, deflate, single_post: false };
    let lane = Lane {
        name: peer.system.name().to_owned(),
        system: peer.system,
        transport,
        clients: 5,
        spec: None,
        open: Open::Peer(peer.launch(transport == Transport::Tls).unwrap()),
        beside: None,
    };
    let (_, cases) = group.run(&[shape(1_024, 1), shape(12_288, 40)], &[lane]).unwrap();
    for case in cases {
        assert!(case.counts.is_clean(), "{}: {}", case.name(), case.counts);
        let receivers = if selective { 1 } else { 5 };
        // Two rounds, each with a turn to warm up and one to three more, as time allows.
        let turns = case.counts.received / (case.k * receivers);
        assert!((4..=8).contains(&turns) && case.counts.received == turns * case.k * receivers, "{}", case.name());
        let bytes = case.wire_bytes.unwrap();
        assert_eq!(bytes < 6_000.0, deflate || case.payload == 1_024, "{}: {bytes} bytes", case.name());
    }
}

#[test]
fn nats_server_is_measured() {
    let Some(peer) = peer(System::Nats) else { return };
    for transport in [Transport::Plain, Transport::Tls, Transport::Deflate] {
        run(&peer, transport, false);
    }
    run(&peer, Transport::Plain, true);
}

#[test]
fn mosquitto_is_measured() {
    let Some(peer) = peer(System::Mosquitto) else { return };
    run(&peer, Transport::Plain, false);
    run(&peer, Transport::Tls, true);
}
