//! `hookstream dev` on a machine that has nothing else: its own broker, and data that survives.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hookstream_e2e::{Answer, Outcome, SOON, Service, free_address, wait_until};
use hookstream_testkit::receiver::Receiver;

/// What is promised: Ctrl-C ends it within this.
const END: Duration = Duration::from_secs(5);
/// What is promised for the demo.
const MOST_MEMORY: u64 = 250 * 1024 * 1024;

/// A directory and addresses of a test's own.
struct Dev {
    dir: tempfile::TempDir,
    kafka: String,
    starts: usize,
}

impl Dev {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            kafka: free_address().to_string(),
            starts: 0,
        }
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn start(&mut self, more: &[&str]) -> (Service, Duration) {
        self.starts += 1;
        let log = self.dir.path().join(format!("{}.log", self.starts));
        let data = self.data();
        let args = ["dev", "--kafka-listen", &self.kafka, "--data-dir", &data];
        let started = Instant::now();
        let mut dev = Service::alone(&[&args, more].concat(), log);
        wait_until("hookstream is ready", SOON, || {
            assert!(dev.exited().is_none(), "dev gave up:\n{}", dev.log_tail());
            dev.log().lines().any(|line| line.starts_with("hookstream is ready"))
        });
        (dev, started.elapsed())
    }

    fn hookstream(&self, args: &[&str]) -> Outcome {
        Outcome::alone(&[args, &["--bootstrap-servers", &self.kafka]].concat())
    }

    /// Every event goes to the receiver.
    fn subscribe(&self, dev: &Service, receiver: &Receiver) {
        let file = self.dir.path().join("webhooks.yaml");
        let url = receiver.url("/mine");
        let text = format!(
            "webhooks: [{{name: mine, url: \"{url}\", event_types: [\"*\"], retry: [0s, 1s, 2s, 5s]}}]"
        );
        std::fs::write(&file, text).expect("a file in a temporary directory");
        let (api, token) = (format!("http://{}", dev.api()), format!("{}/admin-token", self.data()));
        let file = file.display().to_string();
        let applied = Outcome::alone(&["apply", "-f", &file, "--api", &api, "--token-file", &token]);
        assert_eq!(applied.code, Some(0), "{applied}");
        // Its ping.
        receiver.forget();
    }

    fn send(&self, count: usize) {
        let count = count.to_string();
        let sent = self.hookstream(&[
            "events",
            "send",
            "--topic",
            "domain-events",
            "--type",
            "a.b",
            "--count",
            &count,
        ]);
        assert_eq!(sent.code, Some(0), "{sent}");
    }
}

fn arrived(receiver: &Receiver, count: u64) {
    wait_until("the events arrive", SOON, || receiver.seen(|seen| seen.distinct()) >= count);
}

#[test]
fn needs_nothing_else_and_what_it_has_survives() {
    let mut at = Dev::new();
    let receiver = Receiver::start();
    let (dev, first) = at.start(&[]);
    let (log, http) = (dev.log(), dev.ops().to_string());
    for part in ["admin token", "development broker", &*at.kafka, &*http, "private addresses", "events send"]
    {
        assert!(log.contains(part), "it does not say `{part}`:\n{log}");
    }
    let token = Path::new(&at.data()).join("admin-token");
    assert_eq!(std::fs::metadata(token).expect("it is kept").permissions().mode() & 0o777, 0o600);
    at.subscribe(&dev, &receiver);
    at.send(5);
    arrived(&receiver, 5);

    // These wait while the endpoint fails, and the whole installation is killed meanwhile.
    receiver.on("/mine", Answer::status(500));
    at.send(5);
    wait_until("the failures are there", SOON, || receiver.seen(|seen| seen.distinct()) >= 10);
    dev.kill_9();
    receiver.on("/mine", Answer::status(200));
    let before = receiver.seen(|seen| seen.total());
    let (dev, second) = at.start(&[]);
    println!(
        "dev: ready after {:.1} s, the second time after {:.1} s",
        first.as_secs_f64(),
        second.as_secs_f64()
    );
    wait_until("the retries come", SOON, || receiver.seen(|seen| seen.total()) >= before + 5);
    let took = dev.interrupt(END);
    println!("dev: Ctrl-C ended it after {:.1} s", took.as_secs_f64());
}

#[test]
fn says_which_option_helps() {
    let mut at = Dev::new();
    let (dev, _) = at.start(&[]);
    let http = dev.ops().to_string();
    let other = free_address().to_string();
    let data = at.data();
    let elsewhere = at.dir.path().join("elsewhere").display().to_string();
    for (args, code, part) in [
        (["--kafka-listen", &at.kafka, "--listen", &other, "--data-dir", &elsewhere], 64, "`--kafka-listen`"),
        (["--kafka-listen", &other, "--listen", &http, "--data-dir", &elsewhere], 64, "`--listen`"),
        (
            ["--kafka-listen", &other, "--listen", &free_address().to_string(), "--data-dir", &data],
            1,
            "in use by another",
        ),
    ] {
        let outcome = Outcome::alone(&[&["dev"], &args[..]].concat());
        assert!(outcome.code == Some(code) && outcome.stderr.contains(part), "{args:?}: {outcome}");
    }
    dev.interrupt(END);
}

#[test]
fn the_demo_has_something_to_look_at() {
    let mut at = Dev::new();
    let (dev, _) = at.start(&["--demo"]);
    let outcomes =
        |label: &str| dev.metrics().sum_with("hookstream_sender_attempts_total", label).unwrap_or(0.0);
    wait_until("deliveries that succeed and others that fail", SOON, || {
        outcomes("outcome=\"delivered\"") >= 10.0 && outcomes("outcome=\"retry\"") >= 2.0
    });
    let memory = dev.peak_memory();
    println!("dev --demo: {} MiB at most", memory / 1024 / 1024);
    assert!(memory <= MOST_MEMORY, "{memory} bytes");
    dev.interrupt(END);
}

#[test]
fn the_data_directory_is_for_its_owner_only() {
    let mut at = Dev::new();
    let (dev, _) = at.start(&[]);
    let data = PathBuf::from(at.data());
    assert_eq!(std::fs::metadata(&data).expect("it is there").permissions().mode() & 0o777, 0o700);
    assert!(data.join("kafka").is_dir() && data.join(".gitignore").is_file());
    dev.interrupt(END);
}
