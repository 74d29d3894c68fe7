//! How commands fail: what is printed, and the exit codes that scripts branch on.

use std::error::Error;
use std::process::ExitCode;

use hookstream_settings::Problem;
use hookstream_types::Chain;

/// It didn't work.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// `apply --dry-run`: the file and what is configured differ.
pub(crate) const EXIT_DIFFERS: u8 = 2;
/// Bad arguments, settings or input (`EX_USAGE` of sysexits).
pub(crate) const EXIT_USAGE: u8 = 64;
/// No broker or no API answers (`EX_UNAVAILABLE`).
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;

/// The same for people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failure
  2   `apply --dry-run`: the file and what is configured differ
  64  bad arguments, settings or input
  69  no broker, or no API, answers";

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    Settings(Vec<Problem>),
    /// What was given can't be right.
    Usage(Box<dyn Error + Send + Sync>),
    /// No broker or no API answers.
    Unavailable(Box<dyn Error + Send + Sync>),
    Other(Box<dyn Error + Send + Sync>),
}

impl Failure {
    pub(crate) fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Usage(error.into())
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        let (code, error) = match self {
            Self::Settings(problems) => return hookstream_runtime::report("hookstream", problems),
            Self::Usage(error) => (EXIT_USAGE, error),
            Self::Unavailable(error) => (EXIT_UNAVAILABLE, error),
            Self::Other(error) => (EXIT_FAILURE, error),
        };
        eprintln!("hookstream: {}", Chain(&**error));
        ExitCode::from(code)
    }
}

/// Any error that isn't told apart is a plain failure.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}
