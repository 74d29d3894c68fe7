//! Simulated log, scripted receivers, builders and the contract suite
