//! The text at the end of `--help`.

/// The program's text.
pub(super) const PROGRAM: &str = "\
Exit status: 0 success; 1 the run failed; 2 wrong command line; 3 deliveries were lost, repeated, reordered or
damaged, connections leaked, or, with `report`, a figure has become worse.

Example, with release builds of both:
  hydrant-loadtest burst --serve target/release/hydrant --html burst.html";

/// The text of `floor`.
pub(super) const FLOOR: &str = "Example: hydrant-loadtest floor --payload 1024,12288 --k 1,16,64";

/// The text of `burst`.
pub(super) const BURST: &str = "\
Examples:
  hydrant-loadtest burst --serve target/release/hydrant --compare-tls
  hydrant-loadtest burst --endpoint https://127.0.0.1:8092 --insecure --server-pid \"$(pidof hydrant)\"";

/// The text of `compare`.
pub(super) const COMPARE: &str = "\
Examples:
  hydrant-loadtest compare --serve target/release/hydrant --html compare.html
  hydrant-loadtest compare --serve target/release/hydrant --only stall,idle --nats ~/go/bin/nats-server";

/// The text of `fleet`.
pub(super) const FLEET: &str = "\
Examples:
  hydrant-loadtest fleet --serve target/release/hydrant --rate 200,1000 --floor
  hydrant-loadtest fleet --serve target/release/hydrant --percent 25,50,75 --floor --seconds 10 --rounds 3";

/// The text of `stall`.
pub(super) const STALL: &str =
    "Example: HYDRANT_OUTBOX_OVERFLOW=drop-oldest hydrant-loadtest stall --serve target/release/hydrant";

/// The text of `idle`.
pub(super) const IDLE: &str = "Example: hydrant-loadtest idle --serve target/release/hydrant --serve-tls -n 10000";

/// The text of `storm`.
pub(super) const STORM: &str = "Example: hydrant-loadtest storm --serve target/release/hydrant -n 10000 --loss restart";

/// The text of `hostile`.
pub(super) const HOSTILE: &str = "\
Examples:
  hydrant-loadtest hostile --serve target/release/hydrant --html hostile.html
  hydrant-loadtest hostile --serve target/release/hydrant --only regex,logins --seconds 10 --enforce";

/// The text of `report`.
pub(super) const REPORT: &str = "Example: hydrant-loadtest report before.json after.json --html difference.html";
