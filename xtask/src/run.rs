//! Running commands, and saying which one failed.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The cargo that runs this chore.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `command` with our own output, to its end.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("`{line}` could not be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// How many tests ran, over all of `cargo test`'s binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    /// Adds what a line of the test runner's says: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// Runs `cargo test`, passes on what it says, and adds up its tests.
pub fn run_tests(command: &mut Command, counts: &mut Counts) -> anyhow::Result<()> {
    let line = line(command);
    if std::env::var_os(SEED).is_none()
        && let Some(seed) = seed_of_the_commit()
    {
        println!("{SEED}={seed}");
        command.env(SEED, seed.to_string());
    }
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("`{line}` could not be started"))?;
    let stdout = child.stdout.take().context("its output is piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        // A test may print what is not text.
        let line = line.context("the tests' output could not be read")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().with_context(|| format!("`{line}` could not be waited for"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Where property tests take their random numbers from.
const SEED: &str = "PROPTEST_RNG_SEED";

/// Each commit tries other cases, and whoever tests the same commit tries the same: a failure can be repeated, and is
/// never somebody else's.
fn seed_of_the_commit() -> Option<u64> {
    // Of what is in it: the same commit may be landed with another message.
    let git = Command::new("git").args(["rev-parse", "HEAD^{tree}"]).output().ok()?;
    let hash = String::from_utf8(git.stdout).ok()?;
    u64::from_str_radix(hash.get(..16)?, 16).ok()
}

fn line(command: &Command) -> String {
    let program =
        std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let mut line = program.into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn tests_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 4, failed: 2, skipped: 1 });
    }
}
