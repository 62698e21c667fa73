//! `scripts/run` and `scripts/install`, as `make run` and `make install` call them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use super::support::{run, start};

/// Runs a script with an `echo` in place of cargo, so that nothing is built.
fn script(name: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    Command::new(script).args(args).env("CARGO", "echo").envs(env.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_port_in_use_is_told_before_anything_is_built() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // The metrics are on the next one.
    for given in [port, port - 1] {
        let done = script("run", &[], &[("PORT", &given.to_string())]);
        assert_eq!((done.status.code(), text(&done.stdout)), (Some(1), ""));
        assert!(text(&done.stderr).contains("is in use; choose another one: make run PORT="), "{}", text(&done.stderr));
    }
}

#[test]
fn a_run_says_at_once_how_long_it_takes() {
    // Of two ports side by side, free a moment ago, some pair is free now.
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let done = script("run", &["--nats", "nats://127.0.0.1:1"], &[("PORT", &port)]);
        if done.status.success() {
            let said = text(&done.stdout);
            let (first, second) = said.split_once('\n').unwrap();
            assert!(first.contains("usually") && first.contains(&format!("https://127.0.0.1:{port}")), "{said}");
            assert!(second.contains("rustc-workspace-wrapper='scripts/quick-rustc'"), "{said}");
            assert!(second.contains(&format!("--listen 127.0.0.1:{port}")), "{said}");
            assert!(second.trim_end().ends_with("--nats nats://127.0.0.1:1"), "{said}");
            return;
        }
    }
    panic!("no two free ports");
}

/// The names of LLVM's passes may change from one compiler to the next.
#[test]
fn the_quick_compiler_of_a_run_compiles() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("sum.rs"), dir.path().join("sum"));
    std::fs::write(&source, "fn main() { println!(\"{}\", (1..=10).map(|x| x * x).sum::<u64>()); }").unwrap();
    let done = script("quick-rustc", &["rustc", source.to_str().unwrap(), "-o", program.to_str().unwrap()], &[]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&Command::new(program).output().unwrap().stdout), "385\n");
}

#[test]
fn an_installation_has_a_page_for_each_command_and_what_a_service_needs() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let done = script("install", &[env!("CARGO_BIN_EXE_hydrant")], &[("DESTDIR", root), ("PREFIX", "/opt/hydrant")]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let help = run(&["--help"], "", &[]).out;
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    // What a command does may go on in a second line, which begins further to the right.
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    let commands: Vec<&str> = commands.filter(|name| *name != "help").collect();
    assert!(commands.contains(&"serve") && commands.len() > 8, "{commands:?}");
    let file = |name: &str| dir.path().join("opt/hydrant").join(name);
    for command in commands {
        assert!(file(&format!("share/man/man1/hydrant-{command}.1")).is_file(), "{command}");
    }
    for name in [
        "bin/hydrant",
        "share/man/man1/hydrant.1",
        "share/bash-completion/completions/hydrant",
        "lib/sysusers.d/hydrant.conf",
        "lib/tmpfiles.d/hydrant.conf",
        "share/doc/hydrant/hydrant.toml.default",
    ] {
        assert!(file(name).is_file(), "{name}");
    }
    let unit = std::fs::read_to_string(file("lib/systemd/system/hydrant.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/hydrant/bin/hydrant serve "), "{unit}");
}

/// The settings of a package are read, and differ from the defaults only in where data is.
#[test]
fn the_settings_of_a_package_are_right() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/hydrant.toml");
    let done = run(&["config", "check", file], "", &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), "ok\n"), "{}", done.err);
}

/// Who has just built it with `make run` is not to build it anew in release, which takes many minutes.
#[test]
fn the_hints_of_a_simulated_fleet_name_the_program_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let flags = ["--listen", "127.0.0.1:0", "--metrics-listen", "off", "--data-dir", data.to_str().unwrap()];
    let mut server = start(&[&["serve", "--demo"], flags.as_slice()].concat(), &[]);
    let hints: String = (0..4).map(|_| server.line()).collect();
    let watch = format!("  {} watch -E https://127.0.0.1:", env!("CARGO_BIN_EXE_hydrant"));
    assert!(hints.lines().any(|line| line.starts_with(&watch)), "{hints}");
    server.signal("TERM");
    server.finish();
}
