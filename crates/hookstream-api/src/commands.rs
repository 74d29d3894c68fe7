//! Carries out the records of `hookstream.commands` through the writer of the configuration.
//!
//! A command is complete when the writer answered; what has no clear answer is asked again. Commands can be asked
//! again at any time: they name the revision that they are about. The replicas share the topic as one group, so one of
//! them works at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_config::{Base, ConfigWriter, WriteError};
use hookstream_log::kafka::{Group, GroupSpec, KafkaLog, join};
use hookstream_log::pipe::{Applied, Driver, Function, Outputs, Pipe, Place, Signals};
use hookstream_log::{Full, Input, RecordRef};
use hookstream_runtime::{Ctx, ServiceError};
use hookstream_types::Chain;
use hookstream_wire::command::{Command, Disable};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

/// Who changed a webhook, as the configuration shows it.
const ACTOR: &str = "sender";
/// Before the writer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

hookstream_runtime::metrics! { "hookstream_api"
    /// What is reported of the commands.
    pub struct CommandMetrics {
        /// Commands carried out, by outcome.
        commands_total: IntCounterVec["outcome"],
    }
}

const APPLIED: &str = "applied";
/// The webhook has changed since, or is gone.
const REFUSED: &str = "refused";
/// Not a command that this version knows.
const UNREADABLE: &str = "unreadable";

/// The group that reads the commands, and its threads.
#[derive(Debug)]
pub struct Commands {
    group: Group,
    threads: Vec<Driver>,
    stop: watch::Sender<bool>,
    leads: watch::Receiver<bool>,
    _changed: watch::Sender<()>,
}

/// Joins the group `commands` and carries out what it is given, until [`Commands::run`] is told to stop.
///
/// # Errors
/// If the Kafka client's settings are not taken, a thread can't be started, or the metrics are there already.
pub fn start(ctx: &Ctx, base: &Base, writer: &ConfigWriter) -> Result<Commands, ServiceError> {
    let metrics = CommandMetrics::register(&ctx.registry)?;
    hookstream_runtime::touch(&metrics.commands_total, &[&[APPLIED, REFUSED, UNREADABLE]]);
    let topics = &base.topics;
    let spec = GroupSpec::new(topics.group("commands"), vec![topics.commands.to_string()], 1);
    let (group, logs) = join(&base.kafka, spec, ctx.clock.mono_fn())?;
    // Nothing here depends on the view: the writer judges by what it reads itself.
    let (changed_tx, changed) = watch::channel(());
    let (stop, stopped) = watch::channel(false);
    let signals = Signals { changed, stopped };
    let (leading, leads) = watch::channel(false);
    let mut threads = Vec::new();
    for log in logs {
        let (writer, metrics) = (writer.clone(), metrics.clone());
        let make = move || Carry::new(writer, metrics);
        let clock = ctx.clock.mono_fn();
        let leading = leading.clone();
        let look = move |pipe: &mut Pipe<KafkaLog, Carry>| {
            let now = pipe.stats().inputs > 0;
            leading.send_if_modified(|leads| std::mem::replace(leads, now) != now);
        };
        threads.push(Driver::start("commands".to_owned(), log, clock, signals.clone(), make, look)?);
    }
    Ok(Commands { group, threads, stop, leads, _changed: changed_tx })
}

impl Commands {
    /// Whether this replica is the one that carries things out: it has the topic's partition. Another may think so too for a
    /// moment.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Waits until `until` is done, gives the partition back, and ends.
    ///
    /// # Errors
    /// If the thread panicked, which can be before `until` is done.
    pub async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), ServiceError> {
        tokio::select! {
            () = until => {}
            panicked = Driver::first_end(&mut self.threads) => return Err(panicked.into()),
        }
        self.group.shutdown().await;
        self.stop.send_replace(true);
        Driver::join(self.threads).await?;
        Ok(())
    }
}

/// Hands commands to the writer, one at a time per partition.
#[derive(Debug)]
struct Carry {
    writer: ConfigWriter,
    metrics: CommandMetrics,
    /// The answer that is waited for.
    asked: BTreeMap<Input, oneshot::Receiver<&'static str>>,
}

impl Carry {
    fn new(writer: ConfigWriter, metrics: CommandMetrics) -> Self {
        Self { writer, metrics, asked: BTreeMap::new() }
    }

    fn ask(&self, disable: Disable) -> oneshot::Receiver<&'static str> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer.clone();
        tokio::spawn(async move {
            let outcome = disable_until_answered(&writer, &disable).await;
            // Nobody listens any more if the partition is gone; its next owner asks again.
            answer.send(outcome).ok();
        });
        answered
    }
}

async fn disable_until_answered(writer: &ConfigWriter, disable: &Disable) -> &'static str {
    loop {
        match writer.disable(ACTOR, disable).await {
            Ok(_) => {
                info!(webhook.id = %disable.webhook, reason = %disable.reason, "the webhook is switched off");
                return APPLIED;
            }
            Err(error @ WriteError::Refused { .. }) => {
                info!(webhook.id = %disable.webhook, error = %Chain(&error), "the webhook is not switched off");
                return REFUSED;
            }
            Err(error) => {
                warn!(webhook.id = %disable.webhook, error = %Chain(&error), "the writer did not answer; asking again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

impl Function for Carry {
    type Cursor = ();

    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        (): &mut (),
        _: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        if let Some(asked) = self.asked.get_mut(&from.input) {
            let outcome = match asked.try_recv() {
                Ok(outcome) => outcome,
                Err(oneshot::error::TryRecvError::Empty) => return Ok(Applied::Wait),
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.asked.remove(&from.input);
                    return Ok(Applied::Wait);
                }
            };
            self.asked.remove(&from.input);
            self.metrics.commands_total.with_label_values(&[outcome]).inc();
            return Ok(Applied::Done);
        }
        match Command::decode(record.value.unwrap_or_default()) {
            Ok(Command::Disable(disable)) => {
                let answered = self.ask(disable);
                self.asked.insert(from.input, answered);
                Ok(Applied::Wait)
            }
            Err(error) => {
                warn!(kafka.offset = record.offset.0, error = %Chain(&error), "a command is passed over");
                self.metrics.commands_total.with_label_values(&[UNREADABLE]).inc();
                Ok(Applied::Done)
            }
        }
    }

    fn too_large(&mut self, _: RecordRef<'_>, _: &Place, _: u32, _: &mut Outputs<'_>) -> Result<(), Full> {
        // Nothing is produced, so nothing is too large.
        Ok(())
    }

    fn forget(&mut self, from: &Place) {
        self.asked.remove(&from.input);
    }
}
