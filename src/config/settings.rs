//! Declares every setting, and generates code from the declaration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::kind::{self, AuthMode, ClientName, DeflateMode, Kind, TlsMode, UpstreamTls};
use super::raw::{RawSettings, Row, Table};
use super::telemetry::{Log, Otel};
use crate::client::{Endpoint, Fingerprint, Secret};
use crate::overflow::Overflow;

/// Returns every setting in the order of the declaration.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    Settings::declare(&mut rows);
    rows
}

table! {
    /// All settings of a server.
    Settings in "" {
        /// Addresses on which the API and the websocket are served.
        listen: Vec<SocketAddr> as Addresses = "127.0.0.1:8092";
        /// The source of the listener's certificate: generated at the first start, read from `tls_cert` and `tls_key`,
        /// or `off` for plain HTTP.
        tls: TlsMode as Tls = "self-signed";
        /// Certificate chain in PEM. Only with `tls = "files"`.
        tls_cert: Option<PathBuf> as OptionalPath = "";
        /// Private key of the certificate in PEM. Only with `tls = "files"`.
        tls_key: Option<PathBuf> as OptionalPath = "";
        /// Certificates in PEM of the authorities that issue client certificates. Client certificates are only
        /// requested if this is set; they are credentials.
        tls_client_ca: Option<PathBuf> as OptionalPath = "";
        /// The field of a client certificate that names its principal, such as `user:alice`, or a user: the common
        /// name, or the only subject alternative name that is a URI, a mail address or a DNS name.
        tls_client_name: ClientName as CertificateName = "cn";
        /// Directory of users, keys and the self-signed certificate. By default `$XDG_DATA_HOME/hydrant`, else
        /// `$HOME/.local/share/hydrant`, else `/var/lib/hydrant`.
        data_dir: PathBuf as Path = "";
        /// Address of `/metrics`, `/healthz` and `/readyz` in plain HTTP.
        metrics_listen: Option<SocketAddr> as AddressOrOff = "127.0.0.1:8093";
        /// Addresses, in addition to `listen`, for balancers that begin each connection with a PROXY protocol header,
        /// version 1 or 2. Connections from outside `trusted_proxies`, and those without a header, are closed.
        listen_proxy_protocol: Vec<SocketAddr> as MaybeAddresses = "";
        /// Networks of proxies and balancers that are trusted to name their client by `X-Forwarded-For`, `Forwarded` or
        /// the PROXY protocol. Empty: none is trusted.
        trusted_proxies: Vec<IpNet> as Networks = "";
        /// Threads that deliver events; 0 means one per core.
        shards: usize as Shards = "0";
        /// Number of machines in a simulated fleet inside the server.
        demo: Option<u32> as Demo = "off";
        /// Events per second from the simulated fleet.
        demo_rate: u64 as Whole = "50";
        /// Seed of the simulated fleet: the same seed produces the same events.
        demo_seed: u64 as Whole = "1";
        /// Start on an address that others can reach even if the first user still has its well-known password.
        allow_default_credentials: bool as Switch = "false";
        /// Origins, besides the server's own, whose pages may use this server, including credentials that the browser
        /// adds by itself. If empty, any page may, but only with a token.
        allowed_origins: Vec<String> as Origins = "";
        /// Publish events of Type `connections` when clients connect and disconnect.
        connection_events: bool as Switch = "true";
        /// Close a connection when the token it was opened with expires.
        close_on_token_expiry: bool as Switch = "false";
    } with {
        /// Logging.
        log: Log,
        /// Limits on clients.
        limits: Limits,
        /// The queue of one connection.
        outbox: Outbox,
        /// The queue of events for one shard.
        inbox: Inbox,
        /// The history for clients that reconnect.
        replay: Replay,
        /// NATS, by which nodes share events.
        nats: Nats,
        /// Compression for clients that ask for it.
        deflate: Deflate,
        /// Time limits.
        timeouts: Timeouts,
        /// Lifetimes of tokens, and tokens of an identity provider.
        token: Token,
        /// Limits on password guessing.
        throttle: Throttle,
        /// The reverse proxy to an endpoint.
        proxy: Proxy,
        /// Authentication.
        auth: Auth,
        /// DRP endpoints whose events are followed.
        upstream: Upstream,
        /// Spans for an OpenTelemetry collector.
        otel: Otel,
    }
}

table! {
    /// Limits on clients.
    Limits in "limits." {
        /// Longest websocket message from a client; a longer one closes the connection with 1009.
        message_bytes: usize as Size = "64KiB";
        /// Registrations per connection.
        registrations: usize as Count = "4096";
        /// Length of all registrations of one connection together; more are refused in their answers.
        registration_bytes: usize as Size = "4MiB";
        /// Length of all registrations of one principal's connections on one shard together.
        registration_bytes_per_principal: usize as Size = "64MiB";
        /// Combinations of type, action and key in the lists of one registration.
        combinations: usize as Count = "65536";
        /// Nesting of `And`, `Or` and `Not` in a filter.
        filter_nesting: usize as Count = "64";
        /// Compiled size of all regular expressions in one filter.
        regex_bytes: usize as Size = "1MiB";
        /// Size of all filters of one connection, including compiled regular expressions.
        filter_bytes: usize as Size = "16MiB";
        /// Size of all filters of one principal's connections on one shard.
        filter_bytes_per_principal: usize as Size = "64MiB";
        /// Work that all filters of one connection may do for one event, in units of about a nanosecond. A connection
        /// that exceeds it is closed with 1008. 0 means no limit.
        filter_work_per_event: u64 as Whole = "10000000";
        /// Work that all filters of one connection may do for the events of one second. A connection that exceeds it is
        /// closed with 1008. 0 means no limit.
        filter_work_per_second: u64 as Whole = "200000000";
        /// Work that all filters of one principal's connections on one shard may do for the events of one second. The
        /// connection that exceeds it is closed with 1008. 0 means no limit.
        filter_work_per_principal: u64 as Whole = "400000000";
        /// Longest event that is accepted; at most 1 GiB.
        event_bytes: usize as Size = "16MiB";
        /// Longest body of a request.
        body_bytes: usize as Size = "64MiB";
        /// Events in one post; more are refused with 413.
        post_events: usize as Count = "65536";
        /// Concurrent websockets and streams.
        connections: usize as Count = "100000";
        /// Concurrent websockets and streams of one principal; 0 means no limit.
        connections_per_principal: u64 as Whole = "0";
        /// Bytes that the kernel keeps of what is on its way to one client, and of what has come on one connection from
        /// an endpoint; 0 leaves both to the kernel. A connection carries at most so much in one round trip: 256 KiB
        /// are 5 MB/s where that takes 50 ms. `net.core.wmem_max` and `net.core.rmem_max` bound it too.
        socket_buffer: usize as SizeOrNone = "256KiB";
        /// Connections that have not finished their TLS handshake or shown credentials. Beyond it, a newcomer replaces
        /// a silent or slow one, or one of a network that has more than a quarter; otherwise it waits up to a second.
        pending_handshakes: usize as Count = "512";
        /// Events per second that one principal may post; 0 means no limit.
        posted_events_per_second: u64 as Whole = "0";
    }
}

table! {
    /// The queue of one connection.
    Outbox in "outbox." {
        /// Bytes that may be queued for one connection. The first queued event does not count if it is larger than half
        /// of this.
        bytes: usize as Size = "8MiB";
        /// Events that may be queued for one connection.
        events: usize as Count = "65536";
        /// Bytes of memory that what is queued for all connections together may take; an event counts once however many
        /// connections it is queued for, and its deflated frame, its text for streams and its entry in each queue in
        /// addition. Beyond it the outboxes that hold the most memory are shed first.
        total_bytes: usize as Size = "1GiB";
        /// What happens when an outbox is full: `disconnect` closes the connection with 1013, `drop-oldest` drops the
        /// oldest events and reports how many, `conflate` keeps the latest update of each object. A role, or the query
        /// of the websocket, can choose another policy.
        overflow: Overflow as Policy = "disconnect";
        /// Policies that a websocket may choose by its query (`?overflow=`), besides its default. A role can allow
        /// others. Empty: none.
        query_overflow: Vec<Overflow> as Policies = "disconnect,drop-oldest,conflate";
        /// Longest time an event may be queued for a connection with policy `disconnect`; after that the connection is
        /// closed with 1013.
        age: Option<Duration> as SpanOrOff = "2m";
    }
}

table! {
    /// The queue of events for one shard.
    Inbox in "inbox." {
        /// Events that may be queued for one shard; beyond it posts are answered with 429.
        events: usize as Count = "65536";
        /// Bytes that may be queued for one shard.
        bytes: usize as Size = "256MiB";
    }
}

table! {
    /// NATS, by which nodes share events.
    Nats in "nats." {
        /// NATS servers, tried in random order. Without any the node runs alone.
        urls: Vec<String> as NatsUrls = "";
        /// First token of the subjects `PREFIX.EVENTS.TYPE.ACTION.KEY`; nodes with the same prefix share their events.
        prefix: String as Token = "hydrant";
        /// File with a JWT and a seed, as `nsc` creates it.
        creds_file: Option<PathBuf> as OptionalPath = "";
        /// File with the seed of an nkey.
        nkey_file: Option<PathBuf> as OptionalPath = "";
        /// File with a token.
        token_file: Option<PathBuf> as OptionalPath = "";
        /// User name, with `password_file`.
        user: String as AnyText = "";
        /// File with the password of `user`.
        password_file: Option<PathBuf> as OptionalPath = "";
        /// Certificate authority in PEM that verifies NATS servers, instead of the system's; requires TLS.
        ca_file: Option<PathBuf> as OptionalPath = "";
        /// Certificate of this node in PEM, with `key_file`; requires TLS.
        cert_file: Option<PathBuf> as OptionalPath = "";
        /// Private key of this node in PEM.
        key_file: Option<PathBuf> as OptionalPath = "";
        /// Messages from other nodes that may be queued, and posts or batches that may be queued for sending. What does
        /// not fit is lost, and a gap is reported.
        queue_events: usize as Count = "8192";
        /// Bytes of messages that may be queued, and of events that may be queued for sending.
        queue_bytes: usize as Size = "64MiB";
        /// For how long events of other nodes that nobody here has registered for are gathered before they are accepted
        /// together. 0 accepts each at once.
        linger: Duration as SpanOrNone = "50ms";
        /// Events of DRP endpoints that are remembered to recognize copies from other nodes.
        window: usize as Count = "65536";
        /// `JetStream` stream that stores what nodes publish, for `?since=` beyond the history. It is created if it
        /// does not exist. Empty: no stream.
        stream: String as StreamName = "";
        /// Bytes that the stream stores, if it is created.
        stream_bytes: usize as Size = "1GiB";
        /// How long the stream stores an event, if it is created.
        stream_age: Duration as Span = "24h";
        /// NATS servers of a cluster that store the stream, if it is created.
        stream_replicas: usize as Replicas = "1";
    }
}

table! {
    /// The history for clients that reconnect.
    Replay in "replay." {
        /// Recent events that clients can request with `?since=`; 0 keeps none.
        events: u64 as Whole = "65536";
        /// Bytes of these events, uncompressed.
        bytes: usize as Size = "16MiB";
    }
}

table! {
    /// Compression for clients that ask for it (permessage-deflate): once for each event, whatever the number of them.
    Deflate in "deflate." {
        /// Whether permessage-deflate is negotiated.
        mode: DeflateMode as Deflating = "on";
        /// Shorter events are sent uncompressed.
        min_bytes: usize as Size = "256";
        /// Longer events are sent uncompressed: while one is compressed, others on the same shard wait.
        max_bytes: usize as Size = "1MiB";
        /// Compression level, from 1 (fastest) to 9 (smallest).
        level: u32 as DeflateLevel = "2";
        /// Types whose events are sent uncompressed.
        skip_types: Vec<String> as Names = "";
    }
}

table! {
    /// Time limits.
    Timeouts in "timeouts." {
        /// Interval between pings on a websocket.
        ping: Duration as Span = "25s";
        /// A websocket is closed when nothing was received from it for this long, and a connection when it accepts
        /// nothing of an answer.
        idle: Duration as Span = "60s";
        /// Time limit for the head of a request.
        header: Duration as Span = "5s";
        /// Time limit for a TLS handshake.
        handshake: Duration as Span = "5s";
        /// Time limit for a client to answer a close.
        close: Duration as Span = "5s";
        /// Time for balancers to notice before the server drains: `/readyz` is 503, and everything is still served.
        lame_duck: Duration as SpanOrNone = "0s";
        /// Time limit for delivering what is queued when the server ends.
        drain: Duration as Span = "10s";
    }
}

table! {
    /// Lifetimes of tokens, and tokens of an identity provider.
    Token in "token." {
        /// Lifetime of a token whose request names none.
        ttl: Duration as Span = "1h";
        /// Longest lifetime that a request may name.
        max_ttl: Duration as Span = "90d";
        /// File with the public keys (a JWKS) of an identity provider whose tokens are accepted too. It is read again
        /// when it changes.
        jwks: Option<PathBuf> as OptionalPath = "";
        /// The required `iss` of such a token. Needed with `token.jwks`.
        issuer: String as AnyText = "";
        /// The required `aud` of such a token, or one of its elements. Needed with `token.jwks`.
        audience: String as AnyText = "";
        /// The claim of such a token that names the user: a name such as `sub`, or a JSON pointer such as `/ext/login`.
        principal_claim: String as AnyText = "sub";
        /// The claim of such a token that lists role names: a name or a JSON pointer. Without it the user must exist in
        /// the store, whose roles count.
        roles_claim: String as AnyText = "";
    }
}

table! {
    /// Limits on password guessing.
    Throttle in "throttle." {
        /// Wrong passwords per minute, for one user from one network, before further attempts are answered with 429.
        failures: usize as Count = "5";
        /// Longest delay after repeated failures.
        max_wait: Duration as Span = "15m";
    }
}

table! {
    /// DRP endpoints whose events are followed.
    Upstream in "upstream." {
        /// The endpoints whose events are followed. All are used with the same credentials.
        urls: Vec<Endpoint> as Endpoints = "";
        /// The registrations made at each endpoint.
        register: Vec<String> as Specs = "*.*.*";
        /// The user that the server logs in as at the endpoints.
        username: String as Text = "rocketskates";
        /// The user's password.
        password: Option<Secret> as Hidden = "";
        /// File with the user's password; it is read for each connection.
        password_file: Option<PathBuf> as OptionalPath = "";
        /// Token instead of user and password.
        token: Option<Secret> as Hidden = "";
        /// File with the token; it is read for each connection.
        token_file: Option<PathBuf> as OptionalPath = "";
        /// How the endpoints' certificates are verified: by `ca_file`, by `fingerprint`, or not at all.
        tls: UpstreamTls as ClientTls = "verify";
        /// CA certificates in PEM. Only with `tls = "verify"`.
        ca_file: Option<PathBuf> as OptionalPath = "";
        /// Fingerprints of the endpoints' certificates, as `openssl x509 -fingerprint -sha256` prints them. Only with
        /// `tls = "pin"`.
        fingerprint: Vec<Fingerprint> as Fingerprints = "";
        /// Position in a chain of hydrants. An endpoint that is a hydrant must have a lower tier than this one; a
        /// hydrant without upstreams has tier 0.
        tier: u64 as Tier = "1";
        /// Time limit for connecting: TCP, TLS and the upgrade.
        connect: Duration as Span = "10s";
        /// Time limit for an endpoint to answer the registrations.
        answer: Duration as Span = "10s";
        /// Interval between pings to an endpoint.
        ping: Duration as Span = "20s";
        /// An endpoint is given up when nothing was received from it for this long.
        idle: Duration as Span = "60s";
        /// Longest delay before the second attempt to connect; each further delay may be twice as long.
        backoff_min: Duration as Span = "500ms";
        /// Longest delay before an attempt to connect.
        backoff_max: Duration as Span = "30s";
        /// Longest additional delay after the loss of an established connection, so that clients do not all reconnect
        /// at once.
        spread: Duration as Span = "5s";
    }
}

table! {
    /// The reverse proxy to an endpoint.
    Proxy in "proxy." {
        /// The endpoint that gets every request that this server does not serve itself: the `first` of `upstream.urls`,
        /// the one with this URL, or `off`.
        upstream: String as Text = "first";
        /// Concurrent requests, until the last byte of their answer was sent. Others wait for `proxy.connect` and are
        /// then answered with 503. A quarter is reserved for callers whose credentials the endpoint has accepted; one
        /// network of these gets at most half.
        requests: usize as Count = "512";
        /// Time limit for connecting, TLS included.
        connect: Duration as Span = "5s";
        /// Time limit for the endpoint to answer, after the last part of a request.
        answer: Duration as Span = "5m";
        /// Time limit for the next part of a body, in either direction.
        idle: Duration as Span = "60s";
        /// Send `X-Forwarded-For` to the endpoint. DRP v3 takes the host of its redirect to `/ui` from it.
        forwarded_for: bool as Switch = "true";
    }
}

table! {
    /// Authentication.
    Auth in "auth." {
        /// Who checks credentials: `local`, this server with its own users; `upstream`, the endpoint behind it; `both`,
        /// this server for its own users and tokens and the endpoint for all others. `auto` means `upstream` in front
        /// of an endpoint and otherwise `local`.
        mode: AuthMode as Mode = "auto";
        /// How long a credential that the endpoint accepted is accepted again without asking.
        fresh: Duration as Span = "1m";
        /// How long it is accepted while the endpoint does not answer.
        away: Duration as Span = "1h";
        /// Interval at which the endpoint's users, roles and tenants are read again even if its stream reports no
        /// change.
        refresh: Duration as Span = "5m";
    }
}
