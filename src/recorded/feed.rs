//! A recording: events from a file, each with a source topic and the millisecond it has there.
//!
//! The real stream merges one Kafka topic per data centre (`eqiad.…`, `codfw.…`). A recording
//! whose events name two topics or more in `meta.topic` has these; any other is divided: one event
//! in four, chosen by its `meta.id`, goes to `codfw`, whatever its text says. The text of an event
//! is served as it stands in the file, byte for byte.
//!
//! An event's time is its `meta.dt`, else its `timestamp` (seconds), and is believed only if it
//! lies between the times around it; else the event has the time of the one before. So times
//! never go back, and one event from 2038 does not drag all that follow along. The same goes for
//! lines that are no JSON: they are events too, and what reads them has to cope.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    fault::{Fault, Result},
    model::Millis,
};

/// How a recording is laid out as a stream.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Times are rounded down to a multiple of so many milliseconds, so that many events share
    /// one and a resume repeats several. At least 1: as recorded.
    pub burst: Millis,
    /// How many events a connection may be ahead in one topic of the other, in the order of the
    /// recording.
    pub skew: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self { burst: 1, skew: 32 }
    }
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which of [`Feed::topics`].
    pub topic: usize,
    /// Its time in that topic; never below the one before it.
    pub time: Millis,
    /// Its text, without the line's end.
    pub data: Bytes,
}

/// A source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name: `eqiad.mediawiki.recentchange`.
    pub name: String,
    /// Its events, as indices into [`Feed::events`], in order.
    pub events: Vec<usize>,
}

/// A recording; see the module's text.
#[derive(Clone, Debug)]
pub struct Feed {
    events: Vec<Event>,
    topics: Vec<Topic>,
    layout: Layout,
}

impl Feed {
    /// Loads a file of one event a line, plain or gzip. Blocking; the whole recording is held in
    /// memory.
    ///
    /// # Errors
    /// As [`Feed::load`], with the path.
    pub fn open(path: &Path, layout: Layout) -> Result<Self> {
        let file = File::open(path).map_err(|e| Fault::io(format_args!("recording {}", path.display()), &e))?;
        Self::load(BufReader::new(file), layout).map_err(|fault| fault.at(format_args!("recording {}", path.display())))
    }

    /// Loads events, one a line, plain or gzip. Empty lines are none.
    ///
    /// # Errors
    /// `Data` if it is no whole gzip, if a line holds a carriage return (no SSE stream can carry
    /// it), or if there is no event at all.
    pub fn load(reader: impl BufRead, layout: Layout) -> Result<Self> {
        let lines = lines(reader)?;
        let heads = lines.iter().map(|line| Head::of(line)).collect::<Vec<_>>();
        let believed = believed(&heads.iter().map(|head| head.time).collect::<Vec<_>>());

        let mut topics = named_topics(&heads);
        let divided = topics.len() < 2;
        if divided {
            let stream = heads.iter().find_map(|head| head.stream.as_deref()).unwrap_or("mediawiki.recentchange");
            topics = ["eqiad", "codfw"].map(|place| Topic { name: format!("{place}.{stream}"), events: vec![] }).into();
        }
        let mut events = Vec::with_capacity(lines.len());
        for (index, ((line, head), time)) in lines.into_iter().zip(&heads).zip(believed).enumerate() {
            let topic = if divided {
                let id = head.id.as_deref().map_or(&line[..], str::as_bytes);
                usize::from(crc32c::crc32c(id).is_multiple_of(4))
            } else {
                topics.iter().position(|topic| Some(&topic.name) == head.topic.as_ref()).unwrap_or(0)
            };
            topics[topic].events.push(index);
            let burst = layout.burst.max(1);
            events.push(Event { topic, time: time.div_euclid(burst) * burst, data: line });
        }
        Ok(Self { events, topics, layout })
    }

    /// All events, in the order of the recording.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The topics, at least two.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// How it is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The time of the first event of all.
    pub fn first_time(&self) -> Millis {
        self.events.iter().map(|event| event.time).min().unwrap_or_default()
    }

    /// The time of the last event of all.
    pub fn last_time(&self) -> Millis {
        self.events.iter().map(|event| event.time).max().unwrap_or_default()
    }

    /// How many of a topic's events lie before `time`.
    pub fn before(&self, topic: usize, time: Millis) -> usize {
        self.topics[topic].events.partition_point(|index| self.events[*index].time < time)
    }
}

/// What the feed has to know of an event.
#[derive(Default)]
struct Head {
    time: Option<Millis>,
    id: Option<String>,
    topic: Option<String>,
    stream: Option<String>,
}

impl Head {
    fn of(line: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Line {
            meta: Option<Meta>,
            timestamp: Option<Value>,
        }
        #[derive(Default, Deserialize)]
        struct Meta {
            dt: Option<Value>,
            id: Option<Value>,
            topic: Option<Value>,
            stream: Option<Value>,
        }
        let Ok(Line { meta, timestamp }) = serde_json::from_slice(line) else { return Self::default() };
        let meta = meta.unwrap_or_default();
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let dt = text(meta.dt).and_then(|dt| dt.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_millisecond);
        let seconds = || timestamp.as_ref().and_then(Value::as_i64).and_then(|seconds| seconds.checked_mul(1_000));
        Self { time: dt.or_else(seconds), id: text(meta.id), topic: text(meta.topic), stream: text(meta.stream) }
    }
}

/// The lines of a recording, plain or gzip, without their ends; empty ones are none.
pub(super) fn lines(mut reader: impl BufRead) -> Result<Vec<Bytes>> {
    let unreadable = |e: std::io::Error| Fault::data(format!("cannot be read: {e}"));
    let mut whole = Vec::new();
    if reader.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(reader).read_to_end(&mut whole).map_err(unreadable)?;
    } else {
        reader.read_to_end(&mut whole).map_err(unreadable)?;
    }
    let whole = Bytes::from(whole);
    let mut lines = Vec::new();
    let mut rest = whole;
    let mut number = 0;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let mut line = rest.split_to(end.map_or(rest.len(), |end| end + 1));
        number += 1;
        while line.ends_with(b"\n") || line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        if line.contains(&b'\r') {
            return Err(Fault::data(format!(
                "line {number}: holds a carriage return, which no event stream can carry"
            )));
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return Err(Fault::data("holds no event"));
    }
    Ok(lines)
}

/// The topics that events name, in the order in which they are first named.
fn named_topics(heads: &[Head]) -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    for name in heads.iter().filter_map(|head| head.topic.as_ref()) {
        if !topics.iter().any(|topic| topic.name == *name) {
            topics.push(Topic { name: name.clone(), events: vec![] });
        }
    }
    topics
}

fn believed(times: &[Option<Millis>]) -> Vec<Millis> {
    let known = times.iter().flatten().copied().collect::<Vec<_>>();
    // Until the first that can be believed, the smaller of the first two known.
    let mut last = known.iter().take(2).copied().min().unwrap_or_default();
    let mut following = known.iter().copied().skip(1);
    times
        .iter()
        .map(|time| {
            if let Some(time) = *time {
                let next = following.next().unwrap_or(time);
                if last <= time && time <= next {
                    last = time;
                }
            }
            last
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// `n` events, so many a millisecond, their text `{"n":…}` with an id and a time.
    pub(crate) fn recording(n: usize, per_millisecond: usize) -> String {
        let start = 1_442_018_818_000_i64;
        let line = |i: usize| {
            let dt = jiff::Timestamp::from_millisecond(start + (i / per_millisecond) as i64).unwrap();
            format!("{{\"meta\":{{\"id\":\"id-{i}\",\"dt\":\"{dt}\"}},\"n\":{i},\"title\":\"Žluťoučký kůň 馬\"}}\n")
        };
        (0..n).map(line).collect()
    }

    fn load(text: &str) -> Feed {
        Feed::load(text.as_bytes(), Layout::default()).unwrap()
    }

    fn times(feed: &Feed) -> Vec<Millis> {
        feed.events().iter().map(|event| event.time).collect()
    }

    #[test]
    fn one_event_in_four_goes_to_the_other_data_centre() {
        let feed = load(&recording(1_000, 1));
        let names = feed.topics().iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["eqiad.mediawiki.recentchange", "codfw.mediawiki.recentchange"]);
        let codfw = feed.topics()[1].events.len();
        assert!((200..300).contains(&codfw), "{codfw}");
        assert_eq!(codfw + feed.topics()[0].events.len(), 1_000);
        assert_eq!(load(&recording(1_000, 1)).topics(), feed.topics(), "always the same");
    }

    #[test]
    fn topics_that_the_events_name_are_kept() {
        let line = |topic: &str| format!("{{\"meta\":{{\"topic\":\"{topic}\"}}}}\n");
        let feed = load(&[line("eqiad.a"), line("codfw.a"), line("eqiad.a"), "{}\n".into()].concat());
        let topics = feed.topics().iter().map(|topic| (topic.name.as_str(), &topic.events[..])).collect::<Vec<_>>();
        assert_eq!(topics, [("eqiad.a", &[0, 2, 3][..]), ("codfw.a", &[1][..])]);
    }

    #[test]
    fn text_is_kept_byte_for_byte_and_may_be_gzip() {
        let text = "{\"a\": \"ž\"}  \n\n not json \r\n\u{feff}\u{2028}";
        let feed = load(text);
        let data = feed.events().iter().map(|event| event.data.clone()).collect::<Vec<_>>();
        assert_eq!(data, ["{\"a\": \"ž\"}  ", " not json ", "\u{feff}\u{2028}"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(Feed::load(&gzip[..], Layout::default()).unwrap().events(), feed.events());
        let cut = Feed::load(&gzip[..gzip.len() - 9], Layout::default()).unwrap_err();
        assert!(cut.message.contains("cannot be read"), "{cut}");
    }

    #[test]
    fn times_never_go_back_and_one_from_2038_drags_none_along() {
        let check = |seconds: &[i64], expected: &[i64]| {
            let text = seconds.iter().map(|s| format!("{{\"timestamp\":{s}}}\n")).collect::<String>();
            let expected = expected.iter().map(|s| s * 1_000).collect::<Vec<_>>();
            assert_eq!(times(&load(&text)), expected, "{seconds:?}");
        };
        check(&[5, 6, 6, 9], &[5, 6, 6, 9]);
        check(&[5, 2_147_483_647, 6, 7], &[5, 5, 6, 7]);
        check(&[5, 6, 0, 7], &[5, 5, 5, 7]);
        check(&[2_147_483_647, 5, 6], &[5, 5, 6]);
        check(&[5, 8, 7, 9], &[5, 5, 7, 9]);
    }

    #[test]
    fn a_time_of_any_kind_is_read_and_none_is_the_one_before() {
        let feed = load(concat!(
            "{\"meta\":{\"dt\":\"2015-09-12T00:46:58.771Z\"},\"timestamp\":7}\n",
            "{\"meta\":{\"dt\":12},\"timestamp\":1442018820}\n",
            "{\"meta\":[],\"timestamp\":1442018820}\n{broken\n{\"timestamp\":\"x\"}\n",
        ));
        let second = 1_442_018_820_000;
        assert_eq!(times(&feed), [1_442_018_818_771, second, second, second, second]);
    }

    #[test]
    fn a_burst_gives_many_events_one_millisecond() {
        let feed = Feed::load(recording(250, 1).as_bytes(), Layout { burst: 100, ..Layout::default() }).unwrap();
        let start = 1_442_018_818_000;
        for (index, time) in times(&feed).into_iter().enumerate() {
            assert_eq!(time, start + (index as i64 / 100) * 100);
        }
        assert_eq!(feed.before(0, start + 1), feed.before(0, start + 100));
    }

    #[test]
    fn what_no_stream_can_carry_is_refused() {
        for (text, said) in [("{}\n{\r}\n", "line 2"), ("\n\n", "no event"), ("", "no event")] {
            let fault = Feed::load(text.as_bytes(), Layout::default()).unwrap_err();
            assert!(fault.message.contains(said), "{fault}");
        }
    }
}
