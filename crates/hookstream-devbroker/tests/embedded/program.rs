//! The broker as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clients::until;

/// A broker that runs. It is killed if it is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pub address: String,
}

fn command(data_dir: &Path, listen: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookstream-devbroker"));
    command.arg("--data-dir").arg(data_dir).arg("--listen").arg(listen.to_string()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// An address that nobody listens at now, so that a broker can come back to it.
///
/// Not one of those that the system gives to connections: a client that tries to come back would take it for its own
/// end now and then.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    let free = || {
        let tried = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + tried % COUNT).unwrap();
        Some(TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().unwrap())
    };
    until("a free port", free)
}

impl Program {
    /// Starts it, and waits until it listens.
    pub fn start(data_dir: &Path, listen: SocketAddr, args: &[&str]) -> Self {
        let mut child = command(data_dir, listen, args).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        Self { child, address }
    }

    /// Starts one that is to fail. Returns what it complains of.
    pub fn fail(data_dir: &Path, listen: SocketAddr) -> String {
        let mut child = command(data_dir, listen, &[]).stderr(Stdio::piped()).spawn().unwrap();
        let status = until("the end of the program", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1));
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        complaint
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&mut self) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        until("the end of the program", || self.child.try_wait().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, or is not wanted any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
