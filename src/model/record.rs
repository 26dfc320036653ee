//! Records, and the batches in which they travel.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Millis, Offset};

/// A header of a record: a name, which the records of a topic share, and bytes.
pub type Header = (Arc<str>, Bytes);

/// One record of a topic, as it stands on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the partition.
    pub offset: Offset,
    /// When it was written to the bus (not when the event happened).
    pub time: Millis,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a null (a tombstone), empty is empty.
    pub value: Option<Bytes>,
    /// Headers in the order written.
    pub headers: Vec<Header>,
}

impl Record {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(n, _)| **n == *name).map(|(_, value)| value)
    }

    /// Bytes of key, value and headers, for accounting.
    pub fn weight(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Why offsets have no record, or a record has no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Transaction markers, aborted or compacted records: never were data.
    Marker,
    /// Deleted by the bus before anybody read it: loss, the only one.
    Retention,
    /// Lies before the place where this archive or table began.
    Start,
    /// A record with a null value.
    Null,
    /// A record that could not be used and is kept as a dead letter.
    DeadLetter,
}

/// A run of offsets `[from, to)` without a record or a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hole {
    /// The first offset of the run.
    pub from: Offset,
    /// The offset after the run.
    pub to: Offset,
    /// The reason.
    pub why: Why,
}

/// Records read from a partition in one go.
///
/// Any offset of `[from, to)` that no record of the batch bears is a hole of this batch; nothing
/// outside a batch is one. A consumer takes a batch only if `from` is exactly where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset the reader stood at before.
    pub from: Offset,
    /// The records, in order of their offsets, all within `[from, to)`.
    pub records: Vec<Record>,
    /// The offset the reader stands at after.
    pub to: Offset,
    /// Why the offsets without a record have none.
    pub why: Why,
}

impl Batch {
    /// The runs of offsets in `[from, to)` that no record bears, in order.
    pub fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let mut at = self.from;
        for record in &self.records {
            if record.offset > at {
                holes.push(Hole { from: at, to: record.offset, why: self.why });
            }
            at = record.offset + 1;
        }
        if self.to > at {
            holes.push(Hole { from: at, to: self.to, why: self.why });
        }
        holes
    }

    /// Bytes of all its records, for accounting.
    pub fn weight(&self) -> usize {
        self.records.iter().map(Record::weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: Offset) -> Record {
        Record { offset, time: 0, key: None, value: Some(Bytes::from_static(b"v")), headers: Vec::new() }
    }

    fn check(from: Offset, offsets: &[Offset], to: Offset, holes: &[(Offset, Offset)]) {
        let batch = Batch { from, records: offsets.iter().map(|&o| record(o)).collect(), to, why: Why::Marker };
        let found: Vec<_> = batch.holes().iter().map(|h| (h.from, h.to)).collect();
        assert_eq!(found, holes, "holes of [{from}, {to}) with {offsets:?}");
    }

    #[test]
    fn holes_are_what_lies_between_from_the_records_and_to() {
        check(0, &[0, 1, 2], 3, &[]);
        check(5, &[7, 8, 11], 13, &[(5, 7), (9, 11), (12, 13)]);
        check(5, &[], 9, &[(5, 9)]);
        check(5, &[], 5, &[]);
    }
}
