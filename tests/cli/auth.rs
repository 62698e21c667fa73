//! `hydrant users|roles|tenants|token`, as people run them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::PATIENCE;

const UUID: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

struct Shell {
    dir: TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(line.split(' ').map(|arg| if arg == "''" { "" } else { arg }));
        command.arg("--data-dir").arg(self.dir.path());
        command.env_clear().env("HOME", self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn typed(&self, line: &str, input: &str) -> Output {
        let mut child = self.command(line).spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What a command that must do well prints.
    fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    fn ok_with(&self, line: &str, input: &str) -> String {
        let output = self.typed(line, input);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The message of a command that must fail with `code`; it prints nothing else.
    fn fails(&self, line: &str, input: &str, code: i32) -> String {
        let output = self.typed(line, input);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{line}: {message}");
        message
    }
}

/// The lines of a table without the blanks that line it up.
fn rows(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_user_from_the_cradle_to_the_grave() {
    let shell = Shell::new();
    shell.ok_with("users add root --password-stdin --roles superuser", "one\n");
    shell.ok("roles set reader --claim machines/get,list/* tasks/get/* --claim params/get/net/mtu");
    shell.ok_with("users add alice --password-stdin --roles reader", "CANARY-1\n");
    shell.ok("roles set bounded --claim tasks/get/* --limit connections=2,registrations=0 --limit registrations=9 \
        --overflow drop-oldest");
    shell.ok(&format!("tenants set lab --users alice --members machines={UUID} profiles="));
    let users = rows(&shell.ok("users list"));
    assert_eq!(users, ["NAME ROLES TENANT PASSWORD", "alice reader lab yes", "root superuser - yes"]);
    // Without claims a role keeps what it grants, and a new one grants nothing.
    shell.ok("roles set bounded --limit connections=2,registrations=9 --overflow drop-oldest --query-overflow \
        disconnect,conflate");
    shell.ok("roles set guest --limit connections=1 --query-overflow");
    let roles = rows(&shell.ok("roles list"));
    let expected = [
        "NAME CLAIM LIMITS OVERFLOW QUERY",
        "superuser */*/* - - -",
        "bounded tasks/get/* connections=2,registrations=9 drop-oldest disconnect,conflate",
        "guest - connections=1 - none",
        "reader machines/get,list/* - - -",
        "reader tasks/get/* - - -",
        "reader params/get/net/mtu - - -",
    ];
    assert_eq!(roles, expected);
    let tenants = rows(&shell.ok("tenants list"));
    assert_eq!(tenants, ["NAME USERS MEMBERS".to_owned(), format!("lab alice machines={UUID} profiles=")]);

    let token = shell.ok("token issue alice --ttl 30m");
    assert!(shell.ok(&format!("token check {}", token.trim())).contains("\"user:alice\""));
    assert!(shell.ok_with("token check -", &token).contains("\"user:alice\""));
    shell.ok_with("users passwd alice --password-stdin", "CANARY-2\n");
    let refused = shell.fails("token check -", &token, 1);
    assert_eq!(refused, "hydrant: the token was revoked: password changed\n");

    assert!(shell.fails("roles remove reader", "", 1).contains("still assigned to alice"));
    shell.ok("users roles alice ''");
    shell.ok("roles remove reader");
    shell.ok("users remove alice");
    assert_eq!(rows(&shell.ok("tenants list"))[1], format!("lab - machines={UUID} profiles="));
    shell.ok("tenants remove lab");
    assert_eq!(rows(&shell.ok("users list")), ["NAME ROLES TENANT PASSWORD", "root superuser - yes"]);
    let store = std::fs::read_to_string(shell.dir.path().join("auth.toml")).unwrap();
    assert!(!store.contains("CANARY"));
}

#[test]
fn a_role_keeps_what_is_not_named() {
    let shell = Shell::new();
    let set = |what: &str| {
        shell.ok(&format!("roles set r {what}"));
        rows(&shell.ok("roles list"))[2].clone()
    };
    set("--claim a/get/* --limit connections=2 registrations=9 --overflow conflate --query-overflow disconnect");
    assert_eq!(set("--overflow drop-oldest"), "r a/get/* connections=2,registrations=9 drop-oldest disconnect");
    assert_eq!(set("--limit connections=1"), "r a/get/* connections=1,registrations=9 drop-oldest disconnect");
    assert_eq!(set("--query-overflow"), "r a/get/* connections=1,registrations=9 drop-oldest none");
    assert_eq!(set("--claim b/get/*"), "r b/get/* connections=1,registrations=9 drop-oldest none");
    // What is removed is the configuration's again.
    assert_eq!(set("--limit connections=0"), "r b/get/* registrations=9 drop-oldest none");
    assert_eq!(set("--overflow default"), "r b/get/* registrations=9 - none");
    assert_eq!(set("--query-overflow default --limit registrations=0"), "r b/get/* - - -");
    set("--query-overflow drop-oldest");
    for mixed in ["default,conflate", "conflate,default"] {
        let told = shell.fails(&format!("roles set r --query-overflow {mixed}"), "", 64);
        assert!(told.contains("default stands alone"), "{told}");
    }
    assert_eq!(rows(&shell.ok("roles list"))[2], "r b/get/* - - drop-oldest");
}

#[test]
fn tokens_are_narrowed_and_keys_rotated() {
    let shell = Shell::new();
    shell.ok("roles set reader --claim machines/get,list/*");
    shell.ok("roles set stranger --claim profiles/*/*");
    shell.ok_with("users add alice --password-stdin --roles reader", "one\n");
    let issue = "token issue alice --roles reader,stranger --scope machines --action get --specific a,b";
    let output = shell.typed(issue, "");
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("no role that contains \"stranger\""), "{notes}");
    let token = String::from_utf8(output.stdout).unwrap();
    assert!(!notes.contains(token.trim()), "the token goes to the output only");
    let info: serde_json::Value = serde_json::from_str(&shell.ok_with("token check -", &token)).unwrap();
    assert_eq!((&info["Roles"][0], &info["Only"][0]), (&"reader".into(), &"machines/get/a,b".into()));
    assert!(shell.ok(&format!("token issue runner:{UUID}")).len() > 100);
    let rotated = String::from_utf8(shell.typed("token rotate", "").stderr).unwrap();
    let file = shell.dir.path().join("token-keys.toml");
    assert!(rotated.contains(&format!("changed {}", file.display())), "{rotated}");
    assert!(rotated.contains("note: no server has used"), "{rotated}");
    for wrong in ["--ttl 10000d", "--ttl x", "--scope ''"] {
        shell.fails(&format!("token issue alice {wrong}"), "", 64);
    }
    shell.ok_with("token check -", &token);
    shell.ok("token rotate");
    assert!(shell.fails("token check -", &token, 1).contains("unknown or retired key"));
}

#[test]
fn bad_input_is_named() {
    let shell = Shell::new();
    shell.ok("roles set reader --claim machines/get/*");
    for (line, input, code, message) in [
        ("users add a:b --password-stdin", "x\n", 64, "\"a:b\" is not a name"),
        ("users add alice --password-stdin", "", 64, "a password must have 1 to 1,024 bytes"),
        ("users add alice --password-stdin --roles nope", "x\n", 1, "there is no role \"nope\""),
        ("users add rocketskates --password-stdin", "x\n", 1, "the user \"rocketskates\" already exists"),
        ("users add alice", "x\n", 64, "--password-stdin"),
        ("users remove nobody", "", 1, "there is no user \"nobody\""),
        ("roles set superuser --claim a/b/c", "", 1, "built in"),
        ("roles set other", "", 64, "--claim"),
        ("roles set other --claim machines/get", "", 64, "\"machines/get\" is not a claim"),
        ("roles set other --claim a/b/c --limit sockets=1", "", 64, "\"sockets=1\" is not a limit"),
        ("tenants set lab --members machines", "", 64, "\"machines\" is not TYPE=KEY,KEY"),
        ("tenants set lab --users nobody", "", 1, "there is no user \"nobody\""),
        ("users remove rocketskates", "", 1, "is the last user"),
        ("token issue rocketskates --roles ,", "", 64, "roles: expected a comma-separated list of names"),
        ("token issue nobody", "", 1, "there is no user \"nobody\""),
        ("token issue rocketskates --ttl soon", "", 64, "\"soon\" is not a duration"),
        ("token issue root:x", "", 64, "\"root:x\" is not a principal"),
        ("token check CANARY", "", 1, "its header cannot be parsed"),
    ] {
        let told = shell.fails(line, input, code);
        assert!(told.contains(message), "{line}: {told}");
        assert!(!told.contains("CANARY"), "{told}");
    }
    let note = String::from_utf8(shell.typed("roles set typo --claim machine/get/*", "").stderr).unwrap();
    assert!(note.contains("scope \"machine\" is not a scope of DRP"), "{note}");
}

/// As somebody types it, who does not end the input too.
#[test]
fn a_line_is_enough() {
    let shell = Shell::new();
    let typed = |line: &str, input: &str| {
        let mut child = shell.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let begun = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                ended => break ended,
            }
        };
        let _ = child.kill();
        drop(stdin);
        (ended.and_then(|status| status.code()), child.wait_with_output().unwrap())
    };
    assert_eq!(typed("users add alice --password-stdin", "a long password\n").0, Some(0));
    let token = shell.ok("token issue alice");
    let (code, output) = typed("token check -", &token);
    assert!(code == Some(0) && String::from_utf8(output.stdout).unwrap().contains("user:alice"));
}

#[test]
fn a_store_with_a_mistake_is_left_alone() {
    let shell = Shell::new();
    shell.ok("roles set reader --claim machines/get/*");
    let path = shell.dir.path().join("auth.toml");
    std::fs::write(&path, "[roles.reader]\nclaims = [\"machines\"]\n").unwrap();
    let told = shell.fails("roles set other --claim tasks/get/*", "", 1);
    assert!(told.contains("auth.toml:2:"), "{told}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "[roles.reader]\nclaims = [\"machines\"]\n");
}

#[test]
fn tokens_are_not_issued_from_an_empty_directory() {
    let shell = Shell::new();
    assert!(shell.fails("token issue alice", "", 1).contains("auth.toml"));
    let left: Vec<_> = std::fs::read_dir(shell.dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_not_there_is_not_listed() {
    let shell = Shell::new();
    for line in ["users list", "roles list", "tenants list"] {
        let told = shell.fails(line, "", 1);
        assert!(told.contains("cannot read ") && told.contains("auth.toml"), "{line}: {told}");
    }
}

#[test]
fn the_directory_is_that_of_the_server_unless_it_is_named() {
    let home = tempfile::tempdir().unwrap();
    let run = |envs: &[(&str, &Path)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(["roles", "set", "reader", "--claim", "machines/get/*"]).env_clear().env("HOME", home.path());
        assert!(command.envs(envs.iter().copied()).status().unwrap().success());
    };
    run(&[]);
    assert!(home.path().join(".local/share/hydrant/auth.toml").exists());
    run(&[("HYDRANT_DATA_DIR", &home.path().join("named"))]);
    assert!(home.path().join("named/auth.toml").exists());
}

#[test]
fn a_change_names_its_file_and_a_directory_without_a_server() {
    let shell = Shell::new();
    let told = |line: &str| String::from_utf8(shell.typed(line, "a password\n").stderr).unwrap();
    let directory = shell.dir.path().display().to_string();
    let changed = format!("hydrant: changed {directory}/auth.toml\n");
    let note = format!(
        "hydrant: note: no server has used {directory} yet; a server sees this change only if it is started with \
         `--data-dir {directory}`\n"
    );
    for line in
        ["users add alice --password-stdin", "roles set reader --claim machines/get/*", "tenants set lab --users alice"]
    {
        let told = told(line);
        assert!(told.starts_with(&changed) && told.ends_with(&note), "{line}: {told}");
    }
    std::fs::write(shell.dir.path().join("id"), "00:11").unwrap();
    for line in
        ["users roles alice reader", "users add bob --password-stdin", "tenants remove lab", "users remove alice"]
    {
        assert_eq!(told(line), changed, "{line}");
    }
    assert_eq!(told("users list"), "");
}

#[test]
fn a_directory_that_is_not_there_has_no_users_to_list() {
    for what in ["users", "roles", "tenants"] {
        let done = crate::support::run(&[what, "list", "--data-dir", "/nowhere"], "", &[]);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{what}");
        assert_eq!(done.err, "hydrant: /nowhere: No such file or directory (os error 2)\n");
    }
}
