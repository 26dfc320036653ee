//! Where one connection stands in a recording, and the ids it gives to its events.
//!
//! The id of an event is a JSON array with a stand for *every* topic, as KafkaSSE makes it
//! (`lib/KafkaSSE.js`, `_updateLatestOffsetsMap` and `_init`): the time of the last event that this
//! connection delivered from it **plus one**, in milliseconds; before the first, the offset that it
//! began with, and -1 if nothing was there then. So an id that is sent back as it is begins behind
//! the last millisecond, whether or not all of it was delivered, and -1 begins at the topic's end as
//! it is then: a client has to know. And an id is the state of one connection: on each the topics
//! are interleaved differently, only the order within a topic is kept.
//!
//! Where the real stream starts at the end, a recording starts at its beginning. Two more rules for
//! recordings, which are old: a time behind the last event, such as *now*, is the beginning, as `since`
//! and in an id; and so is a topic that an id leaves out.

use std::{fmt::Write, sync::Arc};

use serde::Deserialize;

use super::feed::{Event, Feed};
use crate::{
    fault::{Fault, Result},
    model::Millis,
};

/// What a connection delivers next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// This event; whether a resume repeats it.
    Event(&'a Event, bool),
    /// Nothing before so many events of the recording are released.
    Wait(usize),
    /// Nothing ever: the recording is at its end.
    End,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Cursor {
    feed: Arc<Feed>,
    places: Vec<Place>,
    rng: fastrand::Rng,
    /// Deliveries of one topic come in runs, as fetches from Kafka do.
    run: (usize, usize),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The index, among the topic's own events, of the next one.
    next: usize,
    /// What the id says.
    stand: Stand,
    /// Events up to this time are repeated.
    resumed: Option<Millis>,
    /// The topic lags by so many events behind what is released.
    lag: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stand {
    Offset(usize),
    /// Nothing was there.
    Latest,
    /// Of the last event, plus one.
    Time(Millis),
}

const LONGEST_RUN: usize = 8;
const LARGEST_LAG: usize = 3;

impl Cursor {
    /// Starts at the first events not before `since`, or at the beginning; `released` events of the
    /// recording may be seen.
    pub fn since(feed: Arc<Feed>, since: Option<Millis>, released: usize, seed: u64) -> Self {
        let start = since.filter(|since| *since <= feed.last_time()).unwrap_or_else(|| feed.first_time());
        let starts = (0..feed.topics().len()).map(|topic| (feed.before(topic, start), None)).collect();
        Self::at(feed, starts, released, seed)
    }

    /// Starts where an id tells; see the module's text. `released` events of the recording may be seen.
    ///
    /// # Errors
    /// `User` if the id is no such array or names an unknown topic or partition.
    pub fn resume(feed: Arc<Feed>, id: &str, released: usize, seed: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Stand {
            topic: String,
            partition: u32,
            timestamp: Option<Millis>,
            offset: Option<i64>,
        }
        let stands: Vec<Stand> =
            serde_json::from_str(id).map_err(|e| Fault::user(format!("last-event-id is no array of topics: {e}")))?;
        let mut starts = vec![(0, None); feed.topics().len()];
        for Stand { topic, partition, timestamp, offset } in stands {
            let known = feed.topics().iter().position(|known| known.name == topic && partition == 0);
            let index = known.ok_or_else(|| Fault::user(format!("unknown topic {topic:?} partition {partition}")))?;
            let events = &feed.topics()[index].events;
            starts[index] = match (offset, timestamp) {
                (Some(-1), _) => (events.partition_point(|event| *event < released), None),
                (Some(offset), _) => {
                    let at = usize::try_from(offset).ok().filter(|at| *at < events.len());
                    (at.ok_or_else(|| Fault::user(format!("topic {topic:?} has no offset {offset}")))?, None)
                }
                (None, Some(time)) if time > feed.last_time() + 1 => (0, None),
                (None, Some(time)) => (feed.before(index, time), Some(time)),
                (None, None) => return Err(Fault::user(format!("topic {topic:?} without timestamp or offset"))),
            };
        }
        Ok(Self::at(feed, starts, released, seed))
    }

    fn at(feed: Arc<Feed>, starts: Vec<(usize, Option<Millis>)>, released: usize, seed: u64) -> Self {
        let place = |(topic, (next, resumed)): (usize, (usize, Option<Millis>))| {
            let is_there = feed.topics()[topic].events.get(next).is_some_and(|event| *event < released);
            Place { next, stand: if is_there { Stand::Offset(next) } else { Stand::Latest }, resumed, lag: 0 }
        };
        let places = starts.into_iter().enumerate().map(place).collect();
        Self { feed, places, rng: fastrand::Rng::with_seed(seed), run: (0, 0) }
    }

    /// Takes the next event, when `released` events of the recording may be seen.
    pub fn next(&mut self, released: usize) -> Next<'_> {
        let released = released.min(self.feed.events().len());
        // Per topic: the next event's index in the recording.
        let ahead = self.places.iter().zip(self.feed.topics()).enumerate();
        let ahead = ahead.filter_map(|(topic, (place, of))| of.events.get(place.next).map(|index| (topic, *index)));
        let ahead = ahead.collect::<Vec<_>>();
        let Some(lowest) = ahead.iter().map(|(_, index)| *index).min() else { return Next::End };
        let allowed = ahead.into_iter().filter(|(_, index)| index - lowest <= self.feed.layout().skew);
        let needed = |(topic, index): (usize, usize)| {
            (topic, (index + 1 + self.places[topic].lag).min(self.feed.events().len()))
        };
        let (now, later): (Vec<_>, Vec<_>) = allowed.map(needed).partition(|(_, needed)| *needed <= released);
        if now.is_empty() {
            return Next::Wait(later.into_iter().map(|(_, needed)| needed).min().unwrap_or(usize::MAX));
        }
        let (running, left) = self.run;
        let topic = if left > 0 && now.iter().any(|(topic, _)| *topic == running) {
            self.run.1 -= 1;
            running
        } else {
            let (topic, _) = now[self.rng.usize(..now.len())];
            self.run = (topic, self.rng.usize(..LONGEST_RUN));
            topic
        };
        let place = &mut self.places[topic];
        let event = &self.feed.events()[self.feed.topics()[topic].events[place.next]];
        place.next += 1;
        place.stand = Stand::Time(event.time + 1);
        if self.rng.u8(..16) == 0 {
            place.lag = self.rng.usize(..=LARGEST_LAG);
        }
        Next::Event(event, place.resumed.is_some_and(|resumed| event.time <= resumed))
    }

    /// The id of the event that was taken last.
    pub fn id(&self) -> String {
        let mut id = String::from("[");
        for (place, topic) in self.places.iter().zip(self.feed.topics()) {
            let comma = if id.len() > 1 { "," } else { "" };
            let name = serde_json::Value::from(topic.name.as_str());
            let stand = match place.stand {
                Stand::Offset(offset) => format!("\"offset\":{offset}"),
                Stand::Latest => "\"offset\":-1".to_owned(),
                Stand::Time(time) => format!("\"timestamp\":{time}"),
            };
            // Writing to a string cannot fail.
            let _ = write!(id, "{comma}{{\"topic\":{name},\"partition\":0,{stand}}}");
        }
        id.push(']');
        id
    }
}

/// Reads a `since`: milliseconds since 1970, or a date, or a date and time by ISO 8601 (in UTC
/// unless it says otherwise).
///
/// # Errors
/// `User` if it is none of these.
pub fn parse_since(text: &str) -> Result<Millis> {
    let utc = |at: jiff::civil::DateTime| at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp());
    let time = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| text.parse::<jiff::civil::DateTime>().ok().and_then(utc))
        .map(jiff::Timestamp::as_millisecond);
    text.parse().ok().or(time).ok_or_else(|| Fault::user(format!("invalid_timestamp: since={text:?}")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::feed::{Layout, tests::recording},
        *,
    };
    use crate::collect::sse::token;

    use bytes::Bytes;

    const MANY: u64 = 1_000;
    const START: Millis = 1_442_018_818_000;

    fn feed(n: usize, per_millisecond: usize) -> Arc<Feed> {
        Arc::new(Feed::load(recording(n, per_millisecond).as_bytes(), Layout::default()).unwrap())
    }

    /// All that is to be had when `released` events are, as the recording's indices and ids.
    fn drain(cursor: &mut Cursor, released: usize) -> Vec<(usize, String)> {
        let mut taken = Vec::new();
        loop {
            let index = match cursor.next(released) {
                Next::Event(event, _) => index(event),
                Next::Wait(_) | Next::End => return taken,
            };
            taken.push((index, cursor.id()));
        }
    }

    fn index(event: &Event) -> usize {
        let event: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        event["n"].as_u64().unwrap() as usize
    }

    fn indices(taken: &[(usize, String)]) -> Vec<usize> {
        taken.iter().map(|(index, _)| *index).collect()
    }

    fn sorted(mut indices: Vec<usize>) -> Vec<usize> {
        indices.sort_unstable();
        indices
    }

    #[test]
    fn each_connection_interleaves_differently_and_keeps_each_topics_order() {
        let feed = feed(500, 3);
        let orders = [1, 2, 3].map(|seed| indices(&drain(&mut Cursor::since(Arc::clone(&feed), None, 500, seed), 500)));
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[1], orders[2]);
        for order in orders {
            assert_eq!(sorted(order.clone()), (0..500).collect::<Vec<_>>(), "each once");
            for topic in feed.topics() {
                let of_topic = order.iter().copied().filter(|index| topic.events.contains(index)).collect::<Vec<_>>();
                assert_eq!(of_topic, topic.events);
            }
            for (place, index) in order.iter().enumerate() {
                assert!(place.abs_diff(*index) <= 2 * feed.layout().skew, "event {index} came as number {place}");
            }
        }
    }

    #[test]
    fn an_id_has_the_time_behind_the_last_event_of_every_topic_or_where_it_began() {
        let feed = feed(200, 2);
        let mut stands = ["\"offset\":0".to_owned(), "\"offset\":0".to_owned()];
        for (index, id) in drain(&mut Cursor::since(Arc::clone(&feed), None, 200, 7), 200) {
            let topic = usize::from(feed.topics()[1].events.contains(&index));
            stands[topic] = format!("\"timestamp\":{}", START + index as i64 / 2 + 1);
            assert_eq!(
                id,
                format!(
                    "[{{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":0,{}}},\
                     {{\"topic\":\"codfw.mediawiki.recentchange\",\"partition\":0,{}}}]",
                    stands[0], stands[1]
                )
            );
        }
    }

    /// Resumes after each event of a connection by its id as `ask` sends it; what both connections
    /// delivered together, for each cut.
    fn resume_everywhere(feed: &Arc<Feed>, ask: impl Fn(&str) -> String) -> Vec<Vec<usize>> {
        let first = drain(&mut Cursor::since(Arc::clone(feed), None, 120, 11), 120);
        let both = |cut: usize| {
            let mut resumed = Cursor::resume(Arc::clone(feed), &ask(&first[cut].1), 120, cut as u64).unwrap();
            let mut both = sorted([indices(&first[..=cut]), indices(&drain(&mut resumed, 120))].concat());
            both.dedup();
            both
        };
        (0..first.len()).map(both).collect()
    }

    #[test]
    fn an_id_sent_as_it_is_loses_what_shares_the_millisecond_and_one_less_loses_nothing() {
        let all = (0..120).collect::<Vec<_>>();
        // The topics are up to seconds apart where a millisecond is 20 of the recording's.
        let coarse = Layout { burst: 20, ..Layout::default() };
        for feed in [feed(120, 5), Arc::new(Feed::load(recording(120, 1).as_bytes(), coarse).unwrap())] {
            let literal = resume_everywhere(&feed, str::to_owned);
            assert!(literal.iter().filter(|both| **both != all).count() > 60, "a trap that does not close");
            let asked = resume_everywhere(&feed, |id| {
                let token = token::ask(&Bytes::copy_from_slice(id.as_bytes()), MANY);
                String::from_utf8(token.to_vec()).unwrap()
            });
            assert!(asked.iter().all(|both| *both == all));
        }
    }

    #[test]
    fn a_topic_that_had_nothing_is_resumed_at_its_end() {
        let feed = feed(100, 1);
        let codfw = &feed.topics()[1].events;
        // Only the first topic has something by then.
        let released = codfw[0];
        assert!(released > 0);
        let first = drain(&mut Cursor::since(Arc::clone(&feed), None, released, 1), released);
        let (_, id) = first.last().unwrap();
        assert!(id.contains("\"codfw.mediawiki.recentchange\",\"partition\":0,\"offset\":-1"), "{id}");
        // Three of its events come while nobody is connected.
        let taken = |id: &str| {
            let mut cursor = Cursor::resume(Arc::clone(&feed), id, codfw[2] + 1, 1).unwrap();
            indices(&drain(&mut cursor, 100)).into_iter().filter(|index| codfw.contains(index)).collect::<Vec<_>>()
        };
        assert_eq!(taken(id), codfw[3..]);
        let followed = token::follow(&Bytes::new(), Bytes::copy_from_slice(id.as_bytes()), Some(START));
        assert_eq!(taken(std::str::from_utf8(&followed).unwrap()), *codfw);
    }

    #[test]
    fn what_a_resume_repeats_is_told_from_what_is_new() {
        let feed = feed(120, 5);
        let first = drain(&mut Cursor::since(Arc::clone(&feed), None, 120, 11), 120);
        let id = token::ask(&Bytes::copy_from_slice(first[60].1.as_bytes()), MANY);
        let mut resumed = Cursor::resume(Arc::clone(&feed), std::str::from_utf8(&id).unwrap(), 120, 3).unwrap();
        let before = indices(&first[..=60]);
        let (mut repeated, mut unseen) = (0, 0);
        while let Next::Event(event, repeat) = resumed.next(120) {
            if repeat {
                repeated += 1;
            } else {
                assert!(!before.contains(&index(event)), "{event:?}");
                unseen += 1;
            }
        }
        assert!((1..=10).contains(&repeated), "{repeated} of two topics' last milliseconds");
        assert!(unseen >= 120 - 61 - 10);
    }

    #[test]
    fn events_are_seen_only_when_released_and_all_at_the_end() {
        let feed = feed(60, 1);
        let mut cursor = Cursor::since(Arc::clone(&feed), None, 0, 5);
        let mut seen = 0;
        for released in 0..60 {
            for index in indices(&drain(&mut cursor, released)) {
                assert!(index < released);
                seen += 1;
            }
            assert!(seen + 2 * LARGEST_LAG >= released, "{seen} of {released}");
            match cursor.next(released) {
                Next::Wait(needed) => assert!(needed > released && needed <= 60, "{needed}"),
                other => panic!("{other:?}"),
            }
        }
        seen += drain(&mut cursor, 60).len();
        assert_eq!((seen, cursor.next(60)), (60, Next::End));
    }

    #[test]
    fn since_starts_each_topic_there_and_behind_the_end_at_the_beginning() {
        let feed = feed(100, 1);
        for (since, expected) in [
            (None, 0..100),
            (Some(0), 0..100),
            (Some(START), 0..100),
            (Some(START + 40), 40..100),
            (Some(START + 99), 99..100),
            (Some(START + 100), 0..100),
            (Some(1_760_000_000_000), 0..100),
        ] {
            let taken = drain(&mut Cursor::since(Arc::clone(&feed), since, 100, 1), 100);
            assert_eq!(sorted(indices(&taken)), expected.collect::<Vec<_>>(), "{since:?}");
        }
        // A cut after the first event already: the other topic, too, goes on from `since`.
        let taken = drain(&mut Cursor::since(Arc::clone(&feed), Some(START + 40), 100, 1), 100);
        let mut resumed = Cursor::resume(Arc::clone(&feed), &taken[0].1, 100, 2).unwrap();
        let seen = sorted([vec![taken[0].0], indices(&drain(&mut resumed, 100))].concat());
        assert!((40..100).all(|index| seen.contains(&index)));
        assert!(seen[0] >= 40);
    }

    #[test]
    fn ids_that_cannot_be_followed_are_refused() {
        let feed = feed(10, 1);
        for id in [
            "",
            "x",
            "{}",
            "[1]",
            "[{\"topic\":\"eqiad.mediawiki.recentchange\"}]",
            "[{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":0}]",
            "[{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":1,\"timestamp\":1}]",
            "[{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":0,\"timestamp\":\"x\"}]",
            "[{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":0,\"offset\":10}]",
            "[{\"topic\":\"eqiad.mediawiki.revision-create\",\"partition\":0,\"timestamp\":1}]",
        ] {
            assert!(Cursor::resume(Arc::clone(&feed), id, 10, 1).is_err(), "{id}");
        }
    }

    #[test]
    fn a_topic_is_begun_at_its_offset_and_one_left_out_at_its_beginning() {
        let feed = feed(100, 1);
        let (eqiad, codfw) = (&feed.topics()[0], &feed.topics()[1]);
        let stand = |topic: &str, at: &str| format!("{{\"topic\":\"{topic}\",\"partition\":0,{at}}}");
        let late = stand(&eqiad.name, &format!("\"timestamp\":{}", START + 100));
        let third = stand(&eqiad.name, "\"timestamp\":1,\"offset\":3");
        for (id, expected) in [
            (format!("[{late}]"), codfw.events.clone()),
            (format!("[{third}]"), sorted([&eqiad.events[3..], &codfw.events].concat())),
        ] {
            let mut cursor = Cursor::resume(Arc::clone(&feed), &id, 100, 1).unwrap();
            assert_eq!(sorted(indices(&drain(&mut cursor, 100))), expected, "{id}");
        }
    }

    #[test]
    fn since_is_read_in_the_forms_that_people_write() {
        for text in [
            "1442018818000",
            "2015-09-12T00:46:58Z",
            "2015-09-12T00:46:58.000Z",
            "2015-09-12T02:46:58+02:00",
            "2015-09-12T00:46:58",
        ] {
            assert_eq!(parse_since(text).unwrap(), START, "{text}");
        }
        assert_eq!(parse_since("2015-09-12").unwrap(), 1_442_016_000_000);
        for text in ["", "now", "2015-13-12", "12 Sep", "1e3"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}
