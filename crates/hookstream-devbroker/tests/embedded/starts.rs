//! Starting and ending: what is in the way is said, and an end that is asked for is a good one.

use std::net::TcpListener;

use hookstream_devbroker::{DevBroker, Settings, StartError};

use crate::clients::{create_topic, read_all};
use crate::program::{Program, free_address};

#[test]
fn a_data_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Program::start(dir.path(), free_address(), &[]);
    let complaint = Program::fail(dir.path(), free_address());
    assert!(complaint.contains("is in use by another process"), "{complaint}");
    assert!(complaint.contains(&dir.path().display().to_string()), "{complaint}");
    // Within a process it is the same.
    let error = DevBroker::start(Settings::new(dir.path(), free_address())).unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    // And it is free when the first has ended.
    assert!(first.terminate().success());
    Program::start(dir.path(), free_address(), &[]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let complaint = Program::fail(dir.path(), address);
    assert!(complaint.contains(&format!("can't listen on {address}")), "{complaint}");
    assert!(complaint.contains("in use"), "{complaint}");
}

#[test]
fn a_data_directory_that_can_not_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let complaint = Program::fail(&file.path().join("data"), free_address());
    assert!(complaint.contains("can't be used"), "{complaint}");
    assert!(complaint.contains(&file.path().display().to_string()), "{complaint}");
}

#[test]
fn a_broker_that_is_asked_to_end_leaves_all_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Program::start(dir.path(), free_address(), &[]);
    create_topic(&broker.address, "kept", 1);
    let mut producer = crate::clients::Numbers::new(&broker.address, "kept");
    producer.send(100);
    producer.finish();
    assert!(broker.terminate().success());
    let broker = Program::start(dir.path(), free_address(), &[]);
    assert_eq!(read_all(&broker.address, "kept"), crate::clients::numbers(100));
}
