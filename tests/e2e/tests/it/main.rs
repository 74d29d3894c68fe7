//! What an operator may rely on, tried with the real binaries on a real Kafka.

mod api;
mod bad_input;
mod dev;
mod generated_client;
mod graceful;
mod harness;
mod kill;
mod load;
mod quickstart;
mod retry;
mod smoke;
mod stop;
mod transfer;
