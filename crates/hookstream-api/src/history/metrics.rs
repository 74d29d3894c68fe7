//! What the index of the history reports.

use hookstream_history::Feed;

hookstream_runtime::metrics! { "hookstream_history"
    /// What the index of the history reports.
    pub struct HistoryMetrics {
        /// Rows added, by feed.
        rows_total: IntCounterVec["feed"],
        /// Records that could not be read, by feed.
        bad_records_total: IntCounterVec["feed"],
        /// Decisions of owners that were no more.
        void_decisions_total: IntCounter,
        /// Times that the database did not do what it was asked, by feed.
        failures_total: IntCounterVec["feed"],
        /// Times that a feed was begun anew, by feed: its topic is another, or was cut off.
        rebuilds_total: IntCounterVec["feed"],
        /// How long the database took for a batch, by feed.
        batch_seconds: HistogramVec["feed"],
        /// Records that are in Kafka and not in the index yet, by feed.
        lag_records: IntGaugeVec["feed"],
        /// Rows deleted because they were too old or too many.
        removed_total: IntCounter,
    }
}

impl HistoryMetrics {
    /// Makes every series, so that each begins at 0.
    pub(super) fn touch(&self) {
        let feeds: Vec<&str> = Feed::ALL.iter().map(|feed| feed.label()).collect();
        let feeds: &[&[&str]] = &[&feeds[..]];
        for counter in [&self.rows_total, &self.bad_records_total, &self.failures_total, &self.rebuilds_total]
        {
            hookstream_runtime::touch(counter, feeds);
        }
        hookstream_runtime::touch(&self.batch_seconds, feeds);
        hookstream_runtime::touch(&self.lag_records, feeds);
    }
}
