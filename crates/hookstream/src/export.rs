//! `hookstream export`: the configuration as a file that `hookstream apply` takes.

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use hookstream_config::manifest::render::to_yaml;

use crate::api::{Api, Unanswered};
use crate::args::ExportArgs;
use crate::failure::Failure;

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let answer = Api::new(&args.api)?.get("/api/v1/export").map_err(|unanswered| match unanswered {
        Unanswered::Failed(failure) => failure,
        Unanswered::BrokenOff(what) => Failure::Other(what.into()),
        Unanswered::Problem(problem) => Failure::Other(problem.detail.into()),
    })?;
    let text = to_yaml(&serde_json::from_slice(&answer)?)?;
    match &args.output {
        None => io::stdout().lock().write_all(text.as_bytes())?,
        Some(file) => fs::write(file, text)
            .map_err(|error| Failure::usage(format!("could not write `{}`: {error}", file.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}
