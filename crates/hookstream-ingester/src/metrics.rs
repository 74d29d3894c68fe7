//! What the ingester reports.

use hookstream_core::ingest::Reason;

hookstream_runtime::metrics! { "hookstream_ingester"
    /// What the ingester reports. Sources are configured by the operator, so their names may be labels.
    pub struct IngesterMetrics {
        /// Events accepted, by source.
        events_total: IntCounterVec["source"],
        /// Bytes of accepted events' data, by source.
        event_bytes_total: IntCounterVec["source"],
        /// Records and events rejected, by reason.
        rejected_total: IntCounterVec["reason"],
        /// Records of topics that are hookstream's own, which are passed over.
        own_records_total: IntCounter,
        /// Outputs that were not acknowledged and are produced again.
        produce_retries_total: IntCounter,
        /// Records taken and not complete, by core.
        in_flight: IntGaugeVec["core"],
        /// Partitions that are ours, by core.
        partitions: IntGaugeVec["core"],
        /// Topics and patterns that are subscribed to.
        subscriptions: IntGauge,
        /// Topics that a source names and that do not exist.
        missing_topics: IntGauge,
        /// Records of our partitions that are not committed yet.
        lag_records: IntGauge,
    }
}

impl IngesterMetrics {
    /// Makes every series whose labels are known, so that each begins at 0.
    pub(crate) fn touch(&self) {
        let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        hookstream_runtime::touch(&self.rejected_total, &[&reasons]);
    }
}
