//! Feeds what strangers write to our readers, guided by coverage: libFuzzer, without its sanitizers, which need another
//! compiler than ours. Arithmetic and slices are checked all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::run;

/// Each a program below `fuzz/src/bin`.
const TARGETS: &[&str] = &["url", "header", "retry_after", "template", "record"];
/// Memory at most, in MiB: what is read is small, so that what is made of it must be.
const MEMORY_MIB: u32 = 512;
/// Longest that one input may take, in seconds.
const TIMEOUT_SECS: u32 = 5;
/// Longest input, in bytes.
const MAX_LEN: u32 = 16 * 1024;

/// What makes the compiler count which parts of a program ran.
const INSTRUMENTED: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Runs the targets, or all of them, one after the other.
pub(crate) fn fuzz(targets: &[String], seconds: u64) -> anyhow::Result<()> {
    let unknown = targets.iter().find(|target| !TARGETS.contains(&target.as_str()));
    ensure!(
        unknown.is_none(),
        "there is no target `{}`; there are: {}",
        unknown.map_or("", |t| t),
        TARGETS.join(", ")
    );
    let host = host()?;
    let dir = target_dir()?.join("fuzz");
    run::run(
        run::cargo()
            .args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bins"])
            // With a target, build scripts and macros are not instrumented.
            .args(["--target", &host])
            .env("CARGO_TARGET_DIR", &dir)
            .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\x1f")),
    )?;
    let chosen =
        TARGETS.iter().filter(|target| targets.is_empty() || targets.iter().any(|one| one == *target));
    for target in chosen {
        let corpus = dir.join("corpus").join(target);
        seed(target, &corpus)?;
        println!("==> {target}, {seconds} s");
        let findings = dir.join("findings");
        fs::create_dir_all(&findings)
            .with_context(|| format!("`{}` could not be made", findings.display()))?;
        let status = Command::new(dir.join(&host).join("release").join(target))
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={TIMEOUT_SECS}"))
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .status()
            .with_context(|| format!("`{target}` could not be started"))?;
        if !status.success() {
            bail!(
                "`{target}` found something: run it with the file that it wrote to `{}`",
                findings.display()
            );
        }
    }
    Ok(())
}

fn target_dir() -> anyhow::Result<PathBuf> {
    let metadata =
        cargo_metadata::MetadataCommand::new().no_deps().exec().context("`cargo metadata` failed")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// The machine that the compiler compiles for.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("`rustc` could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Where the search begins: the corpus of the tests, and what we write ourselves.
fn seed(target: &str, corpus: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("`{}` could not be made", corpus.display()))?;
    let mut seeds: Vec<String> = Vec::new();
    match target {
        "url" => seeds.extend(inputs("endpoint_url")?),
        "header" => {
            seeds.extend(inputs("header_name")?.into_iter().map(|name| format!("{name}\nx")));
            seeds.extend(inputs("header_value")?.into_iter().map(|value| format!("X-Own\n{value}")));
        }
        "retry_after" => {
            let texts = [
                "120",
                "inf",
                "1e300",
                "NaN",
                "9223372036854775807",
                "-1",
                "Fri, 31 Dec 9999 23:59:59 GMT",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ];
            seeds.extend(texts.map(str::to_owned));
        }
        "template" => {
            let templates = [
                "{\"a\":\"[EventType]\",\"b\":[Data],\"c\":\"[x.0.y:upper|none]\"}\n{\"x\":[{\"y\":\"z\"}]}",
                "<e a='[EventTime:dd.MM.yyyy'T'HH:mm:ss'Z']'><![CDATA[[x]]]></e>\n{\"x\":\"]]>\"}",
                "a=[x]&b=[[c]&d=[X:base64]\n{\"x\":1,\"X\":\"2\"}",
                "[Data.Subject|never] [x:json] [x:lower]\n{\"subject\":null,\"x\":{\"y\":[1,2]}}",
            ];
            seeds.extend(templates.map(str::to_owned));
        }
        "record" => {
            let records = [
                "cluster/main\n{\"v\":1,\"namespace\":\"hookstream\",\"partitions\":64,\"format\":1,\"created_at\":0}",
                "event-type/order.created\n{\"v\":1,\"name\":\"order.created\",\"revision\":1,\"created_at\":0,\"updated_at\":0,\"actor\":\"a\"}",
                "webhook/0198c0de-0000-7000-8000-000000000001\n{\"v\":1,\"id\":\"0198c0de-0000-7000-8000-000000000001\",\"account\":\"0198c0de-0000-7000-8000-000000000002\",\"name\":\"w\",\"state\":\"published\",\"event_types\":[\"*\"],\"url\":\"https://a.example\",\"method\":\"POST\",\"content_type\":\"application/json\",\"secrets\":[],\"retry\":[0],\"timeout_ms\":1,\"concurrency\":1,\"revision\":1,\"created_at\":0,\"updated_at\":0,\"actor\":\"a\"}",
                "{\"v\":1,\"owner\":\"0198c0de-0000-7000-8000-000000000003\",\"decisions\":[]}",
            ];
            seeds.extend(records.map(str::to_owned));
        }
        _ => {}
    }
    for (n, seed) in seeds.iter().enumerate() {
        let file = corpus.join(format!("seed-{n}"));
        fs::write(&file, seed).with_context(|| format!("`{}` could not be written", file.display()))?;
    }
    Ok(())
}

/// The inputs of a kind in the tests' corpus that are plain text.
fn inputs(kind: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("tests/corpus/{kind}.json");
    let text = fs::read_to_string(&path).with_context(|| format!("`{path}` could not be read"))?;
    let cases: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("`{path}` is not JSON"))?;
    Ok(cases.iter().filter_map(|case| case["input"].as_str()).map(str::to_owned).collect())
}
