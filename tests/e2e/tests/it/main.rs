//! What an operator may rely on, tried with the real binaries on a real Kafka.

mod answers;
mod api;
mod bad_input;
mod browser;
mod dev;
mod egress;
mod flood;
mod generated_client;
mod graceful;
mod harness;
mod keys;
mod kill;
mod load;
mod only_errors;
mod outage;
mod quickstart;
mod replicas;
mod retry;
mod secrets;
mod smoke;
mod stop;
mod templates;
mod tenants;
mod tls;
mod transfer;
mod wire;
