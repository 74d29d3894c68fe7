//! Events that keep coming while a test does its worst, and the account at the end.

use std::time::Duration;

use hookstream_e2e::{Answer, Config, Ledger, Stack, Webhook, wait_until};

/// Webhooks that each event matches.
pub(crate) const WEBHOOKS: usize = 3;
/// Events of one part of the load.
pub(crate) const BURST: usize = 400;
/// From a crash to the last delivery: session time-out, takeover, retries, on two busy cores.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);

/// Events for all webhooks, in bursts.
pub(crate) struct Load<'a> {
    stack: &'a Stack,
    produced: usize,
}

impl<'a> Load<'a> {
    /// Applies webhooks whose receivers take their time, so that there is always something in flight.
    pub(crate) fn new(stack: &'a Stack) -> Self {
        let mut config = Config::new().cloudevents("orders", &stack.source_topic());
        for n in 0..WEBHOOKS {
            let path = format!("/{n}");
            stack.receiver.on(&path, Answer::status(200).delay(Duration::from_millis(20)));
            config = config.webhook(&Webhook::new(&format!("webhook-{n}"), stack.receiver.url(&path)));
        }
        stack.apply(&config);
        stack.receiver.keep(0);
        Self { stack, produced: 0 }
    }

    pub(crate) fn burst(&mut self) {
        self.stack.produce("order.created", self.produced, BURST);
        self.produced += BURST;
    }

    /// Deliveries that all events so far make.
    pub(crate) fn deliveries(&self) -> usize {
        self.produced * WEBHOOKS
    }

    /// Waits until a part of the last burst has arrived, so that what happens next happens under load.
    #[track_caller]
    pub(crate) fn wait_under_way(&self) {
        self.stack.wait_distinct(self.deliveries() - BURST * WEBHOOKS * 2 / 3, RECOVERY);
    }

    /// Everything arrived and is decided, nothing twice in the ledger; returns requests beyond the first of each.
    #[track_caller]
    pub(crate) fn settle(&self) -> (Ledger, usize) {
        self.stack.wait_distinct(self.deliveries(), RECOVERY);
        let ledger = self.stack.wait_delivered(self.deliveries());
        assert_eq!(ledger.ended("delivered"), self.deliveries(), "more was delivered than there is");
        assert!(ledger.ended_twice().is_empty(), "decided twice: {:?}", ledger.ended_twice());
        let (distinct, duplicates) = self.stack.receiver.seen(|seen| (seen.distinct(), seen.duplicates()));
        assert_eq!(distinct, self.deliveries() as u64, "ids that nobody made");
        (ledger, usize::try_from(duplicates).expect("it fits"))
    }

    /// Requests that arrived and about which nothing durable was decided; no sender may be running.
    pub(crate) fn undecided(&self) -> usize {
        // Requests that the kernel still held are read by now, when all connections are seen to be closed.
        wait_until("the dead sender's connections are closed", RECOVERY, || {
            self.stack.receiver.seen(|seen| seen.open_connections()) == 0
        });
        let requests = self.stack.receiver.seen(|seen| seen.total());
        usize::try_from(requests).expect("it fits").saturating_sub(self.stack.ledger().exchanges.len())
    }
}
