//! What the sender reports.

use hookstream_core::decision::{DeadReason, Decision, DeferReason, RejectReason, SkipReason, Verdict};
use hookstream_core::exchange::Exchange;
use hookstream_core::job::Job;
use hookstream_core::outcome::Outcome;
use hookstream_core::sender::{End, Observed};
use hookstream_types::{Now, Partition};
use prometheus::core::{AtomicU64, GenericCounter};

use crate::deliveries::Observer;

/// Buckets for latencies in seconds, fine where the goals lie.
const LATENCY: &[f64] = &[
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

hookstream_runtime::metrics! { "hookstream_sender"
    /// What the sender reports.
    pub struct SenderMetrics {
        /// Delivery attempts by outcome.
        attempts_total: IntCounterVec["outcome"],
        /// Wall time of one attempt, from its start to its end.
        attempt_seconds: Histogram buckets LATENCY,
        /// From the source record's timestamp to the start of the first attempt.
        produce_to_attempt_seconds: Histogram buckets LATENCY,
        /// Jobs put off without an attempt, by reason.
        deferred_total: IntCounterVec["reason"],
        /// Jobs not sent any more, by reason.
        skipped_total: IntCounterVec["reason"],
        /// Dead letters by reason.
        dead_letters_total: IntCounterVec["reason"],
        /// Records of the deliveries topic that were rejected, by reason.
        rejected_total: IntCounterVec["reason"],
        /// Jobs that stood in the log twice and were dropped.
        duplicates_dropped_total: IntCounter,
        /// Jobs that an earlier owner had decided: not sent again.
        known_decided_total: IntCounter,
        /// Offsets that were read again.
        repeated_total: IntCounter,
        /// Breakers that opened.
        breakers_opened_total: IntCounter,
        /// Webhooks' lanes by state: behind an open breaker, or with requests under way; by core.
        lanes: IntGaugeVec["core", "state"],
        /// Jobs that wait in lanes for their turn, by core.
        lane_queued: IntGaugeVec["core"],
        /// Requests under way, by core.
        in_flight: IntGaugeVec["core"],
        /// Partitions that are worked on, by core.
        partitions: IntGaugeVec["core"],
        /// Jobs that are not committed yet, of our partitions.
        lag_records: IntGauge,
        /// Jobs moved from the retry topics back to the deliveries topic.
        retries_due_total: IntCounter,
        /// Records on the retry topics that are not moved yet, of our partitions, by rung.
        retry_waiting_records: IntGaugeVec["rung"],
        /// By how much the most overdue record of the retry topics is late.
        retry_overdue_seconds: Gauge,
        /// Jobs of the retry topics held in memory because they are due soon.
        retry_held: IntGauge,
    }
}

impl SenderMetrics {
    /// Makes every series whose labels are known, so that each begins at 0.
    pub(crate) fn touch(&self, rungs: &[String]) {
        hookstream_runtime::touch(&self.attempts_total, &[Outcome::LABELS]);
        let labels: Vec<_> = DeferReason::ALL.iter().map(|reason| reason.label()).collect();
        hookstream_runtime::touch(&self.deferred_total, &[&labels]);
        let labels: Vec<_> = SkipReason::ALL.iter().map(|reason| reason.label()).collect();
        hookstream_runtime::touch(&self.skipped_total, &[&labels]);
        let labels: Vec<_> = DeadReason::ALL.iter().map(|reason| reason.label()).collect();
        hookstream_runtime::touch(&self.dead_letters_total, &[&labels]);
        let labels = [RejectReason::BadJob.label(), RejectReason::IdReused.label()];
        hookstream_runtime::touch(&self.rejected_total, &[&labels]);
        let labels: Vec<_> = rungs.iter().map(String::as_str).collect();
        hookstream_runtime::touch(&self.retry_waiting_records, &[&labels]);
    }
}

/// Counts what a driver does. Looks its hottest series up once.
pub(crate) struct Counter {
    metrics: SenderMetrics,
    delivered: GenericCounter<AtomicU64>,
}

impl Counter {
    pub(crate) fn new(metrics: SenderMetrics) -> Self {
        let delivered = metrics.attempts_total.with_label_values(&[Outcome::Delivered.label()]);
        Self { metrics, delivered }
    }
}

impl Observer for Counter {
    fn started(&mut self, _partition: Partition, job: &Job, now: Now) {
        if job.state.attempts == 0 && job.state.generation.n == 0 {
            let latency = job.event.produced_at.until(now.wall);
            self.metrics.produce_to_attempt_seconds.observe(latency.as_secs_f64());
        }
    }

    fn ended(&mut self, _job: &Job, end: &End, exchange: &Exchange, _now: Now) {
        self.metrics.attempt_seconds.observe(exchange.timings.total.as_secs_f64());
        match end.outcome {
            Outcome::Delivered => self.delivered.inc(),
            outcome => self.metrics.attempts_total.with_label_values(&[outcome.label()]).inc(),
        }
    }

    fn decided(&mut self, _partition: Partition, decision: &Decision) {
        match &decision.verdict {
            Verdict::Deferred { reason, .. } => {
                self.metrics.deferred_total.with_label_values(&[reason.label()]).inc();
            }
            Verdict::Skipped { reason } => {
                self.metrics.skipped_total.with_label_values(&[reason.label()]).inc();
            }
            Verdict::Delivered | Verdict::Retry { .. } | Verdict::Dead { .. } => {}
        }
    }

    fn buried(&mut self, reason: DeadReason) {
        self.metrics.dead_letters_total.with_label_values(&[reason.label()]).inc();
    }

    fn rejected(&mut self, reason: RejectReason) {
        self.metrics.rejected_total.with_label_values(&[reason.label()]).inc();
    }

    fn observed(&mut self, what: Observed) {
        match what {
            Observed::Duplicate => self.metrics.duplicates_dropped_total.inc(),
            Observed::KnownDecided => self.metrics.known_decided_total.inc(),
            Observed::Repeated => self.metrics.repeated_total.inc(),
            Observed::BreakerOpened => self.metrics.breakers_opened_total.inc(),
        }
    }
}
