//! Events that keep coming while a test does its worst, and the account at the end.

use std::time::Duration;

use hookstream_e2e::{Answer, Config, Feed, Ledger, SOON, Stack, Webhook, wait_until};

/// Webhooks that each event matches.
const WEBHOOKS: usize = 3;
/// Requests at a time to each.
const CONCURRENCY: u32 = 16;
/// Three webhooks at this rate have some 15 requests in flight, and a backlog is gone three times as fast as it came.
const EVENTS_PER_SECOND: usize = 100;
const ANSWER_AFTER: Duration = Duration::from_millis(50);
/// Deliveries after which a load is under way: a second's worth.
const UNDER_WAY: u64 = 300;
/// From a crash to the last delivery: session time-out, takeover, retries, on two busy cores.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);
/// Requests that one sender can have in flight.
pub(crate) const IN_FLIGHT: usize = WEBHOOKS * CONCURRENCY as usize;

/// A steady stream of events for all webhooks.
pub(crate) struct Load<'a> {
    stack: &'a Stack,
    feed: Feed,
}

/// What came of a load.
pub(crate) struct Settled {
    pub(crate) ledger: Ledger,
    pub(crate) deliveries: usize,
    /// Requests beyond the first of each delivery.
    pub(crate) duplicates: usize,
}

/// Applies webhooks whose receivers take their time, so that there is always something in flight.
pub(crate) fn configure(stack: &Stack) {
    let mut config = Config::new().cloudevents("orders", &stack.source_topic());
    for n in 0..WEBHOOKS {
        let path = format!("/{n}");
        stack.receiver.on(&path, Answer::status(200).delay(ANSWER_AFTER));
        let webhook = Webhook::new(&format!("webhook-{n}"), stack.receiver.url(&path));
        config = config.webhook(&webhook.concurrency(CONCURRENCY));
    }
    stack.apply(&config);
}

impl<'a> Load<'a> {
    pub(crate) fn start(stack: &'a Stack) -> Self {
        Self { stack, feed: stack.feed(EVENTS_PER_SECOND) }
    }

    /// Waits until more has arrived, so that what happens next happens under load.
    #[track_caller]
    pub(crate) fn wait_under_way(&self) {
        let distinct = || self.stack.receiver.seen(|seen| seen.distinct());
        let before = distinct();
        wait_until("deliveries keep arriving", RECOVERY, || distinct() >= before + UNDER_WAY);
    }

    /// Ends the stream; everything has to arrive, be decided, and to have ended once.
    #[track_caller]
    pub(crate) fn settle(self) -> Settled {
        let deliveries = self.feed.finish() * WEBHOOKS;
        self.stack.wait_distinct(deliveries, RECOVERY);
        let ledger = self.stack.wait_delivered(deliveries);
        assert_eq!(ledger.ended("delivered"), deliveries, "more was delivered than there is");
        assert!(ledger.ended_twice().is_empty(), "decided twice: {:?}", ledger.ended_twice());
        let (distinct, duplicates) = self.stack.receiver.seen(|seen| (seen.distinct(), seen.duplicates()));
        assert_eq!(distinct, deliveries as u64, "ids that nobody made");
        Settled { ledger, deliveries, duplicates: usize::try_from(duplicates).expect("it fits") }
    }
}

/// Requests so far about which nothing durable was decided: no more can be sent again. No sender may be running.
pub(crate) fn undecided(stack: &Stack) -> usize {
    // What the kernel still held has been read when all connections are seen to be closed.
    wait_until("the dead sender's connections are closed", SOON, || {
        stack.receiver.seen(|seen| seen.open_connections()) == 0
    });
    let requests = stack.receiver.seen(|seen| seen.total());
    usize::try_from(requests).expect("it fits").saturating_sub(stack.ledger().exchanges.len())
}
