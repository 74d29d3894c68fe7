//! `hookstream events send`: produces events to a source topic.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use hookstream_runtime::Clock;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::args::{EventsArgs, EventsCommand, SendArgs};
use crate::cluster::{Cluster, Event};
use crate::failure::Failure;

/// The header and its value that mark a structured CloudEvent (CloudEvents Kafka binding §3.3).
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=UTF-8");
/// The `source` of events made here.
const SOURCE: &str = "hookstream-cli";

pub(crate) fn run(args: &EventsArgs) -> Result<ExitCode, Failure> {
    let EventsCommand::Send(args) = &args.command;
    // Mistakes in what is to be sent come before the cluster is asked.
    let batch = Batch::new(args)?;
    let settings = args.cluster.settings()?;
    let cluster = Cluster::connect(&settings)?;
    let mut producer = cluster.producer(&args.topic)?;
    let mut sent = 0_u64;
    for _ in 0..args.count {
        sent += batch.each(&mut |value, is_cloudevent| {
            let headers: &[(&'static str, &'static str)] = if is_cloudevent { &[STRUCTURED] } else { &[] };
            producer.send(Event { key: args.key.as_deref(), value, headers })
        })?;
    }
    producer.flush()?;
    println!("sent {sent} to `{}`", args.topic);
    Ok(ExitCode::SUCCESS)
}

/// What to send once.
#[derive(Debug)]
enum Batch<'a> {
    /// An event made of the options.
    Made(&'a SendArgs, &'a RawValue),
    /// The lines of a file.
    Lines(&'a Path),
}

type Sink<'a> = &'a mut dyn FnMut(&[u8], bool) -> Result<(), Failure>;

impl<'a> Batch<'a> {
    fn new(args: &'a SendArgs) -> Result<Self, Failure> {
        if let Some(file) = &args.file {
            let is_stdin = file.as_os_str() == "-";
            if is_stdin && args.count > 1 {
                return Err(Failure::usage("stdin can be read once; --count needs a file"));
            }
            if !is_stdin && !file.is_file() {
                return Err(Failure::usage(format!("there is no file `{}`", file.display())));
            }
            return Ok(Self::Lines(file));
        }
        let data = serde_json::from_str(&args.data)
            .map_err(|error| Failure::usage(format!("--data is no JSON: {error}")))?;
        Ok(Self::Made(args, data))
    }

    fn each(&self, sink: Sink<'_>) -> Result<u64, Failure> {
        match self {
            Self::Made(args, data) => {
                let id = Uuid::now_v7().to_string();
                sink(made(args, data, &id, Clock::start().wall().0).as_bytes(), true)?;
                Ok(1)
            }
            Self::Lines(path) if path.as_os_str() == "-" => lines(io::stdin().lock(), sink),
            Self::Lines(path) => lines(BufReader::new(File::open(path)?), sink),
        }
    }
}

fn made(args: &SendArgs, data: &RawValue, id: &str, now_millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(now_millis).unwrap_or_default().to_string();
    let mut event = serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": args.event_type,
        "time": time,
        "datacontenttype": "application/json",
    });
    for (name, value) in [("subject", &args.subject), ("account", &args.account)] {
        if let Some(value) = value {
            event[name] = value.as_str().into();
        }
    }
    // The data goes in as it was given: numbers and order too.
    let mut text = event.to_string();
    text.pop();
    text.push_str(&format!(",\"data\":{}}}", data.get()));
    text
}

fn lines(mut input: impl BufRead, sink: Sink<'_>) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Marked {
        #[serde(rename = "specversion")]
        _version: String,
    }

    let (mut line, mut sent) = (Vec::new(), 0);
    while input.read_until(b'\n', &mut line)? > 0 {
        let record = line.trim_ascii();
        if !record.is_empty() {
            sink(record, serde_json::from_slice::<Marked>(record).is_ok())?;
            sent += 1;
        }
        line.clear();
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn args(words: &[&str]) -> SendArgs {
        let words = ["hookstream", "events", "send", "--topic", "t"].iter().chain(words);
        let Command::Events(EventsArgs { command: EventsCommand::Send(args) }) =
            Args::parse_from(words).command
        else {
            panic!("not `events send`")
        };
        args
    }

    #[test]
    fn an_event_made_of_options() {
        let args = args(&["--type", "order.paid", "--data", r#"{"b":1.10,"a":2}"#, "--account", "acme"]);
        let Batch::Made(_, data) = Batch::new(&args).unwrap() else { panic!("not made") };
        assert_eq!(
            made(&args, data, "id-1", 1_614_265_330_500),
            r#"{"account":"acme","datacontenttype":"application/json","id":"id-1","source":"hookstream-cli","#
                .to_owned()
                + r#""specversion":"1.0","time":"2021-02-25T15:02:10.5Z","type":"order.paid","data":{"b":1.10,"a":2}}"#
        );
    }

    #[test]
    fn lines_are_records() {
        let input = b"{\"a\": 1}\n\n  {\"specversion\":\"1.0\",\"id\":\"1\"}\r\nnot JSON";
        let mut seen = Vec::new();
        let sent = lines(&input[..], &mut |value, is_cloudevent| {
            seen.push((String::from_utf8_lossy(value).into_owned(), is_cloudevent));
            Ok(())
        });
        assert_eq!(sent.unwrap(), 3);
        let seen: Vec<_> = seen.iter().map(|(value, marked)| (&**value, *marked)).collect();
        assert_eq!(
            seen,
            [("{\"a\": 1}", false), ("{\"specversion\":\"1.0\",\"id\":\"1\"}", true), ("not JSON", false)]
        );
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for words in
            [&["--type", "x", "--data", "{"][..], &["--file", "/nowhere"], &["--file", "-", "--count", "2"]]
        {
            assert!(matches!(Batch::new(&args(words)), Err(Failure::Usage(_))), "{words:?}");
        }
    }
}
