//! A thread that drives a pipe on Kafka.

use std::io;
use std::thread::JoinHandle;

use hookstream_types::Mono;
use tokio::sync::watch;

use super::{Function, Limits, Pipe};
use crate::kafka::{Clock, KafkaLog};

/// What tells the threads of a service something.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Something that a function may have waited for has changed.
    pub changed: watch::Receiver<()>,
    /// The group was left: nothing is to be driven any more.
    pub stopped: watch::Receiver<bool>,
}

/// Starts a thread with a runtime of its own that drives a pipe until [`Signals::stopped`].
///
/// `make` makes the function on that thread. `look` is called before each step: there the function is given what
/// changed, and figures are read.
///
/// # Errors
/// If the operating system gives no thread or no runtime.
pub fn drive<F, M, K>(
    name: String,
    log: KafkaLog,
    clock: Clock,
    signals: Signals,
    make: M,
    look: K,
) -> io::Result<JoinHandle<()>>
where
    F: Function,
    M: FnOnce() -> F + Send + 'static,
    K: FnMut(&mut Pipe<KafkaLog, F>) + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let pipe = Pipe::new(log, make(), Limits::default());
        runtime.block_on(run(pipe, clock, signals, look));
    })
}

async fn run<F: Function>(
    mut pipe: Pipe<KafkaLog, F>,
    clock: Clock,
    mut signals: Signals,
    mut look: impl FnMut(&mut Pipe<KafkaLog, F>),
) {
    let mut watched = true;
    while !*signals.stopped.borrow() {
        look(&mut pipe);
        pipe.step(clock());
        let until = pipe.next_deadline();
        if until == Some(Mono(0)) {
            // What the function started on this runtime gets its turn too.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = pipe.log().changed(until) => {}
            changed = signals.changed.changed(), if watched => watched = changed.is_ok(),
            // An error means that nobody can stop us any more: that stops us too.
            stopped = signals.stopped.wait_for(|stopped| *stopped) => if stopped.is_err() { return },
        }
    }
}
