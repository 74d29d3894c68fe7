//! The project's chores: test, kafka, bench.
fn main() {}
