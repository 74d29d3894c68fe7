//! `secrets`: the key-encryption key.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::{Secret, SecretString};
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
    /// The 32 bytes of the key-encryption key; reads the file if that is where it is.
    ///
    /// # Errors
    /// A [`Problem`] if there is no key, or two, or one that is none.
    pub fn key_encryption_key(&self) -> Result<Secret, Problem> {
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
        match STANDARD.decode(text.trim()) {
            Ok(bytes) if bytes.len() == KEY_BYTES => Ok(Secret::new(bytes)),
            Ok(bytes) => {
                let length = bytes.len();
                drop(Zeroizing::new(bytes));
                Err(Problem::new(
                    key,
                    format!("must be {KEY_BYTES} bytes in base64, and has {length}; {WAY_OUT}"),
                ))
            }
            Err(_) => Err(Problem::new(
                key,
                format!("must be {KEY_BYTES} bytes in base64, and is no base64; {WAY_OUT}"),
            )),
        }
    }
}

fn redacted<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(|_| REDACTED).serialize(serializer)
}
