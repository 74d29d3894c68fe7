//! What hookstream decides, and nothing else: no IO, no clock, no randomness.
//!
//! `now` and jitter are arguments; effects are returned. So every decision can be tested by table, by
//! property and by seeded simulation, and the same code runs on Kafka and on the simulated log.

pub mod breaker;
pub mod clock;
pub mod config;
pub mod decision;
pub mod dedupe;
pub mod endpoint;
pub mod event;
pub mod exchange;
pub mod filter;
pub mod frontier;
pub mod ingest;
pub mod job;
pub mod ladder;
pub mod lane;
pub mod ledger;
pub mod matching;
pub mod mutant;
pub mod outcome;
pub mod redact;
pub mod replay;
pub mod request;
pub mod retry;
pub mod retry_after;
pub mod schedule;
pub mod sender;
pub mod shared_map;
pub mod signing;
pub mod template;
pub mod turnstile;
