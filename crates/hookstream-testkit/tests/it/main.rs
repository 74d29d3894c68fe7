//! The simulation: many seeds without a fault found, and every seeded fault found.

use hookstream_core::mutant::{self, Mutant};
use hookstream_testkit::sim::{Faults, Plan, Report, SimBench, run};

/// The simulated log is a log.
mod contract {
    hookstream_log::contract_suite!(super::SimBench::new(1));
}

/// Seeds that every change must pass; `cargo xtask sim` runs others.
fn seeds() -> std::ops::Range<u64> {
    let from = std::env::var("HOOKSTREAM_SIM_SEED").ok().and_then(|text| text.parse().ok());
    let count = std::env::var("HOOKSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let from: u64 = from.unwrap_or(0);
    from..from + count.unwrap_or(1_000)
}

fn assert_clean(report: &Report) {
    assert!(
        report.violations.is_empty(),
        "seed {}: {:#?}\nrepeat with HOOKSTREAM_SIM_SEED={} HOOKSTREAM_SIM_SEEDS=1",
        report.seed,
        report.violations,
        report.seed
    );
}

#[test]
fn no_seed_breaks_a_rule() {
    let (mut jobs, mut finished, mut requests, mut repeated, mut processes) = (0, 0, 0, 0, 0);
    let mut sum = Faults::default();
    for seed in seeds() {
        let report = run(Plan::new(seed));
        assert_clean(&report);
        assert!(report.finished * 100 >= report.jobs * 95, "seed {seed} proves nothing: {report:?}");
        assert!(report.jobs > 0, "seed {seed} proves nothing: {report:?}");
        jobs += report.jobs;
        finished += report.finished;
        requests += report.requests;
        repeated += report.repeated_requests;
        processes += report.processes;
        sum += report.faults;
    }
    let seeds = u64::try_from(seeds().count()).expect("a count");
    println!(
        "{seeds} seeds: {jobs} jobs, {finished} finished, {requests} requests, {repeated} repeated, \
         {processes} processes; {sum:?}"
    );
    if seeds >= 1_000 {
        let Faults { crashes, zombies, reread, unknown, landed_unknown, late_acks, handovers } = sum;
        for (what, count, least) in [
            ("jobs", jobs as u64, 30 * seeds),
            ("requests", requests, 30 * seeds),
            ("requests repeated", repeated, seeds / 20),
            ("crashes", crashes, seeds / 2),
            ("zombies", zombies, seeds / 5),
            ("offsets read twice", reread, seeds),
            ("unknown outcomes", unknown, 5 * seeds),
            ("unknown outcomes that landed", landed_unknown, 2 * seeds),
            ("late acknowledgements", late_acks, 5 * seeds),
            ("handovers", handovers, 5 * seeds),
        ] {
            assert!(count >= least, "{seeds} seeds prove too little: {count} {what}, {least} is the least");
        }
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in seeds().take(20) {
        assert_eq!(run(Plan::new(seed)).fingerprint, run(Plan::new(seed)).fingerprint, "seed {seed}");
    }
}

/// Each fault is found within 1,000 seeds.
fn is_found(fault: Mutant) {
    mutant::activate(Some(fault));
    let found = (0..1_000).find(|seed| !run(Plan::new(*seed)).violations.is_empty());
    let what = found.map(|seed| (seed, run(Plan::new(seed)).violations));
    mutant::activate(None);
    match what {
        Some((seed, violations)) => println!("{fault:?}: seed {seed}: {}", violations[0].what),
        None => panic!("{fault:?} was not found in 1,000 seeds"),
    }
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident),* $(,)?) => {
        mod mutants {
            use super::*;
            $(#[test] fn $name() { is_found(Mutant::$mutant); })*

            #[test]
            fn none_is_forgotten() {
                assert_eq!([$(Mutant::$mutant),*].as_slice(), Mutant::ALL);
            }
        }
    };
}

mutants! {
    commit_early: CommitEarly,
    follow_up_before_its_decision: FollowUpBeforeDecision,
    window_kept_across_a_revoke: WindowKeptAcrossRevoke,
    warm_up_beyond_the_base: WarmUpBeyondBase,
    same_offset_counted_as_a_duplicate: SameOffsetIsDuplicate,
    dedupe_without_the_generation: DedupeWithoutGeneration,
    dedupe_in_the_retry_reader: DedupeInRetryReader,
    wait_for_due: WaitForDue,
    retry_early: RetryEarly,
    a_deferral_lost: DeferralLost,
    skip_on_a_stale_view: StaleView,
    work_after_the_lease: NoLease,
    another_due_time: AnotherDue,
    a_fenced_owner_honoured: FencedOwnerHonoured,
    the_pipe_commits_early: PipeCommitEarly,
    fan_out_on_a_stale_view: FanoutStaleView,
    a_failure_taken_for_success: FailureIsSuccess,
    evidence_not_awaited: EvidenceNotAwaited,
    rejected_by_a_stale_view: RejectByStaleView,
}
