//! All stages on a simulated log, by seed: from the sources' topics to the endpoints' answers.
//!
//! One thread, virtual time, one random number generator: the same seed gives the same run. The log lies as real
//! ones do: acknowledgements come late or never, records land although their producer gave up, offsets are read
//! twice, a process that was taken for dead goes on for a while without knowing it, partitions come back to who
//! had them, old records are deleted, views are stale, and no two clocks agree. [`books`] keeps the books: what
//! may never happen is noticed when it happens, what must happen is counted at the end.
//!
//! Without faults the log keeps what every log promises: [`SimBench`] runs the contract suite on it. It differs from
//! Kafka where that shows no stage anything new: a commit takes no time as long as the coordinator is in sight, all
//! topics stamp their records when they are appended, and a group's topics are fixed when it is made.

mod bench;
mod books;
mod cluster;
mod inputs;
mod log;
mod rng;
mod run;

pub use bench::{SimBench, SimMember};
pub use books::Violation;
pub use cluster::Faults;
pub use log::SimLog;
pub use rng::Rng;
pub use run::{Plan, Report, run};
