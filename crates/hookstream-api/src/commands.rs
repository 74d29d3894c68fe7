//! Carries out the records of `hookstream.commands` through the writer of the configuration.
//!
//! A command is complete when the writer answered; what has no clear answer is asked again. Commands can be asked
//! again at any time: they name the revision that they are about.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_config::{ConfigWriter, WriteError};
use hookstream_log::pipe::{Applied, Function, Outputs, Place};
use hookstream_log::{Full, Input, RecordRef};
use hookstream_types::Chain;
use hookstream_wire::command::{Command, Disable};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::metrics::{COMMAND_APPLIED, COMMAND_REFUSED, COMMAND_UNREADABLE, FanoutMetrics};

/// Who changed a webhook, as the configuration shows it.
const ACTOR: &str = "sender";
/// Before the writer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Hands commands to the writer, one at a time per partition.
#[derive(Debug)]
pub struct Carry {
    writer: ConfigWriter,
    metrics: FanoutMetrics,
    /// The answer that is waited for.
    asked: BTreeMap<Input, oneshot::Receiver<&'static str>>,
}

impl Carry {
    #[must_use]
    pub fn new(writer: ConfigWriter, metrics: FanoutMetrics) -> Self {
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
                return COMMAND_APPLIED;
            }
            Err(error @ WriteError::Refused(_)) => {
                info!(webhook.id = %disable.webhook, error = %Chain(&error), "the webhook is not switched off");
                return COMMAND_REFUSED;
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
                self.metrics.commands_total.with_label_values(&[COMMAND_UNREADABLE]).inc();
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
