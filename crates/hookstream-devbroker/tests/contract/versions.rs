//! Versions: how clients learn what is spoken, and that all that is offered is spoken indeed.

use bytes::{BufMut as _, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Request as _};

use crate::broker::broker;
use crate::client::{Client, Connection, To, VERSIONS, error, text};

fn request() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("contract"))
        .with_client_software_version(text("1"))
}

#[test]
fn each_request_is_offered_in_the_versions_of_the_table() {
    let mut client = Client::new();
    let answer = client.ask(To::Any, &request());
    assert_eq!(error(answer.error_code), None);
    for (key, min, max) in VERSIONS {
        let offered = answer.api_keys.iter().find(|offered| offered.api_key == *key as i16);
        let offered = offered.unwrap_or_else(|| panic!("{key:?} is not offered"));
        assert!(offered.min_version <= *min && *max <= offered.max_version, "{key:?}: {offered:?}");
    }
    if client.broker.embedded().is_some() {
        assert_eq!(answer.api_keys.len(), VERSIONS.len(), "the table is what is offered");
        let exact = |offered: &&kafka_protocol::messages::api_versions_response::ApiVersion| {
            VERSIONS.iter().any(|(key, min, max)| {
                *key as i16 == offered.api_key && *min == offered.min_version && *max == offered.max_version
            })
        };
        assert_eq!(answer.api_keys.iter().filter(exact).count(), VERSIONS.len());
    }
}

#[test]
fn older_versions_of_api_versions_are_answered() {
    let mut client = Client::new();
    for version in 0..=4 {
        let answer = client.ask_in(
            version,
            To::Any,
            &if version < 3 { ApiVersionsRequest::default() } else { request() },
        );
        assert_eq!(error(answer.error_code), None, "version {version}");
        assert!(answer.api_keys.len() >= VERSIONS.len());
    }
}

/// KIP-511: a client that is newer than the broker learns what there is.
#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let mut connection = Connection::open(&broker().addresses[0]);
    let mut bytes = BytesMut::new();
    bytes.put_i16(ApiVersionsRequest::KEY);
    bytes.put_i16(99);
    bytes.put_i32(7);
    bytes.put_slice(b"\x00\x01c\x00 of a format that nobody knows yet");
    connection.send_bytes(&bytes).unwrap();
    let mut answer = connection.receive_bytes().unwrap().unwrap();
    assert_eq!(ResponseHeader::decode(&mut answer, 0).unwrap().correlation_id, 7);
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(error(answer.error_code), Some(ResponseError::UnsupportedVersion));
    let itself =
        answer.api_keys.iter().find(|offered| offered.api_key == ApiKey::ApiVersions as i16).unwrap();
    assert!(itself.max_version >= 3);
    // The connection goes on, in a version that both know.
    assert_eq!(error(connection.ask(3, &request()).error_code), None);
}

#[test]
fn a_request_of_an_unknown_kind_ends_the_connection() {
    for (key, version) in [(12_345, 0), (ApiKey::Metadata as i16, 99), (-1, 0)] {
        let mut connection = Connection::open(&broker().addresses[0]);
        let mut bytes = BytesMut::new();
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(1);
        bytes.put_slice(b"\x00\x01c");
        connection.send_bytes(&bytes).unwrap();
        // Some error may be answered first; what counts is that nobody waits for ever.
        while connection.receive_bytes().unwrap().is_some() {}
    }
}

#[test]
fn a_request_that_can_not_be_read_ends_the_connection() {
    let mut connection = Connection::open(&broker().addresses[0]);
    let mut bytes = BytesMut::new();
    bytes.put_i16(ApiKey::Metadata as i16);
    bytes.put_i16(4);
    bytes.put_i32(1);
    bytes.put_i16(-1);
    // A list that is longer than all that follows.
    bytes.put_i32(1000);
    connection.send_bytes(&bytes).unwrap();
    assert!(connection.receive_bytes().unwrap().is_none());
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let mut connection = Connection::open(&broker().addresses[0]);
    let metadata = kafka_protocol::messages::MetadataRequest::default().with_topics(Some(Vec::new()));
    connection.send(0, &ApiVersionsRequest::default());
    connection.send(9, &metadata);
    let first = connection.receive_bytes().unwrap().unwrap();
    let second = connection.receive_bytes().unwrap().unwrap();
    assert_eq!((&first[..4], &second[..4]), (&[0, 0, 0, 1][..], &[0, 0, 0, 2][..]));
}
