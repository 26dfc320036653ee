//! Resume tokens of a server that merges topics: what to keep of an event's id, and what to send.
//!
//! KafkaSSE, which is Wikimedia's server, gives an event an id with a *stand* for every topic and
//! partition: `[{"topic":"eqiad.…","partition":0,"timestamp":1532031066001},{"topic":"codfw.…",…}]`.
//! The `timestamp` is that of the last message delivered from there **plus one** (`lib/KafkaSSE.js`,
//! `_updateLatestOffsetsMap`); where none was delivered yet, there is an `offset`, and -1 means
//! *whatever will be the end when you come back*. Sent back as it is, such an id loses events:
//!
//! - messages of the same millisecond as the last one that were still to be delivered lie before the
//!   time asked for. [`ask`] asks for one millisecond less, so the last event itself comes again, and
//!   behind it everything else. That also proves the overlap;
//! - what a quiet topic gets while nobody is connected lies before its end. [`follow`] keeps the last
//!   stand that was known, or else asks for everything since the source was begun.
//!
//! Only a last event that is still known when it comes again may be asked for again, so each stand is kept
//! with a number: how many events had been taken when its own last one was (`nth`). A topic that has had
//! none for longer than the window of known ids is quiet: what shared its last millisecond was delivered
//! long ago, and its stand is sent as it is. (A difference of times would not do: two topics that are read
//! again after an outage may be hours apart, and neither is quiet.)
//!
//! An id of any other form is kept and sent as it is.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::Millis;

/// How far a topic's partition was delivered. This is parsed for each event: borrowed, and no map.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stand<'t> {
    /// Ours, and never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    partition: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<Millis>,
    #[serde(borrow)]
    topic: Cow<'t, str>,
}

impl Stand<'_> {
    fn is_of(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic
    }

    /// Whether two stands of a topic are the same place.
    fn is_at(&self, other: &Self) -> bool {
        (self.timestamp, self.offset) == (other.timestamp, other.offset)
    }
}

/// The token after an event with this id, where `before` was the one before it.
pub fn follow(before: &Bytes, id: Bytes, since: Option<Millis>) -> Bytes {
    let Some(mut stands) = parse(&id) else { return id };
    let known = parse(before).unwrap_or_default();
    let next = newest(&known).saturating_add(1);
    for stand in &mut stands {
        let earlier = known.iter().find(|other| other.is_of(stand));
        let is_unknown = stand.offset == Some(-1);
        match (earlier, since) {
            (Some(earlier), _) if is_unknown || stand.is_at(earlier) => *stand = earlier.clone(),
            (None, Some(since)) if is_unknown => {
                (stand.offset, stand.timestamp, stand.nth) = (None, Some(since), Some(next));
            }
            _ => stand.nth = Some(next),
        }
    }
    text(&stands).unwrap_or_else(|| id.clone())
}

/// What to send as `Last-Event-ID` to go on behind this token. A topic's last event is asked for again
/// unless more than `known_for` events were taken after it.
pub fn ask(token: &Bytes, known_for: u64) -> Bytes {
    let Some(mut stands) = parse(token) else { return token.clone() };
    let newest = newest(&stands);
    for stand in &mut stands {
        let taken_after = newest - stand.nth.unwrap_or(0);
        if taken_after <= known_for {
            stand.timestamp = stand.timestamp.map(|time| time.saturating_sub(1));
        }
        stand.nth = None;
    }
    text(&stands).unwrap_or_else(|| token.clone())
}

fn newest(stands: &[Stand<'_>]) -> u64 {
    stands.iter().filter_map(|stand| stand.nth).max().unwrap_or(0)
}

fn parse(token: &[u8]) -> Option<Vec<Stand<'_>>> {
    serde_json::from_slice(token).ok().filter(|stands: &Vec<_>| !stands.is_empty())
}

fn text(stands: &[Stand<'_>]) -> Option<Bytes> {
    serde_json::to_vec(stands).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const MANY: u64 = 1_000;

    fn id(eqiad: &str, codfw: &str) -> Bytes {
        let stand = |name: &str, at: &str| format!(r#"{{"partition":0,{at},"topic":"{name}"}}"#);
        // As serde_json writes it: keys by name.
        let stands = [("eqiad.x", eqiad), ("codfw.x", codfw)].map(|(name, at)| {
            let stand: Value = serde_json::from_str(&stand(name, at)).unwrap();
            stand.to_string()
        });
        format!("[{}]", stands.join(",")).into()
    }

    fn at(time: Millis) -> String {
        format!(r#""timestamp":{time}"#)
    }

    /// The token after events with these times of the two topics' last events.
    fn after(times: &[(Millis, Millis)]) -> Bytes {
        let follow = |token: Bytes, (a, b): &(Millis, Millis)| follow(&token, id(&at(*a), &at(*b)), None);
        times.iter().fold(Bytes::new(), follow)
    }

    #[test]
    fn the_last_millisecond_is_asked_for_again_as_long_as_its_event_is_known() {
        // The second topic is read hours ahead of the first one, and neither is quiet.
        let token = after(&[(90_001, 90_501), (90_001, 9_000_001), (91_001, 9_000_001)]);
        assert_eq!(ask(&token, MANY), id(&at(91_000), &at(9_000_000)));
        assert_eq!(ask(&token, 1), id(&at(91_000), &at(9_000_000)));
        assert_eq!(ask(&token, 0), id(&at(91_000), &at(9_000_001)));
        // Quiet for two events; they may share a millisecond with each other.
        let token = after(&[(10_001, 20_001), (10_001, 20_005), (10_001, 20_009), (10_001, 20_009)]);
        assert_eq!(ask(&token, 1), id(&at(10_001), &at(20_008)));
        assert_eq!(ask(&token, 2), id(&at(10_000), &at(20_008)));
        // A token without our numbers, as a server gives it.
        assert_eq!(ask(&id(&at(90_001), &at(1)), 0), id(&at(90_000), &at(0)));
        let offsets = id(r#""offset":3"#, r#""offset":17"#);
        assert_eq!(ask(&follow(&Bytes::new(), offsets.clone(), None), MANY), offsets);
    }

    #[test]
    fn a_quiet_topic_keeps_the_stand_that_was_known_or_begins_where_the_source_was_begun() {
        let asked =
            |before: &Bytes, eqiad: &str, codfw: &str, since| ask(&follow(before, id(eqiad, codfw), since), MANY);
        let before = after(&[(80_001, 70_001)]);
        let unknown = r#""offset":-1"#;
        assert_eq!(asked(&before, &at(90_001), unknown, Some(5)), id(&at(90_000), &at(70_000)));
        assert_eq!(asked(&Bytes::new(), &at(90_001), unknown, Some(5)), id(&at(90_000), &at(4)));
        assert_eq!(asked(&Bytes::new(), &at(90_001), unknown, None), id(&at(90_000), unknown));
        // A stand of its own is believed, whatever was known.
        assert_eq!(asked(&before, &at(90_001), &at(1), Some(5)), id(&at(90_000), &at(0)));
    }

    #[test]
    fn other_ids_are_kept_and_sent_as_they_are() {
        for token in [
            "",
            "17",
            "[]",
            "[17]",
            "{}",
            r#"[{"offset":-1}]"#,
            r#"[{"topic":"a","timestamp":5}]"#,
            "\u{fe}",
            // A member that nobody here knows may mean anything.
            r#"[{"topic":"a","partition":0,"timestamp":5,"term":1}]"#,
        ] {
            let token = Bytes::from(token);
            assert_eq!(ask(&token, MANY), token);
            assert_eq!(follow(&Bytes::new(), token.clone(), Some(5)), token);
        }
    }
}
