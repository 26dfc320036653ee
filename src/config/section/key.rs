//! A key of a table, and the readers of what stands there.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    Section,
    read::{Read, State},
};
use crate::config::{
    complaint::{At, Place, Sink, did_you_mean, listed, quoted},
    form::{Form, Text},
    outline::Outline,
    quantity::{DURATION, SIZE, parse_duration, parse_size, show_duration, show_size},
    tree::{Entry, Node, Value},
};

/// A key that was asked for, and perhaps found.
#[derive(Debug)]
pub struct Key<'t> {
    pub(super) entry: Option<&'t Entry>,
    pub(super) place: Place,
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) is_described: bool,
    pub(super) outline: Outline,
    pub(super) sink: &'t Sink,
}

impl<'t> Key<'t> {
    /// A string that `parse` understands; `text` says how it is written.
    pub fn parse<T>(self, text: Text, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<'t, T> {
        self.text(Form::text(text, None), parse)
    }

    /// One of a few words.
    pub fn word<T: Copy + PartialEq + 't>(self, words: &[(&'static str, T)]) -> Read<'t, T> {
        let form = Form::Word(words.iter().map(|(word, _)| *word).collect());
        let words = words.to_vec();
        let shown = words.clone();
        let read = self.text(form, move |text| match words.iter().find(|(word, _)| *word == text) {
            Some((_, meant)) => Ok(*meant),
            None => {
                let meant = did_you_mean(text, words.iter().map(|(word, _)| *word));
                let allowed = listed(words.iter().map(|(word, _)| *word));
                Err(format!("{} is unknown; {meant}allowed: {allowed}", quoted(text)))
            }
        });
        read.shown(move |value| shown.iter().find(|(_, meant)| meant == value).map(|(word, _)| *word).into())
    }

    /// A whole number within these bounds.
    pub fn integer<T>(self, bounds: RangeInclusive<T>) -> Read<'t, T>
    where
        T: TryFrom<i64> + TryInto<i64> + PartialOrd + Copy,
    {
        let written = |number: T| number.try_into().unwrap_or(i64::MAX);
        let form = Form::Integer(written(*bounds.start()), written(*bounds.end()));
        let forms = form.to_string();
        let read = self.value(form, |value| match value {
            Value::Integer(number) => {
                let number = number.and_then(|number| T::try_from(number).ok());
                Some(number.filter(|number| bounds.contains(number)).ok_or_else(|| format!("allowed: {forms}")))
            }
            _ => None,
        });
        read.shown(move |number| written(*number).into())
    }

    /// This number and no other, of which `wrong` says what it is.
    pub fn exactly(self, number: u32, wrong: impl FnOnce(&str) -> String) -> Read<'t, u32> {
        let form = Form::Integer(number.into(), number.into());
        self.value(form, |value| match value {
            Value::Integer(Some(written)) if *written == i64::from(number) => Some(Ok(number)),
            Value::Integer(Some(written)) => Some(Err(wrong(&written.to_string()))),
            Value::Integer(None) => Some(Err(wrong("of that number"))),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Read<'t, bool> {
        let read = self.value(Form::Boolean, |value| match value {
            Value::Bool(value) => Some(Ok(*value)),
            _ => None,
        });
        read.shown(|value| (*value).into())
    }

    /// A size in bytes within these bounds.
    pub fn size(self, bounds: RangeInclusive<u64>) -> Read<'t, u64> {
        self.text(Form::text(SIZE, shown(&bounds, show_size)), size_within(bounds))
            .shown(|size| show_size(*size).into())
    }

    /// A duration within these bounds.
    pub fn duration(self, bounds: RangeInclusive<Duration>) -> Read<'t, Duration> {
        let form = Form::text(DURATION, shown(&bounds, show_duration));
        self.text(form, duration_within(bounds)).shown(|duration| show_duration(*duration).into())
    }

    /// A size within these bounds, or the word "unlimited".
    pub fn size_or_unlimited(self, bounds: RangeInclusive<u64>) -> Read<'t, Option<u64>> {
        self.unlimited_or(Form::text(SIZE, shown(&bounds, show_size)), size_within(bounds), show_size)
    }

    /// A duration within these bounds, or the word "unlimited".
    pub fn duration_or_unlimited(self, bounds: RangeInclusive<Duration>) -> Read<'t, Option<Duration>> {
        let form = Form::text(DURATION, shown(&bounds, show_duration));
        self.unlimited_or(form, duration_within(bounds), show_duration)
    }

    /// A table.
    pub fn section(self) -> Read<'t, Section<'t>> {
        let sink = self.sink;
        let described = self.describe();
        let form = Form::Table(outline_of(described.as_ref()));
        let place = self.entry.map(|entry| entry.place.clone());
        let read = self.node(form, move |node| match (&node.value, &place) {
            (Value::Table(_), Some(place)) => Some(Ok(Section::new(node, place, sink))),
            _ => None,
        });
        read.standing_in(described)
    }

    /// A table of tables, each under a name that the user chose: `[archiver.<name>]`. How the names
    /// are written is for the caller to check.
    pub fn named(self, names: Text) -> Vec<(At<&'t str>, Section<'t>)> {
        let (sink, place) = (self.sink, self.place.clone());
        let described = self.describe();
        let form = Form::Named { key: place.key.clone(), names, each: outline_of(described.as_ref()) };
        let forms = form.to_string();
        let entries = self.value(form, |value| match value {
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
        let described = described.map(|section| (At { value: "", place }, section));
        entries.iter().filter_map(section).chain(described).collect()
    }

    /// An array of tables.
    pub fn sections(self) -> Read<'t, Vec<Section<'t>>> {
        let sink = self.sink;
        let described = self.describe();
        let read = self.items(Form::Tables(outline_of(described.as_ref())), |node| match &node.value {
            Value::Table(_) => Some(Ok(Section::new(node, &node.place, sink))),
            _ => None,
        });
        read.standing_in(described.map(|section| vec![section]))
    }

    /// An array of strings.
    pub fn texts(self) -> Read<'t, Vec<String>> {
        self.items(Form::Texts, |node| match &node.value {
            Value::Text(text) => Some(Ok(text.clone())),
            _ => None,
        })
    }

    /// The table here, if it is only described.
    fn describe(&self) -> Option<Section<'t>> {
        self.is_described.then(|| Section::described(self.place.clone(), self.sink))
    }

    fn text<T>(self, form: Form, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<'t, T> {
        self.value(form, |value| match value {
            Value::Text(text) => Some(parse(text)),
            _ => None,
        })
    }

    fn unlimited_or<T: Copy + 't>(
        self,
        form: Form,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: fn(T) -> String,
    ) -> Read<'t, Option<T>> {
        const UNLIMITED: &str = "unlimited";
        let read = self.text(form.or_word(UNLIMITED), |text| match text {
            UNLIMITED => Ok(None),
            _ => parse(text).map(Some).map_err(|message| format!("{message}, or {UNLIMITED:?}")),
        });
        read.shown(move |value| value.map_or(UNLIMITED.to_owned(), show).into())
    }

    fn items<T>(self, form: Form, read: impl Fn(&'t Node) -> Option<Result<T, String>>) -> Read<'t, Vec<T>> {
        let (sink, forms) = (self.sink, form.to_string());
        let items = self.value(form, |value| match value {
            Value::Array(items) => Some(Ok(items)),
            _ => None,
        });
        items.and_then(|items| {
            let read = |item| judge(item, &item.place, &forms, sink, &read);
            // Each item is looked at before any decides, so that all their mistakes are said.
            let items: Vec<Option<T>> = items.iter().map(read).collect();
            items.into_iter().collect()
        })
    }

    fn value<T>(self, form: Form, read: impl FnOnce(&'t Value) -> Option<Result<T, String>>) -> Read<'t, T> {
        self.node(form, |node| read(&node.value))
    }

    fn node<T>(self, form: Form, read: impl FnOnce(&'t Node) -> Option<Result<T, String>>) -> Read<'t, T> {
        let Self { entry, place, name, meaning, outline, sink, .. } = self;
        let state = match entry.map(|entry| &entry.node) {
            None => State::Absent,
            Some(node) => match judge(node, &node.place, &form.to_string(), sink, read) {
                Some(value) => State::Found(At { value, place: node.place.clone() }),
                None => State::Broken,
            },
        };
        let declaration = outline.declare(name, meaning, form);
        Read::new(state, place, meaning, declaration, sink)
    }
}

fn outline_of(section: Option<&Section<'_>>) -> Outline {
    section.map(Section::outline).unwrap_or_default()
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

fn size_within(bounds: RangeInclusive<u64>) -> impl FnOnce(&str) -> Result<u64, String> {
    move |text| within(text, parse_size(text)?, &bounds, show_size)
}

fn duration_within(bounds: RangeInclusive<Duration>) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |text| within(text, parse_duration(text)?, &bounds, show_duration)
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

fn shown<T: Copy>(bounds: &RangeInclusive<T>, show: fn(T) -> String) -> Option<(String, String)> {
    Some((show(*bounds.start()), show(*bounds.end())))
}
