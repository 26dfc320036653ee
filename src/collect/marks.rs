//! The headers by which a record on the bus is known again: as an entry of a spool, and as an event.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::model::{Header, Record, Sequence};

/// Header: the spool's uuid, 16 bytes.
pub const SPOOL: &str = "howdah.spool";
/// Header: the sequence in the spool, 8 bytes, big-endian.
pub const SEQUENCE: &str = "howdah.seq";
/// Header: the event's own id, so that a new owner can rebuild what is known.
pub const ID: &str = "howdah.id";

/// The headers of a spool's records, with all that they have in common made once.
pub struct Marks {
    spool: Header,
    sequence: Arc<str>,
    id: Arc<str>,
}

impl Marks {
    /// Those of this spool.
    pub fn new(spool: Uuid) -> Self {
        let spool = (SPOOL.into(), Bytes::copy_from_slice(spool.as_bytes()));
        Self { spool, sequence: SEQUENCE.into(), id: ID.into() }
    }

    /// The headers of one entry, with the id of what it is about.
    pub fn of(&self, sequence: Sequence, id: &Bytes) -> [Header; 3] {
        let bytes = Bytes::copy_from_slice(&sequence.to_be_bytes());
        [self.spool.clone(), (self.sequence.clone(), bytes), (self.id.clone(), id.clone())]
    }
}

/// The spool sequence that a record bears, if it came from this spool.
pub fn record_sequence(record: &Record, spool: Uuid) -> Option<Sequence> {
    if record.header(SPOOL)?.as_ref() != spool.as_bytes() {
        return None;
    }
    Some(Sequence::from_be_bytes(record.header(SEQUENCE)?.as_ref().try_into().ok()?))
}
