//! Declares every setting, and generates code from the declaration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::kind::{self, AuthMode, ClientName, DeflateMode, Kind, LogFormat, TlsMode, UpstreamTls};
use super::raw::{RawSettings, Row, Table};
use crate::client::{Endpoint, Fingerprint, Secret};
use crate::overflow::Overflow;

/// Every setting in the order of the declaration.
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
        /// Where the listener's certificate comes from: made at the first start, the files named by `tls_cert` and
        /// `tls_key`, or `off` for plain HTTP.
        tls: TlsMode as Tls = "self-signed";
        /// Certificate chain in PEM. Only with `tls = "files"`.
        tls_cert: Option<PathBuf> as OptionalPath = "";
        /// Private key of the certificate in PEM. Only with `tls = "files"`.
        tls_key: Option<PathBuf> as OptionalPath = "";
        /// Certificates in PEM of the authorities whose client certificates are credentials; without it none are asked
        /// for.
        tls_client_ca: Option<PathBuf> as OptionalPath = "";
        /// Where in a client's certificate its name stands, which is a principal such as `user:alice` or a user's name:
        /// the common name, or the only subject alternative name that is a URI, a mail address or a DNS name.
        tls_client_name: ClientName as CertificateName = "cn";
        /// Where users, keys and the self-signed certificate are kept. By default `$XDG_DATA_HOME/hydrant`, else
        /// `$HOME/.local/share/hydrant`, else `/var/lib/hydrant`.
        data_dir: PathBuf as Path = "";
        /// Address of `/metrics`, `/healthz` and `/readyz` in plain HTTP.
        metrics_listen: Option<SocketAddr> as AddressOrOff = "127.0.0.1:8093";
        /// Addresses on which a balancer connects that begins each connection with a header of the PROXY protocol,
        /// version 1 or 2; besides those of `listen`. Connections from elsewhere than `trusted_proxies`, and those
        /// without a header, are closed.
        listen_proxy_protocol: Vec<SocketAddr> as MaybeAddresses = "";
        /// Networks of the proxies and balancers that are believed when they tell who their client is, by
        /// `X-Forwarded-For`, `Forwarded` or the PROXY protocol. Empty: nobody is.
        trusted_proxies: Vec<IpNet> as Networks = "";
        /// Threads that deliver events; 0 is one for each core.
        shards: usize as Shards = "0";
        /// A simulated fleet of so many machines inside the server.
        demo: Option<u32> as Demo = "off";
        /// Events a second from the simulated fleet.
        demo_rate: u64 as Whole = "50";
        /// Seed of the simulated fleet: the same seed makes the same events.
        demo_seed: u64 as Whole = "1";
        /// Start on an address that others can reach though the first user still has its well-known password.
        allow_default_credentials: bool as Switch = "false";
        /// Origins besides the server's own whose pages may use this server, also with credentials that a browser adds
        /// by itself; `*` is any. Without it any page may, but with a token only.
        allowed_origins: Vec<String> as Origins = "";
        /// Tell of connections that come and go by events of Type `connections`.
        connection_events: bool as Switch = "true";
        /// Close a connection when the token it came with expires.
        close_on_token_expiry: bool as Switch = "false";
    } with {
        /// What is logged and how.
        log: Log,
        /// How much a client may ask for.
        limits: Limits,
        /// What may wait for one connection.
        outbox: Outbox,
        /// What may wait to be matched.
        inbox: Inbox,
        /// What is kept for clients that come back.
        replay: Replay,
        /// Other nodes, with which events are shared.
        nats: Nats,
        /// Compression for clients that ask for it.
        deflate: Deflate,
        /// How long the server waits for whom.
        timeouts: Timeouts,
        /// The lives of tokens, and whose besides our own are taken.
        token: Token,
        /// What guessing passwords costs.
        throttle: Throttle,
        /// What is handed on to an endpoint.
        proxy: Proxy,
        /// Who checks credentials.
        auth: Auth,
        /// The DRP endpoints whose events are taken in.
        upstream: Upstream,
    }
}

table! {
    /// What is logged and how.
    Log in "log." {
        /// Form of the log lines.
        format: LogFormat as Format = "text";
        /// Which lines are written.
        level: String as Level = "info";
        /// Log who came, was refused and left.
        audit: bool as Switch = "false";
    }
}

table! {
    /// How much a client may ask for.
    Limits in "limits." {
        /// Longest websocket message from a client; a longer one closes the connection with 1009.
        message_bytes: usize as Size = "64KiB";
        /// Registrations on one connection.
        registrations: usize as Count = "4096";
        /// Combinations of type, action and key that the lists of one registration may make.
        combinations: usize as Count = "65536";
        /// Levels of `And`, `Or` and `Not` in a filter.
        filter_nesting: usize as Count = "64";
        /// Compiled size of the regular expressions of one filter together.
        regex_bytes: usize as Size = "1MiB";
        /// Size of all filters of one connection, with compiled regular expressions.
        filter_bytes: usize as Size = "16MiB";
        /// Size of all filters of one principal's connections on one shard.
        filter_bytes_per_principal: usize as Size = "64MiB";
        /// What all filters of one connection may cost for one event, in units of about a nanosecond; a connection
        /// whose filters cost more is closed with 1008. 0 is without limit.
        filter_work_per_event: u64 as Whole = "10000000";
        /// What all filters of one connection may cost for the events of one second; beyond it as above. 0 is without
        /// limit.
        filter_work_per_second: u64 as Whole = "200000000";
        /// What all filters of one principal's connections on one shard may cost for the events of one second; beyond
        /// it as above. 0 is without limit.
        filter_work_per_principal: u64 as Whole = "400000000";
        /// Longest event that is taken in; at most 1 GiB.
        event_bytes: usize as Size = "16MiB";
        /// Longest body of a request.
        body_bytes: usize as Size = "64MiB";
        /// Events of one post; more are refused with 413.
        post_events: usize as Count = "65536";
        /// Connections at one time.
        connections: usize as Count = "100000";
        /// Websockets of one principal at one time; 0 is without limit.
        connections_per_principal: u64 as Whole = "0";
        /// Connections that have not yet finished their TLS handshake or shown credentials; beyond it silent and slow
        /// ones lose their place to newcomers.
        pending_handshakes: usize as Count = "512";
        /// Events a second that one principal may post; 0 is without limit.
        posted_events_per_second: u64 as Whole = "0";
    }
}

table! {
    /// What may wait for one connection.
    Outbox in "outbox." {
        /// Bytes that may wait for one connection.
        bytes: usize as Size = "8MiB";
        /// Events that may wait for one connection.
        events: usize as Count = "65536";
        /// Bytes that may wait for all connections together, each event counted once however many wait for it; beyond
        /// it the largest outboxes are shed first.
        total_bytes: usize as Size = "1GiB";
        /// What happens when more would have to wait: `disconnect` closes the connection with 1013, `drop-oldest` drops
        /// the oldest events and says how many, `conflate` keeps the latest update of each object. A role, or the query
        /// of the websocket, can choose another.
        overflow: Overflow as Policy = "disconnect";
        /// Policies that a websocket may choose by its query (`?overflow=`) besides the one that it has without; a role
        /// can say other ones. Empty: none.
        query_overflow: Vec<Overflow> as Policies = "disconnect,drop-oldest,conflate";
        /// For so long an event may wait for one connection whose policy is `disconnect`; then it is closed with 1013.
        age: Option<Duration> as SpanOrOff = "2m";
    }
}

table! {
    /// What may wait to be matched.
    Inbox in "inbox." {
        /// Events that may wait for one shard; beyond it posts are answered with 429.
        events: usize as Count = "65536";
        /// Bytes that may wait for one shard.
        bytes: usize as Size = "256MiB";
    }
}

table! {
    /// Other nodes, with which events are shared.
    Nats in "nats." {
        /// NATS servers, tried in random order. Without any the node is alone.
        urls: Vec<String> as NatsUrls = "";
        /// First token of the subjects `PREFIX.EVENTS.TYPE.ACTION.KEY`; nodes with the same one share their events.
        prefix: String as Token = "hydrant";
        /// File with a JWT and a seed, as `nsc` makes it.
        creds_file: Option<PathBuf> as OptionalPath = "";
        /// File with the seed of an nkey.
        nkey_file: Option<PathBuf> as OptionalPath = "";
        /// File with a token.
        token_file: Option<PathBuf> as OptionalPath = "";
        /// Name, with `password_file`.
        user: String as AnyText = "";
        /// File with the password of `user`.
        password_file: Option<PathBuf> as OptionalPath = "";
        /// Certificate authority in PEM that NATS servers are checked by, instead of the system's; asks for TLS.
        ca_file: Option<PathBuf> as OptionalPath = "";
        /// Certificate of this node in PEM, with `key_file`; asks for TLS.
        cert_file: Option<PathBuf> as OptionalPath = "";
        /// Private key of this node in PEM.
        key_file: Option<PathBuf> as OptionalPath = "";
        /// Messages from other nodes that may wait to be taken, and posts or batches that may wait to leave; what does
        /// not fit is lost, and a gap is told.
        queue_events: usize as Count = "8192";
        /// Bytes of messages that may wait to be taken, and of events that may wait to leave.
        queue_bytes: usize as Size = "64MiB";
        /// Events of DRP endpoints by which a copy from another node is known.
        window: usize as Count = "65536";
        /// `JetStream` stream that keeps what nodes publish, for `?since=` beyond the recent past. It is made if it is
        /// missing; empty is none.
        stream: String as StreamName = "";
        /// Bytes that the stream keeps, if it is made.
        stream_bytes: usize as Size = "1GiB";
        /// How long the stream keeps an event, if it is made.
        stream_age: Duration as Span = "24h";
        /// NATS servers of a cluster that keep the stream, if it is made.
        stream_replicas: usize as Replicas = "1";
    }
}

table! {
    /// What is kept for clients that come back.
    Replay in "replay." {
        /// Events of the recent past that a client can ask for with `?since=`; 0 keeps none.
        events: u64 as Whole = "65536";
        /// Bytes of these events, uncompressed.
        bytes: usize as Size = "16MiB";
    }
}

table! {
    /// Compression for clients that ask for it (permessage-deflate): once for each event, whatever the number of them.
    Deflate in "deflate." {
        /// Whether an offer of permessage-deflate is taken.
        mode: DeflateMode as Deflating = "on";
        /// Events shorter than this go out plain.
        min_bytes: usize as Size = "256";
        /// Events longer than this go out plain: while one is deflated, others on the same shard wait.
        max_bytes: usize as Size = "1MiB";
        /// Effort, from 1 (fastest) to 9 (smallest).
        level: u32 as DeflateLevel = "2";
        /// Types whose events go out plain.
        skip_types: Vec<String> as Names = "";
    }
}

table! {
    /// How long the server waits for whom.
    Timeouts in "timeouts." {
        /// Time between two pings on a websocket.
        ping: Duration as Span = "25s";
        /// A websocket without any sign of life for so long is closed, and a connection that takes nothing of an
        /// answer.
        idle: Duration as Span = "60s";
        /// Time for the head of a request.
        header: Duration as Span = "5s";
        /// Time for a TLS handshake.
        handshake: Duration as Span = "5s";
        /// Time for a client to answer a close.
        close: Duration as Span = "5s";
        /// Time for balancers to look elsewhere before the server drains: `/readyz` is 503, and everything is still
        /// served.
        lame_duck: Duration as SpanOrNone = "0s";
        /// Time to write out what is waiting when the server ends.
        drain: Duration as Span = "10s";
    }
}

table! {
    /// The lives of tokens, and whose besides our own are taken.
    Token in "token." {
        /// Life of a token whose request does not name one.
        ttl: Duration as Span = "1h";
        /// Longest life that a request may name.
        max_ttl: Duration as Span = "90d";
        /// File with the public keys (a JWKS) of an identity provider whose tokens are taken too; read again when it
        /// changes.
        jwks: Option<PathBuf> as OptionalPath = "";
        /// What `iss` of such a token must be. Needed with `token.jwks`.
        issuer: String as AnyText = "";
        /// What `aud` of such a token must be or have in it. Needed with `token.jwks`.
        audience: String as AnyText = "";
        /// The claim of such a token that names the user: a name such as `sub`, or a JSON pointer such as `/ext/login`.
        principal_claim: String as AnyText = "sub";
        /// The claim of such a token that lists names of roles, likewise. Without it the user must be one of the store,
        /// whose roles count.
        roles_claim: String as AnyText = "";
    }
}

table! {
    /// What guessing passwords costs.
    Throttle in "throttle." {
        /// Wrong passwords a minute, for one user from one network, before further tries are answered with 429.
        failures: usize as Count = "5";
        /// Longest wait that repeated failures lead to.
        max_wait: Duration as Span = "15m";
    }
}

table! {
    /// The DRP endpoints whose events are taken in.
    Upstream in "upstream." {
        /// The endpoints. All are used with the same credentials.
        urls: Vec<Endpoint> as Endpoints = "";
        /// What is registered at each endpoint.
        register: Vec<String> as Specs = "*.*.*";
        /// User that the server is at the endpoints.
        username: String as Text = "rocketskates";
        /// The user's password.
        password: Option<Secret> as Hidden = "";
        /// File with the user's password; it is read at each connection.
        password_file: Option<PathBuf> as OptionalPath = "";
        /// Token instead of user and password.
        token: Option<Secret> as Hidden = "";
        /// File with the token; it is read at each connection.
        token_file: Option<PathBuf> as OptionalPath = "";
        /// How the endpoints' certificates are checked: by `ca_file`, by `fingerprint`, or not at all.
        tls: UpstreamTls as ClientTls = "verify";
        /// CA certificates in PEM. Only with `tls = "verify"`.
        ca_file: Option<PathBuf> as OptionalPath = "";
        /// Fingerprints of the endpoints' certificates, as `openssl x509 -fingerprint -sha256` prints them. Only with
        /// `tls = "pin"`.
        fingerprint: Vec<Fingerprint> as Fingerprints = "";
        /// Place in a chain of hydrants. An endpoint that is a hydrant must stand lower than this one; one without
        /// upstreams stands at 0.
        tier: u64 as Tier = "1";
        /// Time for connecting: TCP, TLS and the upgrade.
        connect: Duration as Span = "10s";
        /// Time for an endpoint to answer the registrations.
        answer: Duration as Span = "10s";
        /// Time between two pings to an endpoint.
        ping: Duration as Span = "20s";
        /// An endpoint without any sign of life for so long is given up.
        idle: Duration as Span = "60s";
        /// Longest wait before the second try to connect; each further one may wait twice as long.
        backoff_min: Duration as Span = "500ms";
        /// Longest wait before a try to connect.
        backoff_max: Duration as Span = "30s";
        /// Longest further wait when a connection is lost that had lasted, so that not everybody comes back at once.
        spread: Duration as Span = "5s";
    }
}

table! {
    /// What is handed on to an endpoint.
    Proxy in "proxy." {
        /// The endpoint that gets every request that is not for this server itself: the `first` of `upstream.urls`, the
        /// one with this URL, or `off`.
        upstream: String as Text = "first";
        /// Requests that are under way at one time, until the last byte of their answer is through; others wait for
        /// `proxy.connect` and are then answered with 503. A quarter is kept for callers whose credentials the endpoint
        /// has taken.
        requests: usize as Count = "512";
        /// Time for connecting, TLS included.
        connect: Duration as Span = "5s";
        /// Time for the endpoint to answer, after the last part of a request.
        answer: Duration as Span = "5m";
        /// Time for the next part of a body, whoever is to send or to take it.
        idle: Duration as Span = "60s";
        /// Tell the endpoint by `X-Forwarded-For` where a request comes from. DRP v3 takes the host of its redirect to
        /// `/ui` from it.
        forwarded_for: bool as Switch = "true";
    }
}

table! {
    /// Who checks credentials.
    Auth in "auth." {
        /// Who checks credentials: `local`, this server by its own users; `upstream`, the endpoint that is proxied to;
        /// `both`, this server for its own users and tokens and the endpoint for all others. `auto` is `upstream` in
        /// front of an endpoint and otherwise `local`.
        mode: AuthMode as Mode = "auto";
        /// Time for which a credential that the endpoint accepted is accepted again without asking.
        fresh: Duration as Span = "1m";
        /// Time for which it is accepted while the endpoint does not answer.
        away: Duration as Span = "1h";
        /// Time after which users, roles and tenants of the endpoint are read again though its stream has told of no
        /// change.
        refresh: Duration as Span = "5m";
    }
}
