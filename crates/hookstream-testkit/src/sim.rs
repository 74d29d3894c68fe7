//! The stages of the sender on a simulated log, by seed.
//!
//! One thread, virtual time, one random number generator: the same seed gives the same run. The log lies as real
//! ones do: acknowledgements come late or never, records land although their producer gave up, offsets are read
//! twice, a process that was taken for dead goes on for a while without knowing it, partitions come back to who
//! had them, old records are deleted, views are stale, and no two clocks agree. [`books`] keeps the books: what
//! may never happen is noticed when it happens, what must happen is counted at the end.

mod books;
mod cluster;
mod log;
mod rng;
mod run;

pub use books::Violation;
pub use rng::Rng;
pub use run::{Plan, Report, run};
