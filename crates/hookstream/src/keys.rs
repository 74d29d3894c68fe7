//! `hookstream keys rotate|check`: which key-encryption keys are in use, and replacing one while everything runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use hookstream_config::base::{keyring, writer};
use hookstream_config::{Change, ConfigWriter, Refused, State, WriteError};
use hookstream_types::AccountUid;
use hookstream_wire::Topics;

use crate::args::{KeysArgs, KeysCommand};
use crate::cluster::{Cluster, write_failure};
use crate::failure::{EXIT_FAILURE, Failure};

/// Who made the change, in the configuration's records.
const ACTOR: &str = "hookstream keys rotate";
/// Accounts of one write.
const AT_ONCE: usize = 32;

pub(crate) fn run(args: &KeysArgs) -> Result<ExitCode, Failure> {
    let (KeysCommand::Rotate(of) | KeysCommand::Check(of)) = &args.command;
    let settings = of.cluster.settings_with_key(&of.data_dir)?;
    let keyring = keyring(&settings).map_err(|problem| Failure::Settings(vec![problem]))?;
    let cluster = Cluster::connect(&settings)?;
    let names = Topics::new(&settings.kafka.namespace, &settings.topics.retry_ladder);
    for topic in [&names.config, &names.audit] {
        if !cluster.has_topic(topic)? {
            let message = format!("there is no topic `{topic}`; `hookstream topics create` makes it");
            return Err(Failure::Other(message.into()));
        }
    }
    let writer = writer(&settings, keyring)?;
    cluster.block_on(async {
        let before = writer.read(Use::of).await.map_err(write_failure)?;
        let is_done = match args.command {
            KeysCommand::Check(_) => {
                print!("{}", before.table());
                before.unknown().next().is_none()
            }
            KeysCommand::Rotate(_) => rotate(&writer, &before).await?,
        };
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
    })
}

/// Which keys seal which accounts.
#[derive(Debug)]
struct Use {
    /// The configured keys, the one that seals first.
    configured: Vec<String>,
    accounts: BTreeMap<String, Vec<AccountUid>>,
}

impl Use {
    fn of(state: &State) -> Self {
        let configured: Vec<_> = state.keyring().ids().map(str::to_owned).collect();
        let mut accounts: BTreeMap<String, Vec<AccountUid>> = BTreeMap::new();
        for record in state.accounts() {
            accounts.entry(record.data_key.key.clone()).or_default().push(record.account.uid);
        }
        Self { configured, accounts }
    }

    fn newest(&self) -> &str {
        self.configured.first().map_or("", String::as_str)
    }

    fn count(&self, key: &str) -> usize {
        self.accounts.get(key).map_or(0, Vec::len)
    }

    /// Those that are to be sealed anew and can be opened.
    fn outdated(&self) -> Vec<AccountUid> {
        let previous = self.configured.iter().skip(1);
        previous
            .filter(|key| *key != self.newest())
            .flat_map(|key| self.accounts.get(key))
            .flatten()
            .copied()
            .collect()
    }

    /// Keys in use that are not configured, with the number of accounts.
    fn unknown(&self) -> impl Iterator<Item = (&str, usize)> {
        let unknown = self.accounts.iter().filter(|(key, _)| !self.configured.contains(key));
        unknown.map(|(key, accounts)| (key.as_str(), accounts.len()))
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, what: &str, count: usize| {
            writeln!(text, "key `{key}`, {what}: {}", accounts(count)).ok();
        };
        for (idx, key) in self.configured.iter().enumerate() {
            line(key, if idx == 0 { "which seals" } else { "previous" }, self.count(key));
        }
        for (key, count) in self.unknown() {
            line(key, "NOT CONFIGURED, add it to `secrets.previous_keys`", count);
        }
        text
    }

    /// What a person does next.
    fn conclusion(&self) -> String {
        let mut text = String::new();
        for key in self.configured.iter().skip(1).filter(|key| *key != self.newest()) {
            let count = self.count(key);
            if count == 0 {
                writeln!(text, "key `{key}` is used by no account any more: remove it from the settings")
                    .ok();
            } else {
                writeln!(
                    text,
                    "key `{key}` is still used by {}: give every program `{}` as `secrets.key`, and rotate again",
                    accounts(count),
                    self.newest()
                )
                .ok();
            }
        }
        for (key, count) in self.unknown() {
            writeln!(
                text,
                "key `{key}` is used by {} and not configured: add it to `secrets.previous_keys`, and rotate again",
                accounts(count)
            )
            .ok();
        }
        text
    }
}

/// Whether all accounts are sealed by the newest key now.
async fn rotate(writer: &ConfigWriter, before: &Use) -> Result<bool, Failure> {
    let outdated = before.outdated();
    let mut sealed = 0;
    for some in outdated.chunks(AT_ONCE) {
        sealed += match reseal(writer, some).await {
            Ok(count) => count,
            // An account that was deleted meanwhile, or can't be opened, is not to stop the others.
            Err(WriteError::Refused { .. }) => one_by_one(writer, some).await?,
            Err(error) => return Err(write_failure(error)),
        };
    }
    println!("sealed anew with key `{}`: {}", before.newest(), accounts(sealed));
    println!("sealed with it already: {}", accounts(before.count(before.newest())));
    let after = writer.read(Use::of).await.map_err(write_failure)?;
    print!("{}", after.conclusion());
    Ok(after.accounts.keys().all(|key| key == after.newest()))
}

async fn one_by_one(writer: &ConfigWriter, accounts: &[AccountUid]) -> Result<usize, Failure> {
    let mut sealed = 0;
    for account in accounts {
        match reseal(writer, &[*account]).await {
            Ok(count) => sealed += count,
            Err(WriteError::Refused { refused: Refused::Missing { .. }, .. }) => {}
            Err(WriteError::Refused { refused, .. }) => {
                eprintln!("not sealed anew: {}", hookstream_types::Chain(&refused))
            }
            Err(error) => return Err(write_failure(error)),
        }
    }
    Ok(sealed)
}

async fn reseal(writer: &ConfigWriter, accounts: &[AccountUid]) -> Result<usize, WriteError> {
    let changes = accounts.iter().map(|uid| Change::RewrapAccount { uid: *uid }).collect();
    Ok(writer.write(ACTOR, changes).await?.written.len())
}

fn accounts(count: usize) -> String {
    if count == 1 { "1 account".to_owned() } else { format!("{count} accounts") }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn keys(configured: &[&str], used: &[(&str, usize)]) -> Use {
        let uids = |count| (0..count).map(|n: usize| AccountUid(Uuid::from_u128(n as u128))).collect();
        Use {
            configured: configured.iter().map(|key| (*key).to_owned()).collect(),
            accounts: used.iter().map(|(key, count)| ((*key).to_owned(), uids(*count))).collect(),
        }
    }

    #[test]
    fn what_is_to_be_sealed_anew() {
        let found = keys(&["new", "old", "older"], &[("new", 1), ("old", 2), ("lost", 3)]);
        assert_eq!(found.outdated().len(), 2);
        assert_eq!(found.unknown().collect::<Vec<_>>(), [("lost", 3)]);
    }

    #[test]
    fn what_is_said() {
        let found = keys(&["new", "old", "older"], &[("new", 1), ("old", 2), ("lost", 3)]);
        insta::assert_snapshot!(format!("{}---\n{}", found.table(), found.conclusion()), @r"
        key `new`, which seals: 1 account
        key `old`, previous: 2 accounts
        key `older`, previous: 0 accounts
        key `lost`, NOT CONFIGURED, add it to `secrets.previous_keys`: 3 accounts
        ---
        key `old` is still used by 2 accounts: give every program `new` as `secrets.key`, and rotate again
        key `older` is used by no account any more: remove it from the settings
        key `lost` is used by 3 accounts and not configured: add it to `secrets.previous_keys`, and rotate again
        ");
    }
}
