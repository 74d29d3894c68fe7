//! `hookstream apply`: makes the configuration match a file, and shows the difference.
//!
//! The file is read here, with what it refers to on this machine; the rest is the API's work.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use hookstream_api::problem::{FieldError, Kind, Problem};
use hookstream_api::{FieldOutcome, MAX_DOCUMENT_BYTES, Outcome, ResourceOutcome};
use hookstream_config::apply::{Action, FieldChange, Item, shown};
use hookstream_config::manifest::resolve_from_system;
use hookstream_config::{Manifest, ManifestProblem};
use hookstream_types::SecretString;

use crate::api::{Api, Unanswered};
use crate::args::ApplyArgs;
use crate::failure::{EXIT_DIFFERS, Failure};

/// Bytes that a connection may not take at once.
const LARGE: usize = 64 * 1024;

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode, Failure> {
    // Mistakes in the file come before the API is asked.
    let document = document(&args.file)?;
    let api = Api::new(&args.api)?;
    let path = format!("/api/v1/apply?dryRun={}&prune={}", args.dry_run, args.prune);
    let body = Bytes::copy_from_slice(document.expose().as_bytes());
    drop(document);
    if body.len() > LARGE {
        // Who is turned away after a part of it would not see why.
        let nothing = Bytes::from_static(b"{}");
        api.post("/api/v1/apply?dryRun=true", nothing).map_err(|unanswered| failure(unanswered, args))?;
    }
    let answer = api.post(&path, body).map_err(|unanswered| failure(unanswered, args))?;
    let Outcome { applied, resources, generated } = serde_json::from_slice(&answer)?;
    let items: Vec<Item> = resources.into_iter().map(item).collect();
    print!("{}", shown(&items));
    if items.iter().all(|item| item.action == Action::Unchanged) {
        println!("nothing to change");
        return Ok(ExitCode::SUCCESS);
    }
    if !applied {
        eprintln!("nothing was changed (--dry-run)");
        return Ok(ExitCode::from(EXIT_DIFFERS));
    }
    println!("applied");
    for secret in generated {
        println!("the signing secret of {}, shown only now: {}", secret.webhook, secret.secret);
    }
    Ok(ExitCode::SUCCESS)
}

/// The file as JSON, with values in the place of references.
fn document(file: &Path) -> Result<SecretString, Failure> {
    let is_stdin = file.as_os_str() == "-";
    let mut text = String::new();
    let read = if is_stdin {
        io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::usage(format!("could not read `{}`: {error}", file.display())))?;
    let base = if is_stdin { None } else { file.parent() };
    let resolve = resolve_from_system(base.unwrap_or_else(|| Path::new("")));
    let json =
        Manifest::to_json(&text, &resolve).map_err(|problems| Failure::usage(unfit(file, &problems)))?;
    let bytes = json.expose().len();
    if bytes > MAX_DOCUMENT_BYTES {
        let file = file.display();
        return Err(Failure::usage(format!(
            "`{file}` makes {bytes} bytes of JSON, more than the API takes ({MAX_DOCUMENT_BYTES}): apply it in parts, \
             without --prune"
        )));
    }
    Ok(json)
}

fn unfit(file: &Path, problems: &[ManifestProblem]) -> String {
    let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
    format!("`{}` can't be applied:{list}", file.display())
}

fn failure(unanswered: Unanswered, args: &ApplyArgs) -> Failure {
    match unanswered {
        Unanswered::Failed(failure) => failure,
        Unanswered::BrokenOff(what) if args.dry_run => Failure::Other(what.into()),
        Unanswered::BrokenOff(what) => {
            Failure::Other(format!("{what}; it may have been applied or not: look with --dry-run").into())
        }
        Unanswered::Problem(problem) => of_problem(&problem, &args.file),
    }
}

/// Every place of the file that the API finds at fault, as those that are found here.
fn of_problem(problem: &Problem, file: &Path) -> Failure {
    let is = |kind: Kind| problem.reference == kind.reference();
    if is(Kind::Changed) {
        let message =
            format!("{}; somebody changed it meanwhile: look at the difference again", problem.detail);
        return Failure::Other(message.into());
    }
    if is(Kind::OutcomeUnknown) {
        let message = format!("{}: look with --dry-run, or apply it again", problem.title);
        return Failure::Other(message.into());
    }
    let place =
        |error: &FieldError| ManifestProblem { place: place(&error.field), message: error.detail.clone() };
    let mut problems: Vec<_> = problem.errors.iter().map(place).collect();
    if problems.is_empty() {
        problems.push(ManifestProblem { place: String::new(), message: problem.detail.clone() });
    }
    let message = unfit(file, &problems);
    if is(Kind::Invalid) || is(Kind::TooLarge) {
        Failure::usage(message)
    } else {
        Failure::Other(message.into())
    }
}

/// A JSON pointer as places in a file are named: `/webhooks/0/url` is `webhooks[0].url`.
fn place(pointer: &str) -> String {
    let mut place = String::new();
    for part in pointer.split('/').skip(usize::from(pointer.starts_with('/'))) {
        if !place.is_empty() && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            place.push_str(&format!("[{part}]"));
            continue;
        }
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(&part.replace("~1", "/").replace("~0", "~"));
    }
    place
}

fn item(ResourceOutcome { kind, name, action, fields }: ResourceOutcome) -> Item {
    let field = |FieldOutcome { field, before, after }: FieldOutcome| FieldChange { field, before, after };
    let action = match action.as_str() {
        "create" => Action::Create,
        "delete" => Action::Delete,
        "unchanged" => Action::Unchanged,
        _ => Action::Update(fields.into_iter().map(field).collect()),
    };
    Item { kind: kind.into(), name, action }
}

#[cfg(test)]
mod tests;
