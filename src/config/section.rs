//! Reading a table key by key, declaratively.
//!
//! A reader asks for each key it knows, with a line that says what the key means:
//!
//! ```text
//! let age = section.key("roll_age", "a segment this old is published").duration(SECOND..=7 * DAY).or(10 * MINUTE);
//! ```
//!
//! Asking registers the key. When all were asked for, [`Section::finish`] complains about those in
//! the file that nobody asked for. So the keys that are allowed, their types, bounds, defaults and
//! meanings stand in one place, the code that reads them, and cannot drift apart.
//!
//! Nothing here fails: what is wrong becomes a complaint and a `None`, and reading goes on.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::{
    complaint::{At, Place, Sink, did_you_mean, listed, quoted},
    quantity::{DURATION_FORMS, SIZE_FORMS, parse_duration, parse_size, show_duration, show_size},
    tree::{Entry, Node, Value},
};

/// A table that is being read.
#[derive(Debug)]
pub struct Section<'t> {
    entries: &'t [Entry],
    place: Place,
    known: Vec<&'static str>,
    sink: &'t Sink,
}

impl<'t> Section<'t> {
    /// The root of a file, or the table at `node`; empty if it is none.
    pub fn new(node: &'t Node, place: &Place, sink: &'t Sink) -> Self {
        let entries = match &node.value {
            Value::Table(entries) => entries.as_slice(),
            _ => &[],
        };
        Self { entries, place: place.clone(), known: Vec::new(), sink }
    }

    /// The key of this name. `meaning` completes the sentence "this key says …" as a phrase, and
    /// is shown when the key is missing.
    pub fn key(&mut self, name: &'static str, meaning: &'static str) -> Key<'t> {
        self.known.push(name);
        Key {
            entry: self.entries.iter().find(|entry| entry.key == name),
            place: self.place.child(name),
            meaning,
            sink: self.sink,
        }
    }

    /// Where the table stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Complains about something at this table as a whole.
    pub fn say(&self, message: impl Into<String>) {
        self.sink.say(&self.place, message);
    }

    /// Complains about something at this place.
    pub fn say_at(&self, place: &Place, message: impl Into<String>) {
        self.sink.say(place, message);
    }

    /// Complains about each key that was not asked for.
    pub fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let meant = did_you_mean(&entry.key, self.known.iter().copied());
            let allowed = listed(self.known.iter().copied());
            self.sink.say(&entry.place, format!("unknown key; {meant}allowed: {allowed}"));
        }
    }
}

/// A key that was asked for, and perhaps found.
#[derive(Debug)]
pub struct Key<'t> {
    entry: Option<&'t Entry>,
    place: Place,
    meaning: &'static str,
    sink: &'t Sink,
}

impl<'t> Key<'t> {
    /// A string that `parse` understands; `forms` says what is allowed where something other than
    /// a string stands.
    pub fn parse<T>(self, forms: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<'t, T> {
        self.read(forms, |value| match value {
            Value::Text(text) => Some(parse(text)),
            _ => None,
        })
    }

    /// One of a few words.
    pub fn word<T: Copy>(self, words: &[(&str, T)]) -> Read<'t, T> {
        let allowed = listed(words.iter().map(|(word, _)| *word));
        self.parse(&format!("one of {allowed}"), |text| match words.iter().find(|(word, _)| *word == text) {
            Some((_, meant)) => Ok(*meant),
            None => {
                let meant = did_you_mean(text, words.iter().map(|(word, _)| *word));
                Err(format!("{} is unknown; {meant}allowed: {allowed}", quoted(text)))
            }
        })
    }

    /// A whole number within these bounds.
    pub fn integer<T>(self, bounds: RangeInclusive<T>) -> Read<'t, T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let forms = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.read(&forms, |value| match value {
            Value::Integer(number) => {
                let number = number.and_then(|number| T::try_from(number).ok());
                Some(number.filter(|number| bounds.contains(number)).ok_or_else(|| format!("allowed: {forms}")))
            }
            _ => None,
        })
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Read<'t, bool> {
        self.read("true or false", |value| match value {
            Value::Bool(value) => Some(Ok(*value)),
            _ => None,
        })
    }

    /// A size in bytes within these bounds.
    pub fn size(self, bounds: RangeInclusive<u64>) -> Read<'t, u64> {
        self.parse(SIZE_FORMS, |text| within(text, parse_size(text)?, &bounds, show_size))
    }

    /// A duration within these bounds.
    pub fn duration(self, bounds: RangeInclusive<Duration>) -> Read<'t, Duration> {
        self.parse(DURATION_FORMS, |text| within(text, parse_duration(text)?, &bounds, show_duration))
    }

    /// A size within these bounds, or the word "unlimited".
    pub fn size_or_unlimited(self, bounds: RangeInclusive<u64>) -> Read<'t, Option<u64>> {
        self.unlimited_or(SIZE_FORMS, |text| within(text, parse_size(text)?, &bounds, show_size))
    }

    /// A duration within these bounds, or the word "unlimited".
    pub fn duration_or_unlimited(self, bounds: RangeInclusive<Duration>) -> Read<'t, Option<Duration>> {
        self.unlimited_or(DURATION_FORMS, |text| within(text, parse_duration(text)?, &bounds, show_duration))
    }

    /// A table.
    pub fn section(self) -> Read<'t, Section<'t>> {
        let sink = self.sink;
        let place = self.entry.map(|entry| entry.place.clone());
        self.node("a table", move |node| match (&node.value, &place) {
            (Value::Table(_), Some(place)) => Some(Ok(Section::new(node, place, sink))),
            _ => None,
        })
    }

    /// A table of tables, each under a name that the user chose: `[archiver.<name>]`.
    pub fn named(self) -> Vec<(At<&'t str>, Section<'t>)> {
        let sink = self.sink;
        let forms = format!("tables [{}.<name>]", self.place.key);
        let entries = self.read(&forms, |value| match value {
            Value::Table(entries) => Some(Ok(entries.as_slice())),
            _ => None,
        });
        let entries = entries.optional().flatten().map_or(&[][..], |at| at.value);
        let section = |entry: &'t Entry| {
            if !matches!(entry.node.value, Value::Table(_) | Value::Broken) {
                sink.say(&entry.place, format!("found {}, allowed: {forms}", entry.node.value.what()));
                return None;
            }
            let name = At { value: entry.key.as_str(), place: entry.place.clone() };
            Some((name, Section::new(&entry.node, &entry.place, sink)))
        };
        entries.iter().filter_map(section).collect()
    }

    /// An array of tables.
    pub fn sections(self) -> Read<'t, Vec<Section<'t>>> {
        let sink = self.sink;
        self.items("an array of tables: [{ … }, { … }]", |node| match &node.value {
            Value::Table(_) => Some(Ok(Section::new(node, &node.place, sink))),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn texts(self) -> Read<'t, Vec<String>> {
        self.items("an array of strings: [\"…\", \"…\"]", |node| match &node.value {
            Value::Text(text) => Some(Ok(text.clone())),
            _ => None,
        })
    }

    fn unlimited_or<T>(self, forms: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<'t, Option<T>> {
        let or = ", or \"unlimited\"";
        self.parse(&format!("{forms}{or}"), |text| match text {
            "unlimited" => Ok(None),
            _ => parse(text).map(Some).map_err(|message| message + or),
        })
    }

    fn items<T>(self, forms: &str, read: impl Fn(&'t Node) -> Option<Result<T, String>>) -> Read<'t, Vec<T>> {
        let (sink, place, meaning) = (self.sink, self.place.clone(), self.meaning);
        let items = self.read(forms, |value| match value {
            Value::Array(items) => Some(Ok(items)),
            _ => None,
        });
        let state = match items.state {
            State::Absent => State::Absent,
            State::Broken => State::Broken,
            State::Found(At { value: items, place }) => {
                let read = |item| judge(item, &item.place, forms, sink, &read);
                // Each item is looked at before any decides, so that all their mistakes are said.
                let items: Vec<Option<T>> = items.iter().map(read).collect();
                match items.into_iter().collect() {
                    Some(value) => State::Found(At { value, place }),
                    None => State::Broken,
                }
            }
        };
        Read { state, place, meaning, sink }
    }

    fn read<T>(self, forms: &str, read: impl FnOnce(&'t Value) -> Option<Result<T, String>>) -> Read<'t, T> {
        self.node(forms, |node| read(&node.value))
    }

    fn node<T>(self, forms: &str, read: impl FnOnce(&'t Node) -> Option<Result<T, String>>) -> Read<'t, T> {
        let Self { entry, place, meaning, sink } = self;
        let state = match entry.map(|entry| &entry.node) {
            None => State::Absent,
            Some(node) => match judge(node, &node.place, forms, sink, read) {
                Some(value) => State::Found(At { value, place: node.place.clone() }),
                None => State::Broken,
            },
        };
        Read { state, place, meaning, sink }
    }
}

/// Reads a node; complains if that says `None` (of another type) or an error.
fn judge<'t, T>(
    node: &'t Node,
    place: &Place,
    forms: &str,
    sink: &Sink,
    read: impl FnOnce(&'t Node) -> Option<Result<T, String>>,
) -> Option<T> {
    match read(node) {
        Some(Ok(value)) => Some(value),
        Some(Err(message)) => {
            sink.say(place, message);
            None
        }
        None => {
            if !matches!(node.value, Value::Broken) {
                sink.say(place, format!("found {}, allowed: {forms}", node.value.what()));
            }
            None
        }
    }
}

fn within<T: PartialOrd + Copy>(
    text: &str,
    value: T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (show(*bounds.start()), show(*bounds.end()));
    Err(format!("{} is out of bounds, allowed: from {low:?} to {high:?}", quoted(text)))
}

/// What was read: still to be said is what holds when the key is not there.
#[derive(Debug)]
pub struct Read<'t, T> {
    state: State<T>,
    place: Place,
    meaning: &'static str,
    sink: &'t Sink,
}

#[derive(Debug)]
enum State<T> {
    Absent,
    Broken,
    Found(At<T>),
}

impl<T> Read<'_, T> {
    /// Without the key: a complaint.
    pub fn required(self) -> Option<At<T>> {
        match self.state {
            State::Found(at) => Some(at),
            State::Broken => None,
            State::Absent => {
                self.sink.say(&self.place, format!("missing: {}", self.meaning));
                None
            }
        }
    }

    /// Without the key: this.
    pub fn or(self, default: T) -> Option<At<T>> {
        match self.state {
            State::Found(at) => Some(at),
            State::Broken => None,
            State::Absent => Some(At { value: default, place: self.place }),
        }
    }

    /// Without the key: nothing. The outer `None` is a mistake, the inner one absence.
    pub fn optional(self) -> Option<Option<At<T>>> {
        match self.state {
            State::Found(at) => Some(Some(at)),
            State::Broken => None,
            State::Absent => Some(None),
        }
    }
}

impl<'t> Read<'t, Section<'t>> {
    /// Without the key: a table in which each key has its default.
    pub fn or_defaults(self) -> Option<Section<'t>> {
        match self.state {
            State::Found(at) => Some(at.value),
            State::Broken => None,
            State::Absent => Some(Section { entries: &[], place: self.place, known: Vec::new(), sink: self.sink }),
        }
    }
}
