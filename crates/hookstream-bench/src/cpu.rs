//! What a process or a thread has cost.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

/// CPU time of a process, all of its threads.
///
/// # Errors
/// If it does not run.
pub fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} does not run any more"))?;
    // The name, in parentheses, may hold anything; behind it `utime` and `stime` are the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or(stat.as_str(), |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no clock ticks")?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
    let seconds = ticks as f64 / per_second as f64;
    Ok(Duration::from_secs_f64(seconds))
}

/// CPU time of the calling thread.
///
/// # Errors
/// If the kernel does not tell.
pub fn of_this_thread() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_secs(value.tv_sec().unsigned_abs())
            + Duration::from_micros(value.tv_usec().unsigned_abs())
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// The most memory that a process has had, in MiB.
#[must_use]
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// How busy the machine is: processes that run or want to, on average over the last minute.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
