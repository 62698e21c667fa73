//! The program's small commands, its exit codes, and where it writes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{run, start};
use hydrant::config::{default_file, markdown};

#[test]
fn help_and_version_are_no_failures() {
    let help = run(&["--help"], "", &[]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for command in ["serve", "watch", "record", "post", "top", "config", "completions", "man"] {
        assert!(help.out.contains(&format!("\n  {command}")), "{command}");
    }
    assert_eq!(run(&["--version"], "", &[]).out, concat!("hydrant ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn help_that_nobody_can_read_is_a_failure() {
    for args in [&["--help"][..], &["--version"], &["watch", "--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hydrant"));
        let done = command.args(args).env_clear().stdout(full).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(1) && said.starts_with("hydrant: cannot write the output: "), "{said}");
    }
}

#[test]
fn bad_usage_ends_with_64_and_writes_nothing_to_standard_output() {
    let cases: [&[&str]; 10] = [
        &[],
        &["nonsense"],
        &["watch"],
        &["watch", "--count", "0", "a.b.c"],
        &["watch", "-E", "ftp://x", "a.b.c"],
        &["watch", "--since", "", "a.b.c"],
        &["record", "events.ndjson", "--since", "5x"],
        &["post", "-E", "http://x", "--cacert", "ca.pem"],
        &["post", "--cacert", "/nowhere/ca.pem"],
        &["man", "nonsense"],
    ];
    for args in cases {
        let done = run(args, "", &[]);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{args:?}");
        assert!(!done.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_variable_that_cannot_be_read_does_not_mean_the_default() {
    for name in ["RS_ENDPOINT", "RS_KEY", "RS_TOKEN"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(["watch", "--no-retry", "a.b.c"]).env_clear().env(name, OsStr::from_bytes(b"caf\xe9"));
        let done = command.output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), said), (Some(64), format!("hydrant: {name} is not valid UTF-8\n")));
    }
}

#[test]
fn config_prints_the_reference_and_the_defaults() {
    assert_eq!(run(&["config", "doc"], "", &[]).out, markdown());
    assert_eq!(run(&["config", "default"], "", &[]).out, default_file());
}

#[test]
fn config_check_tells_all_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.toml");
    std::fs::write(&path, default_file()).unwrap();
    let file = path.to_str().unwrap();
    let good = run(&["config", "check", file], "", &[]);
    assert_eq!((good.code, good.out.as_str()), (Some(0), "ok\n"), "{}", good.err);

    std::fs::write(&path, "shards = true\nport = 1\n").unwrap();
    for bad in [
        run(&["config", "check", file], "", &[("HYDRANT_DEMO", "many")]),
        run(&["config", "check"], "", &[("HYDRANT_DEMO", "many"), ("HYDRANT_CONFIG", file)]),
        run(&["serve", "--config", file], "", &[("HYDRANT_DEMO", "many")]),
    ] {
        assert_eq!((bad.code, bad.out.as_str()), (Some(64), ""));
        let places = ["h.toml:1:10: shards", "h.toml:2:1: unknown key `port`", "HYDRANT_DEMO: demo: `many`"];
        assert_eq!(bad.err.lines().count(), places.len(), "{}", bad.err);
        for (line, place) in bad.err.lines().zip(places) {
            assert!(line.starts_with("hydrant: ") && line.contains(place), "{line}");
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_is_not_passed_over() {
    let done = run(&["serve", "--config", "/nowhere/h.toml"], "", &[]);
    assert_eq!(done.code, Some(64));
    assert!(done.err.contains("/nowhere/h.toml: cannot be read"), "{}", done.err);
}

#[test]
fn completions_and_manual_pages_come_from_the_command_tree() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], "", &[]);
        assert!(script.code == Some(0) && script.out.contains("metrics-listen"), "{shell}");
    }
    assert!(run(&["man"], "", &[]).out.contains(".TH HYDRANT 1"));
    for (command, option) in [("watch", "fields"), ("record", "append"), ("post", "speed"), ("top", "interval")] {
        let page = run(&["man", command], "", &[]).out;
        let title = format!(".TH HYDRANT-{} 1", command.to_uppercase());
        assert!(page.contains(&title) && page.contains("RS_KEY") && page.contains(option), "{page}");
        assert!(page.contains(concat!("\"hydrant ", env!("CARGO_PKG_VERSION"), "\"")), "{page}");
    }
}

#[test]
fn an_address_that_is_taken_leaves_nothing_behind_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let data = dir.path().join("data");
    for flag in ["--listen", "--metrics-listen"] {
        let other = if flag == "--listen" { "--metrics-listen=off" } else { "--listen=localhost:0" };
        let line = ["serve", &format!("{flag}={address}"), other, "--data-dir", data.to_str().unwrap()];
        let done = run(&line, "", &[]);
        assert_eq!(done.code, Some(1), "{}", done.err);
        let expected = format!("cannot listen on {address}: Address already in use");
        let hint = format!("`ss -ltnp 'sport = :{}'` shows which process uses the port", address.port());
        assert!(done.err.contains(&expected) && done.err.contains(&hint), "{}", done.err);
        assert!(!data.exists(), "{flag}");
    }
}

#[test]
fn the_well_known_password_is_not_served_to_other_machines() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let line = ["serve", "--listen", "0.0.0.0:0", "--metrics-listen", "off", "--data-dir", data];
    for _ in 0..2 {
        let done = run(&line, "", &[]);
        assert_eq!(done.code, Some(64), "{}", done.err);
        assert!(done.err.contains("0.0.0.0:0 can be reached from other machines"), "{}", done.err);
    }
    let changed =
        run(&["users", "passwd", "rocketskates", "--password-stdin", "--data-dir", data], "another long password", &[]);
    assert_eq!(changed.code, Some(0), "{}", changed.err);
    let running = start(&line, &[]);
    assert!(running.err_lines().any(|line| line.contains("listening")), "it serves now");
    running.signal("TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_note_is_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.toml");
    std::fs::write(&path, "[upstream]\nurls = [\"https://drp\"]\ntoken = \"x\"\ntls = \"insecure\"\n").unwrap();
    let done = run(&["config", "check", path.to_str().unwrap()], "", &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), "ok\n"));
    assert_eq!(done.err, "hydrant: note: upstream.urls: has no port, so port 443 is used: https://drp:443\n");
}

#[test]
fn the_log_is_coloured_where_it_is_wanted() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // It warns of the port before it ends.
    let env = [
        ("HYDRANT_UPSTREAM_URLS", "https://drp"),
        ("HYDRANT_UPSTREAM_TOKEN", "x"),
        ("HYDRANT_UPSTREAM_TLS", "insecure"),
    ];
    let coloured = |more: &[(&str, &str)]| {
        let done = run(&["serve", "--listen", &address], "", &[&env[..], more].concat());
        assert!(done.err.contains("443 is used"), "{}", done.err);
        done.err.contains('\u{1b}')
    };
    assert!(!coloured(&[]), "not a terminal");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}
