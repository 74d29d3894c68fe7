//! Transactions (KIP-98): all of what is written in one counts, or nothing; and an id has one writer.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest};

use crate::broker::{unique, until};
use crate::client::{Client, To, error, topic_name};
use crate::coordination::transactional_id;
use crate::limits;
use crate::producer::READ_COMMITTED;
use crate::records::Batch;
use crate::txn::{TIMEOUT_MS, Transaction};

/// All that careful readers may see is all that there is: nothing is open.
fn is_stable(client: &mut Client, topic: &str) -> bool {
    client.list_offset_as(READ_COMMITTED, topic, 0, -1).offset == client.offset(topic, -1)
}

#[test]
fn one_transaction_follows_another() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::begin("sequel", &topic);
    for commit in [true, false, true] {
        transaction.produce("v");
        transaction.end(commit);
        assert!(is_stable(&mut client, &topic));
        assert_eq!(transaction.add_partition(), Ok(()));
    }
    transaction.end(false);
    // A partition that nothing was written to is given a marker too, or not: clients can't tell but by offsets.
    assert_eq!(client.read(&topic), ["v", "v", "v"]);
}

#[test]
fn a_transaction_spans_topics_and_partitions() {
    let mut client = Client::new();
    let (one, other) = (client.topic(), client.topic());
    let mut transaction = Transaction::begin("span", &one);
    assert_eq!(transaction.add(&other, 0), Ok(()));
    transaction.produce("a");
    let batch = Batch::of(&["b"]).from(transaction.producer, 0).transactional();
    let id = transaction.id.clone();
    assert_eq!(transaction.client.produce_as(&id, &other, &batch), Ok(0));
    for topic in [&one, &other] {
        assert_eq!(client.list_offset_as(READ_COMMITTED, topic, 0, -1).offset, 0);
    }
    transaction.end(true);
    for topic in [&one, &other] {
        assert_eq!(client.list_offset_as(READ_COMMITTED, topic, 0, -1).offset, 2);
    }
}

#[test]
fn the_end_may_be_asked_for_again_but_not_otherwise() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::begin("repeated", &topic);
    transaction.produce("v");
    transaction.end(true);
    assert_eq!(transaction.try_end(true), Ok(()));
    assert_eq!(transaction.try_end(false), Err(ResponseError::InvalidTxnState));
    assert_eq!(transaction.add_partition(), Ok(()));
    transaction.end(false);
    assert_eq!(transaction.try_end(false), Ok(()));
    assert_eq!(transaction.try_end(true), Err(ResponseError::InvalidTxnState));
}

#[test]
fn there_is_no_end_without_a_beginning() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::claim(&unique("none"), &topic, TIMEOUT_MS);
    for commit in [true, false] {
        assert_eq!(transaction.try_end(commit), Err(ResponseError::InvalidTxnState));
    }
}

#[test]
fn only_partitions_of_the_transaction_are_written_to() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::claim(&unique("outside"), &topic, TIMEOUT_MS);
    assert_eq!(transaction.try_produce(Batch::of(&["v"])), Err(ResponseError::TransactionAbortable));
    assert_eq!(client.read(&topic), [""; 0]);
    assert_eq!(transaction.add_partition(), Ok(()));
    transaction.produce("v");
    transaction.end(true);
    assert_eq!(transaction.try_produce(Batch::of(&["late"])), Err(ResponseError::TransactionAbortable));
    assert_eq!(client.read(&topic), ["v"]);
}

/// Before KIP-890 there was no word for what an abort puts right.
#[test]
fn producers_of_old_versions_that_write_outside_are_told_of_the_state() {
    let mut client = Client::new();
    let topic = client.topic();
    let transaction = Transaction::claim(&unique("outside"), &topic, TIMEOUT_MS);
    let batch = Batch::of(&["v"]).from(transaction.producer, 0).transactional();
    let request = crate::producer::produce_request(&topic, 0, -1, batch.encode().freeze())
        .with_transactional_id(Some(transactional_id(&transaction.id)));
    for (version, refused) in [
        (3, ResponseError::InvalidTxnState),
        (10, ResponseError::InvalidTxnState),
        (11, ResponseError::TransactionAbortable),
    ] {
        let answer = client.ask_in(version, To::Leader(&topic, 0), &request);
        assert_eq!(
            error(answer.responses[0].partition_responses[0].error_code),
            Some(refused),
            "version {version}"
        );
    }
}

#[test]
fn a_transactional_batch_needs_a_transactional_id() {
    let mut client = Client::new();
    let topic = client.topic();
    let transaction = Transaction::begin("nameless", &topic);
    let batch = Batch::of(&["v"]).from(transaction.producer, 0).transactional();
    let answer = client.try_produce(&topic, batch.encode());
    assert_eq!(error(answer.error_code), Some(ResponseError::TransactionalIdAuthorizationFailed));
}

#[test]
fn a_transaction_has_no_unknown_partition() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::claim(&unique("unknown"), &topic, TIMEOUT_MS);
    let unknown = Err(ResponseError::UnknownTopicOrPartition);
    assert_eq!(transaction.add("contract.unknown", 0), unknown);
    assert_eq!(transaction.add(&topic, 9), unknown);
    // If one is unknown, none is added.
    let topics = [topic.as_str(), "contract.unknown"]
        .map(|name| AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(vec![0]));
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(&transaction.id))
        .with_v3_and_below_producer_id(transaction.producer.0.into())
        .with_v3_and_below_producer_epoch(transaction.producer.1)
        .with_v3_and_below_topics(topics.to_vec());
    let answer = client.ask(To::Transaction(&transaction.id), &request);
    for result in &answer.results_by_topic_v3_and_below {
        let refused = error(result.results_by_partition[0].partition_error_code);
        let expected = if result.name.as_str() == topic {
            ResponseError::OperationNotAttempted
        } else {
            ResponseError::UnknownTopicOrPartition
        };
        assert_eq!(refused, Some(expected));
    }
    assert_eq!(transaction.try_produce(Batch::of(&["v"])), Err(ResponseError::TransactionAbortable));
}

#[test]
fn who_takes_the_id_fences_who_had_it() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut first = Transaction::begin("fenced", &topic);
    first.produce("of the first");
    let mut second = Transaction::claim(&first.id, &topic, TIMEOUT_MS);
    assert_eq!(second.producer.0, first.producer.0);
    assert!(second.producer.1 > first.producer.1);
    // What the first had open is aborted.
    assert!(is_stable(&mut client, &topic));
    assert_eq!(first.try_produce(Batch::of(&["late"])), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(first.add_partition(), Err(ResponseError::ProducerFenced));
    assert_eq!(first.try_end(true), Err(ResponseError::ProducerFenced));
    assert_eq!(first.add_offsets(&unique("group")), Err(ResponseError::ProducerFenced));
    assert_eq!(second.add_partition(), Ok(()));
    second.produce("of the second");
    second.end(true);
    let mut request = crate::producer::fetch_request(&topic, 0);
    request.isolation_level = READ_COMMITTED;
    let data = client.fetch(&topic, &request);
    let aborted: Vec<i64> =
        data.aborted_transactions.unwrap().iter().map(|aborted| aborted.first_offset).collect();
    assert_eq!(aborted, [0]);
    assert_eq!(client.read(&topic), ["of the first", "of the second"]);
}

/// Before KIP-588 there was one word for both.
#[test]
fn fenced_producers_of_old_versions_are_told_of_the_epoch() {
    let mut client = Client::new();
    let topic = client.topic();
    let first = Transaction::begin("fenced", &topic);
    let _second = Transaction::claim(&first.id, &topic, TIMEOUT_MS);
    let request = EndTxnRequest::default()
        .with_transactional_id(transactional_id(&first.id))
        .with_producer_id(first.producer.0.into())
        .with_producer_epoch(first.producer.1)
        .with_committed(true);
    for (version, refused) in [
        (1, ResponseError::InvalidProducerEpoch),
        (2, ResponseError::ProducerFenced),
        (3, ResponseError::ProducerFenced),
    ] {
        let answer = client.ask_in(version, To::Transaction(&first.id), &request);
        assert_eq!(error(answer.error_code), Some(refused), "version {version}");
    }
}

/// KIP-360: a producer that goes on after an error says who it was.
#[test]
fn a_producer_may_take_its_id_again() {
    let mut client = Client::new();
    let topic = client.topic();
    let id = unique("again");
    let first = Transaction::claim(&id, &topic, TIMEOUT_MS);
    let again = client.init_producer(Some(&id), first.producer, TIMEOUT_MS);
    assert_eq!(error(again.error_code), None);
    assert_eq!((again.producer_id.0, again.producer_epoch), (first.producer.0, first.producer.1 + 1));
    // The answer may have been lost, so the epoch before is good for one more.
    let repeated = client.init_producer(Some(&id), first.producer, TIMEOUT_MS);
    assert_eq!(error(repeated.error_code), None);
    assert_eq!((repeated.producer_id.0, repeated.producer_epoch), (first.producer.0, first.producer.1 + 1));
    let second = Transaction::claim(&id, &topic, TIMEOUT_MS);
    let late = client.init_producer(Some(&id), first.producer, TIMEOUT_MS);
    assert_eq!(error(late.error_code), Some(ResponseError::ProducerFenced));
    let mut second = second;
    assert_eq!(second.add_partition(), Ok(()));
    second.end(true);
}

#[test]
fn an_id_or_a_timeout_that_makes_no_sense_is_refused() {
    let mut client = Client::new();
    let id = unique("timeout");
    for timeout_ms in [0, -1, 16 * 60 * 1000] {
        let answer = client.init_producer(Some(&id), (-1, -1), timeout_ms);
        assert_eq!(error(answer.error_code), Some(ResponseError::InvalidTransactionTimeout), "{timeout_ms}");
    }
    let answer = client.init_producer(Some(""), (-1, -1), 1000);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRequest));
}

#[test]
fn somebody_elses_producer_id_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::claim(&unique("mapping"), &topic, TIMEOUT_MS);
    let own = transaction.producer;
    transaction.producer = client.producer_id();
    let refused = Err(ResponseError::InvalidProducerIdMapping);
    assert_eq!(transaction.add_partition(), refused);
    assert_eq!(transaction.try_end(true), refused);
    assert_eq!(transaction.add_offsets(&unique("group")), refused);
    transaction.id = unique("nobody");
    transaction.producer = own;
    assert_eq!(transaction.add_partition(), refused);
}

/// Nobody has to wait for ever for a producer that is gone.
#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::claim(&unique("late"), &topic, 3000);
    assert_eq!(transaction.add_partition(), Ok(()));
    transaction.produce("v");
    assert!(!is_stable(&mut client, &topic));
    until("the end of the transaction", || is_stable(&mut client, &topic).then_some(()));
    assert_eq!(transaction.try_end(true), Err(ResponseError::ProducerFenced));
    assert_eq!(transaction.try_produce(Batch::of(&["late"])), Err(ResponseError::InvalidProducerEpoch));
}

/// Once (KIP-890) producers add no partitions, and each transaction has an epoch of its own.
#[test]
fn the_second_version_of_transactions_is_offered_or_not() {
    let mut client = Client::new();
    let request = kafka_protocol::messages::ApiVersionsRequest::default();
    let answer = client.ask_in(0, To::Any, &request);
    let end = answer.api_keys.iter().find(|offered| offered.api_key == 26).unwrap();
    assert_eq!(end.max_version, limits::differs("transactions, version 2", 5, 3));
}

/// A write that does not belong to a transaction is none of it, whoever is writing.
#[test]
fn a_transactional_producer_may_not_write_outside_while_it_is_in_one() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut transaction = Transaction::begin("plain", &topic);
    transaction.produce("in");
    let plain = Batch::of(&["out"]).from(transaction.producer, 1);
    let answer = client.try_produce(&topic, plain.encode());
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidTxnState));
    transaction.end(true);
    assert_eq!(client.read(&topic), ["in"]);
}
