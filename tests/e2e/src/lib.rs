//! End-to-end tests: the real binaries on a real Kafka, seen from outside.
//!
//! - A [`Stack`] is an installation of its own: a namespace, source topics, a receiver, the services that a test
//!   starts. Tests share the Kafka that `HOOKSTREAM_TEST_KAFKA` names (else a development
//!   broker of the test process), and nothing else. A test that stops Kafka has a [`Broker`] of its own.
//! - A [`Service`] is one process. It is started, killed, stopped and asked for its metrics as an operator would.
//! - [`Kafka`] reads and writes topics with kcat, a client that we did not write; events get in as other people's do.
//! - [`Canaries`] are secrets that must turn up nowhere, and [`openapi`] is what the API says that it has, so that a test
//!   can try all of it.
//! - A [`TlsReceiver`] is an endpoint inside TLS, with the certificate that an [`Authority`] of the test's own makes.
//! - A [`Browser`] is a real one, for the console, and a [`Provider`] somebody with whom people sign in to it.
//! - A [`Ledger`] is what `attempts` says was decided, to be compared with what the [`Receiver`] saw.
//!
//! **Invariants:** what is expected comes from the outside (receivers, topics, exit codes), never from our own code
//! under test; everything waited for has a deadline, after which the test says what it saw instead. A failing test
//! prints the ends of its services' logs.

mod broker;
mod browser;
mod canary;
mod config;
mod dns;
mod feed;
mod http;
mod kafka;
mod ledger;
pub mod openapi;
mod packages;
pub mod provider;
mod proxy;
mod service;
pub mod signature;
mod stack;
mod tls;
mod wait;

pub use broker::Broker;
pub use browser::{Browser, Performance, Violation};
pub use canary::Canaries;
pub use config::{Config, Webhook};
pub use dns::NameServer;
pub use feed::{CLOUDEVENTS, Feed};
pub use hookstream_testkit::receiver::{Answer, Arrived, Behaviour, Receiver, Then};
pub use http::{Caller, Metrics, Reply};
pub use kafka::{Kafka, Message, Record};
pub use ledger::Ledger;
pub use packages::package;
pub use provider::Provider;
pub use proxy::Proxy;
pub use service::{Role, Service, free_address};
pub use stack::{ADMIN_TOKEN, KEY, Outcome, Shape, Stack};
pub use tls::{Authority, Certified, Handshake, TlsReceiver};
pub use wait::{SOON, wait_for, wait_until};
