//! The log: lines on stderr, as text or JSON. What is never in them is whoever logs's business: bodies and secrets.

use std::io::IsTerminal as _;

use hookstream_settings::{Log, LogFormat};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Starts the process's log. A second call does nothing: the first one's log stays.
pub(crate) fn init(log: &Log) {
    let filter: Targets =
        log.level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    drop(registry().with(lines.with_filter(filter)).try_init());
}
