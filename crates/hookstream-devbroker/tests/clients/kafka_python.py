"""What the tests in python.rs have kafka-python do: `kafka_python.py PART ADDRESS` prints a JSON document."""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic

PART, ADDRESS = sys.argv[1:]
CLIENT = {"bootstrap_servers": ADDRESS}


def admin():
    return KafkaAdminClient(**CLIENT)


def consumer(topic, **settings):
    return KafkaConsumer(topic, auto_offset_reset="earliest", consumer_timeout_ms=60_000, **CLIENT, **settings)


def take(source, count):
    """The next records, as many as are asked for."""
    return [next(source) for _ in range(count)]


def group():
    admin().create_topics([NewTopic("words", num_partitions=1, replication_factor=1)])
    producer = KafkaProducer(acks="all", enable_idempotence=True, compression_type="gzip", **CLIENT)
    futures = [
        producer.send("words", key=b"k%d" % n, value=b"v%d" % n, headers=[("n", b"%d" % n)]) for n in range(3)
    ]
    offsets = [future.get(30).offset for future in futures]
    partition = TopicPartition("words", 0)
    first = consumer("words", group_id="readers", enable_auto_commit=False)
    read = [
        [record.key.decode(), record.value.decode(), [[name, value.decode()] for name, value in record.headers]]
        for record in take(first, 3)
    ]
    first.commit()
    committed = first.committed(partition)
    first.close()
    producer.send("words", value=b"later").get(30)
    second = consumer("words", group_id="readers", enable_auto_commit=False)
    then = [record.value.decode() for record in take(second, 1)]
    result = {
        "offsets": offsets,
        "read": read,
        "committed": committed,
        "then": then,
        "beginning": second.beginning_offsets([partition])[partition],
        "end": second.end_offsets([partition])[partition],
    }
    second.close()
    return result


def administration():
    client = admin()
    client.create_topics(
        [NewTopic("made", num_partitions=1, replication_factor=1, topic_configs={"retention.ms": "1000"})]
    )
    listed = client.list_topics()
    client.create_partitions({"made": NewPartitions(3)})
    [described] = client.describe_topics(["made"])
    configs = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "made")])
    client.delete_topics(["made"])
    return {
        "listed": listed,
        "partitions": len(described["partitions"]),
        "retention": configs["topic"]["made"]["retention.ms"]["value"],
        "deleted": client.list_topics(),
    }


def transactions():
    admin().create_topics([NewTopic("ledger", num_partitions=1, replication_factor=1)])
    producer = KafkaProducer(transactional_id="writer", **CLIENT)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send("ledger", value=b"no").get(30)
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send("ledger", value=b"yes")
    producer.commit_transaction()
    careful = consumer("ledger", isolation_level="read_committed")
    others = consumer("ledger", isolation_level="read_uncommitted")
    return {
        "committed": [record.value.decode() for record in take(careful, 1)],
        "all": [record.value.decode() for record in take(others, 2)],
    }


PARTS = {"group": group, "admin": administration, "transactions": transactions}
print(json.dumps(PARTS[PART]()))
