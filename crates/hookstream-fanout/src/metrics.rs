//! What fan-out reports.

hookstream_runtime::metrics! { "hookstream_fanout"
    /// What fan-out reports.
    pub struct FanoutMetrics {
        /// Events matched against the webhooks.
        events_total: IntCounter,
        /// Events that concern no webhook.
        unmatched_total: IntCounter,
        /// Jobs made: one per event and matching webhook.
        jobs_total: IntCounter,
        /// Records that are no events, or whose jobs are too large, by reason.
        rejected_total: IntCounterVec["reason"],
        /// Outputs that were not acknowledged and are produced again.
        produce_retries_total: IntCounter,
        /// Events taken and not complete, by core.
        in_flight: IntGaugeVec["core"],
        /// Partitions that are ours, by core.
        partitions: IntGaugeVec["core"],
        /// Events of our partitions that are not committed yet.
        lag_records: IntGauge,
    }
}

/// Not an event that the ingester wrote.
pub(crate) const BAD_EVENT: &str = "bad_event";
/// A job would be larger than its topic takes.
pub(crate) const TOO_LARGE: &str = "too_large";

impl FanoutMetrics {
    /// Makes every series whose labels are known, so that each begins at 0.
    pub(crate) fn touch(&self) {
        hookstream_runtime::touch(&self.rejected_total, &[&[BAD_EVENT, TOO_LARGE]]);
    }
}
