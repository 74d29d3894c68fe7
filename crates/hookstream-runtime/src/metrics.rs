//! `metrics!`: a struct whose fields are metrics, their doc comments the help texts.
//!
//! Nothing is global: `register` puts the struct's metrics into the registry it is given. `CATALOG` lists them for
//! the documentation.

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets for durations in seconds, from a millisecond to a minute; a histogram's default.
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What is known of a metric before it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// A kind of metric that [`metrics!`](crate::metrics!) can make.
pub trait Metric: Collector + Clone + Sized + 'static {
    /// `counter`, `gauge` or `histogram`.
    const KIND: &'static str;

    /// # Errors
    /// If the name, the labels or the buckets are not legal.
    fn build(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;
}

macro_rules! metric {
    ($($kind:ident $name:literal,)+) => {$(
        impl Metric for $kind {
            const KIND: &'static str = $name;

            fn build(name: &str, help: &str, _: &[&str], _: &[f64]) -> prometheus::Result<Self> {
                Self::with_opts(Opts::new(name, help))
            }
        }
    )+};
}

macro_rules! metric_vec {
    ($($kind:ident $name:literal,)+) => {$(
        impl Metric for $kind {
            const KIND: &'static str = $name;

            fn build(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
                Self::new(Opts::new(name, help), labels)
            }
        }
    )+};
}

metric! { IntCounter "counter", Counter "counter", IntGauge "gauge", Gauge "gauge", }
metric_vec! { IntCounterVec "counter", CounterVec "counter", IntGaugeVec "gauge", GaugeVec "gauge", }

impl Metric for Histogram {
    const KIND: &'static str = "histogram";

    fn build(name: &str, help: &str, _: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
    }
}

impl Metric for HistogramVec {
    const KIND: &'static str = "histogram";

    fn build(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
    }
}

/// Makes one metric and registers it: what [`metrics!`](crate::metrics!) expands to.
#[doc(hidden)]
pub fn register<M: Metric>(
    registry: &Registry,
    info: &MetricInfo,
    buckets: Option<&[f64]>,
) -> prometheus::Result<M> {
    let metric = M::build(info.name, info.help, info.labels, buckets.unwrap_or(SECONDS))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Makes a series for every combination of label values, so that each begins at 0 and not at its first event.
///
/// `values` has one list per label, in the labels' order.
pub fn touch<T: MetricVecBuilder>(vec: &MetricVec<T>, values: &[&[&str]]) {
    let none: Vec<Vec<&str>> = vec![Vec::new()];
    let combinations = values.iter().fold(none, |combinations, of_label| {
        let extended = combinations.iter().flat_map(|chosen| {
            of_label.iter().map(move |value| chosen.iter().copied().chain([*value]).collect::<Vec<_>>())
        });
        extended.collect()
    });
    for combination in combinations {
        drop(vec.with_label_values(&combination));
    }
}

/// Declares a struct of metrics.
///
/// ```
/// hookstream_runtime::metrics! { "hookstream_sender"
///     /// What the sender reports.
///     pub struct SenderMetrics {
///         /// Delivery attempts by outcome.
///         attempts_total: IntCounterVec["outcome"],
///         /// Wall time of one attempt.
///         attempt_seconds: HistogramVec["outcome"] buckets [0.01, 0.1, 1.0],
///         /// Requests sent and not answered.
///         in_flight: IntGauge,
///     }
/// }
///
/// let registry = hookstream_runtime::prometheus::Registry::new();
/// let metrics = SenderMetrics::register(&registry)?;
/// metrics.attempts_total.with_label_values(&["delivered"]).inc();
/// assert_eq!(SenderMetrics::CATALOG[0].name, "hookstream_sender_attempts_total");
/// # Ok::<(), hookstream_runtime::prometheus::Error>(())
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $namespace:literal
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $kind:ident $([$($label:literal),+ $(,)?])? $(buckets $buckets:expr)?
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $(
                $(#[doc = $help])+
                pub $field: $crate::prometheus::$kind,
            )+
        }

        impl $name {
            /// What these metrics are, in their order.
            pub const CATALOG: &'static [$crate::MetricInfo] = &[$(
                $crate::MetricInfo {
                    name: ::core::concat!($namespace, "_", ::core::stringify!($field)),
                    kind: <$crate::prometheus::$kind as $crate::Metric>::KIND,
                    help: ::core::concat!($($help),+).trim_ascii(),
                    labels: &[$($($label),+)?],
                }
            ),+];

            /// Makes the metrics and registers them.
            ///
            /// # Errors
            /// If the registry has one of that name already.
            pub fn register(
                registry: &$crate::prometheus::Registry,
            ) -> $crate::prometheus::Result<Self> {
                let mut catalog = Self::CATALOG.iter();
                ::core::result::Result::Ok(Self {
                    $($field: $crate::register(
                        registry,
                        catalog.next().expect("the catalog has every field"),
                        ::core::option::Option::None::<&[f64]>$(.or(::core::option::Option::Some(&$buckets[..])))?,
                    )?,)+
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    crate::metrics! { "hookstream_test"
        /// Metrics of a test.
        pub struct TestMetrics {
            /// Things done, by how they ended.
            ///
            /// More about it.
            things_total: IntCounterVec["outcome", "kind"],
            /// How long a thing took.
            thing_seconds: HistogramVec["outcome"] buckets [0.5, 1.0],
            /// How long all took.
            all_seconds: Histogram,
            /// Things there are.
            things: IntGauge,
        }
    }

    #[test]
    fn a_struct_becomes_metrics() {
        let registry = Registry::new();
        let metrics = TestMetrics::register(&registry).unwrap();
        touch(&metrics.things_total, &[&["done", "failed"], &["a", "b"]]);
        metrics.things_total.with_label_values(&["done", "a"]).inc();
        metrics.thing_seconds.with_label_values(&["done"]).observe(0.7);
        metrics.all_seconds.observe(61.0);
        metrics.things.set(3);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "# HELP hookstream_test_things_total Things done, by how they ended.",
            "# TYPE hookstream_test_things_total counter",
            "hookstream_test_things_total{kind=\"a\",outcome=\"done\"} 1",
            "hookstream_test_things_total{kind=\"b\",outcome=\"failed\"} 0",
            "hookstream_test_thing_seconds_bucket{outcome=\"done\",le=\"0.5\"} 0",
            "hookstream_test_thing_seconds_bucket{outcome=\"done\",le=\"1\"} 1",
            "hookstream_test_all_seconds_bucket{le=\"60\"} 0",
            "hookstream_test_things 3",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(TestMetrics::register(&registry).is_err());
    }

    #[test]
    fn the_catalog_says_what_there_is() {
        let [things, seconds, ..] = TestMetrics::CATALOG else { panic!("fields are missing") };
        assert_eq!(things.labels, ["outcome", "kind"]);
        assert_eq!((seconds.name, seconds.kind), ("hookstream_test_thing_seconds", "histogram"));
        assert_eq!(seconds.help, "How long a thing took.");
    }
}
