//! Reading a table key by key, declaratively.
//!
//! A reader asks for each key it knows, with a line that says what the key means:
//!
//! ```text
//! let age = section.key("roll_age", "a segment this old is published").duration(SECOND..=7 * DAY).or(10 * MINUTE);
//! ```
//!
//! Asking declares the key in the section's [`Outline`]. When all were asked for,
//! [`Section::finish`] complains about those in the file that nobody asked for. So the keys that are
//! allowed, their types, bounds, defaults and meanings stand in one place, the code that reads them,
//! and cannot drift apart.
//!
//! The same readers describe a file to an editor: of a [described](Section::described) section
//! nothing is written, but each table within it is opened all the same and each kind is read, so
//! that every key there is gets asked for. What the readers answer then is of no use.
//!
//! Nothing here fails: what is wrong becomes a complaint and a `None`, and reading goes on.

mod key;
mod read;

use std::mem;

pub use key::Key;

use super::{
    complaint::{Place, Sink, did_you_mean, listed},
    outline::Outline,
    tree::{Entry, Node, Value},
};

/// A table that is being read.
#[derive(Debug)]
pub struct Section<'t> {
    written: Written<'t>,
    place: Place,
    outline: Outline,
    /// Whether keys that nobody asked for are passed over: which they are was not understood.
    open: bool,
    sink: &'t Sink,
}

/// What is written in a table.
#[derive(Clone, Copy, Debug)]
enum Written<'t> {
    /// These entries.
    Entries(&'t [Entry]),
    /// Nothing: it is only described.
    Described,
}

/// Reads what a word at a key decides about.
pub type ReadKind<'t, T> = fn(&mut Section<'t>) -> T;

impl<'t> Section<'t> {
    /// The root of a file, or the table at `node`; empty if it is none.
    pub fn new(node: &'t Node, place: &Place, sink: &'t Sink) -> Self {
        let entries = match &node.value {
            Value::Table(entries) => entries.as_slice(),
            _ => &[],
        };
        Self::of(Written::Entries(entries), place.clone(), sink)
    }

    /// A table that is described and not read.
    pub fn described(place: Place, sink: &'t Sink) -> Self {
        Self::of(Written::Described, place, sink)
    }

    /// A table in which nothing is written.
    fn empty(place: Place, sink: &'t Sink) -> Self {
        Self::of(Written::Entries(&[]), place, sink)
    }

    fn of(written: Written<'t>, place: Place, sink: &'t Sink) -> Self {
        Self { written, place, outline: Outline::default(), open: false, sink }
    }

    /// What was asked for, and will be.
    pub fn outline(&self) -> Outline {
        self.outline.clone()
    }

    /// The key of this name. `meaning` completes the sentence "this key says …" as a phrase, and
    /// is shown when the key is missing.
    pub fn key(&mut self, name: &'static str, meaning: &'static str) -> Key<'t> {
        Key {
            entry: self.entry(name),
            place: self.place.child(name),
            name,
            meaning,
            is_described: self.is_described(),
            outline: self.outline.clone(),
            sink: self.sink,
        }
    }

    /// The key whose word decides which other keys there are, and what the reader of that word read.
    /// Of an unknown word nothing more is said.
    pub fn kind<T>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        kinds: &[(&'static str, ReadKind<'t, T>)],
    ) -> Option<(&'static str, T)> {
        let words: Vec<_> = kinds.iter().enumerate().map(|(index, (word, _))| (*word, index)).collect();
        let chosen = self.key(name, meaning).word(&words).required();
        if self.is_described() {
            let branch = |(word, read): &(&'static str, ReadKind<'t, T>)| {
                let own = mem::take(&mut self.outline);
                read(self);
                (*word, mem::replace(&mut self.outline, own))
            };
            let branches = kinds.iter().map(branch).collect();
            self.outline.change(|contents| contents.kinds = Some((name, branches)));
        }
        let Some((word, read)) = chosen.map(|at| kinds[at.value]) else {
            self.open = true;
            return None;
        };
        Some((word, read(self)))
    }

    /// A key that some other kind of this table has: complains if it stands here.
    pub fn refuse(&mut self, name: &'static str, message: &str) -> bool {
        self.outline.change(|contents| contents.refused.push(name));
        let entry = self.entry(name);
        if let Some(entry) = entry {
            self.sink.say(&entry.node.place, message);
        }
        entry.is_some()
    }

    /// Complains unless exactly one of these keys is there.
    pub fn one_of<const N: usize>(&mut self, names: [&'static str; N], message: &str) {
        if names.iter().filter(|name| self.entry(name).is_some()).count() != 1 {
            self.say(message);
        }
        self.outline.change(|contents| {
            debug_assert!(contents.either.is_empty(), "a table has one choice");
            contents.either = names.to_vec();
        });
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
        if self.open {
            return;
        }
        self.outline.look(|contents| {
            let allowed: Vec<_> = contents.keys.iter().map(|key| key.name).collect();
            let is_known = |name: &str| allowed.iter().chain(&contents.refused).any(|known| *known == name);
            for entry in self.entries().iter().filter(|entry| !is_known(&entry.key)) {
                let meant = did_you_mean(&entry.key, allowed.iter().copied());
                let allowed = listed(allowed.iter().copied());
                self.sink.say(&entry.place, format!("unknown key; {meant}allowed: {allowed}"));
            }
        });
    }

    fn is_described(&self) -> bool {
        matches!(self.written, Written::Described)
    }

    fn entries(&self) -> &'t [Entry] {
        match self.written {
            Written::Entries(entries) => entries,
            Written::Described => &[],
        }
    }

    fn entry(&self, name: &str) -> Option<&'t Entry> {
        self.entries().iter().find(|entry| entry.key == name)
    }
}
