//! Payloads of a webhook's own making, as platform A has them: tried, checked when saved, and sent.

use hookstream_e2e::{Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

#[test]
fn are_tried_checked_and_sent() {
    let stack = Stack::new("templates");
    let mut services = [Role::Fanout, Role::Sender, Role::Api].map(|role| stack.launch(role, &[]));
    services.iter_mut().for_each(Service::wait_ready);
    let admin = services[2].admin().with_default_account();
    let sample = json!({ "Booking": { "Id": "B-1", "Total": 12.5, "Guest": "<Ås & \"Co\">" } });
    let event_type = json!({ "name": "booking.created", "sample": sample });
    admin.post("/api/v1/event-types", &event_type).expect(201);

    // Tried: with the sample, and with what comes along.
    let template = r#"{"eventType":"[EventType]","bookingId":"[booking.id]","total":[Booking.Total],"guest":[Booking.Guest]}"#;
    let trial = json!({ "template": template, "eventType": "booking.created" });
    let rendered = admin.post("/api/v1/render", &trial).expect(200).json();
    assert_eq!(rendered["problems"], json!([]));
    let made: Value = serde_json::from_str(rendered["payload"].as_str().expect("a payload")).expect("JSON");
    let expected = json!({ "eventType": "booking.created", "bookingId": "B-1", "total": 12.5, "guest": "<Ås & \"Co\">" });
    assert_eq!(made, expected);
    let wrong = json!({ "template": "{\"a\":[Bokking.Id]", "eventType": "booking.created" });
    let problems = admin.post("/api/v1/render", &wrong).expect(200).json()["problems"].clone();
    assert_eq!(problems.as_array().map(Vec::len), Some(2), "{problems}");

    // Checked when it is saved: each fault with its place.
    let webhook = |name: &str, content_type: &str, template: &str| {
        json!({ "name": name, "url": stack.receiver.url(&format!("/{name}")), "eventTypes": ["booking.created"],
            "contentType": content_type, "payload": { "template": template } })
    };
    for (template, message) in [
        ("{\n \"a\": \"[EventTime:dd.Q]\"}", "line 2, column 8"),
        (
            "{\"a\":\"[Booking.Idd]\"}",
            "leads nowhere in the data of `booking.created`; there is `Guest`, `Id`, `Total`",
        ),
        ("{\"a\":[Booking.Id]", "it makes no JSON"),
    ] {
        let refused =
            admin.post("/api/v1/webhooks", &webhook("bad", "application/json", template)).expect(400).json();
        assert_eq!(refused["errors"][0]["field"], "/payload/template", "{refused}");
        let said = refused["errors"][0]["detail"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{said}");
    }

    // Sent: escaped for what it is.
    let xml = "<booking at='[EventTime:yyyy]' of=\"[Account]\"><id>[Booking.Id]</id><guest>[Booking.Guest]</guest></booking>";
    let wanted = [
        ("json", "application/json", template, expected.to_string()),
        (
            "xml",
            "application/xml",
            xml,
            "<booking at='2026' of=\"default\"><id>B-1</id><guest>&lt;Ås &amp; &quot;Co&quot;&gt;</guest></booking>".to_owned(),
        ),
        (
            "form",
            "application/x-www-form-urlencoded",
            "id=[Booking.Id]&guest=[Booking.Guest]",
            "id=B-1&guest=%3C%C3%85s+%26+%22Co%22%3E".to_owned(),
        ),
        ("empty", "text/plain", "", String::new()),
    ];
    for (name, content_type, template, _) in &wanted {
        admin.post("/api/v1/webhooks", &webhook(name, content_type, template)).expect(201);
    }
    stack.receiver.forget();
    let event = json!({ "type": "booking.created", "id": "b-1", "subject": "7", "time": "2026-03-01T10:00:00Z", "data": sample });
    admin.post("/api/v1/events", &event).expect(202);
    wait_until("all are delivered", SOON, || stack.receiver.seen(|seen| seen.distinct()) == 4);
    for (name, content_type, _, expected) in &wanted {
        let (body, sent_as) = stack.receiver.seen(|seen| {
            let arrived = seen.last().iter().find(|arrived| arrived.target == format!("/{name}"));
            let arrived = arrived.unwrap_or_else(|| panic!("nothing came to /{name}"));
            let body = String::from_utf8_lossy(&arrived.body).into_owned();
            (body, arrived.header("content-type").map(str::to_owned))
        });
        assert_eq!(sent_as.as_deref(), Some(*content_type));
        if *name == "json" {
            assert_eq!(
                serde_json::from_str::<Value>(&body).expect("JSON"),
                expected.parse::<Value>().expect("JSON")
            );
        } else {
            assert_eq!(&body, expected, "{name}");
        }
    }

    // Tried with an event that was: found by what its maker calls it.
    let found = || {
        let page = admin.get("/api/v1/events?id=b-1").expect(200).json();
        page["results"][0]["event"].as_str().map(str::to_owned)
    };
    wait_until("the event is found", SOON, || found().is_some());
    let event = found().expect("found");
    let kept = admin.get(&format!("/api/v1/events/{event}")).expect(200).json();
    let data: Value = serde_json::from_str(kept["data"]["text"].as_str().expect("its data")).expect("JSON");
    assert_eq!((&data, &kept["subject"]), (&sample, &json!("7")));
    let trial = json!({ "template": "[EventTime:yyyy-MM-dd] [Booking.Id] [Account]", "contentType": "text/plain", "event": event });
    let rendered = admin.post("/api/v1/render", &trial).expect(200).json();
    assert_eq!(rendered["payload"], "2026-03-01 B-1 default", "{rendered}");
    let unknown = json!({ "template": "", "event": "00000000-0000-4000-8000-000000000000" });
    admin.post("/api/v1/render", &unknown).expect(404);
}
