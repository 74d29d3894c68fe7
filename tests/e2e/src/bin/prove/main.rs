//! Proofs under load, to be run with `cargo xtask prove NAME`: the services as they are shipped, on three brokers.
//!
//! Each prints a table of figures and claims, and exits with 1 if a claim does not hold. What is claimed is counted
//! outside of the product: at the receivers ([`books`]) and in the topics ([`accounts`]).

mod accounts;
mod backlog;
mod books;
mod hundred_thousand;
mod kills;
mod report;
mod writers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Report;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask prove", about = "Proofs under load")]
struct Cli {
    #[command(subcommand)]
    proof: Proof,
}

#[derive(Debug, Subcommand)]
enum Proof {
    /// Many events for a good, a broken and a hanging endpoint: none lost, none delivered twice
    HundredThousand(hundred_thousand::Options),
    /// Services and brokers killed, terminated and stopped under load
    Kills(kills::Options),
    /// A great backlog of one webhook: what it costs, and what the others notice of it
    Backlog(backlog::Options),
    /// Two replicas of the API under many writers, one of them killed; then a hundred thousand webhooks
    Writers(writers::Options),
}

fn main() -> ExitCode {
    let proof = Cli::parse().proof;
    let mut report = Report::default();
    // The harness panics with what it waited for in vain: the figures so far are worth seeing all the more.
    let ended = catch_unwind(AssertUnwindSafe(|| match &proof {
        Proof::HundredThousand(options) => hundred_thousand::prove(options, &mut report),
        Proof::Kills(options) => kills::prove(options, &mut report),
        Proof::Backlog(options) => backlog::prove(options, &mut report),
        Proof::Writers(options) => writers::prove(options, &mut report),
    }));
    if ended.is_err() {
        report.claim("the proof came to its end", "no", false);
    }
    print!("{report}");
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
