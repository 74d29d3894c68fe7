//! `secrets`: the key-encryption keys.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::Problem;
use crate::values::{REDACTED, comma_or_seq};

/// Where the key-encryption keys are: given here, or in files.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// 32 bytes in base64.
    #[serde(serialize_with = "redacted")]
    pub key: Option<SecretString>,
    /// A file that has them.
    pub key_file: Option<PathBuf>,
    /// Keys that open and do not seal.
    #[serde(deserialize_with = "secret_list", serialize_with = "redacted_list")]
    pub previous_keys: Vec<SecretString>,
    /// Files that each have one of them.
    #[serde(deserialize_with = "path_list")]
    pub previous_key_files: Vec<PathBuf>,
}

const KEY_BYTES: usize = 32;
const WAY_OUT: &str = "`openssl rand -base64 32` makes one";

impl Secrets {
    /// The key-encryption keys, each 32 bytes as base64 text, the one that seals first; reads the files.
    ///
    /// # Errors
    /// A [`Problem`] if there is no key that seals, or two, or one of them all is none.
    pub fn key_encryption_keys(&self) -> Result<Vec<SecretString>, Problem> {
        let newest = match (&self.key, &self.key_file) {
            (Some(_), Some(file)) => {
                let message = "`secrets.key` is given too; remove one of the two";
                return Err(Problem::new("secrets.key_file", message).with_value(file.display()));
            }
            (None, None) => {
                let message = format!("not given, and neither is `secrets.key_file`; {WAY_OUT}");
                return Err(Problem::new("secrets.key", message));
            }
            (Some(key), None) => checked("secrets.key", key.expose())?,
            (None, Some(file)) => read("secrets.key_file", file)?,
        };
        let mut keys = vec![newest];
        for key in &self.previous_keys {
            keys.push(checked("secrets.previous_keys", key.expose())?);
        }
        for file in &self.previous_key_files {
            keys.push(read("secrets.previous_key_files", file)?);
        }
        Ok(keys)
    }
}

fn read(setting: &str, file: &Path) -> Result<SecretString, Problem> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| {
        let message = format!("could not read the file: {error}; {WAY_OUT}");
        Problem::new(setting, message).with_value(file.display())
    })?;
    checked(setting, &text)
}

fn checked(setting: &str, text: &str) -> Result<SecretString, Problem> {
    let trimmed = text.trim();
    let why = match STANDARD.decode(trimmed).map(Zeroizing::new) {
        Ok(bytes) if bytes.len() == KEY_BYTES => return Ok(SecretString::new(trimmed.to_owned())),
        Ok(bytes) => format!("it has {}", bytes.len()),
        Err(_) => "it is no base64".to_owned(),
    };
    Err(Problem::new(setting, format!("must be {KEY_BYTES} bytes in base64, and {why}; {WAY_OUT}")))
}

fn secret_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    Ok(comma_or_seq(deserializer)?.into_iter().map(SecretString::new).collect())
}

fn path_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(comma_or_seq(deserializer)?.into_iter().map(PathBuf::from).collect())
}

fn redacted_list<S: Serializer>(keys: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(|_| REDACTED))
}

pub(crate) fn redacted<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(|_| REDACTED).serialize(serializer)
}
