//! A log in memory for the unit tests of stages: one thing happens after the other, and the producer answers when the
//! test says so. The simulated log with faults by seed is elsewhere.

use std::collections::{BTreeMap, VecDeque};

use hookstream_types::{Mono, Offset, Partition, UnixMillis};

use crate::log::{Ack, Full, Input, Log, LogEvent, OutRecord, ProduceError, ReadFrom, RecordRef, Token};

/// A record's headers, owned.
pub type OwnedHeaders = Vec<(String, Vec<u8>)>;

/// A record that stands in an input.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
}

/// A record that was produced.
#[derive(Clone, Debug)]
pub struct Produced {
    pub token: Token,
    pub topic: String,
    pub partition: Partition,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
}

impl Produced {
    /// The value as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The first header of that name, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The headers as the log gives them.
    #[must_use]
    pub fn header_refs(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemoryLog {
    pub events: VecDeque<LogEvent>,
    pub records: BTreeMap<Input, VecDeque<Stored>>,
    pub produced: Vec<Produced>,
    /// How many records the producer's queue takes.
    pub room: usize,
    pub commits: Vec<(Input, i64)>,
    pub released: Vec<Input>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            records: BTreeMap::new(),
            produced: Vec::new(),
            room: usize::MAX,
            commits: Vec::new(),
            released: Vec::new(),
        }
    }
}

impl MemoryLog {
    /// Assigns a partition from offset 0 on, numbered as the input.
    pub fn assign(&mut self, input: Input, topic: &str) {
        let partition = Partition(i32::try_from(input.0).expect("tests number their inputs from 0"));
        let (topic, base) = (topic.into(), Offset(0));
        self.events.push_back(LogEvent::Assigned { input, topic, partition, base, metadata: None });
    }

    pub fn put(&mut self, input: Input, record: Stored) {
        self.records.entry(input).or_default().push_back(record);
    }

    /// Answers a record that was produced.
    pub fn answer(&mut self, token: Token, result: Result<(), ProduceError>) {
        let result = result.map(|()| Ack { offset: Offset(0), appended_at: None });
        self.events.push_back(LogEvent::Produced { token, result });
    }

    /// What was produced since the last call.
    pub fn drain(&mut self) -> Vec<Produced> {
        std::mem::take(&mut self.produced)
    }

    /// What was produced since the last call, all of it acknowledged.
    pub fn acknowledge_all(&mut self) -> Vec<Produced> {
        let produced = self.drain();
        for record in &produced {
            self.answer(record.token, Ok(()));
        }
        produced
    }
}

impl Log for MemoryLog {
    fn next_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    fn take(&mut self, input: Input, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> usize {
        let Some(records) = self.records.get_mut(&input) else { return 0 };
        let count = max.min(records.len());
        for record in records.drain(..count) {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            sink(RecordRef {
                offset: Offset(record.offset),
                timestamp: UnixMillis(record.timestamp),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            });
        }
        count
    }

    /// A stage that is tested with this log reads only what is assigned: the reader has nothing.
    fn open(&mut self, _: &str, _: Partition, _: ReadFrom, _: Option<Offset>) -> Input {
        Input(u64::MAX)
    }

    fn close(&mut self, _: Input) {}

    fn produce(&mut self, token: Token, record: OutRecord<'_>) -> Result<(), Full> {
        self.room = self.room.checked_sub(1).ok_or(Full)?;
        self.produced.push(Produced {
            token,
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        });
        Ok(())
    }

    fn commit(&mut self, input: Input, offset: Offset, metadata: String) {
        assert!(metadata.is_empty(), "functions of their input keep nothing with a commit");
        self.commits.push((input, offset.0));
    }

    fn release(&mut self, input: Input) {
        self.released.push(input);
    }

    fn lease(&self) -> Mono {
        Mono::MAX
    }
}
