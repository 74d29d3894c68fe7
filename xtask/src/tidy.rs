//! The repository's own rules, checked: which crate may use which, what every crate and every file has.
//!
//! All that is wrong is said at once.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Which of our crates each may use, in the order of the layers: arrows go only upward in this table.
///
/// Dev-dependencies are free, since tests look from outside.
const EDGES: &[(&str, &[&str])] = &[
    ("hookstream-types", &[]),
    ("hookstream-core", &["hookstream-types"]),
    ("hookstream-wire", &["hookstream-types", "hookstream-core"]),
    ("hookstream-settings", &["hookstream-types", "hookstream-core"]),
    ("hookstream-runtime", &["hookstream-types", "hookstream-settings"]),
    ("hookstream-log", &["hookstream-types", "hookstream-core", "hookstream-wire"]),
    ("hookstream-history", &["hookstream-types", "hookstream-core", "hookstream-wire"]),
    ("hookstream-egress", &["hookstream-types", "hookstream-core", "hookstream-settings"]),
    ("hookstream-devbroker", &[]),
    (
        "hookstream-config",
        &[
            "hookstream-types",
            "hookstream-core",
            "hookstream-wire",
            "hookstream-log",
            "hookstream-settings",
            "hookstream-runtime",
        ],
    ),
    ("hookstream-devbroker", &[]),
    ("hookstream-ingester", STAGE),
    ("hookstream-fanout", STAGE),
    ("hookstream-sender", SENDER),
    ("hookstream-api", API),
    ("hookstream", PROGRAM),
    ("hookstream-testkit", TESTS),
    ("hookstream-bench", TESTS),
    ("hookstream-e2e", TESTS),
    ("xtask", &[]),
];

const STAGE: &[&str] = &[
    "hookstream-types",
    "hookstream-core",
    "hookstream-wire",
    "hookstream-log",
    "hookstream-config",
    "hookstream-settings",
    "hookstream-runtime",
];

const SENDER: &[&str] = &[
    "hookstream-types",
    "hookstream-core",
    "hookstream-wire",
    "hookstream-log",
    "hookstream-config",
    "hookstream-settings",
    "hookstream-runtime",
    "hookstream-egress",
];

const API: &[&str] = &[
    "hookstream-types",
    "hookstream-core",
    "hookstream-wire",
    "hookstream-log",
    "hookstream-config",
    "hookstream-settings",
    "hookstream-runtime",
    "hookstream-egress",
    "hookstream-history",
];

const PROGRAM: &[&str] = &[
    "hookstream-types",
    "hookstream-core",
    "hookstream-wire",
    "hookstream-log",
    "hookstream-config",
    "hookstream-settings",
    "hookstream-runtime",
    "hookstream-egress",
    "hookstream-ingester",
    "hookstream-fanout",
    "hookstream-sender",
    "hookstream-api",
    "hookstream-history",
    "hookstream-devbroker",
];

/// What tests and benchmarks are made of; the simulation runs the stages themselves.
const TESTS: &[&str] = &[
    "hookstream-types",
    "hookstream-core",
    "hookstream-wire",
    "hookstream-log",
    "hookstream-config",
    "hookstream-settings",
    "hookstream-runtime",
    "hookstream-history",
    "hookstream-egress",
    "hookstream-ingester",
    "hookstream-fanout",
    "hookstream-sender",
    "hookstream-api",
    "hookstream-history",
    "hookstream-devbroker",
    "hookstream-testkit",
    "xtask",
];

/// Foreign crates that only these of ours may name.
const CONFINED: &[(&str, &[&str])] = &[
    // The benchmarks produce and look with nothing of ours in between, and so do the development broker's tests.
    ("rdkafka", &["hookstream-log", "hookstream-bench", "hookstream-devbroker"]),
    ("rdkafka-sys", &["hookstream-log"]),
    // The command line calls its operator's own API, at an address that the operator names: no customer's, so no guard
    // has a say, and answers as large as an export are read.
    ("hyper-rustls", &["hookstream-egress", "hookstream"]),
    // The benchmark measures the bare loop to compare with.
    ("reqwest", &["hookstream-bench"]),
    ("config", &["hookstream-settings"]),
    ("sqlx", &["hookstream-history"]),
    ("kafka-protocol", &["hookstream-devbroker"]),
];

/// Foreign crates that the crates of decisions must not name: they do no IO and read no clock.
const NO_IO: &[&str] = &[
    "tokio",
    "tokio-util",
    "rdkafka",
    "rdkafka-sys",
    "hyper",
    "hyper-util",
    "axum",
    "reqwest",
    "config",
    "prometheus",
    "tracing",
    "getrandom",
];
const PURE: &[&str] = &["hookstream-types", "hookstream-core", "hookstream-wire"];

const MAX_LINES: usize = 900;

/// Not in any file: spelled in two parts, so that this file passes.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test is run or it is removed"),
    (concat!("todo", "!("), "what is committed is done"),
    (concat!("dbg", "!("), "a trace is no debugging aid"),
];

/// Fails with everything that is wrong.
pub fn tidy() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec().context("`cargo metadata` failed")?;
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut problems = Vec::new();
    for package in &packages {
        edges(package, &ours, &mut problems);
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("`{}` could not be read", package.manifest_path))?;
        problems
            .extend(inheritance(&manifest).into_iter().map(|problem| format!("{}: {problem}", package.name)));
    }
    let files =
        git(&["ls-files", "--cached", "--others", "--exclude-standard"], metadata.workspace_root.as_str())?;
    let mut sources = 0;
    for file in files.lines().filter(|file| file.ends_with(".rs")) {
        // A file that is deleted but not yet committed is still listed.
        let Ok(text) = fs::read_to_string(metadata.workspace_root.join(file)) else { continue };
        sources += 1;
        problems.extend(source(file, &text).into_iter().map(|problem| format!("{file}: {problem}")));
    }
    ensure!(sources > 0, "no source files were found");
    if git(&["ls-files", "Cargo.lock"], metadata.workspace_root.as_str())?.trim().is_empty() {
        problems.push("Cargo.lock: not committed".to_owned());
    }
    if problems.is_empty() {
        println!("    {} crates and {sources} source files are tidy", packages.len());
        return Ok(());
    }
    bail!("{} rule(s) broken:\n  {}", problems.len(), problems.join("\n  "))
}

fn edges(package: &Package, ours: &BTreeSet<&str>, problems: &mut Vec<String>) {
    let name = package.name.as_str();
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        problems.push(format!("{name}: not in tidy's table of edges: say there what it may use"));
        return;
    };
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        if let Some((_, users)) = CONFINED.iter().find(|(confined, _)| *confined == used)
            && !users.contains(&name)
        {
            problems.push(format!("{name}: uses `{used}`, which only {} may", users.join(" and ")));
        }
        if dependency.kind == DependencyKind::Development {
            continue;
        }
        if ours.contains(used) && !allowed.contains(&used) {
            problems.push(format!("{name}: uses `{used}`, which is not below it"));
        }
        if PURE.contains(&name) && NO_IO.contains(&used) {
            problems.push(format!("{name}: uses `{used}`, though it does no IO"));
        }
    }
}

/// What a manifest has to inherit.
fn inheritance(manifest: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut section = "";
    let mut lints = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" {
            lints |= line == "workspace = true";
        } else if section.ends_with("dependencies]") && !line.is_empty() && !line.starts_with('#') {
            let inherits = line.contains(".workspace = true") || line.contains("{ workspace = true");
            if !inherits {
                problems.push(format!("`{line}` does not inherit from the workspace's dependencies"));
            }
        }
    }
    if !lints {
        problems.push("does not inherit the workspace's lints".to_owned());
    }
    problems
}

/// What is wrong with a source file.
fn source(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    // Unit tests are documented by what they test, whether beside it or in a file of their own.
    let is_unit_tests = file.contains("/src/") && (file.ends_with("/tests.rs") || file.contains("/tests/"));
    if !is_unit_tests && !text.starts_with("//!") {
        problems.push("does not begin with its `//!` documentation".to_owned());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("has {lines} lines, more than {MAX_LINES}"));
    }
    for (index, line) in text.lines().enumerate() {
        for (forbidden, why) in FORBIDDEN {
            if line.contains(forbidden) {
                problems.push(format!("line {}: `{forbidden}`: {why}", index + 1));
            }
        }
    }
    problems
}

fn git(args: &[&str], root: &str) -> anyhow::Result<String> {
    let output =
        Command::new("git").args(["-C", root]).args(args).output().context("`git` could not be started")?;
    ensure!(
        output.status.success(),
        "`git {}` failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("a file's name is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_go_upward_in_the_table() {
        for (index, (name, allowed)) in EDGES.iter().enumerate() {
            for used in *allowed {
                let place = EDGES.iter().position(|(known, _)| known == used).unwrap();
                // Cargo itself sees to it that no crate uses itself.
                assert!(place <= index || *used == "xtask", "{name} uses {used}, which stands below it");
            }
        }
    }

    #[test]
    fn manifests() {
        let good = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n# why\n\
                    tokio = { workspace = true, features = [\"full\"] }\n";
        assert_eq!(inheritance(good), Vec::<String>::new());
        let bad = "[package]\n[dev-dependencies]\nserde = \"1\"\n";
        assert_eq!(inheritance(bad).len(), 2);
    }

    #[test]
    fn sources() {
        let bad = |file: &str, text: &str| source(file, text).len();
        assert_eq!(bad("crates/a/src/lib.rs", "//! What it is.\nfn main() {}\n"), 0);
        assert_eq!(bad("crates/a/src/lib.rs", "fn main() {}\n"), 1);
        assert_eq!(bad("crates/a/src/lib/tests.rs", "use super::*;\n"), 0);
        assert_eq!(bad("crates/a/src/lib/tests/one.rs", "use super::*;\n"), 0);
        assert_eq!(bad("crates/a/src/lib.rs", &format!("//! A\n    {}]\n", concat!("#[", "ignore"))), 1);
        assert_eq!(bad("crates/a/src/lib.rs", &format!("//! A\n{}", "\n".repeat(MAX_LINES))), 1);
    }
}
