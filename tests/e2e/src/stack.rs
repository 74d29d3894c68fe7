//! An installation of a test's own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookstream_testkit::receiver::Receiver;

use crate::broker::Broker;
use crate::config::Config;
use crate::feed::{CLOUDEVENTS, Feed, cloudevent};
use crate::kafka::{Kafka, Message};
use crate::ledger::Ledger;
use crate::service::{Role, Service, binary, tail};
use crate::wait::SOON;

/// The key-encryption key that installations have: any 32 bytes.
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The operator's own token.
pub const ADMIN_TOKEN: &str = "operators-own-token-of-the-tests";
/// Held for reading by tests that share the brokers in peace, and for writing by one that breaks them.
static BROKERS: RwLock<()> = RwLock::new(());

#[derive(Debug)]
enum Peace {
    /// Its broker is nobody else's.
    Own,
    Shared(#[expect(dead_code, reason = "it is held, not looked at")] RwLockReadGuard<'static, ()>),
    Broken(#[expect(dead_code, reason = "it is held, not looked at")] RwLockWriteGuard<'static, ()>),
}

/// What a test's installation looks like where it is not as usual.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub partitions: u32,
    pub retry_partitions: u32,
    pub retry_ladder: &'static str,
    /// The test breaks brokers, so it runs alone.
    pub breaks_brokers: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { partitions: 4, retry_partitions: 2, retry_ladder: "200ms,1s,5s", breaks_brokers: false }
    }
}

/// A name unlike that of any earlier run on the same Kafka.
fn namespace(test: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{test}-{:x}", now.as_millis())
}

fn directory(namespace: &str) -> PathBuf {
    std::env::temp_dir().join(format!("hookstream-e2e-{namespace}"))
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// None: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

impl Outcome {
    /// Runs a program of ours to its end, with these variables only.
    pub(crate) fn of(program: &str, args: &[&str], env: Vec<(String, String)>) -> Self {
        Self::run(Command::new(binary(program)).args(args).env_clear().envs(env), Stdio::null())
    }

    /// Runs `hookstream` in a directory, with these variables only.
    #[must_use]
    pub fn within(dir: &Path, env: &[(&str, &str)], args: &[&str], stdin: Stdio) -> Self {
        let mut command = Command::new(binary("hookstream"));
        Self::run(command.args(args).env_clear().envs(env.iter().copied()).current_dir(dir), stdin)
    }

    fn run(command: &mut Command, stdin: Stdio) -> Self {
        let output = command
            .stdin(stdin)
            .output()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs `hookstream` with nothing set.
    #[must_use]
    pub fn alone(args: &[&str]) -> Self {
        Self::of("hookstream", args, Vec::new())
    }
}

/// An installation: a namespace with its topics, and a receiver. Its topics are deleted when it is dropped.
#[derive(Debug)]
pub struct Stack {
    pub kafka: Kafka,
    pub receiver: Receiver,
    pub namespace: String,
    shape: Shape,
    dir: PathBuf,
    logs: std::cell::RefCell<Vec<PathBuf>>,
    broker: Option<Broker>,
    _peace: Peace,
}

impl Stack {
    /// An installation of the usual shape.
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self::shaped(test, Shape::default())
    }

    /// Makes the topics of a new namespace.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn shaped(test: &str, shape: Shape) -> Self {
        // A test that failed while it held the lock has still healed the brokers.
        let peace = if shape.breaks_brokers {
            Peace::Broken(BROKERS.write().unwrap_or_else(PoisonError::into_inner))
        } else {
            Peace::Shared(BROKERS.read().unwrap_or_else(PoisonError::into_inner))
        };
        Self::on(Kafka::shared(), shape, peace, namespace(test))
    }

    /// An installation on a broker of its own, which may be stopped and killed.
    #[must_use]
    pub fn on_own_broker(test: &str) -> Self {
        let namespace = namespace(test);
        let broker = Broker::start(directory(&namespace).join("kafka"));
        let kafka = Kafka::at(broker.address());
        let mut stack = Self::on(kafka, Shape::default(), Peace::Own, namespace);
        stack.broker = Some(broker);
        stack
    }

    fn on(kafka: Kafka, shape: Shape, peace: Peace, namespace: String) -> Self {
        let dir = directory(&namespace);
        fs::create_dir_all(&dir).expect("a directory in the temporary directory");
        let receiver = Receiver::start();
        let logs = std::cell::RefCell::default();
        let stack = Self { kafka, receiver, namespace, shape, dir, logs, broker: None, _peace: peace };
        stack.kafka.create_topic(&stack.source_topic(), 4, &[("max.message.bytes", "16000000")]);
        let made = stack.hookstream(&["topics", "create"]);
        assert!(made.code == Some(0), "`hookstream topics create` failed: {made}");
        stack
    }

    /// The broker, if it is the installation's own.
    ///
    /// # Panics
    /// If it is shared.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("a stack on a broker of its own")
    }

    /// The topic that the test's events go to: outside the namespace, since hookstream's own topics are no sources.
    #[must_use]
    pub fn source_topic(&self) -> String {
        format!("{}-source", self.namespace)
    }

    /// The full name of one of hookstream's topics, such as `dead-letter`.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// A path in a directory that goes away with the stack.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Settings that all programs get.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let replicas = self.kafka.replicas();
        let mut env: Vec<(String, String)> = [
            ("KAFKA__BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers.as_str()),
            ("KAFKA__NAMESPACE", &self.namespace),
            ("TOPICS__PARTITIONS", &self.shape.partitions.to_string()),
            ("TOPICS__RETRY_PARTITIONS", &self.shape.retry_partitions.to_string()),
            ("TOPICS__REPLICATION_FACTOR", &replicas.to_string()),
            ("TOPICS__MIN_INSYNC_REPLICAS", if replicas > 2 { "2" } else { "1" }),
            ("TOPICS__RETRY_LADDER", self.shape.retry_ladder),
            ("SECRETS__KEY", KEY),
            ("API__ADMIN_TOKEN", ADMIN_TOKEN),
            ("EGRESS__ALLOW_HTTP", "true"),
            ("EGRESS__ALLOW_PRIVATE", "true"),
            ("INGESTER__CORES", "1"),
            ("FANOUT__CORES", "1"),
            ("SENDER__CORES", "2"),
        ]
        .into_iter()
        .map(|(name, value)| (format!("HOOKSTREAM__{name}"), value.to_owned()))
        .collect();
        if let Ok(path) = std::env::var("PATH") {
            env.push(("PATH".to_owned(), path));
        }
        // To see more of a run that goes wrong: `hookstream_config=debug`.
        if let Ok(level) = std::env::var("HOOKSTREAM_TEST_LOG") {
            env.push(("HOOKSTREAM__LOG__LEVEL".to_owned(), level));
        }
        env
    }

    fn env_with(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut env = self.env();
        // The last one counts.
        env.extend(settings.iter().map(|(name, value)| (format!("HOOKSTREAM__{name}"), (*value).to_owned())));
        env
    }

    /// The directory of the installation's files: logs, indexes, what it was applied.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a service and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start(&self, role: Role) -> Service {
        let mut service = self.launch(role, &[]);
        service.wait_ready();
        service
    }

    /// Starts a service with further settings (`SENDER__USER_AGENT`), and doesn't wait.
    #[must_use]
    pub fn launch(&self, role: Role, settings: &[(&str, &str)]) -> Service {
        self.spawn(role.binary(), &[], self.env_with(settings))
    }

    /// Starts a service with a settings file of its own, for what can't be given otherwise, and doesn't wait.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn launch_configured(&self, role: Role, settings: &serde_json::Value) -> Service {
        let file = self.dir.join(format!("{}.yaml", role.binary()));
        fs::write(&file, settings.to_string()).expect("a file in the temporary directory");
        self.spawn(role.binary(), &["--config", &file.display().to_string()], self.env())
    }

    /// Starts a service with further settings, and among variables that are none (`HTTP_PROXY`), and doesn't wait.
    #[must_use]
    pub fn launch_among(&self, role: Role, settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Service {
        let mut env = self.env_with(settings);
        env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.spawn(role.binary(), &[], env)
    }

    /// Starts a command that runs until it is told to stop, and doesn't wait.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Service {
        self.spawn("hookstream", args, self.env())
    }

    fn spawn(&self, program: &str, args: &[&str], env: Vec<(String, String)>) -> Service {
        let mut logs = self.logs.borrow_mut();
        let log = self.dir.join(format!("{}-{program}.log", logs.len()));
        logs.push(log.clone());
        Service::start(program, args, log, &env)
    }

    /// One of each service, ready.
    #[must_use]
    #[track_caller]
    pub fn start_all(&self) -> [Service; 4] {
        // Side by side: each waits for the broker a while.
        let mut services = Role::ALL.map(|role| self.launch(role, &[]));
        services.iter_mut().for_each(Service::wait_ready);
        services
    }

    /// Runs the command line with the installation's settings.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn hookstream(&self, args: &[&str]) -> Outcome {
        self.hookstream_with(args, &[])
    }

    /// Runs the command line with further settings (`SECRETS__KEY`).
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn hookstream_with(&self, args: &[&str], settings: &[(&str, &str)]) -> Outcome {
        Outcome::of("hookstream", args, self.env_with(settings))
    }

    /// `hookstream apply`, to an API that is there for it alone.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn apply(&self, config: &Config) {
        let outcome = self.apply_with(&self.start(Role::Api), &config.to_file());
        assert!(outcome.code == Some(0), "`hookstream apply` failed: {outcome}");
    }

    /// `hookstream apply` of a file with this text, to the API of this process.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn apply_with(&self, api: &Service, text: &str) -> Outcome {
        let file = self.dir.join("config.yaml");
        fs::write(&file, text).expect("a file in the temporary directory");
        let url = format!("http://{}", api.api());
        let mut env = self.env();
        env.push(("HOOKSTREAM__API__URL".to_owned(), url));
        Outcome::of("hookstream", &["apply", "-f", &file.display().to_string()], env)
    }

    /// Produces CloudEvents of `event_type` to the source topic, with the ids `first..first + count`.
    pub fn produce(&self, event_type: &str, first: usize, count: usize) {
        let messages: Vec<Message> = (first..first + count).map(|n| cloudevent(event_type, n)).collect();
        self.kafka.produce(&self.source_topic(), CLOUDEVENTS, &messages);
    }

    /// Events of type `order.created` from now on, until they are told to finish.
    #[must_use]
    pub fn feed(&self, per_second: usize) -> Feed {
        Feed::start(&self.kafka, &self.source_topic(), per_second)
    }

    /// What `attempts` holds by now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::of(&self.kafka.read(&self.topic("attempts")))
    }

    /// Waits until this many different deliveries have arrived.
    ///
    /// # Panics
    /// If they don't within `timeout`.
    #[track_caller]
    pub fn wait_distinct(&self, count: usize, timeout: Duration) {
        let count = count as u64;
        let started = Instant::now();
        while self.receiver.seen(|seen| seen.distinct()) < count {
            let (distinct, total) = self.receiver.seen(|seen| (seen.distinct(), seen.total()));
            assert!(
                started.elapsed() < timeout,
                "only {distinct} of {count} deliveries arrived within {timeout:?} ({total} requests)"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this many deliveries are decided to have been delivered.
    ///
    /// # Panics
    /// If they are not in time.
    #[must_use]
    #[track_caller]
    pub fn wait_delivered(&self, count: usize) -> Ledger {
        // All of it is read each time, so not too often.
        const BETWEEN: Duration = Duration::from_millis(500);
        let started = Instant::now();
        loop {
            let ledger = self.ledger();
            let delivered = ledger.ended("delivered");
            if delivered >= count {
                return ledger;
            }
            assert!(started.elapsed() < SOON, "only {delivered} of {count} deliveries are decided");
            std::thread::sleep(BETWEEN);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in self.logs.borrow().iter() {
                eprintln!("--- the end of {}:\n{}", log.display(), tail(log));
            }
            return;
        }
        if self.broker.take().is_none() {
            self.kafka.delete_topics(&self.namespace);
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}
