//! The few requests of Kafka's protocol that set-up and tests need, by hand: what is tested with them is not also
//! trusted for them, and a broker that answers them is really there.
//!
//! Only versions before the compact encodings ("flexible versions") are spoken: they are short, and Kafka 4 takes them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// How long a broker may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longer answers are not Kafka's.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

const METADATA: (i16, i16) = (3, 4);
const OFFSET_FETCH: (i16, i16) = (9, 1);
const CREATE_TOPICS: (i16, i16) = (19, 4);
const DELETE_TOPICS: (i16, i16) = (20, 3);

/// `TOPIC_ALREADY_EXISTS`.
const TOPIC_EXISTS: i16 = 36;
/// `UNKNOWN_TOPIC_OR_PARTITION`.
const UNKNOWN_TOPIC: i16 = 3;

/// What a broker knows of its cluster.
#[derive(Debug)]
pub struct Metadata {
    /// Node ids of the brokers that are alive, with their addresses.
    pub brokers: Vec<(i32, String)>,
    pub topics: Vec<Topic>,
}

#[derive(Debug)]
pub struct Topic {
    pub name: String,
    /// Leaders' node ids by partition; -1 where there is none.
    pub leaders: Vec<i32>,
}

/// A topic to be made.
#[derive(Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub settings: &'a [(&'a str, &'a str)],
}

/// All that `broker` knows.
///
/// # Errors
/// If it does not answer.
pub fn metadata(broker: SocketAddr) -> anyhow::Result<Metadata> {
    let mut body = Writer::default();
    body.i32(-1); // all topics
    body.i8(0); // make none
    let answer = ask(broker, METADATA, &body.0)?;
    let mut answer = Reader(&answer);
    answer.i32()?; // throttle time
    let brokers = answer.array(|answer| {
        let node = answer.i32()?;
        let host = answer.string()?.context("a broker without a host")?;
        let port = answer.i32()?;
        answer.string()?; // rack
        Ok((node, format!("{host}:{port}")))
    })?;
    answer.string()?; // cluster id
    answer.i32()?; // controller
    let topics = answer.array(|answer| {
        answer.i16()?; // error
        let name = answer.string()?.context("a topic without a name")?;
        answer.i8()?; // internal
        let mut partitions = answer.array(|answer| {
            answer.i16()?; // error
            let index = answer.i32()?;
            let leader = answer.i32()?;
            answer.array(Reader::i32)?; // replicas
            answer.array(Reader::i32)?; // in sync
            Ok((index, leader))
        })?;
        partitions.sort_unstable();
        Ok(Topic { name, leaders: partitions.into_iter().map(|(_, leader)| leader).collect() })
    })?;
    Ok(Metadata { brokers, topics })
}

/// Makes topics; one that exists is left as it is.
///
/// # Errors
/// If the broker does not answer, or refuses one.
pub fn create_topics(broker: SocketAddr, topics: &[NewTopic<'_>]) -> anyhow::Result<()> {
    let mut body = Writer::default();
    body.array(topics, |body, topic| {
        body.string(topic.name);
        body.i32(topic.partitions);
        body.i16(topic.replication_factor);
        body.i32(0); // replicas are placed by the controller
        body.array(topic.settings, |body, (key, value)| {
            body.string(key);
            body.string(value);
        });
    });
    body.i32(i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX));
    body.i8(0); // not only checked
    let answer = ask(broker, CREATE_TOPICS, &body.0)?;
    let mut answer = Reader(&answer);
    answer.i32()?; // throttle time
    answer.array(|answer| {
        let name = answer.string()?.unwrap_or_default();
        let code = answer.i16()?;
        let message = answer.string()?.unwrap_or_default();
        ensure!(code == 0 || code == TOPIC_EXISTS, "topic `{name}` was refused: error {code} {message}");
        Ok(())
    })?;
    Ok(())
}

/// Deletes topics; one that does not exist is no error.
///
/// # Errors
/// If the broker does not answer, or refuses.
pub fn delete_topics(broker: SocketAddr, topics: &[&str]) -> anyhow::Result<()> {
    let mut body = Writer::default();
    body.array(topics, |body, name| body.string(name));
    body.i32(i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX));
    let answer = ask(broker, DELETE_TOPICS, &body.0)?;
    let mut answer = Reader(&answer);
    answer.i32()?; // throttle time
    answer.array(|answer| {
        let name = answer.string()?.unwrap_or_default();
        let code = answer.i16()?;
        ensure!(code == 0 || code == UNKNOWN_TOPIC, "topic `{name}` was not deleted: error {code}");
        Ok(())
    })?;
    Ok(())
}

/// What a group has committed for each partition of a topic, 0 where nothing: only its coordinator knows.
///
/// # Errors
/// If the broker does not answer, or is not the group's coordinator.
pub fn committed(broker: SocketAddr, group: &str, topic: &str, partitions: i32) -> anyhow::Result<Vec<i64>> {
    let mut body = Writer::default();
    body.string(group);
    let indexes: Vec<i32> = (0..partitions).collect();
    body.array(&[topic], |body, topic| {
        body.string(topic);
        body.array(&indexes, |body, index| body.i32(*index));
    });
    let answer = ask(broker, OFFSET_FETCH, &body.0)?;
    let mut answer = Reader(&answer);
    let topics = answer.array(|answer| {
        answer.string()?; // its name
        answer.array(|answer| {
            let index = answer.i32()?;
            let offset = i64::from_be_bytes(answer.fixed()?);
            answer.string()?; // metadata
            let code = answer.i16()?;
            ensure!(code == 0, "group `{group}`, `{topic}` [{index}]: error {code}");
            Ok((index, offset.max(0)))
        })
    })?;
    let mut offsets: Vec<(i32, i64)> = topics.into_iter().flatten().collect();
    offsets.sort_unstable();
    Ok(offsets.into_iter().map(|(_, offset)| offset).collect())
}

/// One request on a connection of its own, and its answer without the header.
fn ask(broker: SocketAddr, (key, version): (i16, i16), body: &[u8]) -> anyhow::Result<Vec<u8>> {
    const CORRELATION: i32 = 1;
    let mut stream = TcpStream::connect_timeout(&broker, Duration::from_secs(2))
        .with_context(|| format!("no connection to {broker}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = Writer::default();
    request.i16(key);
    request.i16(version);
    request.i32(CORRELATION);
    request.string("xtask");
    request.0.extend_from_slice(body);
    let mut framed = Writer::default();
    framed.i32(i32::try_from(request.0.len()).context("the request is too long")?);
    framed.0.extend_from_slice(&request.0);
    stream.write_all(&framed.0).with_context(|| format!("{broker} takes no request"))?;

    let mut size = [0; 4];
    stream.read_exact(&mut size).with_context(|| format!("{broker} does not answer"))?;
    let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
    ensure!((4..=MAX_ANSWER_BYTES).contains(&size), "what listens at {broker} is no kafka broker");
    let mut answer = vec![0; size];
    stream
        .read_exact(&mut answer)
        .with_context(|| format!("{broker} stopped in the middle of its answer"))?;
    let mut reader = Reader(&answer);
    ensure!(reader.i32()? == CORRELATION, "what listens at {broker} is no kafka broker");
    Ok(answer.split_off(4))
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn string(&mut self, value: &str) {
        self.i16(i16::try_from(value.len()).expect("names and settings are short"));
        self.0.extend_from_slice(value.as_bytes());
    }

    fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.i32(i32::try_from(items.len()).expect("a handful of items"));
        for item in items {
            write(self, item);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> anyhow::Result<&[u8]> {
        match self.0.split_at_checked(count) {
            Some((head, rest)) => {
                self.0 = rest;
                Ok(head)
            }
            None => bail!("the answer ends too early"),
        }
    }

    fn fixed<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    fn i8(&mut self) -> anyhow::Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// None for a null.
    fn string(&mut self) -> anyhow::Result<Option<String>> {
        let size = self.i16()?;
        let Ok(size) = usize::try_from(size) else { return Ok(None) };
        Ok(Some(String::from_utf8(self.bytes(size)?.to_vec()).context("a name is not UTF-8")?))
    }

    fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
        let count = self.i32()?;
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.i8(-1);
        writer.i16(2);
        writer.string("topic");
        writer.array(&[1, 2, 3], |writer, n| writer.i32(*n));
        let mut reader = Reader(&writer.0);
        assert_eq!(reader.i8().unwrap(), -1);
        assert_eq!(reader.i16().unwrap(), 2);
        assert_eq!(reader.string().unwrap().as_deref(), Some("topic"));
        assert_eq!(reader.array(Reader::i32).unwrap(), [1, 2, 3]);
        assert!(reader.i8().is_err(), "nothing is left");
    }

    #[test]
    fn a_null_string() {
        assert_eq!(Reader(&(-1_i16).to_be_bytes()).string().unwrap(), None);
    }
}
