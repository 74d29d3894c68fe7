//! What the broker has to know after a restart, beside the records themselves: topics, offsets, transactions.
//!
//! A file of lines, each a checksum and a JSON document; the state is what applying all of them gives. When most of it
//! is history, it is written anew with what counts now. A crash tears at most the last line, which nobody was told
//! of, and it is cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::groups;
use crate::topics::Configs;
use crate::transactions::Transaction;

/// A change of the state. Each has all that it is about: the last one of a thing counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Cluster {
        id: String,
    },
    Topic {
        name: String,
        id: Uuid,
        partitions: i32,
        configs: Configs,
    },
    TopicDeleted {
        name: String,
    },
    /// No producer id below this is free.
    Producers {
        next: i64,
    },
    Transaction(Transaction),
    Group(groups::journal::Entry),
}

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("`{path}` can't be read or written")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "line {line} of `{path}` is damaged, and it is not the last one: restore the data directory, or remove it to \
         begin anew"
    )]
    Damaged { path: PathBuf, line: usize },
}

/// The file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// How large it was when it was last written anew.
    compact_bytes: u64,
    /// The end may be half a line: nothing may follow it.
    torn: bool,
}

/// It is written anew when it has grown to this many times what it was.
const GROWTH: u64 = 4;
/// Below this it may grow as it likes.
const SMALL: u64 = 4 * 1024 * 1024;

impl Journal {
    /// Opens the journal and returns what it says.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let path = dir.join("journal");
        let failed = |source| JournalError::Io { path: path.clone(), source };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let (entries, whole) = read(&text, &path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "the journal's last line was not finished, and is cut");
            file.set_len(whole as u64).map_err(failed)?;
        }
        let bytes = whole as u64;
        Ok((Self { path, file: Arc::new(file), bytes, compact_bytes: bytes, torn: false }, entries))
    }

    /// Appends entries. They are with the operating system then; [`Journal::file`] makes them durable.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let lines = write(entries);
        self.bytes += lines.len() as u64;
        // One call, so that a crash of the process leaves all of it or nothing.
        let written = (&*self.file).write_all(&lines);
        self.torn = written.is_err();
        written.map_err(|source| JournalError::Io { path: self.path.clone(), source })
    }

    /// Whether most of it is history, or its end is torn.
    pub(crate) fn is_to_be_rewritten(&self) -> bool {
        self.torn || (self.bytes > SMALL && self.bytes > self.compact_bytes.saturating_mul(GROWTH))
    }

    /// Writes the file anew, with these entries only.
    pub(crate) fn rewrite(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: self.path.clone(), source };
        let temporary = self.path.with_extension("new");
        let lines = write(entries);
        let replace = || -> io::Result<File> {
            let mut file = File::create(&temporary)?;
            file.write_all(&lines)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            if let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
            OpenOptions::new().append(true).open(&self.path)
        };
        self.file = Arc::new(replace().map_err(failed)?);
        self.bytes = lines.len() as u64;
        self.compact_bytes = self.bytes;
        self.torn = false;
        Ok(())
    }

    /// The file as it is now, to be synced without holding the journal.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

fn write(entries: &[Entry]) -> Vec<u8> {
    let mut lines = Vec::new();
    for entry in entries {
        let json = serde_json::to_vec(entry).expect("no map here has keys that are not texts");
        lines.extend_from_slice(format!("{:08x} ", crc32c::crc32c(&json)).as_bytes());
        lines.extend_from_slice(&json);
        lines.push(b'\n');
    }
    lines
}

/// The entries, and how many bytes they are: what follows is a torn line.
fn read(text: &[u8], path: &Path) -> Result<(Vec<Entry>, usize), JournalError> {
    let mut entries = Vec::new();
    let mut whole = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match read_line(line) {
            Some(entry) => entries.push(entry),
            None if whole + line.len() == text.len() => return Ok((entries, whole)),
            None => return Err(JournalError::Damaged { path: path.to_owned(), line: number + 1 }),
        }
        whole += line.len();
    }
    Ok((entries, whole))
}

fn read_line(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = line.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if crc32c::crc32c(json.as_bytes()) != sum {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producers(entries: &[Entry]) -> Vec<i64> {
        entries
            .iter()
            .map(|entry| match entry {
                Entry::Producers { next } => *next,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_was_appended_is_there_again_whatever_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, entries) = Journal::open(dir.path()).unwrap();
        assert!(entries.is_empty());
        journal.append(&[1, 2, 3].map(|next| Entry::Producers { next })).unwrap();
        drop(journal);
        let path = dir.path().join("journal");
        let all = fs::read(&path).unwrap();
        for length in 0..=all.len() {
            fs::write(&path, &all[..length]).unwrap();
            let (mut journal, entries) = Journal::open(dir.path()).unwrap();
            let lines = all[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(producers(&entries), &[1, 2, 3][..lines]);
            journal.append(&[Entry::Producers { next: 9 }]).unwrap();
            let (_, entries) = Journal::open(dir.path()).unwrap();
            assert_eq!(producers(&entries).last(), Some(&9));
        }
    }

    #[test]
    fn a_line_that_is_damaged_in_the_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[1, 2].map(|next| Entry::Producers { next })).unwrap();
        let path = dir.path().join("journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[12] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn rewriting_leaves_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[1, 2].map(|next| Entry::Producers { next })).unwrap();
        journal.rewrite(&[Entry::Producers { next: 7 }]).unwrap();
        journal.append(&[Entry::Producers { next: 8 }]).unwrap();
        assert!(!journal.is_to_be_rewritten());
        let (_, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(producers(&entries), [7, 8]);
    }

    #[test]
    fn after_a_failed_write_nothing_follows_but_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[Entry::Producers { next: 1 }]).unwrap();
        // A file that can only be read stands for a full disk.
        journal.file = Arc::new(File::open(&journal.path).unwrap());
        journal.append(&[Entry::Producers { next: 2 }]).unwrap_err();
        assert!(journal.is_to_be_rewritten());
        journal.rewrite(&[Entry::Producers { next: 3 }]).unwrap();
        journal.append(&[Entry::Producers { next: 4 }]).unwrap();
        let (_, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(producers(&entries), [3, 4]);
    }
}
