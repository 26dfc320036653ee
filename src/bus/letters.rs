//! Dead letters: records that could not be used, kept on the bus with the reason and where they
//! came from. Nothing is dropped in silence.
//!
//! A topic's dead letters go to `<topic>.dead_letters`, keyed by coordinate, so that a letter sent
//! twice after a crash is recognised. The value is the record as it was (or nothing, if the
//! payload is kept as a file); the headers tell the story.

use bytes::Bytes;

use super::Outgoing;
use crate::model::{ActorId, Millis, Record, TopicName};

/// Header: why, in one word.
pub const REASON: &str = "howdah.reason";
/// Header: why, in a sentence.
pub const DETAIL: &str = "howdah.detail";
/// Header: who found it.
pub const ACTOR: &str = "howdah.actor";
/// Header: the file that keeps the payload.
pub const FILE: &str = "howdah.file";

/// Header: the bus time that the record itself had, in milliseconds since 1970.
pub const TIME: &str = "howdah.time";
/// Header: the record's own key.
pub const KEY: &str = "howdah.key";

/// A record that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Why, in one word: `newline`, `oversized`.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Where it came from, unique: `wiki_changes/<topic id>/0@17` or `spool <uuid>@17`.
    pub coordinate: String,
    /// The payload as it was; `None` if it is kept as a file.
    #[serde(skip)]
    pub payload: Option<Bytes>,
    /// The file that keeps the payload.
    pub file: Option<String>,
    /// The bus time and the key of the record, if it was one of a topic.
    #[serde(skip)]
    pub record: Option<(Millis, Option<Bytes>)>,
}

/// When the record of a letter was written to the bus; else when the letter was.
pub fn time_of(letter: &Record) -> Millis {
    let text = letter.header(TIME).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(letter.time)
}

impl DeadLetter {
    /// The record to send.
    pub fn outgoing(self, topic: &TopicName, actor: &ActorId) -> Outgoing {
        let mut headers = vec![
            (REASON.to_owned(), Bytes::from(self.reason)),
            (DETAIL.to_owned(), Bytes::from(self.detail)),
            (ACTOR.to_owned(), Bytes::from(actor.to_string())),
        ];
        headers.extend(self.file.map(|file| (FILE.to_owned(), Bytes::from(file))));
        if let Some((time, key)) = self.record {
            headers.push((TIME.to_owned(), Bytes::from(time.to_string())));
            headers.extend(key.map(|key| (KEY.to_owned(), key)));
        }
        Outgoing {
            topic: topic.dead_letters(),
            partition: 0,
            key: Some(Bytes::from(self.coordinate)),
            // A null would be a tombstone: a letter without payload has an empty value.
            value: Some(self.payload.unwrap_or_default()),
            headers,
        }
    }
}
