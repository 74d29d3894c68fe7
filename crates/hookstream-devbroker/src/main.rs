//! The development broker by itself, for tests and for trying clients on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use hookstream_devbroker::{DevBroker, Fsync, Settings};

/// A Kafka broker for development: one node, no security. Production is Kafka.
#[derive(Debug, Parser)]
#[command(name = "hookstream-devbroker", version)]
struct Args {
    /// Where its files are
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// When what was written is handed to the storage
    #[arg(long, value_enum, default_value_t = Sync::EverySecond)]
    fsync: Sync,
    /// Make topics that clients ask for
    #[arg(long)]
    auto_create_topics: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sync {
    Always,
    EverySecond,
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Args) -> Result<(), hookstream_devbroker::StartError> {
    let fsync = match args.fsync {
        Sync::Always => Fsync::Always,
        Sync::EverySecond => Fsync::Every(Duration::from_secs(1)),
    };
    let settings = Settings {
        fsync,
        auto_create_topics: args.auto_create_topics,
        ..Settings::new(args.data_dir, args.listen)
    };
    let broker = DevBroker::start(settings)?;
    println!("listening on {}", broker.address());
    let (told, stop) = std::sync::mpsc::channel();
    if let Err(error) = ctrlc::set_handler(move || told.send(()).unwrap_or_default()) {
        tracing::warn!("signals can't be handled, so it ends without closing its files: {error}");
    }
    // An error means that no signal can come.
    stop.recv().unwrap_or_default();
    broker.stop();
    Ok(())
}
