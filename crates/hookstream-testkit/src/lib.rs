//! What tests are made with: a simulated log with the stages on it, and scripted receivers.

pub mod receiver;
pub mod sim;
