//! Threads that drive pipes on Kafka.

use std::convert::Infallible;
use std::io;
use std::thread::JoinHandle;

use hookstream_types::Mono;
use tokio::sync::{oneshot, watch};

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

/// A thread that drives a pipe.
#[derive(Debug)]
pub struct Driver {
    name: String,
    thread: JoinHandle<()>,
    /// Nothing is ever sent; it is closed when the thread ends.
    alive: oneshot::Receiver<Infallible>,
}

/// A thread that drives a pipe ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the thread `{name}` panicked: its message is in the log; please report it")]
pub struct Panicked {
    name: String,
}

impl Driver {
    /// Starts a thread with a runtime of its own that drives a pipe until [`Signals::stopped`].
    ///
    /// `make` makes the function on that thread. `look` is called before each step: there the function is given what
    /// changed, and figures are read.
    ///
    /// # Errors
    /// If the operating system gives no thread or no runtime.
    pub fn start<F, M, K>(
        name: String,
        log: KafkaLog,
        clock: Clock,
        signals: Signals,
        make: M,
        look: K,
    ) -> io::Result<Self>
    where
        F: Function,
        M: FnOnce() -> F + Send + 'static,
        K: FnMut(&mut Pipe<KafkaLog, F>) + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (living, alive) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let _living: oneshot::Sender<Infallible> = living;
            let pipe = Pipe::new(log, make(), Limits::default());
            runtime.block_on(run(pipe, clock, signals, look));
        })?;
        Ok(Self { name, thread, alive })
    }

    /// Waits until one of the threads ends, and says which. Before they are told to stop that is a panic, and the
    /// service must end: the thread's partitions would stand still.
    pub async fn first_end(drivers: &mut [Self]) -> Panicked {
        let ended = std::future::poll_fn(|cx| {
            let mut ended = drivers.iter_mut().filter_map(|driver| {
                std::pin::Pin::new(&mut driver.alive).poll(cx).is_ready().then(|| driver.name.clone())
            });
            ended.next().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        Panicked { name: ended.await }
    }

    /// Waits for the threads, which were told to stop.
    ///
    /// # Errors
    /// [`Panicked`] if one of them ended in that way.
    pub async fn join(drivers: Vec<Self>) -> Result<(), Panicked> {
        for driver in drivers {
            let joined = tokio::task::spawn_blocking(move || driver.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                return Err(Panicked { name: driver.name });
            }
        }
        Ok(())
    }
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
