//! One process of hookstream's, as an operator handles it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::{self, Caller, Metrics};
use crate::stack::ADMIN_TOKEN;
use crate::wait::{SOON, wait_for, wait_until};

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Ingester,
    Fanout,
    Sender,
    Api,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Ingester, Self::Fanout, Self::Sender, Self::Api];

    /// The binary's name.
    #[must_use]
    pub fn binary(self) -> &'static str {
        match self {
            Self::Ingester => "hookstream-ingester",
            Self::Fanout => "hookstream-fanout",
            Self::Sender => "hookstream-sender",
            Self::Api => "hookstream-api",
        }
    }
}

/// The path of one of our programs: where `HOOKSTREAM_TEST_BIN` says, else beside the tests.
///
/// # Panics
/// If it is not there.
pub(crate) fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("HOOKSTREAM_TEST_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a process knows its program");
        // target/<profile>/deps/<test>
        test.ancestors().nth(2).expect("cargo puts tests two levels deep").to_owned()
    });
    let path = dir.join(name);
    assert!(path.exists(), "`{}` is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// An address on which nobody listens, given out once in a run.
///
/// It lies below the ports that the system gives to whoever asks for any, so nobody else takes it before its user does.
///
/// # Panics
/// If the machine has none left.
#[must_use]
pub fn free_address() -> SocketAddr {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time start at different places.
    let start = std::process::id().wrapping_mul(101);
    (0..COUNT)
        .map(|_| {
            let next = start.wrapping_add(u32::from(GIVEN.fetch_add(1, Ordering::Relaxed)));
            let port = FIRST + u16::try_from(next % u32::from(COUNT)).expect("less than the count");
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        })
        .find(|addr| TcpListener::bind(addr).is_ok())
        .expect("a free port")
}

/// A running service, or a command that runs on and on. It is killed when dropped.
#[derive(Debug)]
pub struct Service {
    /// The program with its first argument, for messages.
    pub name: String,
    child: Child,
    ops: SocketAddr,
    api: SocketAddr,
    log: PathBuf,
}

impl Service {
    /// Starts a program; all of its settings come through `env`.
    pub(crate) fn start(program: &str, args: &[&str], log: PathBuf, env: &[(String, String)]) -> Self {
        let name = [program].into_iter().chain(args.first().copied()).collect::<Vec<_>>().join(" ");
        let ops = free_address();
        // `dev` serves all on the API's address; the API itself has one of each.
        let is_dev = args.first() == Some(&"dev");
        let api = if is_dev { ops } else { free_address() };
        let own_ops = if is_dev { "127.0.0.1:0".to_owned() } else { ops.to_string() };
        let out = File::options().create(true).append(true).open(&log).expect("a log file can be written");
        let child = Command::new(binary(program))
            .args(args)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            // A test may say otherwise.
            .env("HOOKSTREAM__API__URL", format!("http://{api}"))
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("HOOKSTREAM__OPS__LISTEN", own_ops)
            .env("HOOKSTREAM__API__LISTEN", api.to_string())
            .envs(program.ends_with("-api").then(|| {
                // Each has one of its own.
                let index = log.with_extension(format!("{}.db", api.port()));
                ("HOOKSTREAM__HISTORY__URL", format!("sqlite:{}", index.display()))
            }))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle can be copied"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("`{name}` could not be started: {error}"));
        Self { name, child, ops, api, log }
    }

    /// Starts `hookstream` with nothing set, as somebody does who has just installed it.
    #[must_use]
    pub fn alone(args: &[&str], log: PathBuf) -> Self {
        Self::start("hookstream", args, log, &[])
    }

    /// Where it serves `/metrics` and the like.
    #[must_use]
    pub fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// Where it serves the API, if it does.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The operator, at this API.
    #[must_use]
    pub fn admin(&self) -> Caller {
        Caller { addr: self.api, token: Some(ADMIN_TOKEN.to_owned()) }
    }

    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("no {signal} to {}: {error}", self.name));
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Panics
    /// If it ends before, or doesn't get ready in time.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let what = format!("{} is ready", self.name);
        wait_until(&what, SOON, || {
            if let Some(status) = self.exited() {
                panic!("{} ended before it was ready: {status}\n{}", self.name, self.log_tail());
            }
            self.is_ready()
        });
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        http::get(self.ops, "/readyz").is_some_and(|(status, _)| status == 200)
    }

    #[must_use]
    pub fn is_live(&self) -> bool {
        http::get(self.ops, "/livez").is_some_and(|(status, _)| status == 200)
    }

    /// What `/readyz` says.
    #[must_use]
    pub fn readiness(&self) -> String {
        http::get(self.ops, "/readyz").map(|(_, body)| body).unwrap_or_default()
    }

    /// A scrape of `/metrics`.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics_text())
    }

    /// A scrape of `/metrics`, as it comes.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let answer = http::get(self.ops, "/metrics").filter(|(status, _)| *status == 200);
        answer.unwrap_or_else(|| panic!("{} gives no metrics", self.name)).1
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGINT, as Ctrl-C sends it, and waits until it has ended; says how long that took.
    ///
    /// # Panics
    /// If it doesn't end within `timeout`, or not with success.
    #[track_caller]
    pub fn interrupt(mut self, timeout: Duration) -> Duration {
        let started = Instant::now();
        self.signal(Signal::SIGINT);
        let what = format!("{} ends after Ctrl-C", self.name);
        let status = wait_for(&what, timeout, || self.exited());
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.log_tail());
        started.elapsed()
    }

    /// SIGTERM, and waits until it has drained.
    ///
    /// # Panics
    /// If it doesn't end within `timeout`, or not with success.
    #[track_caller]
    pub fn terminate(mut self, timeout: Duration) {
        self.signal(Signal::SIGTERM);
        let what = format!("{} ends after SIGTERM", self.name);
        let status = wait_for(&what, timeout, || self.exited());
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.log_tail());
    }

    /// SIGKILL.
    pub fn kill_9(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// The most memory that it has had resident so far, in bytes.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("no `{path}`: {error}"));
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            peak.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{} has ended", self.name)) * 1024
    }

    /// The processor time that it has had so far.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        // Linux counts in hundredths of a second, whatever the kernel's own tick is.
        const TICK: Duration = Duration::from_millis(10);
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("no `{path}`: {error}"));
        // After the name, which may hold anything, come the state and then numbers.
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok());
        TICK * ticks.sum()
    }

    /// SIGSTOP: it stands still and knows nothing of it.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last part of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself, or by the test's doing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The last part of a file.
pub(crate) fn tail(path: &Path) -> String {
    const BYTES: u64 = 6 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}
