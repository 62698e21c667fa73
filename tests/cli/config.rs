//! Settings from flags, environment and file: who wins, and what is told when something is wrong.

use std::path::PathBuf;
use std::time::Duration;

use hydrant::config::{ConfigErrors, FlagValue, Settings, Sources, TlsMode, default_file, markdown, rows};

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hydrant.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Settings, ConfigErrors> {
    let (_dir, path) = file(text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flag =
        |(key, flag, text): &(&'static str, &'static str, &str)| FlagValue { key, flag, text: (*text).to_owned() };
    Settings::load(&Sources { file: Some(path), env, flags: flags.iter().map(flag).collect() })
}

/// The messages, with the file's folder cut off.
fn errors(text: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Vec<String> {
    let all = load(text, env, flags).unwrap_err().to_string();
    let cut = |line: &str| line.find("hydrant.toml").map_or(line, |at| &line[at..]).to_owned();
    all.lines().map(cut).collect()
}

/// Debian's HAProxy ends a websocket on which nothing moves after 50 s; a ping that is lost may not cost it.
#[test]
fn by_default_a_quiet_websocket_outlives_the_limits_of_usual_balancers() {
    let settings = load("", &[], &[]).unwrap();
    assert!(2 * settings.timeouts.ping <= Duration::from_secs(50), "{:?}", settings.timeouts.ping);
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let text = "shards = 2\ndemo_rate = 7\n[timeouts]\nping = \"1s\"\n[outbox]\nevents = 3";
    let env = [("HYDRANT_SHARDS", "3"), ("HYDRANT_TIMEOUTS_PING", "2s"), ("PATH", "x")];
    let settings = load(text, &env, &[("shards", "--shards", "4")]).unwrap();
    assert_eq!(settings.shards, 4);
    assert_eq!(settings.timeouts.ping, Duration::from_secs(2));
    assert_eq!((settings.demo_rate, settings.outbox.events), (7, 3));
    assert_eq!(settings.timeouts.idle, Duration::from_mins(1));
}

#[test]
fn all_errors_are_told_at_once_with_their_places() {
    let text = "\
lisen = [\"127.0.0.1:1\"]
shards = -1
tls = \"files\"
colour = 1
[timeouts]
  ping = 54
idle = \"60s\"
[limits]
event_bytes = \"16 MB\"
nothing = true
";
    let env = [("HYDRANT_SHARD", "2"), ("HYDRANT_LOG_FORMAT", "xml")];
    let found = errors(text, &env, &[("listen", "--listen", "localhost")]);
    let expected = [
        "hydrant.toml:1:1: unknown key `lisen` (did you mean `listen`?)",
        "hydrant.toml:2:10: shards: `-1` is not a whole number from 0 to 1024",
        "hydrant.toml:4:1: unknown key `colour`",
        "hydrant.toml:6:10: timeouts.ping: a value of type integer is not a duration",
        "hydrant.toml:9:15: limits.event_bytes: `16 MB` is not a size",
        "hydrant.toml:10:1: unknown key `limits.nothing`",
        "HYDRANT_LOG_FORMAT: log.format: `xml` is not `text`, `json` or `logfmt`",
        "HYDRANT_SHARD: unknown variable `HYDRANT_SHARD` (did you mean `HYDRANT_SHARDS`?)",
        "--listen: listen: `localhost` is not a list of at least one address",
        "hydrant.toml:3:7: tls_cert: required with tls = \"files\"",
        "hydrant.toml:3:7: tls_key: required with tls = \"files\"",
    ];
    for (found, expected) in found.iter().zip(expected) {
        // Columns are those of the value, or of the name if that is what is wrong.
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn syntax_errors_do_not_hide_the_others() {
    let found = errors("shards = 9999\ntls = \ndemo = 0\n", &[("HYDRANT_X", "")], &[]);
    let expected = ["hydrant.toml:2:7: ", "hydrant.toml:1:10: shards: `9999`", "HYDRANT_X: unknown variable"];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
}

#[test]
fn one_slip_is_one_message() {
    for (text, place) in [
        ("shards = 2\nlisten = [\"127.0.0.1:1\"\ntls = \"off\"\n[timeouts]\nping = \"1s\"\n", "3:1: missing comma"),
        ("[timeouts\nping = \"1s\"\nidle = \"2s\"\n", "1:10: unclosed table, expected `]`"),
        ("[upstream]\nurls = [\n  \"https://a:1\"\n\nusername = \"x\"\n[proxy]\nrequests = 3\n", "5:1: missing comma"),
        ("tls = \"off\nshards = 3\n", "1:11: invalid basic string"),
        ("upstream = { urls = [\"https://a:1\"\nshards = 3\n", "2:1: missing comma"),
        ("tls = \"files\"\nshards 3\ndemo = 4\n", "2:8: key with no value"),
    ] {
        let found = errors(text, &[], &[]);
        assert!(found.len() == 1 && found[0].starts_with(&format!("hydrant.toml:{place}")), "{text}: {found:?}");
    }
}

#[test]
fn a_value_of_the_file_that_is_overridden_is_told_unless_it_may_be_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let text = "listen = \"0.0.0.0:8092\"\nshards = 2\n[upstream]\nusername = \"u\"\npassword = \"old canary\"\n";
    std::fs::write(&path, text).unwrap();
    let env = [
        ("HYDRANT_LISTEN", "127.0.0.1:9000"),
        ("HYDRANT_SHARDS", "2"),
        ("HYDRANT_UPSTREAM_PASSWORD", "new canary"),
        ("HYDRANT_DEMO_RATE", "7"),
    ];
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flags = vec![FlagValue { key: "data_dir", flag: "--data-dir", text: "/tmp/x".to_owned() }];
    let (_, notes) = Settings::load_with_notes(&Sources { file: Some(path.clone()), env, flags }).unwrap();
    let file = path.display();
    let expected = [
        format!("listen: `127.0.0.1:9000` of HYDRANT_LISTEN overrides `0.0.0.0:8092` of {file}:1:10"),
        format!("upstream.password: the value of HYDRANT_UPSTREAM_PASSWORD overrides that of {file}:5:12"),
    ];
    let overridden: Vec<&String> = notes.iter().filter(|note| note.contains("overrides")).collect();
    assert_eq!(overridden, expected.iter().collect::<Vec<_>>());
}

/// If all three give a value, the flag is in force, not the variable.
#[test]
fn the_value_that_is_in_force_is_told_to_override_the_file() {
    let notes = |flag: &str| {
        let env = [("HYDRANT_SHARDS", "2")];
        noted("shards = 1", &env, &[("shards", "--shards", flag)])
    };
    assert_eq!(notes("3"), ["shards: `3` of --shards overrides `1` of hydrant.toml:1:10"]);
    assert_eq!(notes("1"), [""; 0], "the file's own value is in force");
}

/// The notes, with the file's folder cut out.
fn noted(text: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Vec<String> {
    let (dir, path) = file(text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flag =
        |(key, flag, text): &(&'static str, &'static str, &str)| FlagValue { key, flag, text: (*text).to_owned() };
    let sources = Sources { file: Some(path), env, flags: flags.iter().map(flag).collect() };
    let folder = format!("{}/", dir.path().display());
    let (_, notes) = Settings::load_with_notes(&sources).unwrap();
    notes.iter().map(|note| note.replace(&folder, "")).collect()
}

#[test]
fn settings_without_effect_are_noted() {
    let without_urls = "[upstream]\nusername = \"u\"\npassword = \"canary\"\ntls = \"insecure\"";
    let expected =
        ["username", "password", "tls"].map(|name| format!("upstream.{name}: has no effect without upstream.urls"));
    let mut found = noted(without_urls, &[], &[]);
    found.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    let deflate = noted("[deflate]\nmin_bytes = \"2KiB\"\nmax_bytes = \"1KiB\"", &[], &[]);
    assert!(deflate.len() == 1 && deflate[0].contains("no event is compressed"), "{deflate:?}");
    assert_eq!(noted("[deflate]\nmode = \"off\"\nmin_bytes = \"2KiB\"\nmax_bytes = \"1KiB\"", &[], &[]), [""; 0]);
}

/// The clock of the test is the real one, so the certificates are of other years.
#[test]
fn certificates_that_are_not_valid_now_are_noted() {
    let (dir, key) = (tempfile::tempdir().unwrap(), rcgen::KeyPair::generate().unwrap());
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    for (name, from, until) in [("old", 2001, 2002), ("good", 2001, 3000), ("new", 2999, 3000)] {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 2, 3);
        params.not_after = rcgen::date_time_ymd(until, 2, 3);
        std::fs::write(path(name), params.self_signed(&key).unwrap().pem()).unwrap();
    }
    let notes = |name: &str| {
        let (certificate, key) = (path(name), path("key.pem"));
        let text = format!(
            "tls = \"files\"\ntls_cert = \"{certificate}\"\ntls_key = \"{key}\"\ntls_client_ca = \"{certificate}\""
        );
        noted(&text, &[], &[])
    };
    let about = |name: &str, problem: &str| {
        ["tls_cert", "tls_client_ca"].map(|setting| {
            format!("{setting}: {}: the certificate {problem}; whoever verifies it refuses it", path(name))
        })
    };
    assert_eq!(notes("old"), about("old", "has expired: it was valid until 2002-02-03T00:00:00Z"));
    assert_eq!(notes("new"), about("new", "is not valid yet: it will be from 2999-02-03T00:00:00Z"));
    assert_eq!(notes("good"), [""; 0]);
}

/// A pipe or a device may have no end.
#[test]
fn only_regular_files_of_a_sensible_size_are_read() {
    let (dir, long) = file(&"#\n".repeat(600_000));
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (_bad, bytes) = file("");
    std::fs::write(&bytes, b"shards = 1\n# \xff").unwrap();
    for (path, reason) in [
        ("/dev/zero".as_ref(), "it is not a regular file"),
        (pipe.as_path(), "it is not a regular file"),
        (dir.path(), "it is a directory"),
        (long.as_path(), "it is longer than 1 MiB"),
        (bytes.as_path(), "line 2 is not valid UTF-8"),
    ] {
        let sources = Sources { file: Some(path.to_owned()), ..Sources::default() };
        let error = Settings::load(&sources).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains(reason), "{error}");
    }
}

#[test]
fn the_wrong_element_of_a_list_is_named() {
    let found = errors("listen = [\"127.0.0.1:0\", \"foo\"]", &[], &[]);
    assert!(found[0].contains("is not a list of") && found[0].ends_with(": `foo` is wrong"), "{found:?}");
    let found = errors("listen = [\"foo\"]", &[], &[]);
    assert!(!found[0].contains("is wrong"), "{found:?}");
}

#[test]
fn a_value_is_checked_even_where_a_stronger_source_overrides_it() {
    let found = errors("shards = 5000", &[], &[("shards", "--shards", "1")]);
    assert_eq!(found.len(), 1);
}

#[test]
fn tables_and_values_are_not_mixed_up() {
    assert!(errors("limits = 3", &[], &[])[0].contains("`limits` is a table"));
    assert!(errors("[shards]\nx = 1", &[], &[])[0].contains("a value of type table is not a whole number"));
    assert!(errors("shards = 1\nshards = 2", &[], &[])[0].starts_with("hydrant.toml:2:1"));
    assert!(errors("listen = [\"127.0.0.1:1\", 2]", &[], &[])[0].contains("array"));
    assert!(errors("listen = []", &[], &[])[0].contains("at least one"));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    for (text, message) in [
        ("[timeouts]\nping = \"60s\"", "timeouts.ping: 60s must be shorter than timeouts.idle (60s)"),
        ("metrics_listen = \"127.0.0.1:8092\"", "metrics_listen: 127.0.0.1:8092 conflicts with listen"),
        ("listen = [\"0.0.0.0:1\", \"127.0.0.1:1\"]", "cannot both be bound"),
        ("tls = \"off\"\ntls_key = \"k\"", "tls_key: has no effect with tls = \"off\""),
        ("tls = \"files\"\ntls_key = \"/nowhere/k\"\ntls_cert = \"/\"", "tls_key: /nowhere/k: No such file"),
        ("tls = \"files\"\ntls_key = \"/nowhere/k\"\ntls_cert = \"/\"", "tls_cert: /: not a file"),
        ("[limits]\nbody_bytes = \"1MiB\"", "limits.body_bytes: 1048576 bytes is less than limits.event_bytes"),
        (
            "[limits]\nevent_bytes = \"2GiB\"\nbody_bytes = \"2GiB\"\n[inbox]\nbytes = \"2GiB\"",
            "more than the maximum of 1 GiB",
        ),
        ("[token]\nttl = \"91d\"", "token.ttl: 7862400s is longer than token.max_ttl"),
        ("tls = \"off\"\ntls_client_ca = \"/ca\"", "tls_client_ca: has no effect with tls = \"off\""),
        ("tls_client_ca = \"/nowhere/ca\"", "tls_client_ca: /nowhere/ca: No such file"),
        ("[nats]\nurls = [\"nats://n\"]\nca_file = \"/nowhere/ca\"", "nats.ca_file: /nowhere/ca: No such file"),
        ("tls_client_name = \"dn\"", "tls_client_name: `dn` is not `cn` or `san`"),
        ("[token]\nissuer = \"x\"", "token.issuer: has no effect without token.jwks"),
        ("[token]\nroles_claim = \"x\"", "token.roles_claim: has no effect without token.jwks"),
        ("[token]\njwks = \"/nowhere/jwks\"", "token.jwks: /nowhere/jwks: No such file"),
        ("[token]\njwks = \"/nowhere/jwks\"", "token.issuer: required with token.jwks"),
        (
            "[token]\njwks = \"/jwks\"\n[upstream]\nurls = [\"https://drp:8092\"]\npassword = \"x\"\ntls = \
             \"insecure\"",
            "token.jwks: has no effect with auth.mode = \"upstream\"",
        ),
        ("[token]\njwks = \"/nowhere/jwks\"", "token.audience: required with token.jwks"),
        (
            "[token]\njwks = \"/nowhere/jwks\"\nprincipal_claim = \"\"",
            "token.principal_claim: required with token.jwks",
        ),
        ("allowed_origins = [\"portal.example.com\"]", "is not a list of origins"),
        (
            "allowed_origins = [\"*\"]",
            "`*` is not a list of origins such as `https://portal.example.com`, without paths and without `*`",
        ),
    ] {
        let found = errors(text, &[], &[]);
        assert!(found.iter().any(|line| line.contains(message)), "{text}: {found:?}");
    }
}

const DRP: &str = "[upstream]\nurls = [\"https://drp:8092\"]\n";

#[test]
fn an_upstream_needs_credentials_and_a_way_to_check_its_certificate() {
    let (_dir, pem) = file("x");
    let pin = "ab".repeat(32);
    for (more, message) in [
        ("tls = \"insecure\"", "upstream.password: upstream.urls requires one of"),
        ("token = \"t\"\npassword = \"p\"\ntls = \"insecure\"", "upstream.token: upstream.password is set as well"),
        ("token = \"t\"", "upstream.ca_file: required with tls = \"verify\""),
        ("token = \"t\"\ntls = \"pin\"", "upstream.fingerprint: required with tls = \"pin\""),
        ("token = \"t\"\ntls = \"pin\"\nfingerprint = [\"ab\"]", "is not a list of SHA-256 fingerprints"),
        (&format!("token = \"t\"\ntls = \"insecure\"\nfingerprint = \"{pin}\""), "upstream.fingerprint: has no effect"),
        (&format!("token = \"t\"\ntls = \"insecure\"\nca_file = {pem:?}"), "upstream.ca_file: has no effect"),
        ("token_file = \"/nowhere/t\"\ntls = \"insecure\"", "upstream.token_file: /nowhere/t: No such file"),
        ("token = \"t\"\nca_file = \"/nowhere/ca\"", "upstream.ca_file: /nowhere/ca: No such file"),
        ("token = \"t\"\ntls = \"insecure\"\nping = \"60s\"", "upstream.ping: 60s is too long"),
        ("token = \"t\"\ntls = \"insecure\"\nregister = [\"a.b\"]", "`a.b` is not a list of registrations"),
    ] {
        let found = errors(&format!("{DRP}{more}"), &[], &[]);
        assert!(found.len() == 1 && found[0].contains(message), "{more}: {found:?}");
    }
    let twice = errors("[upstream]\nurls = [\"http://a:1\", \"http://a:1\"]\ntoken = \"t\"", &[], &[]);
    assert!(twice[0].contains("http://a:1 is listed twice"), "{twice:?}");
}

#[test]
fn upstreams_are_named_with_their_services() {
    let more = "password = \" p \"\ntls = \"pin\"\nfingerprint = \"FF:".to_owned() + &["00"; 31].join(":") + "\"\n";
    let register = "register = [\"a,b.*.*\", \"c.*.*.X=In(1,2)\"]";
    let settings = load(&format!("{DRP}{more}{register}"), &[], &[]).unwrap();
    assert_eq!(settings.upstream.register, ["a,b.*.*", "c.*.*.X=In(1,2)"]);
    let services = settings.upstream.services(0);
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].endpoint.to_string(), "https://drp:8092");
    let target = services[0].target().unwrap();
    assert_eq!(target.endpoint, services[0].endpoint);
    assert!(load("", &[], &[]).unwrap().upstream.services(0).is_empty());
}

#[test]
fn secrets_of_upstreams_are_never_repeated() {
    let set = [("HYDRANT_UPSTREAM_PASSWORD", "canary"), ("HYDRANT_UPSTREAM_TLS", "insecure")];
    let settings = load(DRP, &set, &[]).unwrap();
    assert!(!format!("{settings:?} {:?}", settings.upstream.services(0)).contains("canary"));
    for (text, env) in [
        ("[upstream]\nurls = [\"https://u:canary@drp\"]", &[][..]),
        ("", &[("HYDRANT_UPSTREAM_URLS", "https://u:canary@drp")][..]),
        ("[upstream]\npassword = [\"canary\"]", &[][..]),
        (DRP, &[("HYDRANT_UPSTREAM_PASSWORD", "canary"), ("HYDRANT_UPSTREAM_TOKEN", "canary2")][..]),
    ] {
        let found = errors(text, env, &[]);
        assert!(!found.is_empty() && !found.concat().contains("canary"), "{found:?}");
    }
}

#[test]
fn a_bad_value_does_not_make_errors_elsewhere() {
    let found = errors("[timeouts]\nidle = \"x\"\nping = \"70s\"", &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn pem_files_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    let (pem, key) = (write("cert.pem", &one.cert.pem()), write("key.pem", &one.signing_key.serialize_pem()));
    let encrypted =
        write("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let damaged = write("damaged.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let stranger = write("other.pem", &other.signing_key.serialize_pem());
    let (empty, text) = (write("empty.pem", ""), write("text.pem", "-----BEGIN CERTIFICATE-----\n!\n"));
    let files = |pem: &PathBuf, key: &PathBuf| format!("tls = \"files\"\ntls_cert = {pem:?}\ntls_key = {key:?}\n");
    let settings = load(&files(&pem, &key), &[], &[]).unwrap();
    assert_eq!((settings.tls, settings.tls_key.as_ref()), (TlsMode::Files, Some(&key)));
    let drp = format!("{DRP}password = \"x\"\n");
    for (toml, message) in [
        (files(&empty, &key), "tls_cert: ".to_owned()),
        (files(&pem, &encrypted), format!("tls_key: {}: the private key is encrypted", encrypted.display())),
        (files(&pem, &damaged), format!("tls_key: {}: the private key is of an unknown kind", damaged.display())),
        (files(&pem, &empty), format!("tls_key: {}: it contains no private key in PEM", empty.display())),
        (files(&key, &key), format!("tls_cert: {}: it contains no certificate in PEM", key.display())),
        (files(&text, &key), format!("tls_cert: {}: not a certificate in PEM", text.display())),
        (files(&pem, &stranger), format!("tls_key: {} is not the key of {}", stranger.display(), pem.display())),
        (format!("tls_client_ca = {empty:?}"), "tls_client_ca: ".to_owned()),
        (format!("{drp}ca_file = {key:?}"), "upstream.ca_file: ".to_owned()),
        (format!("[nats]\nurls = [\"nats://n\"]\nca_file = {empty:?}"), "nats.ca_file: ".to_owned()),
        (
            format!("[nats]\nurls = [\"nats://n\"]\ncert_file = {pem:?}\nkey_file = {stranger:?}"),
            format!("nats.key_file: {} is not the key of", stranger.display()),
        ),
    ] {
        let found = load(&toml, &[], &[]).unwrap_err().0;
        assert!(found.len() == 1 && found[0].to_string().contains(&message), "{toml}: {found:?}");
        assert!(!found[0].to_string().contains("PRIVATE KEY-----"), "{found:?}");
    }
}

#[test]
fn a_url_of_an_endpoint_without_a_port_is_worth_a_note() {
    let notes = |urls: &str| {
        let (_dir, path) = file(&format!("[upstream]\nurls = {urls}\npassword = \"x\"\ntls = \"insecure\""));
        Settings::load_with_notes(&Sources { file: Some(path), ..Sources::default() }).unwrap().1
    };
    assert_eq!(notes("[\"https://a:8092\", \"http://[::1]:80\"]"), [""; 0]);
    let told = notes("[\"https://a:8092\", \"https://drp\", \"http://b/\"]");
    assert_eq!(
        told,
        [
            "upstream.urls: has no port, so port 443 is used: https://drp:443",
            "upstream.urls: has no port, so port 80 is used: http://b:80"
        ]
    );
}

#[test]
fn the_default_file_gives_the_defaults() {
    let defaults = Settings::load(&Sources::default()).unwrap();
    assert_eq!(load(&default_file(), &[], &[]).unwrap(), defaults);
    assert_eq!(defaults.listen, ["127.0.0.1:8092".parse().unwrap()]);
    assert_eq!((defaults.tls, defaults.demo), (TlsMode::SelfSigned, None));
    for row in rows() {
        let name = row.key.rsplit('.').next().unwrap();
        assert!(default_file().contains(&format!("{name} = ")), "{}", row.key);
    }
}

#[test]
fn the_data_directory_follows_the_environment() {
    let dir = |env: &[(&str, &str)]| load("", env, &[]).unwrap().data_dir.display().to_string();
    assert_eq!(dir(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]), "/x/hydrant");
    assert_eq!(dir(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), "/h/.local/share/hydrant");
    assert_eq!(dir(&[]), "/var/lib/hydrant");
    assert_eq!(dir(&[("HOME", "/h"), ("HYDRANT_DATA_DIR", "/d")]), "/d");
}

#[test]
fn the_variable_names_the_file() {
    let (_dir, path) = file("shards = 9");
    let env = vec![("HYDRANT_CONFIG".to_owned(), path.display().to_string())];
    assert_eq!(Settings::load(&Sources { env, ..Sources::default() }).unwrap().shards, 9);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let sources = Sources { file: Some("/nowhere/hydrant.toml".into()), ..Sources::default() };
    let message = Settings::load(&sources).unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/hydrant.toml: cannot be read: No such file"), "{message}");
}

/// To renew it: `cargo run -- config doc > docs/configuration.md`.
#[test]
fn the_reference_in_docs_is_what_config_doc_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    assert!(std::fs::read_to_string(path).unwrap() == markdown(), "docs/configuration.md is not up to date");
}

#[test]
fn a_listener_for_balancers_needs_to_know_them() {
    let listens = "listen_proxy_protocol = [\"127.0.0.1:8443\"]";
    let found = errors(listens, &[], &[]);
    assert!(found.len() == 1 && found[0].contains("requires trusted_proxies"), "{found:?}");
    let clash = format!("listen = [\"127.0.0.1:8443\"]\n{listens}\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let found = errors(&clash, &[], &[]);
    assert!(found.len() == 1 && found[0].contains("cannot both be bound"), "{found:?}");
    let good = load(&format!("{listens}\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]"), &[], &[]).unwrap();
    assert_eq!((good.trusted_proxies.len(), good.timeouts.lame_duck), (2, Duration::ZERO));
}
