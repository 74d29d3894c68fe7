//! `secrets`: the key-encryption key.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::Problem;
use crate::values::REDACTED;

/// Where the key-encryption key is: given here, or in a file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// 32 bytes in base64.
    #[serde(serialize_with = "redacted")]
    pub key: Option<SecretString>,
    /// A file that has them.
    pub key_file: Option<PathBuf>,
}

const KEY_BYTES: usize = 32;

impl Secrets {
    /// The key-encryption key, 32 bytes as base64 text; reads the file if that is where it is.
    ///
    /// # Errors
    /// A [`Problem`] if there is no key, or two, or one that is none.
    pub fn key_encryption_key(&self) -> Result<SecretString, Problem> {
        const WAY_OUT: &str = "`openssl rand -base64 32` makes one";
        let (key, text) = match (&self.key, &self.key_file) {
            (Some(_), Some(file)) => {
                let message = "`secrets.key` is given too; remove one of the two";
                return Err(Problem::new("secrets.key_file", message).with_value(file.display()));
            }
            (None, None) => {
                let message = format!("not given, and neither is `secrets.key_file`; {WAY_OUT}");
                return Err(Problem::new("secrets.key", message));
            }
            (Some(key), None) => ("secrets.key", Zeroizing::new(key.expose().to_owned())),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    let message = format!("could not read the file: {error}; {WAY_OUT}");
                    Problem::new("secrets.key_file", message).with_value(file.display())
                })?;
                ("secrets.key_file", Zeroizing::new(text))
            }
        };
        let trimmed = text.trim();
        let why = match STANDARD.decode(trimmed).map(Zeroizing::new) {
            Ok(bytes) if bytes.len() == KEY_BYTES => return Ok(SecretString::new(trimmed.to_owned())),
            Ok(bytes) => format!("it has {}", bytes.len()),
            Err(_) => "it is no base64".to_owned(),
        };
        Err(Problem::new(key, format!("must be {KEY_BYTES} bytes in base64, and {why}; {WAY_OUT}")))
    }
}

pub(crate) fn redacted<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(|_| REDACTED).serialize(serializer)
}
