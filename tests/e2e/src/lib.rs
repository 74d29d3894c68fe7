//! End-to-end tests: the real binaries on a real Kafka.
