//! What was read at a key: still to be said is what holds when the key is not there.

use serde_json::Value as Json;

use super::Section;
use crate::config::{
    complaint::{At, Place, Sink},
    outline::{Absence, Declaration},
};

/// What was read at a key.
pub struct Read<'t, T> {
    state: State<T>,
    place: Place,
    meaning: &'static str,
    declaration: Declaration,
    show: Box<dyn Fn(&T) -> Json + 't>,
    sink: &'t Sink,
}

/// What became of a key.
#[derive(Debug)]
pub(super) enum State<T> {
    /// It is not there.
    Absent,
    /// It was complained about.
    Broken,
    /// This stands there.
    Found(At<T>),
}

impl<'t, T> Read<'t, T> {
    pub(super) fn new(
        state: State<T>,
        place: Place,
        meaning: &'static str,
        declaration: Declaration,
        sink: &'t Sink,
    ) -> Self {
        Self { state, place, meaning, declaration, show: Box::new(|_| Json::Null), sink }
    }

    /// How a value would be written.
    pub fn shown(self, show: impl Fn(&T) -> Json + 't) -> Self {
        Self { show: Box::new(show), ..self }
    }

    /// What `f` makes of the value; where that is nothing, `f` has complained.
    pub(super) fn and_then<U>(self, f: impl FnOnce(T) -> Option<U>) -> Read<'t, U> {
        let state = match self.state {
            State::Absent => State::Absent,
            State::Broken => State::Broken,
            State::Found(At { value, place }) => match f(value) {
                Some(value) => State::Found(At { value, place }),
                None => State::Broken,
            },
        };
        Read::new(state, self.place, self.meaning, self.declaration, self.sink)
    }

    /// Where something is only described: this stands there.
    pub(super) fn standing_in(mut self, described: Option<T>) -> Self {
        if let Some(value) = described {
            self.state = State::Found(At { value, place: self.place.clone() });
        }
        self
    }

    /// Whether something stands there that was complained about.
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// Without the key: a complaint.
    pub fn required(self) -> Option<At<T>> {
        self.declaration.absent(Absence::Refused);
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
        match (self.show)(&default) {
            Json::Null => {}
            shown => self.declaration.absent(Absence::Default(shown)),
        }
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

impl<T> Read<'_, Vec<T>> {
    /// With nothing in the array: this complaint.
    pub fn filled(mut self, empty: &str) -> Self {
        self.declaration.filled();
        if let State::Found(At { value, place }) = &self.state
            && value.is_empty()
        {
            self.sink.say(place, empty);
            self.state = State::Broken;
        }
        self
    }
}

impl<'t> Read<'t, Section<'t>> {
    /// Without the key: a table in which each key has its default.
    pub fn or_defaults(self) -> Option<Section<'t>> {
        match self.state {
            State::Found(at) => Some(at.value),
            State::Broken => None,
            State::Absent => Some(Section::empty(self.place, self.sink)),
        }
    }
}
