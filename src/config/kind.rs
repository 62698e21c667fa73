//! The kinds of values a setting can have: how each is parsed, and the error for a bad value.
//!
//! All sources provide text (a TOML number is passed on as its digits, a list with commas), so a value means the same
//! in a file, a variable and a flag.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::client::{Endpoint, Fingerprint, Secret};
use crate::overflow::Overflow;

/// Number of machines in the simulated fleet if `--demo` has no value.
pub const DEMO_MACHINES: u32 = 200;

/// A way to parse a value.
pub(super) trait Kind {
    /// Type of the parsed value.
    type Value;
    /// What the value is and how it is written, for messages and the documentation.
    const WHAT: &'static str;
    /// The TOML types that are accepted.
    const TOML: &'static [&'static str];
    /// Whether a message may repeat the given text: not if it may contain a secret.
    const SHOWN: bool = true;
    /// The separator between the items of a list.
    const SEPARATOR: &'static str = ",";

    /// Parses the value; returns `None` if it is invalid. The caller reports the text and [`Kind::WHAT`].
    fn parse(text: &str) -> Option<Self::Value>;
}

/// Declares kinds: name, overridden constants, value, description, TOML types, parser.
macro_rules! kinds {
    ($($name:ident $({ $($unusual:tt)* })? -> $value:ty, $what:literal, $toml:expr, $parse:expr;)+) => {
        $(
            #[derive(Debug)]
            pub(super) struct $name;

            impl Kind for $name {
                type Value = $value;
                const WHAT: &'static str = $what;
                const TOML: &'static [&'static str] = &$toml;
                $($($unusual)*)?

                fn parse(text: &str) -> Option<$value> {
                    $parse(text.trim())
                }
            }
        )+
    };
}

kinds! {
    Switch -> bool, "`true` or `false`", ["boolean"], number;
    Count -> usize, "a whole number from 1", ["integer"], |text| number(text).filter(|n| *n > 0);
    Shards -> usize, "a whole number from 0 to 1024", ["integer"], |text| number(text).filter(|n| *n <= 1024);
    Tier -> u64, "a whole number from 1 to 16", ["integer"], |text| number(text).filter(|n| (1..=16).contains(n));
    Whole -> u64, "a whole number", ["integer"], number;
    Size -> usize, "a size such as `4096`, `64KiB`, `16MiB` or `1GiB`, at least 1", ["string", "integer"], size;
    SizeOrNone -> usize, "a size such as `4096`, `64KiB`, `16MiB` or `1GiB`, or 0", ["string", "integer"],
        |text: &str| if text == "0" { Some(0) } else { size(text) };
    Span -> Duration, "a duration above zero such as `500ms`, `30s`, `5m`, `2h` or `7d`", ["string"], span;
    SpanOrNone -> Duration, "a duration such as `500ms`, `30s` or `5m`, or `0s`", ["string"],
        |text: &str| if matches!(text, "0" | "0s") { Some(Duration::ZERO) } else { span(text) };
    SpanOrOff -> Option<Duration>, "a duration such as `30s` or `5m`, or `off`", ["string"], span_or_off;
    Addresses -> Vec<SocketAddr>,
        "a list of at least one address with port such as `127.0.0.1:8092`, `localhost:8092` or, for all interfaces, \
         `[::]:8092`",
        ["array", "string"], addresses;
    MaybeAddresses -> Vec<SocketAddr>, "a list of addresses with ports such as `0.0.0.0:8443`", ["array", "string"],
        |text: &str| if text.is_empty() { Some(Vec::new()) } else { addresses(text) };
    Networks -> Vec<IpNet>, "a list of networks and addresses such as `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`",
        ["array", "string"], networks;
    AddressOrOff -> Option<SocketAddr>, "an address with a port such as `127.0.0.1:8093` or `localhost:8093`, or `off`",
        ["string"], address_or_off;
    Origins -> Vec<String>, "a list of origins such as `https://portal.example.com`, without paths and without `*`",
        ["array", "string"], origins;
    Names -> Vec<String>, "a list of names such as `jobs,templates`", ["array", "string"], list;
    DeflateLevel -> u32, "a whole number from 1 to 9", ["integer"], |text| number(text).filter(|n| (1..=9).contains(n));
    Deflating -> DeflateMode, "`on` or `off`", ["string"], DeflateMode::from_name;
    Endpoints { const SHOWN: bool = false; } -> Vec<Endpoint>,
        "a list of URLs such as `https://drp.example.com:8092`, without user or path", ["array", "string"], list;
    Collector { const SHOWN: bool = false; } -> Option<Endpoint>,
        "a URL such as `http://127.0.0.1:4318`, without user or path", ["string"], collector;
    Share -> f64, "a number from 0 to 1", ["float", "integer"],
        |text| number(text).filter(|share| (0.0..=1.0).contains(share));
    Specs { const SEPARATOR: &'static str = "\n"; } -> Vec<String>,
        "a list of registrations such as `machines.*.*`; in a variable, one per line", ["array", "string"], specs;
    Fingerprints -> Vec<Fingerprint>, "a list of SHA-256 fingerprints: 64 hexadecimal digits, colons allowed, or as \
        openssl prints them (`sha256 Fingerprint=AB:...`)",
        ["array", "string"], fingerprints;
    Text -> String, "a text", ["string"], |text: &str| (!text.is_empty()).then(|| text.to_owned());
    AnyText -> String, "a text", ["string"], |text: &str| Some(text.to_owned());
    Token -> String, "letters, digits, `-` and `_`", ["string"], |text: &str| is_token(text).then(|| text.to_owned());
    StreamName -> String, "empty, or letters, digits, `-` and `_`", ["string"],
        |text: &str| (text.is_empty() || is_token(text)).then(|| text.to_owned());
    Replicas -> usize, "a whole number from 1 to 5", ["integer"], |text| number(text).filter(|n| (1..=5).contains(n));
    NatsUrls { const SHOWN: bool = false; } -> Vec<String>,
        "a list of URLs such as `nats://host:4222` or `tls://host:4222`, without user or path", ["array", "string"],
        |text| list(text).filter(|all: &Vec<String>| all.iter().all(|url| is_nats_url(url)));
    Path -> PathBuf, "a path", ["string"], |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    OptionalPath -> Option<PathBuf>, "a path", ["string"],
        |text: &str| Some((!text.is_empty()).then(|| PathBuf::from(text)));
    Tls -> TlsMode, "`self-signed`, `files` or `off`", ["string"], TlsMode::from_name;
    CertificateName -> ClientName, "`cn` or `san`", ["string"], ClientName::from_name;
    ClientTls -> UpstreamTls, "`verify`, `pin` or `insecure`", ["string"], UpstreamTls::from_name;
    Mode -> AuthMode, "`auto`, `local`, `upstream` or `both`", ["string"], AuthMode::from_name;
    Format -> LogFormat, "`text`, `json` or `logfmt`", ["string"], LogFormat::from_name;
    Policy -> Overflow, "`disconnect`, `drop-oldest` or `conflate`", ["string"], number;
    Policies -> Vec<Overflow>, "a list of policies such as `disconnect,drop-oldest`", ["array", "string"], list;
    Level -> String, "a level such as `info`, or directives such as `warn,hydrant=debug`", ["string"], level;
    Demo -> Option<u32>, "a number of machines from 1 to 1000000, `true` for 200, or `off`",
        ["integer", "boolean", "string"], demo;
}

/// A password or token; its white space is kept.
#[derive(Debug)]
pub(super) struct Hidden;

impl Kind for Hidden {
    type Value = Option<Secret>;
    const WHAT: &'static str = "a text, which is never shown";
    const TOML: &'static [&'static str] = &["string"];
    const SHOWN: bool = false;

    fn parse(text: &str) -> Option<Option<Secret>> {
        Some((!text.is_empty()).then(|| Secret::new(text)))
    }
}

/// Declares the settings that have a fixed set of words.
macro_rules! words {
    ($($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ })+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name {
                $($(#[doc = $doc])+ $variant,)+
            }

            impl $name {
                fn from_name(word: &str) -> Option<Self> {
                    match word {
                        $($word => Some(Self::$variant),)+
                        _ => None,
                    }
                }

                /// Returns the word that selects this value.
                pub fn name(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)+
                    }
                }
            }
        )+
    };
}

words! {
    /// The source of the listener's certificate.
    TlsMode {
        /// Generated at the first start and stored in the data directory.
        SelfSigned = "self-signed",
        /// Files provided by the operator.
        Files = "files",
        /// No certificate: plain HTTP.
        Off = "off",
    }
    /// The field of a client's certificate that holds its name.
    ClientName {
        /// The common name of the subject.
        Common = "cn",
        /// The subject alternative name.
        Alternative = "san",
    }
    /// How the certificates of upstream endpoints are verified.
    UpstreamTls {
        /// Issued by a CA in a file, for the name in the URL.
        Verify = "verify",
        /// Matching one of the fingerprints.
        Pin = "pin",
        /// Not verified.
        Insecure = "insecure",
    }
    /// Who checks credentials.
    AuthMode {
        /// The endpoint if there is one, otherwise this server.
        Auto = "auto",
        /// This server, with its own users.
        Local = "local",
        /// The endpoint.
        Upstream = "upstream",
        /// This server for its own users, the endpoint for all others.
        Both = "both",
    }
    /// The format of log lines.
    LogFormat {
        /// Text for human readers.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// One line of `key=value` pairs.
        Logfmt = "logfmt",
    }
    /// Whether permessage-deflate is negotiated.
    DeflateMode {
        /// It is negotiated if the client offers it.
        On = "on",
        /// All websockets are uncompressed.
        Off = "off",
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Splits `64KiB` into its digits and what follows them.
fn with_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim()))
}

fn size(text: &str) -> Option<usize> {
    let (count, unit) = with_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(count.checked_mul(factor)?).ok().filter(|bytes| *bytes > 0)
}

fn span(text: &str) -> Option<Duration> {
    let (count, unit) = with_unit(text)?;
    let seconds = |factor: u64| count.checked_mul(factor).map(Duration::from_secs);
    let span = match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        "d" => seconds(24 * 60 * 60),
        _ => None,
    };
    // The maximum is a century: adding more to a time could overflow.
    span.filter(|span| !span.is_zero() && *span <= Duration::from_hours(100 * 365 * 24))
}

#[expect(clippy::option_option, reason = "the outer one tells whether the text was a value")]
fn span_or_off(text: &str) -> Option<Option<Duration>> {
    if text == "off" { Some(None) } else { span(text).map(Some) }
}

fn list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(|item| item.trim().parse().ok()).collect()
}

#[expect(clippy::option_option, reason = "the outer one tells whether the text was a value")]
fn address_or_off(text: &str) -> Option<Option<SocketAddr>> {
    if text == "off" { Some(None) } else { address(text).map(Some) }
}

fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    let all: Vec<SocketAddr> = text.split(',').map(|item| address(item.trim())).collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

/// Parses a list of networks; a single address is a network of one.
fn networks(text: &str) -> Option<Vec<IpNet>> {
    let network = |text: &String| number(text).or_else(|| Some(IpNet::from(number::<IpAddr>(text)?)));
    list(text)?.iter().map(network).collect()
}

/// Parses an address. Names are not resolved, because they may mean another address at each start; only `localhost` is
/// unambiguous.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, number(port)?))),
        None => number(text),
    }
}

fn origins(text: &str) -> Option<Vec<String>> {
    list(text).filter(|all| all.iter().all(|origin: &String| is_origin(origin)))
}

/// Returns whether the text is what a browser sends as `Origin`: scheme and host, optionally a port.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*'])
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Parses the URL of a collector; nothing means none. Spans are sent without TLS.
#[expect(clippy::option_option, reason = "the outer one tells whether the text was a value")]
fn collector(text: &str) -> Option<Option<Endpoint>> {
    if text.is_empty() {
        return Some(None);
    }
    number(text).filter(|endpoint: &Endpoint| !endpoint.tls).map(Some)
}

/// Returns whether the text is a NATS URL without credentials. These belong in files: URLs end up in logs.
fn is_nats_url(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port);
    matches!(scheme, "nats" | "tls")
        && !host.is_empty()
        && !host.contains(['/', '?', '#', '@', ' '])
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Parses registrations, one per line. Each must have the two dots of a registration; the servers check the rest.
fn specs(text: &str) -> Option<Vec<String>> {
    let all: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let fits = |spec: &String| spec.matches('.').count() >= 2 && !spec.contains(char::is_control);
    (!all.is_empty() && all.iter().all(fits)).then_some(all)
}

fn fingerprints(text: &str) -> Option<Vec<Fingerprint>> {
    list(text)?.iter().map(|item: &String| fingerprint(item)).collect()
}

/// Parses the hexadecimal digits, with or without the prefix that openssl prints.
fn fingerprint(text: &str) -> Option<Fingerprint> {
    let (title, digits) = text.rsplit_once('=').unwrap_or(("sha256", text));
    if !title.to_ascii_lowercase().starts_with("sha") {
        return None;
    }
    let digits = digits.trim().replace(':', "");
    let mut bytes = Fingerprint::default();
    if digits.len() != 2 * bytes.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn level(text: &str) -> Option<String> {
    let valid = !text.is_empty() && tracing_subscriber::EnvFilter::try_new(text).is_ok();
    valid.then(|| text.to_owned())
}

#[expect(clippy::option_option, reason = "the outer one tells whether the text was a value")]
fn demo(text: &str) -> Option<Option<u32>> {
    match text {
        "off" | "false" => Some(None),
        "true" | "on" => Some(Some(DEMO_MACHINES)),
        _ => number(text).filter(|machines| (1..=1_000_000).contains(machines)).map(Some),
    }
}

/// Returns a message about an invalid value, without the text if that may be a secret. The text is truncated, so that a
/// pasted file does not flood the screen.
pub(super) fn complaint(text: &str, shown: bool, what: impl Display) -> String {
    if !shown {
        return format!("the value given is not {what}");
    }
    let shown: String = text.chars().take(64).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("`{shown}{dots}` is not {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, bytes) in [("1", Some(1)), ("64KiB", Some(65_536)), ("16 MiB", Some(16 << 20)), ("7B", Some(7))] {
            assert_eq!(Size::parse(text), bytes, "{text}");
        }
        for bad in ["", "0", "KiB", "1kb", "-1", "1.5MiB", "99999999999GiB", "18446744073709551616"] {
            assert_eq!(Size::parse(bad), None, "{bad}");
        }
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(Span::parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(Span::parse("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "30", "0s", "1w", "s", "-1s", "1s1m", "999999999d"] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        let two = Addresses::parse("127.0.0.1:1, [::1]:2").unwrap();
        assert_eq!(two, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!(Addresses::parse(""), None);
        assert_eq!(Addresses::parse("localhost:1"), Some(vec!["127.0.0.1:1".parse().unwrap()]));
        assert_eq!(AddressOrOff::parse("localhost:2"), Some(Some("127.0.0.1:2".parse().unwrap())));
        for bad in ["localhost", "localhost:", "localhost:65536", "drp:1", ":1", "1"] {
            assert_eq!(Addresses::parse(bad), None, "{bad}");
        }
        assert_eq!(Origins::parse(""), Some(vec![]));
        assert_eq!(Origins::parse("https://a:1,http://b").map(|all| all.len()), Some(2));
        for bad in ["a", "https://a/", "ftp://a", "*", "https://*", "https://"] {
            assert_eq!(Origins::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_have_a_prefix_or_are_one_address() {
        let all = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/32").unwrap();
        assert_eq!(
            all.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]
        );
        assert_eq!(Networks::parse(""), Some(vec![]));
        for bad in ["10.0.0.0/33", "10.0.0", "proxy", "10.0.0.0/", "::/129"] {
            assert_eq!(Networks::parse(bad), None, "{bad}");
        }
        assert_eq!((SpanOrNone::parse("0s"), SpanOrNone::parse("-1s")), (Some(Duration::ZERO), None));
    }

    #[test]
    fn demo_is_off_bare_or_a_number() {
        assert_eq!(Demo::parse("off"), Some(None));
        assert_eq!(Demo::parse("true"), Some(Some(DEMO_MACHINES)));
        assert_eq!(Demo::parse("7"), Some(Some(7)));
        assert_eq!(Demo::parse("0"), None);
        assert!(Demo::WHAT.contains(&DEMO_MACHINES.to_string()));
    }

    #[test]
    fn fingerprints_are_read_as_openssl_prints_them() {
        let plain = "0a".repeat(32);
        let colons = vec!["0A"; 32].join(":");
        assert_eq!(Fingerprints::parse(&format!("{plain}, {colons}")), Some(vec![[10; 32]; 2]));
        let printed = format!("sha256 Fingerprint={colons}\n, SHA256 Fingerprint={colons}");
        assert_eq!(Fingerprints::parse(&printed), Some(vec![[10; 32]; 2]));
        assert_eq!(Fingerprints::parse(""), Some(vec![]));
        for bad in [
            "0a",
            &format!("x={plain}"),
            "SHA1 Fingerprint=0A:0A",
            &format!("{plain}0"),
            &plain.replace('a', "g"),
            &format!("+{}", &plain[1..]),
        ] {
            assert_eq!(Fingerprints::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_of_nats_servers_hold_no_credentials() {
        assert_eq!(NatsUrls::parse("nats://a:4222, tls://[::1]").map(|all| all.len()), Some(2));
        assert_eq!(NatsUrls::parse(""), Some(vec![]));
        for bad in ["a:4222", "http://a", "nats://", "nats://u:p@a", "nats://a/b", "nats://a:x"] {
            assert_eq!(NatsUrls::parse(bad), None, "{bad}");
        }
        assert!(Token::parse("a.b").is_none() && Token::parse("").is_none() && Token::parse("site-1").is_some());
    }

    #[test]
    fn a_collector_is_reached_without_tls_and_shares_are_fractions() {
        let url = Collector::parse("http://127.0.0.1:4318").unwrap().unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:4318");
        assert_eq!(Collector::parse(""), Some(None));
        for bad in ["127.0.0.1:4318", "https://a:4318", "http://a/v1/traces", "http://u:p@a", "grpc://a"] {
            assert_eq!(Collector::parse(bad), None, "{bad}");
        }
        assert_eq!((Share::parse("0"), Share::parse("0.25"), Share::parse("1")), (Some(0.0), Some(0.25), Some(1.0)));
        for bad in ["", "-0.1", "1.1", "NaN", "10%"] {
            assert_eq!(Share::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn registrations_have_two_dots() {
        assert_eq!(
            Specs::parse(" a,b.*.*\n\nc.d.e.F=Eq(1, 2)\n"),
            Some(vec!["a,b.*.*".into(), "c.d.e.F=Eq(1, 2)".into()])
        );
        for bad in ["", "\n", "a.b", "*.*.*\na", "a.b.\u{7}c"] {
            assert_eq!(Specs::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_are_found_by_their_names() {
        for mode in [TlsMode::SelfSigned, TlsMode::Files, TlsMode::Off] {
            assert_eq!(Tls::parse(mode.name()), Some(mode));
        }
        assert_eq!(Tls::parse("Files"), None);
    }
}
