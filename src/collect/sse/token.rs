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
//! A stand that is so much older than the newest that its last event may be known no more when it
//! comes again is sent as it is: what shared its millisecond was delivered long ago.
//!
//! An id of any other form is kept and sent as it is.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::model::Millis;

const NO_OFFSET: &[u8] = b"\"offset\":-1";

type Stand = Map<String, Value>;

/// The token after an event with this id, where `before` was the one before it.
pub fn follow(before: &Bytes, id: Bytes, since: Option<Millis>) -> Bytes {
    if !id.windows(NO_OFFSET.len()).any(|window| window == NO_OFFSET) {
        return id;
    }
    let Some(mut stands) = parse(&id) else { return id };
    let known = parse(before).unwrap_or_default();
    for stand in stands.iter_mut().filter(|stand| stand.get("offset").and_then(Value::as_i64) == Some(-1)) {
        let same = |other: &&Stand| ["topic", "partition"].iter().all(|key| other.get(*key) == stand.get(*key));
        if let Some(earlier) = known.iter().find(same) {
            *stand = earlier.clone();
        } else if let Some(since) = since {
            stand.remove("offset");
            stand.insert("timestamp".to_owned(), since.into());
        }
    }
    text(&stands).unwrap_or(id)
}

/// What to send as `Last-Event-ID` to go on behind this token. A topic's last event is asked for again
/// unless it is older than the newest of all topics by more than `known_for`.
pub fn ask(token: &Bytes, known_for: Duration) -> Bytes {
    let known_for = Millis::try_from(known_for.as_millis()).unwrap_or(Millis::MAX);
    let Some(mut stands) = parse(token) else { return token.clone() };
    let Some(newest) = stands.iter().filter_map(time).max() else { return token.clone() };
    for stand in &mut stands {
        if let Some(time) = time(stand).filter(|time| *time >= newest.saturating_sub(known_for)) {
            stand.insert("timestamp".to_owned(), (time - 1).into());
        }
    }
    text(&stands).unwrap_or_else(|| token.clone())
}

fn time(stand: &Stand) -> Option<Millis> {
    stand.get("timestamp").and_then(Value::as_i64)
}

fn parse(token: &[u8]) -> Option<Vec<Stand>> {
    let stands: Vec<Stand> = serde_json::from_slice(token).ok()?;
    let whole = |stand: &Stand| stand.contains_key("topic") && stand.contains_key("partition");
    (!stands.is_empty() && stands.iter().all(whole)).then_some(stands)
}

fn text(stands: &[Stand]) -> Option<Bytes> {
    serde_json::to_vec(stands).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(eqiad: &str, codfw: &str) -> Bytes {
        let stand = |name: &str, at: &str| format!(r#"{{"partition":0,{at},"topic":"{name}"}}"#);
        // As serde_json writes it: keys by name.
        let stands = [("eqiad.x", eqiad), ("codfw.x", codfw)].map(|(name, at)| {
            let stand: Value = serde_json::from_str(&stand(name, at)).unwrap();
            stand.to_string()
        });
        format!("[{}]", stands.join(",")).into()
    }

    #[test]
    fn the_last_millisecond_is_asked_for_again() {
        let check = |eqiad: &str, codfw: &str, asked: [&str; 2]| {
            assert_eq!(ask(&id(eqiad, codfw), MINUTE), id(asked[0], asked[1]), "{eqiad} {codfw}");
        };
        check(r#""timestamp":90001"#, r#""timestamp":90500"#, [r#""timestamp":90000"#, r#""timestamp":90499"#]);
        // Quiet for more than a minute: its last event is not repeated.
        check(r#""timestamp":90001"#, r#""timestamp":30000"#, [r#""timestamp":90000"#, r#""timestamp":30000"#]);
        check(r#""timestamp":90001"#, r#""offset":17"#, [r#""timestamp":90000"#, r#""offset":17"#]);
        check(r#""offset":3"#, r#""offset":17"#, [r#""offset":3"#, r#""offset":17"#]);
    }

    #[test]
    fn a_quiet_topic_keeps_the_stand_that_was_known_or_begins_where_the_source_was_begun() {
        let before = id(r#""timestamp":80001"#, r#""timestamp":70001"#);
        let now = id(r#""timestamp":90001"#, r#""offset":-1"#);
        assert_eq!(follow(&before, now.clone(), Some(5)), id(r#""timestamp":90001"#, r#""timestamp":70001"#));
        assert_eq!(follow(&Bytes::new(), now.clone(), Some(5)), id(r#""timestamp":90001"#, r#""timestamp":5"#));
        assert_eq!(follow(&Bytes::new(), now.clone(), None), now);
        // A stand of its own is believed, whatever was known.
        let own = id(r#""timestamp":90001"#, r#""timestamp":1"#);
        assert_eq!(follow(&before, own.clone(), Some(5)), own);
    }

    #[test]
    fn other_ids_are_kept_and_sent_as_they_are() {
        for token in ["", "17", "[]", "[17]", "{}", r#"[{"offset":-1}]"#, r#"[{"topic":"a","timestamp":5}]"#, "\u{fe}"]
        {
            let token = Bytes::from(token);
            assert_eq!(ask(&token, MINUTE), token);
            assert_eq!(follow(&Bytes::new(), token.clone(), Some(5)), token);
        }
    }
}
