//! A development broker of a test's own, as a process: one that stands still or dies harms no other test.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::service::{binary, free_address};
use crate::wait::{SOON, wait_until};

/// A running broker, or one that was killed. What it has written stays. It is killed when dropped.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    dir: PathBuf,
    process: Mutex<Child>,
}

impl Broker {
    /// Starts a broker whose files are in `dir`, and waits for it.
    ///
    /// # Panics
    /// If it doesn't come.
    #[must_use]
    pub(crate) fn start(dir: PathBuf) -> Self {
        let address = free_address();
        let process = Mutex::new(spawn(&dir, address));
        let broker = Self { address, dir, process };
        broker.wait();
        broker
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGSTOP: connections stay open, and nothing is answered.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: it goes on with what it was sent meanwhile.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub fn kill_9(&self) {
        self.signal(Signal::SIGKILL);
        self.process().wait().expect("a child can be waited for");
    }

    /// Starts it again after it was killed, with what it had, and waits for it.
    pub fn restart(&self) {
        *self.process() = spawn(&self.dir, self.address);
        self.wait();
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process().id()).expect("a pid fits");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("no {signal} to the broker: {error}"));
    }

    fn wait(&self) {
        wait_until("the broker listens", SOON, || TcpStream::connect(self.address).is_ok());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut process = self.process();
        // It may have been killed already.
        process.kill().ok();
        process.wait().ok();
    }
}

fn spawn(dir: &PathBuf, address: SocketAddr) -> Child {
    std::fs::create_dir_all(dir).expect("a directory in the temporary directory");
    let log = File::options().create(true).append(true).open(dir.join("log"));
    Command::new(binary("hookstream-devbroker"))
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen", &address.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log file can be written"))
        .spawn()
        .expect("the development broker can be started")
}
