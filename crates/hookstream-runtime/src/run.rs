//! A process from its arguments to its exit code.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};
use hookstream_settings::{LogFormat, Problem, Settings};
use hookstream_types::Chain;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Ctx, Ops, ProcessMetrics, ServiceError, telemetry};

/// The service ended with an error, or didn't end in time.
pub const EXIT_FAILURE: u8 = 1;
/// Bad arguments or settings (`EX_USAGE` of sysexits).
pub const EXIT_USAGE: u8 = 64;

/// Threads of the runtime that `main` has: operations port, signals, timers. Services bring their own for their work.
const WORKERS: usize = 2;
/// How long what the runtime still runs may keep the process after its service has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The whole `main` of a service: arguments, settings, log, operations port, signals, exit code.
pub fn run<F, Fut>(name: &'static str, start: F) -> ExitCode
where
    F: FnOnce(Ctx) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), ServiceError>>,
{
    let arguments = match command(name).try_get_matches() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; all else is a mistake.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let config = arguments.get_one::<PathBuf>("config").map(PathBuf::as_path);
    match Settings::load(config, std::env::vars().collect()) {
        Err(problems) => report(name, &problems),
        Ok(settings) if arguments.get_flag("print-config") => {
            print!("{}", settings.to_yaml());
            ExitCode::SUCCESS
        }
        Ok(_) if arguments.get_flag("check-config") => {
            println!("the settings are valid");
            ExitCode::SUCCESS
        }
        Ok(settings) => launch(name, settings, start),
    }
}

/// Prints all problems of the settings, and gives the exit code for them.
pub fn report(name: &str, problems: &[Problem]) -> ExitCode {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    eprintln!("{name}: {count} with the settings");
    for problem in problems {
        eprintln!("  - {problem}");
    }
    ExitCode::from(EXIT_USAGE)
}

/// Runs a service with settings that are there already, until it ends or a signal ends it.
///
/// The first SIGTERM or SIGINT cancels `ctx.shutdown`; the service then has `shutdown.grace` to drain. The second
/// ends the process at once.
pub fn launch<F, Fut>(name: &'static str, settings: Settings, start: F) -> ExitCode
where
    F: FnOnce(Ctx) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), ServiceError>>,
{
    telemetry::init(&settings.log);
    let format = settings.log.format;
    let ctx = Ctx::new(settings);
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(supervise(name, ctx, start));
        runtime.shutdown_timeout(LAST_WORDS);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = Chain(&*error).to_string();
            match format {
                LogFormat::Text => eprintln!("{name}: {message}"),
                LogFormat::Json => tracing::error!(service = name, error = message, "failed"),
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Runs a service on a thread of its own, where it may hold what can't change threads; the future gives its result.
///
/// # Errors
/// What the service returned, or that it panicked.
pub fn spawn<F, Fut>(
    name: &'static str,
    ctx: Ctx,
    start: F,
) -> impl Future<Output = Result<(), ServiceError>> + Send + 'static
where
    F: FnOnce(Ctx) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), ServiceError>>,
{
    let runtime = Handle::current();
    let (result, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody listens any more once the process is past its grace.
        drop(result.send(runtime.block_on(start(ctx))));
    });
    async move {
        thread?;
        ended.await.unwrap_or_else(|_| Err(format!("{name} panicked; its last words are above").into()))
    }
}

async fn supervise<F, Fut>(name: &'static str, ctx: Ctx, start: F) -> Result<(), ServiceError>
where
    F: FnOnce(Ctx) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), ServiceError>>,
{
    let mut signals = Signals::new()?;
    ProcessMetrics::register(&ctx.registry, &ctx.clock, name)?;
    let ops = Ops::bind(ctx.settings.ops.listen).await?;
    tracing::info!(
        service = name,
        version = env!("CARGO_PKG_VERSION"),
        ops.listen = %ops.address(),
        kafka.bootstrap_servers = ctx.settings.kafka.bootstrap_servers,
        kafka.namespace = ctx.settings.kafka.namespace,
        "starting"
    );
    let ops = tokio::spawn({
        let ctx = ctx.clone();
        async move { ops.serve(&ctx).await }
    });
    let service = spawn(name, ctx.clone(), start);
    tokio::pin!(service);

    let stop = ctx.shutdown.clone();
    let result = tokio::select! {
        result = &mut service => match result {
            Ok(()) if !stop.is_cancelled() => Err("it ended without being told to".into()),
            result => result,
        },
        () = async { tokio::select! { () = signals.next() => (), () = stop.cancelled() => () } } => {
            let grace = ctx.settings.shutdown.grace;
            tracing::info!(grace_seconds = grace.as_secs(), "stopping; a second signal ends the process at once");
            ctx.health.stopping();
            ctx.shutdown.cancel();
            tokio::select! {
                result = timeout(grace, &mut service) => result.unwrap_or_else(|_| {
                    tracing::warn!("work in flight did not end within `shutdown.grace`; it will be repeated");
                    Err("it did not stop within `shutdown.grace`".into())
                }),
                () = signals.next() => Err("a second signal came before it had stopped".into()),
            }
        }
    };
    ops.abort();
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

fn runtime() -> Result<Runtime, ServiceError> {
    Ok(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}

fn command(name: &'static str) -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("A service of hookstream; runs until SIGTERM or SIGINT, then drains.")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Settings file (YAML); HOOKSTREAM__SECTION__KEY variables count more"),
        )
        .arg(
            flag("check-config", "Check the settings, say what is wrong with them, and exit")
                .conflicts_with("print-config"),
        )
        .arg(flag("print-config", "Print the settings in effect, without secrets, and exit"))
        .after_help("Exit codes: 0 stopped when told to, 1 failure, 64 bad arguments or settings.")
}

#[cfg(test)]
mod tests {
    use hookstream_settings::Map;

    use super::*;

    fn ctx() -> Ctx {
        let variables = [("HOOKSTREAM__OPS__LISTEN", "127.0.0.1:0"), ("HOOKSTREAM__SHUTDOWN__GRACE", "1s")];
        let variables: Map<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Ctx::new(Settings::load_without_key(None, variables).unwrap())
    }

    #[test]
    fn the_arguments_are_consistent() {
        command("hookstream-test").debug_assert();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_stops_when_told_to_has_succeeded() {
        let ctx = ctx();
        ctx.shutdown.cancel();
        let wait = |ctx: Ctx| async move {
            ctx.shutdown.cancelled().await;
            Ok(())
        };
        supervise("test", ctx.clone(), wait).await.unwrap();
        assert!(!ctx.health.is_ready());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn how_a_service_fails() {
        let fails = |_: Ctx| async { Err("the broker is gone".into()) };
        assert_eq!(supervise("test", ctx(), fails).await.unwrap_err().to_string(), "the broker is gone");
        let ends = |_: Ctx| async { Ok(()) };
        let error = supervise("test", ctx(), ends).await.unwrap_err();
        assert_eq!(error.to_string(), "it ended without being told to");
        let panics = |_: Ctx| async { panic!("meant to") };
        let error = supervise("test", ctx(), panics).await.unwrap_err();
        assert_eq!(error.to_string(), "test panicked; its last words are above");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_does_not_stop_is_left_behind() {
        let ctx = ctx();
        ctx.shutdown.cancel();
        let error = supervise("test", ctx, |_| std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("shutdown.grace"), "{error}");
    }
}
