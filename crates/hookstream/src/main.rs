//! The command line: everything a person does with hookstream outside the console.
fn main() {}
