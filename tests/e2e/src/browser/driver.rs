//! chromedriver and the one Chromium that it drives.
//!
//! It speaks WebDriver (W3C): each command is one HTTP request with JSON, and so is its answer.

use std::fs::{File, read_to_string};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::chromium::{TEST_CHROMEDRIVER, TEST_CHROMIUM};

use crate::http::Caller;
use crate::packages::package;
use crate::service::tail;
use crate::wait::{SOON, wait_for};

/// How Chromium is started.
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    // Its sandbox refuses to be set up by root, which containers run tests as; the pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Nothing but this machine is asked for anything, so a page that needs more does not pass its test.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];
/// Becomes chromedriver at any port, and ends it with all that it started when its standard input ends: when the test's
/// process does, however suddenly.
const UNTIL_END: &str = r#"exec 3<&0; (read -r end <&3; kill -9 0) & exec "$0" --port=0 </dev/null 3<&-"#;
/// Shorter than what a [`Caller`] waits for an answer, so that a page that hangs is told from a driver that does.
const PAGE_TIMEOUT_MS: u32 = 30_000;

/// A driver with its browser. Both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Driver {
    child: Child,
    caller: Caller,
    /// The path of the session; empty before there is one.
    session: String,
    /// The browser's profile and whatever else the two write.
    home: TempDir,
}

impl Driver {
    /// # Panics
    /// If the two are not installed, or don't start.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let log = home.path().join("chromedriver.log");
        let out = File::create(&log).expect("a file in a temporary directory");
        let mut child = Command::new("sh")
            .args(["-c", UNTIL_END])
            .arg(package(TEST_CHROMEDRIVER))
            // Everybody sees the same page, wherever the tests run.
            .envs([("LANGUAGE", "en_US"), ("TZ", "UTC")])
            .envs(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, home.path())))
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("a file handle can be copied"))
            .stderr(out)
            // Chromium and its many processes are in it too.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver could not be started: {error}"));
        let port: u16 = wait_for("chromedriver says its port", SOON, || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("chromedriver ended: {status}\n{}", tail(&log));
            }
            let said = read_to_string(&log).ok()?;
            let (_, port) = said.split_once("started successfully on port ")?;
            port.split_once('.')?.0.parse().ok()
        });
        let caller = Caller { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), token: None };
        // Under its guard before there is a session, so that the driver ends if there will be none.
        let mut driver = Self { child, caller, session: String::new(), home };
        driver.open().unwrap_or_else(|error| panic!("no Chromium: {error}\n{}", tail(&log)));
        driver
    }

    fn open(&mut self) -> Result<(), String> {
        let profile = format!("--user-data-dir={}", self.home.path().join("profile").display());
        let arguments: Vec<&str> = ARGUMENTS.iter().copied().chain([profile.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "binary": package(TEST_CHROMIUM), "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "pageLoad": PAGE_TIMEOUT_MS, "script": PAGE_TIMEOUT_MS },
        });
        let session = self.post("/session", &json!({ "capabilities": { "alwaysMatch": wanted } }))?;
        let id = session["sessionId"].as_str().ok_or_else(|| format!("no session in {session}"))?;
        self.session = format!("/session/{id}");
        Ok(())
    }

    /// A command that asks.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        self.call("GET", path, "")
    }

    /// A command that does something.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.call("POST", path, &body.to_string())
    }

    /// Runs a script in the page. If it returns a promise, that is awaited.
    pub(crate) fn run(&self, script: &str, args: &Value) -> Result<Value, String> {
        self.post("/execute/sync", &json!({ "script": script, "args": args }))
    }

    /// A command of Chromium's own, for what WebDriver has not.
    pub(crate) fn devtools(&self, command: &str, params: &Value) -> Result<Value, String> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let path = format!("{}{path}", self.session);
        let reply = self
            .caller
            .try_call(method, &path, &[], body)
            .ok_or_else(|| "chromedriver is silent".to_owned())?;
        let mut answer: Value = serde_json::from_str(&reply.body)
            .map_err(|error| format!("chromedriver says no JSON: {error}: {reply:?}"))?;
        let value = answer["value"].take();
        if reply.status == 200 {
            return Ok(value);
        }
        // Behind its first lines come others that say where in the driver it was.
        let message = value["message"].as_str().unwrap_or_default();
        let message = message.split("\n  (Session info").next().unwrap_or_default();
        Err(format!("{}: {message}", value["error"].as_str().unwrap_or_default()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // In good order, so that nobody writes any more when the directory is deleted.
        if !self.session.is_empty() {
            self.call("DELETE", "", "").ok();
        }
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"));
        killpg(group, Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;

    #[test]
    fn nothing_is_left_behind() {
        let driver = Driver::start();
        let home = driver.home.path().to_owned();
        let name = home.display().to_string();
        let of_browser = || {
            let commands =
                std::fs::read_dir("/proc").expect("Linux").flatten().map(|it| it.path().join("cmdline"));
            commands.flat_map(read_to_string).filter(|command| command.contains(&name)).count()
        };
        assert!(of_browser() > 1, "Chromium has many processes");
        drop(driver);
        wait_until("all of them are gone", SOON, || of_browser() == 0);
        assert!(!home.exists());
    }
}
