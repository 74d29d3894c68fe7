//! The embedded development broker, as `hookstream dev` starts it.

use std::error::Error;
use std::io;

use hookstream_devbroker::{DevBroker, Settings as BrokerSettings, StartError};

use crate::args::DevArgs;
use crate::failure::Failure;

/// Starts the broker on what the data directory has.
pub(super) fn start(args: &DevArgs) -> Result<DevBroker, Failure> {
    let settings = BrokerSettings {
        // Who tries a Kafka client on it expects what Kafka does.
        auto_create_topics: true,
        ..BrokerSettings::new(args.data_dir.join("kafka"), args.kafka_listen)
    };
    DevBroker::start(settings).map_err(|error| match &error {
        StartError::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => Failure::usage(format!(
            "the address {address} is in use, perhaps by a Kafka: use that one with `--bootstrap-servers {address}`, or \
             give the development broker another address with `--kafka-listen`"
        )),
        StartError::Listen { .. } => {
            Failure::usage(Box::new(NotListening(error)) as Box<dyn Error + Send + Sync>)
        }
        _ => Failure::Other(error.into()),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("`--kafka-listen` is no address of this machine")]
struct NotListening(#[source] StartError);
