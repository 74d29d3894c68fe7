//! Until when work may start, and who may not believe it yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookstream_types::{Mono, limits};

/// How long a confirmed contact is good for.
const TERM: Duration = match limits::SESSION_TIMEOUT.checked_div(2) {
    Some(half) => half,
    None => panic!("two is not zero"),
};

/// The lease of a group membership, shared by the control thread and the cores.
///
/// Each loss of partitions begins a new **epoch**. The lease may be renewed at once, for what is assigned next; but
/// a core that has not yet heard of the loss must not start work for what it lost, so it has no lease until then.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    until: AtomicU64,
    epoch: AtomicU64,
}

impl Lease {
    /// Contact was confirmed that was made at `at` or later.
    pub(crate) fn renew(&self, at: Mono) {
        self.until.fetch_max((at + TERM).0, Ordering::SeqCst);
    }

    /// There is no contact.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Partitions are lost; returns the epoch that begins. To be called before anybody is told.
    pub(crate) fn begin_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn until(&self) -> Mono {
        Mono(self.until.load(Ordering::SeqCst))
    }

    /// The lease of a core that has heard of all losses up to `epoch`.
    pub(crate) fn until_in(&self, epoch: u64) -> Mono {
        // Read in this order: a lease renewed after a loss is never seen with the epoch before it.
        let until = self.until();
        if self.epoch.load(Ordering::SeqCst) == epoch { until } else { Mono(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_half_a_session_from_the_contact() {
        let lease = Lease::default();
        lease.renew(Mono(1_000_000));
        assert_eq!(lease.until(), Mono(5_500_000));
        lease.renew(Mono(500_000));
        assert_eq!(lease.until(), Mono(5_500_000), "an older contact shortens nothing");
        lease.end();
        assert_eq!(lease.until(), Mono(0));
    }

    #[test]
    fn a_core_that_has_not_heard_of_a_loss_has_no_lease() {
        let lease = Lease::default();
        lease.renew(Mono(0));
        assert_eq!(lease.until_in(0), Mono(4_500_000));
        let epoch = lease.begin_epoch();
        lease.renew(Mono(1_000_000));
        assert_eq!(lease.until_in(0), Mono(0));
        assert_eq!(lease.until_in(epoch), Mono(5_500_000));
    }
}
