//! The flags of `hydrant serve`. They are plain texts that `config` interprets, so that a value means the same wherever
//! it is given, and all errors are reported together.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::path::PathBuf;

use clap::Args;

use crate::config::{ConfigErrors, FlagValue, Settings, Sources};

/// The flags. Every other setting is in the file or in an environment variable: see `hydrant config doc`.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// TOML file with settings [env: HYDRANT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the API and the websocket; may be given several times [default: 127.0.0.1:8092]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Certificate: self-signed, files, or off for plain HTTP [default: self-signed]
    #[arg(long, value_name = "MODE")]
    tls: Option<String>,
    /// Certificate chain in PEM, with --tls files
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Private key in PEM, with --tls files
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Where users, keys and the certificate are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of /metrics, /healthz and /readyz, or off [default: 127.0.0.1:8093]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Number of threads that deliver events; 0 means one per core [default: 0]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// DRP endpoint whose events are received; may be given several times. Its credentials are in the file or in
    /// environment variables
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// NATS server over which nodes share their events; may be given several times. Credentials are in files named by
    /// settings
    #[arg(long, value_name = "URL")]
    nats: Vec<String>,
    /// JetStream stream that retains the events that nodes publish, for clients that reconnect after a long time
    #[arg(long, value_name = "NAME")]
    nats_stream: Option<String>,
    /// Simulate a fleet inside the server [default when bare: 200 machines]
    #[arg(long, value_name = "MACHINES", num_args = 0..=1, default_missing_value = "true")]
    demo: Option<String>,
    /// Start on a reachable address even if the first user still has its well-known password
    #[arg(long)]
    allow_default_credentials: bool,
}

impl ServeArgs {
    /// Returns the settings from these flags, the environment and the file, with notes on them.
    pub(super) fn settings(self) -> Result<(Settings, Vec<String>), ConfigErrors> {
        let mut sources = Sources::environment(self.config.clone());
        sources.flags = self.flags();
        Settings::load_with_notes(&sources)
    }

    fn flags(self) -> Vec<FlagValue> {
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let upstream = (!self.upstream.is_empty()).then(|| self.upstream.join(","));
        let nats = (!self.nats.is_empty()).then(|| self.nats.join(","));
        let given = [
            ("nats.urls", "--nats", nats),
            ("nats.stream", "--nats-stream", self.nats_stream),
            ("listen", "--listen", listen),
            ("upstream.urls", "--upstream", upstream),
            ("tls", "--tls", self.tls),
            ("tls_cert", "--tls-cert", self.tls_cert),
            ("tls_key", "--tls-key", self.tls_key),
            ("data_dir", "--data-dir", self.data_dir),
            ("metrics_listen", "--metrics-listen", self.metrics_listen),
            ("shards", "--shards", self.shards),
            ("demo", "--demo", self.demo),
            (
                "allow_default_credentials",
                "--allow-default-credentials",
                self.allow_default_credentials.then(|| "true".to_owned()),
            ),
        ];
        given.into_iter().filter_map(|(key, flag, text)| Some(FlagValue { key, flag, text: text? })).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::DEMO_MACHINES;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn settings(args: &[&str]) -> Settings {
        let line = Line::parse_from(std::iter::once(&"serve").chain(args));
        let env = vec![("HYDRANT_UPSTREAM_TOKEN".to_owned(), "t".to_owned())];
        Settings::load(&Sources { flags: line.serve.flags(), env, ..Sources::default() }).unwrap()
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let all = settings(&[
            "--listen=127.0.0.1:1",
            "--listen=[::1]:2,127.0.0.1:3",
            "--tls=off",
            "--data-dir=/d",
            "--metrics-listen=off",
            "--shards=3",
            "--demo=5",
            "--allow-default-credentials",
            "--upstream=http://drp:1",
            "--upstream=http://drp:2",
            "--nats=nats://n:1",
            "--nats=tls://n:2",
            "--nats-stream=EVENTS",
        ]);
        assert_eq!(all.listen.len(), 3);
        assert_eq!((all.tls.name(), all.data_dir, all.metrics_listen), ("off", "/d".into(), None));
        assert_eq!((all.shards, all.demo, all.allow_default_credentials), (3, Some(5), true));
        let urls: Vec<String> = all.upstream.urls.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://drp:1", "http://drp:2"]);
        assert_eq!(
            (all.nats.urls, all.nats.stream),
            (vec!["nats://n:1".to_owned(), "tls://n:2".to_owned()], "EVENTS".to_owned())
        );
        for (args, machines) in [
            (&["--demo"][..], DEMO_MACHINES),
            (&["--demo", "500"], 500),
            (&["--demo", "--shards=1"], DEMO_MACHINES),
            (&["--demo=7"], 7),
        ] {
            assert_eq!(settings(args).demo, Some(machines), "{args:?}");
        }
        let env = vec![("HYDRANT_UPSTREAM_TOKEN".to_owned(), "t".to_owned())];
        assert_eq!(settings(&[]), Settings::load(&Sources { env, ..Sources::default() }).unwrap());
    }
}
