//! The command line: everything a person does with hookstream outside the console.
//!
//! One module per command. What a command prints as its result goes to stdout; progress and errors go to stderr; the
//! exit code says which kind of failure it was ([`failure::Failure`]).

mod api;
mod apply;
mod args;
mod cluster;
mod dev;
mod events;
mod export;
mod failure;
mod keys;
mod listen;
mod topics;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};
use crate::failure::EXIT_USAGE;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for; all else is a mistake.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let result = match args.command {
        Command::Dev(args) => dev::run(&args),
        Command::Topics(args) => topics::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Listen(args) => listen::run(args),
    };
    result.unwrap_or_else(|failure| failure.report())
}
