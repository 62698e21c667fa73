//! `hydrant serve`: runs the broker with its listeners, until SIGTERM or SIGINT.
//!
//! Signals: SIGTERM and SIGINT drain and end with 0. A second one ends at once with 1, even while the server drains;
//! one during startup ends with 0. SIGHUP reloads users, roles, keys and the certificate, on a thread of its own: a
//! file that hangs delays neither a drain nor its end. Logs go to standard error and block nothing
//! ([`crate::logging`]); standard output gets only what the user should try next.

use std::io::{self, Write};
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::console;
use super::service_manager::ServiceManager;
use super::signals::survive_file_size_limit;
use crate::AUDIT;
use crate::config::{LogFormat, Settings, TlsMode};
use crate::logging::{self, crash};
use crate::server::{Server, StartError};
use crate::tasks;

/// The reason why the server did not start, or failed.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The server could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime or the signals could not be set up.
    #[error("cannot start the threads of the runtime, or listen for signals: {0}")]
    Runtime(#[from] io::Error),
    /// A second signal asked it to end at once.
    #[error("a second signal ended the server before it had drained")]
    Hurried,
}

impl ServeError {
    /// Returns whether the settings are at fault.
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(self, Self::Start(error) if error.is_configuration())
    }
}

/// Runs until the process is asked to end. `notes` are remarks on the settings, which are logged. An error is reported
/// too, in the format of the log.
///
/// # Errors
/// [`ServeError`].
pub fn run(settings: Settings, notes: &[String], out: &mut dyn Write) -> Result<(), ServeError> {
    let format = settings.log.format;
    run_logged(settings, notes, out).inspect_err(|error| report(error, format))
}

fn run_logged(settings: Settings, notes: &[String], out: &mut dyn Write) -> Result<(), ServeError> {
    start_logging(&settings)?;
    let _flushed = Flushed;
    crash::report();
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let nice = control_nice();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .on_thread_start(move || yield_to_shards(nice))
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(settings, out));
    // Threads that still wait, such as the one that waits for the shards to drain, end with the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, out: &mut dyn Write) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let server = tokio::select! {
        server = Box::pin(Server::start(settings)) => server?,
        () = signals.end() => return Ok(()),
    };
    announce(&server);
    let manager = ServiceManager::from_env();
    manager.ready(&server);
    tasks::spawn(manager.clone().signs_of_life(server.health()));
    if server.settings().demo.is_some() {
        // The user of the demonstration may have closed its output; the server continues.
        let _ = write_hints(&server, out);
    }
    let reload = || {
        manager.reloading();
        tasks::spawn_blocking(server.reloading())
    };
    until_end(async || signals.next().await, reload, || manager.ready(&server)).await;
    manager.stopping();
    tracing::info!("stopping: delivering accepted events, then closing all connections");
    tokio::select! {
        () = server.stop() => {
            tracing::info!("stopped");
            Ok(())
        }
        () = signals.end() => Err(ServeError::Hurried),
    }
}

/// Reloads whenever asked, until asked to end. One reload runs at a time. Those asked for meanwhile are one more, so
/// that what was written before is read. If a reload does not return, none ends any more, but the process can.
async fn until_end(
    mut next: impl AsyncFnMut() -> Asked,
    mut reload: impl FnMut() -> JoinHandle<()>,
    mut reloaded: impl FnMut(),
) {
    let (mut running, mut is_due) = (None::<JoinHandle<()>>, false);
    loop {
        let ended = async {
            match &mut running {
                Some(reload) => reload.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = next() => match asked {
                Asked::End => return,
                Asked::Reload => is_due = true,
            },
            ended = ended => {
                running = None;
                match ended {
                    // The manager waits for the last one.
                    Ok(()) if is_due => {}
                    Ok(()) => reloaded(),
                    Err(error) => tracing::error!(%error, "the thread that reloads failed"),
                }
            }
        }
        if is_due && running.is_none() {
            (running, is_due) = (Some(reload()), false);
        }
    }
}

/// Nice value of the control threads, in addition to that of the main thread: a third of a shard's weight (`sched(7)`).
const CONTROL_NICE: i32 = 5;

/// Returns the nice value of the control threads. Called on the main thread, whose value the shards have.
fn control_nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or_default() + CONTROL_NICE
}

/// Gives the shards' threads priority over the calling one where they share a core. A burst of connects or downloads
/// would otherwise get half of the core, and a shard that needs more would lag for as long as the burst lasts. On free
/// cores this has no effect.
///
/// Threads inherit the nice value of the thread that starts them, and cannot lower it again. So the main thread, which
/// starts the shards and the threads that hash passwords, keeps its own. And the value is absolute: control threads
/// start more of them, each of which would otherwise be nicer than the one that started it.
fn yield_to_shards(nice: i32) {
    // If the system refuses even this, the thread runs with its old priority. The process 0 is the calling thread.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// Timeout for flushing the last lines of the log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Reports why the server has ended, after the last lines of its log and with the same timeout for a stalled reader. A
/// log for programs gets a line in its format, unless it has no errors (`log.level`).
fn report(error: &ServeError, format: LogFormat) {
    if format != LogFormat::Text && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(%error, "the server has ended");
    } else if let Ok(mut log) = logging::standard_error() {
        console::report(&mut log, format_args!("{error}"));
    }
    // A stalled reader is not waited for.
    let _ = logging::flush(LAST_LINES);
}

/// Flushes the last lines of the log when dropped, before the process ends.
struct Flushed;

impl Drop for Flushed {
    fn drop(&mut self) {
        // A stalled reader is not waited for.
        let _ = logging::flush(LAST_LINES);
    }
}

/// Logs to standard error. A second call in one process changes nothing.
fn start_logging(settings: &Settings) -> io::Result<()> {
    let filter = EnvFilter::try_new(&settings.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let audit = if settings.log.audit { "info" } else { "off" };
    let directive = format!("{AUDIT}={audit}").parse().expect("a constant in the form of a directive");
    let mut filter = filter.add_directive(directive);
    if !settings.log.level.contains("rustls") {
        // It warns of each handshake with what the client sent; the listener logs a summary instead.
        filter = filter.add_directive("rustls=error".parse().expect("a constant in the form of a directive"));
    }
    let log = logging::standard_error()?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || log);
    let result = match settings.log.format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Logfmt => logs
            .event_format(tracing_logfmt::EventsFormatter::default())
            .fmt_fields(tracing_logfmt::FieldsFormatter::default())
            .try_init(),
        LogFormat::Text => logs.with_ansi(console::is_coloured()).try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging is already set up");
    }
    Ok(())
}

fn announce(server: &Server) {
    for address in server.addresses() {
        tracing::info!(%address, tls = server.settings().tls.name(), "listening");
    }
    if let Some(address) = server.probe_address() {
        tracing::info!(%address, "listening for metrics and health checks");
    }
}

fn write_hints(server: &Server, out: &mut dyn Write) -> io::Result<()> {
    let Some(address) = server.addresses().first() else { return Ok(()) };
    let scheme = if server.settings().tls == TlsMode::Off { "http" } else { "https" };
    let (url, machines) = (format!("{scheme}://{address}"), server.settings().demo.unwrap_or_default());
    // Spelled as it was called, so that the hint works from the same directory.
    let program = std::env::args().next().unwrap_or_else(|| "hydrant".to_owned());
    writeln!(out, "hydrant serves a simulated fleet of {machines} machines on {url}")?;
    writeln!(out, "open {url}/ in a browser or, in a second terminal, try")?;
    writeln!(out, "  {program} watch -E {url} 'machines.update.*'")?;
    writeln!(out, "  RS_ENDPOINT={url} drpcli events watch 'jobs.*.*'")?;
    if let Some(probe) = server.probe_address() {
        writeln!(out, "  curl http://{probe}/metrics")?;
    }
    writeln!(out, "user rocketskates, password r0cketsk8ts unless changed; press Ctrl-C to end")?;
    out.flush()
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        survive_file_size_limit()?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    async fn end(&mut self) {
        while self.next().await == Asked::Reload {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_reload_that_hangs_does_not_keep_the_server_from_ending() {
        let (signal, mut signals) = channel(9);
        let (_never, hanging) = oneshot::channel::<()>();
        let mut hanging = Some(hanging);
        signal.try_send(Asked::Reload).unwrap();
        signal.try_send(Asked::Reload).unwrap();
        signal.try_send(Asked::End).unwrap();
        let reload = || {
            let file = hanging.take().expect("one at a time");
            tasks::spawn(async { drop(file.await) })
        };
        until_end(async || signals.recv().await.unwrap(), reload, || panic!("it hangs")).await;
    }

    #[tokio::test]
    async fn what_is_asked_while_a_reload_runs_is_done_after_it() {
        let (signal, mut signals) = channel(9);
        let (answer, hanging) = oneshot::channel::<()>();
        let (mut hanging, mut answer) = (Some(hanging), Some(answer));
        signal.try_send(Asked::Reload).unwrap();
        signal.try_send(Asked::Reload).unwrap();
        let (mut begun, mut asked) = (0, 0);
        let reload = || {
            begun += 1;
            let file = hanging.take();
            tasks::spawn(async {
                if let Some(file) = file {
                    file.await.unwrap();
                }
            })
        };
        let next = async || {
            asked += 1;
            if asked == 3 {
                answer.take().unwrap().send(()).unwrap();
            }
            signals.recv().await.unwrap()
        };
        until_end(next, reload, || signal.try_send(Asked::End).unwrap()).await;
        assert_eq!(begun, 2);
    }
}
