use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const URLS: &str = include_str!("../../../../tests/corpus/endpoint_url.json");
const ADDRESSES: &str = include_str!("../../../../tests/corpus/resolved_ip.json");

fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn text(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        // `{"concat": [[text, times], …]}`
        _ => input["concat"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap().try_into().unwrap()))
            .collect(),
    }
}

/// As strict as it gets, but for `http`, and with a name of the operator's own.
fn strict() -> Policy {
    let deny = vec!["hooks.dispatcher.example".parse().unwrap()];
    Policy { allow_http: true, deny, ..Policy::default() }
}

#[test]
fn every_url_of_the_corpus() {
    for case in cases(URLS) {
        let (url, policy) = (text(&case["input"]), strict());
        let checked = policy.check(&url);
        match case["expect"].as_str().unwrap() {
            "reject" => assert!(checked.is_err(), "{case}"),
            "accept" => assert!(checked.is_ok(), "{case}: {checked:?}"),
            "block_at_dial" => {
                let url = checked.unwrap();
                let name = url.host_str().unwrap();
                let addresses = case["dns"].as_array().unwrap().iter();
                let refused = addresses
                    .map(|address| policy.admit(name, address.as_str().unwrap().parse().unwrap()))
                    .filter(Result::is_err);
                assert!(refused.count() > 0, "{case}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_address_of_the_corpus() {
    for case in cases(ADDRESSES) {
        let admitted = strict().admit("a.example", case["input"].as_str().unwrap().parse().unwrap());
        assert_eq!(admitted.is_ok(), case["expect"] == "allow", "{case}: {admitted:?}");
    }
}

#[test]
fn metadata_is_refused_whatever_is_allowed() {
    let open = Policy {
        allow_http: true,
        allow_private: true,
        allow: ["0.0.0.0/0", "::/0", "*.internal", "metadata.google.internal"]
            .map(|rule| rule.parse().unwrap())
            .to_vec(),
        deny: Vec::new(),
    };
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::a9fe:a9fe",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ] {
        let parsed: IpAddr = address.parse().unwrap();
        assert_eq!(open.admit("metadata.google.internal", parsed), Err(Refusal::Address), "{address}");
    }
    for address in ["127.0.0.1", "10.0.0.1", "::1", "fd12::1", "198.18.0.1", "240.0.0.1", "3fff::1"] {
        assert_eq!(open.admit("", address.parse().unwrap()), Ok(()), "{address}");
    }
}

#[test]
fn what_an_operator_allows_and_denies() {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let policy = Policy {
        allow: rules(&["10.20.0.0/16", "*.corp.internal"]),
        deny: rules(&["hooks.example.com", "10.20.9.0/24", "*.bad.example"]),
        ..Policy::default()
    };
    for url in ["https://10.20.1.1/x", "https://a.corp.internal/", "https://a.corp.internal./"] {
        assert!(policy.check(url).is_ok(), "{url}");
    }
    for url in [
        "https://10.21.1.1/",
        "https://10.20.9.1/",
        "https://corp.internal/",
        "https://hooks.example.com/",
        "https://HOOKS.example.com./",
        "https://x.bad.example/",
        "http://a.corp.internal/",
        "https://a.corp.internal:6379/",
    ] {
        assert!(policy.check(url).is_err(), "{url}");
    }
    // Whoever may be named may be private, but nobody else on the same network.
    let private: IpAddr = [10, 1, 2, 3].into();
    assert_eq!(policy.admit("a.corp.internal", private), Ok(()));
    assert_eq!(policy.admit("a.example", private), Err(Refusal::Address));
    assert_eq!(policy.admit("a.example", [10, 20, 1, 1].into()), Ok(()));

    let dev = Policy { allow_http: true, allow_private: true, ..Policy::default() };
    for url in ["http://localhost:3000/hook", "http://127.0.0.1:8080/", "http://sink/", "http://[::1]/"] {
        assert!(dev.check(url).is_ok(), "{url}");
    }
    assert_eq!(dev.check("http://169.254.169.254/latest"), Err(Refusal::Address));
}

#[test]
fn refusals_say_what_to_do_and_show_nothing_else() {
    let check = |url: &str| Policy::default().check(url).unwrap_err().to_string();
    assert_eq!(
        check("http://a.example/?token=s3cret"),
        "must start with `https://`: this installation allows no other"
    );
    assert!(check("https://db.corp/?token=s3cret").contains("`db.corp`"));
    assert!(check("https://a.example:6379/").contains("6379"));
    assert_eq!(
        check("https://10.0.0.1/"),
        "must lead to an address that may be delivered to: a public one, if the operator allows no other"
    );
    assert_eq!(check("ftp://a.example/"), "must start with `https://` (or `http://`)");
}

proptest! {
    /// Nothing of what is let through leads to an address that a plain reading of it would not show.
    #[test]
    fn what_is_let_through_is_public(text in "https?://[a-z0-9.:@\\[\\]%/\\\\x①１。-]{1,40}") {
        if let Ok(url) = strict().check(&text) {
            match url.host() {
                Some(Host::Ipv4(address)) => prop_assert_eq!(Reach::of(address.into()), Reach::Public),
                Some(Host::Ipv6(address)) => prop_assert_eq!(Reach::of(address.into()), Reach::Public),
                Some(Host::Domain(name)) => prop_assert!(name.contains('.')),
                None => prop_assert!(false, "no host"),
            }
            prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        }
    }

    /// An address that holds another is never admitted by another's name.
    #[test]
    fn other_spellings_of_an_address_are_refused(bits in any::<u32>()) {
        let (a, b) = ((bits >> 16) as u16, (bits & 0xffff) as u16);
        for spelled in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0x5efe, a, b),
        ] {
            prop_assert_eq!(Reach::of(spelled.into()), Reach::Never);
        }
        if Ipv4Addr::from(bits).is_private() || Ipv4Addr::from(bits).is_loopback() {
            prop_assert_eq!(Reach::of(Ipv4Addr::from(bits).into()), Reach::Private);
        }
    }
}
