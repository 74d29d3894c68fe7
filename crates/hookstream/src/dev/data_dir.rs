//! What `hookstream dev` keeps: a key and a token, for the eyes of their owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The file in the data directory that has the key.
const KEY_FILE: &str = "key";
/// The one that has the administrator's token.
const TOKEN_FILE: &str = "admin-token";

/// Makes the directory, for its owner's eyes.
pub(super) fn make(data_dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    // Nothing in the directory belongs into a repository.
    fs::write(data_dir.join(".gitignore"), "*\n")
}

/// Where the key is.
pub(crate) fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(KEY_FILE)
}

/// Where the administrator's token is.
pub(crate) fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN_FILE)
}

/// Makes a key that stays; returns where it is.
pub(super) fn key(data_dir: &Path) -> io::Result<PathBuf> {
    let path = key_file(data_dir);
    keep(&path, || Ok(STANDARD.encode(random()?)))?;
    Ok(path)
}

/// The administrator's token, which is made once and stays.
pub(super) fn admin_token(data_dir: &Path) -> io::Result<String> {
    let path = token_file(data_dir);
    keep(&path, || Ok(format!("hsa_{}", URL_SAFE_NO_PAD.encode(random()?))))?;
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Writes a file that nobody else may read, if it is not there.
fn keep(path: &Path, make: impl FnOnce() -> io::Result<String>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", make()?)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hookstream_settings::{Map, Settings};

    use super::*;

    #[test]
    fn what_is_secret_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        make(&data_dir).unwrap();
        let path = key(&data_dir).unwrap();
        let made = fs::read_to_string(&path).unwrap();
        let token = admin_token(&data_dir).unwrap();
        assert!(token.starts_with("hsa_") && token.len() == 47, "{token}");
        for file in [&path, &data_dir.join(TOKEN_FILE)] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(key(&data_dir).unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), made);
        assert_eq!(admin_token(&data_dir).unwrap(), token);
        let env = Map::from_iter([("HOOKSTREAM__SECRETS__KEY_FILE".to_owned(), path.display().to_string())]);
        assert!(Settings::load(None, env).is_ok());
    }
}
