//! Simulated log, scripted receivers, builders and the contract suite
pub mod receiver;
