//! Why bytes are not the record they should be.

use serde::Deserialize;

/// The version that every record is written with.
pub const VERSION: u32 = 1;

/// A record that cannot be read. It is damaged, of a newer version, or not hookstream's.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error("the record has no value: it is a tombstone, and this topic has none")]
    Empty,
    #[error("the record is of version {found}, and this program reads version {VERSION}: upgrade it first")]
    Version { found: u32 },
    #[error("the record's {part} is not the JSON that it should be")]
    Json {
        part: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the record is {found} bytes where it should be {expected}: it was cut or damaged")]
    Length { expected: usize, found: usize },
    #[error("the record has no header `{name}`: it was not written by hookstream")]
    MissingHeader { name: &'static str },
    #[error("the record's header `{name}` is not {expected}")]
    Header { name: String, expected: &'static str },
}

impl BadRecord {
    /// The error of a JSON `part` that does not parse: if only its version is foreign, that is what it says.
    pub(crate) fn of_json(part: &'static str, json: &[u8], source: serde_json::Error) -> Self {
        #[derive(Deserialize)]
        struct Versioned {
            v: u32,
        }
        match serde_json::from_slice(json) {
            Ok(Versioned { v }) if v != VERSION => Self::Version { found: v },
            Ok(_) | Err(_) => Self::Json { part, source },
        }
    }

    /// # Errors
    /// [`BadRecord::Version`] unless `found` can be read.
    pub(crate) fn check_version(found: u32) -> Result<(), Self> {
        if found == VERSION { Ok(()) } else { Err(Self::Version { found }) }
    }
}
