//! `hookstream apply`: makes the configuration match a file, and shows the difference.

use std::process::ExitCode;

use crate::args::ApplyArgs;
use crate::failure::Failure;

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let _ = args;
    Err("SEAM(hookstream-config::apply)".into())
}
