//! What the README promises a newcomer.

use std::path::Path;
use std::time::Duration;

use hookstream_e2e::{SOON, Stack, free_address, wait_until};

/// The README's configuration, for another receiver and another topic.
fn example(receiver: &str, topic: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart.yaml");
    let text = std::fs::read_to_string(file).expect("it is in the repository");
    let changed = text.replace("127.0.0.1:9000", receiver).replace("[domain-events]", &format!("[{topic}]"));
    assert!(changed.contains(receiver) && changed.contains(topic), "the example is another one now:\n{text}");
    changed
}

#[test]
fn dev_apply_listen_send() {
    let stack = Stack::new("quickstart");
    let servers = stack.kafka.bootstrap_servers.as_str();
    let receiver = free_address().to_string();
    let topic = stack.source_topic();

    let data_dir = stack.path("data");
    let mut dev = stack.command(&["dev", "--bootstrap-servers", servers, "--data-dir", &data_dir]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let listener = stack.command(&["listen", "--addr", &receiver, "--secret", secret]);
    wait_until("hookstream is ready", SOON, || {
        assert!(dev.exited().is_none(), "dev gave up:\n{}", dev.log_tail());
        dev.log().lines().any(|line| line.starts_with("hookstream is ready"))
    });

    wait_until("the listener listens", SOON, || listener.log().contains("listening on"));
    let applied = stack.apply_with(&dev, &example(&receiver, &topic));
    assert_eq!(applied.code, Some(0), "{applied}");
    assert!(applied.stdout.contains("my-first-webhook"), "the difference is not shown: {applied}");
    let event = ["--topic", &topic, "--type", "order.paid", "--data", r#"{"id": 4711}"#];
    let sent = stack.hookstream(&[&["events", "send"][..], &event].concat());
    assert_eq!(sent.code, Some(0), "{sent}");

    wait_until("the listener prints the event", SOON, || listener.log().contains("4711"));
    let printed = listener.log();
    assert!(printed.contains("webhook-id"), "{printed}");
    assert!(printed.contains("signature: valid"), "{printed}");
    dev.terminate(Duration::from_secs(40));
}
