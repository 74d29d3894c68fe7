//! An installation of a benchmark's own: a namespace, its topics and configuration, and the services.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use hookstream_config::apply::make_so;
use hookstream_config::{ConfigWriter, Follower, Keyring};
use hookstream_core::config::View;
use hookstream_log::KafkaSettings;
use hookstream_log::admin::{Admin, Cleanup, TopicSpec};
use hookstream_types::{SecretString, UnixMillis};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Any 32 bytes.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const PATIENCE: Duration = Duration::from_secs(60);

/// An installation. Its topics are deleted when it is dropped.
#[derive(Debug)]
pub struct Stack {
    namespace: String,
    bootstrap_servers: String,
    env: Vec<(String, String)>,
    partitions: u32,
    replicas: i32,
    dir: tempfile::TempDir,
}

impl Stack {
    /// Makes the topics of a new namespace on the Kafka that `HOOKSTREAM_BENCH_KAFKA` names.
    ///
    /// # Errors
    /// If there is none, or it does not take them.
    pub fn new(name: &str, partitions: u32) -> anyhow::Result<Self> {
        let bootstrap_servers = std::env::var("HOOKSTREAM_BENCH_KAFKA")
            .context("`HOOKSTREAM_BENCH_KAFKA` names no Kafka; `cargo xtask bench` starts one")?;
        let brokers = bootstrap_servers.split(',').count();
        let replicas = i32::try_from(brokers.min(3))?;
        let namespace = format!("bench-{name}-{}", uuid::Uuid::now_v7().simple());
        let env = [
            ("KAFKA__BOOTSTRAP_SERVERS", bootstrap_servers.clone()),
            ("KAFKA__NAMESPACE", namespace.clone()),
            ("TOPICS__PARTITIONS", partitions.to_string()),
            ("TOPICS__RETRY_PARTITIONS", "1".to_owned()),
            ("TOPICS__REPLICATION_FACTOR", replicas.to_string()),
            ("TOPICS__MIN_INSYNC_REPLICAS", if replicas > 2 { "2" } else { "1" }.to_owned()),
            ("SECRETS__KEY", KEY.to_owned()),
            ("EGRESS__ALLOW_HTTP", "true".to_owned()),
            ("EGRESS__ALLOW_PRIVATE", "true".to_owned()),
        ];
        let env = env.map(|(name, value)| (format!("HOOKSTREAM__{name}"), value)).to_vec();
        let dir = tempfile::tempdir()?;
        let stack = Self { namespace, bootstrap_servers, env, partitions, replicas, dir };
        stack.hookstream(&["topics", "create"])?;
        Ok(stack)
    }

    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The full name of one of hookstream's topics, such as `deliveries`.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    fn client(&self) -> KafkaSettings {
        client(&self.bootstrap_servers)
    }

    /// Makes a topic for a source.
    ///
    /// # Errors
    /// If Kafka does not.
    pub fn create_topic(&self, name: &str) -> anyhow::Result<String> {
        // Not one of hookstream's own, which a source must not read.
        let name = format!("{}-{name}", self.namespace);
        create(&self.client(), &name, self.partitions, self.replicas)?;
        Ok(name)
    }

    /// Applies a manifest, past the API: that is measured elsewhere.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn apply(&self, manifest: &Value) -> anyhow::Result<()> {
        let (client, topic) = (self.client(), self.topic("config"));
        let writer = ConfigWriter::on_kafka(client, &self.namespace, &topic, keyring()?)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now = UnixMillis(i64::try_from(now.as_millis())?);
        block_on(make_so(&writer, &manifest.to_string(), now, "hookstream-bench"))??;
        Ok(())
    }

    /// The configuration as the services see it.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn view(&self) -> anyhow::Result<Arc<View>> {
        let keyring = keyring()?;
        block_on(async {
            let follower = Follower::start(&self.client(), &self.topic("config"), keyring)?;
            tokio::time::timeout(PATIENCE, follower.caught_up())
                .await
                .context("the configuration can't be read")?;
            Ok(follower.view())
        })?
    }

    fn hookstream(&self, args: &[&str]) -> anyhow::Result<()> {
        let output =
            Command::new(program("hookstream")?).args(args).envs(self.env.iter().cloned()).output()?;
        ensure!(
            output.status.success(),
            "`hookstream {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Starts a service with further settings (`SENDER__CORES`).
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(&self, service: &str, settings: &[(&str, &str)]) -> anyhow::Result<Service> {
        // Free until somebody takes it.
        let ops = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let log = self.dir.path().join(format!("{service}-{}.log", ops.port()));
        let file = File::create(&log)?;
        let mut command = Command::new(program(service)?);
        command
            .envs(self.env.iter().cloned())
            .env("HOOKSTREAM__OPS__LISTEN", ops.to_string())
            .env("HOOKSTREAM__LOG__LEVEL", "warn")
            .envs(settings.iter().map(|(name, value)| (format!("HOOKSTREAM__{name}"), value)))
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().with_context(|| format!("`{service}` could not be started"))?;
        Ok(Service { name: service.to_owned(), child, ops, log })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let result = block_on(async {
            let admin = Admin::new(&self.client())?;
            let topics = admin.topics().await?;
            let ours: Vec<&str> = topics
                .keys()
                .map(String::as_str)
                .filter(|topic| topic.starts_with(&self.namespace))
                .collect();
            admin.delete(&ours).await?;
            anyhow::Ok(())
        });
        if let Err(error) = result.and_then(|result| result) {
            eprintln!("warning: the topics of `{}` are left behind: {error:#}", self.namespace);
        }
    }
}

/// A service that runs; it is killed when it is dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    ops: SocketAddr,
    log: PathBuf,
}

impl Service {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready in time; the error says what it logged.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let by = Instant::now() + PATIENCE;
        while !self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}): {}", self.name, self.said());
            }
            ensure!(Instant::now() < by, "{} is not ready: {}", self.name, self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut connection = TcpStream::connect(self.ops)?;
        write!(connection, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What it logged: warnings and errors.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets it end in order.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let by = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < by, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended, or is of no use any more.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A shipped program: where `HOOKSTREAM_TEST_BIN` says, else beside the benchmark.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let program = match std::env::var_os("HOOKSTREAM_TEST_BIN") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => std::env::current_exe()?.with_file_name(name),
    };
    ensure!(program.exists(), "`{}` is not built: use `cargo xtask bench`", program.display());
    Ok(program)
}

fn keyring() -> anyhow::Result<Arc<Keyring>> {
    let key = SecretString::new(KEY.to_owned());
    Ok(Arc::new(Keyring::from_key(&key)?))
}

fn block_on<F: Future>(work: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// A webhook of the default account in a manifest.
#[must_use]
pub fn webhook(name: &str, url: &str, event_types: &[&str], concurrency: u32) -> Value {
    json!({
        "name": name,
        "account": "default",
        "url": url,
        "event_types": event_types,
        "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "retry": ["0s", "5s", "30s"],
        "concurrency": concurrency,
    })
}

fn client(bootstrap_servers: &str) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: bootstrap_servers.to_owned(),
        client_id: "hookstream-bench".to_owned(),
        properties: Vec::new(),
    }
}

fn create(client: &KafkaSettings, name: &str, partitions: u32, replicas: i32) -> anyhow::Result<()> {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: i32::try_from(partitions)?,
        replication_factor: replicas,
        min_insync_replicas: if replicas > 2 { 2 } else { 1 },
        cleanup: Cleanup::Delete(None),
        log_append_time: true,
        max_message_bytes: 1_048_576,
        extra: Vec::new(),
    };
    block_on(async { Admin::new(client)?.create_missing(&[spec]).await })??;
    Ok(())
}

/// A topic with nothing of hookstream's about it. It is deleted when it is dropped.
#[derive(Debug)]
pub struct SourceTopic {
    bootstrap_servers: String,
    name: String,
}

impl SourceTopic {
    /// # Errors
    /// If the broker does not make it.
    pub fn create(bootstrap_servers: &str, name: &str, partitions: u32) -> anyhow::Result<Self> {
        let name = format!("{name}-{}", uuid::Uuid::now_v7().simple());
        create(&client(bootstrap_servers), &name, partitions, 1)?;
        Ok(Self { bootstrap_servers: bootstrap_servers.to_owned(), name })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for SourceTopic {
    fn drop(&mut self) {
        let deleted =
            block_on(async { Admin::new(&client(&self.bootstrap_servers))?.delete(&[&self.name]).await });
        if !matches!(deleted, Ok(Ok(()))) {
            eprintln!("the topic `{}` is left behind", self.name);
        }
    }
}
