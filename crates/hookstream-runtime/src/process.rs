//! Metrics of the process itself, read when they are asked for.

use std::fs;
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts, Registry};

use crate::Clock;

/// Memory, descriptors, processor time, threads and start of the process, under the names that Prometheus's own
/// clients use, and what was built.
#[derive(Debug)]
pub struct ProcessMetrics {
    resident: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    cpu: Counter,
    /// Two scrapes at once must not both add what was used since the last one.
    cpu_before: Mutex<f64>,
}

impl ProcessMetrics {
    /// Adds the process's metrics to `registry`.
    ///
    /// # Errors
    /// If they are there already.
    pub fn register(registry: &Registry, clock: &Clock, service: &str) -> prometheus::Result<()> {
        let process = Self {
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: IntGauge::new("process_max_fds", "Most file descriptors that may be open.")?,
            threads: IntGauge::new("process_threads", "Threads.")?,
            cpu: Counter::new("process_cpu_seconds_total", "Processor time, user and system.")?,
            cpu_before: Mutex::new(0.0),
        };
        registry.register(Box::new(process))?;
        let start =
            Gauge::new("process_start_time_seconds", "When the process started, since the Unix epoch.")?;
        let up = clock.mono().since(hookstream_types::Mono(0));
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 52 bits")]
        start.set(clock.wall().0 as f64 / 1000.0 - up.as_secs_f64());
        registry.register(Box::new(start))?;
        let build = Opts::new("hookstream_build_info", "Which service of which version; always 1.");
        let build = IntGaugeVec::new(build, &["service", "version"])?;
        build.with_label_values(&[service, env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))
    }

    /// Reads what the system says; where it says nothing, a metric stays as it was.
    fn refresh(&self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let number = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse::<i64>().ok()
            };
            if let Some(kibibytes) = number("VmRSS:") {
                self.resident.set(kibibytes * 1024);
            }
            if let Some(threads) = number("Threads:") {
                self.threads.set(threads);
            }
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // One of them is that of the directory being read.
            self.open_fds.set(i64::try_from(fds.count()).unwrap_or(i64::MAX) - 1);
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            #[expect(clippy::cast_precision_loss, reason = "52 bits of microseconds are 142 years")]
            let seconds = micros as f64 / 1e6;
            let mut before = self.cpu_before.lock().unwrap_or_else(PoisonError::into_inner);
            self.cpu.inc_by((seconds - *before).max(0.0));
            *before = seconds;
        }
    }

    fn parts(&self) -> [&dyn Collector; 5] {
        [&self.resident, &self.open_fds, &self.max_fds, &self.threads, &self.cpu]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn the_process_tells_about_itself() {
        let registry = Registry::new();
        ProcessMetrics::register(&registry, &Clock::start(), "test").unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for name in
            ["process_resident_memory_bytes ", "process_open_fds ", "process_max_fds ", "process_threads "]
        {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line[name.len()..].parse::<f64>().unwrap() > 0.0, "{line}");
        }
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
        assert!(text.contains("hookstream_build_info{service=\"test\",version="), "{text}");
    }
}
