//! A real PostgreSQL on this machine, for the history index: Debian's, without Docker.
//!
//! A server is a directory with its data, its log and its port. It listens on the loopback interface only, to whoever
//! is on this machine, and what is in it is thrown away: it does not wait for the disk. PostgreSQL refuses to run as
//! root; then it runs as the user `postgres`, which the package makes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::unistd::{User, chown, geteuid};

use crate::apt::{self, quietly};

/// Where Debian puts the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Who runs it instead of root.
const USER: &str = "postgres";
/// The superuser in the database.
const ROLE: &str = "hookstream";

/// A server in a directory, running or not.
#[derive(Clone, Debug)]
pub struct Server {
    dir: PathBuf,
    port: u16,
    programs: PathBuf,
}

impl Server {
    /// Lays out a new server at a free port.
    ///
    /// # Errors
    /// If the programs can't be had, or the directory holds something already.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let programs = match programs() {
            Some(programs) => programs,
            None => {
                apt::install(&["postgresql"]).context("PostgreSQL can't be had")?;
                programs().with_context(|| {
                    format!(
                        "the package `postgresql` put no programs below `{DEBIAN}`: add `initdb` to the PATH"
                    )
                })?
            }
        };
        fs::create_dir_all(dir).with_context(|| format!("`{}` could not be made", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("`{}` could not be read", dir.display()))?;
        ensure!(
            fs::read_dir(&dir)?.next().is_none(),
            "`{}` is not empty: name another directory, or empty it",
            dir.display()
        );
        if let Some(user) = other_user()? {
            chown(&dir, Some(user.uid), Some(user.gid))
                .with_context(|| format!("`{}` could not be given to `{USER}`", dir.display()))?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?.local_addr()?.port();
        let server = Self { dir, port, programs };
        let mut initdb = server.program("initdb")?;
        initdb.arg("--pgdata").arg(server.data());
        initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username", ROLE]);
        quietly(&mut initdb)?;
        // Last: a directory without it is no server.
        fs::write(server.dir.join("port"), port.to_string())?;
        Ok(server)
    }

    /// The server in `dir`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let port = fs::read_to_string(dir.join("port"))
            .with_context(|| format!("there is no PostgreSQL in `{}`", dir.display()))?;
        let port = port.trim().parse().with_context(|| format!("`{}/port` is damaged", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("`{}` could not be read", dir.display()))?;
        let programs = programs().context("PostgreSQL's programs are not there any more")?;
        Ok(Self { dir, port, programs })
    }

    /// Starts it, if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// If it does not; the end of its log is in the error.
    pub fn start(&self) -> anyhow::Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let mut start = self.program("pg_ctl")?;
        start.arg("--pgdata").arg(self.data()).arg("--log").arg(self.log());
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off",
            self.port
        );
        start.args(["--wait", "--timeout=60", "--options", &settings, "start"]);
        quietly(&mut start).with_context(|| {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(10).collect();
            format!("its log ends with:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        })
    }

    /// Stops it, if it runs.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(&self) -> anyhow::Result<()> {
        if !self.is_running()? {
            return Ok(());
        }
        let mut stop = self.program("pg_ctl")?;
        stop.arg("--pgdata").arg(self.data()).args(["--wait", "--mode=fast", "stop"]);
        quietly(&mut stop)
    }

    /// Deletes its directory.
    ///
    /// # Errors
    /// If it still runs, or files can't be deleted.
    pub fn delete(&self) -> anyhow::Result<()> {
        ensure!(!self.is_running()?, "PostgreSQL in `{}` still runs", self.dir.display());
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("`{}` could not be deleted", self.dir.display()))
    }

    /// What clients are given.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/postgres", self.port)
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn is_running(&self) -> anyhow::Result<bool> {
        let mut status = self.program("pg_ctl")?;
        status.arg("--pgdata").arg(self.data()).arg("status");
        Ok(status.output().context("`pg_ctl` could not be started")?.status.success())
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// One of PostgreSQL's programs, as a user that may run it.
    fn program(&self, name: &str) -> anyhow::Result<Command> {
        let program = self.programs.join(name);
        let mut command = match other_user()? {
            Some(_) => {
                let mut command = Command::new("runuser");
                command.args(["-u", USER, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // The directory that we are in may be closed to that user.
        command.current_dir(&self.dir);
        Ok(command)
    }
}

/// Who has to run it; none: we do.
fn other_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name(USER).context("users could not be looked up")?;
    Ok(Some(user.with_context(|| format!("there is no user `{USER}`: run as another user than root"))?))
}

/// Where PostgreSQL's programs are: the newest of Debian's, or wherever the PATH has them.
fn programs() -> Option<PathBuf> {
    let complete =
        |dir: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|name| dir.join(name).exists());
    let version = |dir: &PathBuf| -> Option<u32> { dir.parent()?.file_name()?.to_str()?.parse().ok() };
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let newest = debian.filter(complete).max_by_key(version);
    newest.or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(complete))
}
