//! Faults on purpose, for the tests of the tests: the simulation must find each of them.
//!
//! Without the feature `mutants` (no product build has it) [`on`] is `false` at compile time.

/// A rule that can be broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Commits the offset after the highest one seen.
    CommitEarly,
    /// Produces the follow-up together with its decision.
    FollowUpBeforeDecision,
    /// Keeps the dedupe window when a partition goes and comes back.
    WindowKeptAcrossRevoke,
    /// Warms the window up beyond the base.
    WarmUpBeyondBase,
    /// Takes the same offset, read again, for a duplicate.
    SameOffsetIsDuplicate,
    /// Takes a later generation for a duplicate.
    DedupeWithoutGeneration,
    /// The retry reader drops what it has seen before.
    DedupeInRetryReader,
    /// The retry reader waits for the job's due time, not for append time + rung.
    WaitForDue,
    /// Moves a job on although it is not due.
    RetryEarly,
    /// Completes a deferred job without its follow-up.
    DeferralLost,
    /// Decides with the view there is, not with the one the job asks for.
    StaleView,
    /// Goes on when the lease has ended.
    NoLease,
    /// A repeated follow-up computes its due time anew.
    AnotherDue,
    /// Believes the ledger whoever wrote it.
    FencedOwnerHonoured,
    /// The pipe commits all that it has seen.
    PipeCommitEarly,
    /// Fan-out matches with the view there is, not with the one the event asks for.
    FanoutStaleView,
    /// The pipe takes an output that failed for one that is in the log.
    FailureIsSuccess,
    /// The pipe commits without waiting for the evidence.
    EvidenceNotAwaited,
    /// The ingester rejects by the view there is, which may lack the account.
    RejectByStaleView,
}

impl Mutant {
    pub const ALL: &'static [Self] = &[
        Self::CommitEarly,
        Self::FollowUpBeforeDecision,
        Self::WindowKeptAcrossRevoke,
        Self::WarmUpBeyondBase,
        Self::SameOffsetIsDuplicate,
        Self::DedupeWithoutGeneration,
        Self::DedupeInRetryReader,
        Self::WaitForDue,
        Self::RetryEarly,
        Self::DeferralLost,
        Self::StaleView,
        Self::NoLease,
        Self::AnotherDue,
        Self::FencedOwnerHonoured,
        Self::PipeCommitEarly,
        Self::FanoutStaleView,
        Self::FailureIsSuccess,
        Self::EvidenceNotAwaited,
        Self::RejectByStaleView,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Breaks a rule (or none) on this thread from now on.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this rule is to be broken.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this rule is to be broken: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn on(_: Mutant) -> bool {
    false
}
