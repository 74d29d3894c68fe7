use std::io::Write as _;
use std::path::PathBuf;

use hookstream_types::Chain;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Whether it is a usage error, and what it says.
fn said(failure: &Failure) -> (bool, String) {
    match failure {
        Failure::Usage(error) => (true, Chain(&**error).to_string()),
        Failure::Other(error) => (false, Chain(&**error).to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_with_mistakes_is_a_usage_error_that_lists_them() {
    let wrong = file("webhooks:\n  - name: a\n    surprise: 1\nnothing: {}");
    let (is_usage, text) = said(&document(wrong.path()).unwrap_err());
    assert!(is_usage && text.contains("can't be applied:\n  - "), "{text}");
    assert!(matches!(document(Path::new("/nowhere")), Err(Failure::Usage(_))));
}

#[test]
fn references_are_resolved_from_the_files_own_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "Bearer t0ken\n").unwrap();
    let path = dir.path().join("webhooks.yaml");
    let text = |headers: &str| {
        let text = format!(
            "# Ours.\nwebhooks: [{{name: a, event_types: [a], url: 'https://a.example', headers: {headers}}}]"
        );
        fs::write(&path, text).unwrap();
    };
    text("{authorization: {file: token}, x-home: {env: PATH}}");
    let sent: serde_json::Value = serde_json::from_str(document(&path).unwrap().expose()).unwrap();
    assert_eq!(sent["webhooks"][0]["headers"]["authorization"], "Bearer t0ken");
    assert_eq!(sent["webhooks"][0]["headers"]["x-home"], std::env::var("PATH").unwrap());

    text("{authorization: {file: nosuch}, x-home: {env: HOOKSTREAM_NO_SUCH_VARIABLE}}");
    let (is_usage, said) = said(&document(&path).unwrap_err());
    assert!(is_usage);
    insta::assert_snapshot!(said.replace(&path.display().to_string(), "FILE"), @r"
    `FILE` can't be applied:
      - webhooks[0].headers.authorization: file `nosuch` can't be read: No such file or directory (os error 2)
      - webhooks[0].headers.x-home: environment variable `HOOKSTREAM_NO_SUCH_VARIABLE` is not set
    ");
}

#[test]
fn what_the_api_finds_is_listed_with_its_places_in_the_file() {
    let errors = vec![
        FieldError::new("/webhooks/0/headers/x~1y", "has no value"),
        FieldError::new("/webhooks/12/eventTypes/3", "must be text"),
        FieldError::new("", "must be a map"),
    ];
    let text = |problem: Problem| said(&of_problem(&problem, Path::new("w.yaml")));
    let (is_usage, listed) = text(Problem::invalid(errors));
    assert!(is_usage);
    insta::assert_snapshot!(listed, @r"
    `w.yaml` can't be applied:
      - webhooks[0].headers.x/y: has no value
      - webhooks[12].eventTypes[3]: must be text
      - must be a map
    ");
    let not_verified =
        Problem::of_errors(Kind::NotVerified, vec![FieldError::new("/webhooks/1", "nobody answers")]);
    assert_eq!(
        text(not_verified),
        (false, "`w.yaml` can't be applied:\n  - webhooks[1]: nobody answers".into())
    );
    let in_use = Problem::conflict("`source/a` is still used");
    assert_eq!(text(in_use), (false, "`w.yaml` can't be applied:\n  - `source/a` is still used".into()));
    let (is_usage, changed) = text(Problem::new(Kind::Changed, "it has revision 3"));
    assert!(!is_usage && changed.contains("somebody changed it meanwhile"), "{changed}");
}

#[test]
fn an_answer_that_never_came_is_no_failure_to_rely_on() {
    let args =
        |dry_run| ApplyArgs { api: Default::default(), file: PathBuf::from("w"), prune: false, dry_run };
    let broken = || Unanswered::BrokenOff("it broke off".to_owned());
    assert!(said(&failure(broken(), &args(false))).1.contains("may have been applied or not"));
    assert_eq!(said(&failure(broken(), &args(true))).1, "it broke off");
}
