//! The simulation: many seeds without a fault found, and every seeded fault found.

use hookstream_core::mutant::{self, Mutant};
use hookstream_testkit::sim::{Plan, Report, run};

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
    for seed in seeds() {
        let report = run(Plan::new(seed));
        assert_clean(&report);
        assert!(report.finished * 100 >= report.jobs * 95, "seed {seed} proves nothing: {report:?}");
        jobs += report.jobs;
        finished += report.finished;
        requests += report.requests;
        repeated += report.repeated_requests;
        processes += report.processes;
    }
    println!(
        "{} seeds: {jobs} jobs, {finished} finished, {requests} requests, {repeated} repeated, {processes} processes",
        seeds().count()
    );
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
}
