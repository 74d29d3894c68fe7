//! Torn files: an end that was not finished is cut, and what can't be put right is said.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hookstream_devbroker::{DevBroker, Fsync, Settings, StartError};

use crate::clients::{Numbers, create_topic, numbers, read_all};

fn start(dir: &Path) -> DevBroker {
    let listen = ([127, 0, 0, 1], 0).into();
    DevBroker::start(Settings { fsync: Fsync::Always, ..Settings::new(dir, listen) }).unwrap()
}

/// A data directory with a topic of ten records, each a batch of its own, whose broker crashed.
fn crashed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let address = broker.address().to_string();
    create_topic(&address, "torn", 1);
    let mut producer = Numbers::new(&address, "torn");
    for _ in 0..10 {
        producer.send(1);
        producer.finish();
    }
    broker.crash();
    dir
}

/// The files with records.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.join("topics")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "log") {
                found.push(entry.path());
            }
        }
    }
    found
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_batch_that_was_not_finished_is_cut() {
    let dir = crashed();
    let [log] = &logs(dir.path())[..] else { panic!("one partition has one file") };
    let whole = fs::read(log).unwrap();
    // The first half of a batch, as a crash in the middle of a write leaves it.
    append(log, &whole[..whole.len() / 20]);
    let broker = start(dir.path());
    let address = broker.address().to_string();
    assert_eq!(read_all(&address, "torn"), numbers(10));
    let mut producer = Numbers::new(&address, "torn");
    producer.send(2);
    producer.finish();
    assert_eq!(read_all(&address, "torn").len(), 12);
    broker.stop();
}

#[test]
fn records_before_a_torn_one_stay() {
    let dir = crashed();
    let [log] = &logs(dir.path())[..] else { panic!("one partition has one file") };
    let size = fs::metadata(log).unwrap().len();
    OpenOptions::new().write(true).open(log).unwrap().set_len(size - 1).unwrap();
    let broker = start(dir.path());
    assert_eq!(read_all(&broker.address().to_string(), "torn"), numbers(9));
    broker.stop();
}

#[test]
fn a_line_of_the_journal_that_was_not_finished_is_cut() {
    let dir = crashed();
    append(&dir.path().join("journal"), b"0123abcd {\"topic_deleted\":{\"name\":\"torn\"");
    let broker = start(dir.path());
    let address = broker.address().to_string();
    assert_eq!(read_all(&address, "torn"), numbers(10));
    create_topic(&address, "another", 1);
    broker.crash();
    // What came after the cut is there as well.
    let broker = start(dir.path());
    assert_eq!(read_all(&broker.address().to_string(), "another"), [""; 0]);
    broker.stop();
}

#[test]
fn a_journal_that_is_damaged_in_the_middle_is_named() {
    let dir = crashed();
    let journal = dir.path().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[12] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let error = DevBroker::start(Settings::new(dir.path(), ([127, 0, 0, 1], 0).into())).unwrap_err();
    let StartError::Journal(error) = error else { panic!("{error}") };
    assert!(error.to_string().contains(&journal.display().to_string()), "{error}");
    assert!(error.to_string().contains("line 1"), "{error}");
}
