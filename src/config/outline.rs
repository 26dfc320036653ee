//! What the readers of a table asked for.
//!
//! A section writes down each key that it is asked for. When a file was read that is what unknown
//! keys are told from; when nothing was read, and the readers only ran to be listened to, it is all
//! that can be said in a file.

use std::{cell::RefCell, rc::Rc};

use serde_json::Value;

use super::form::Form;

/// The keys of a table. Clones are the same outline.
#[derive(Clone, Debug, Default)]
pub struct Outline(Rc<RefCell<Contents>>);

/// What is in an outline.
#[derive(Debug, Default)]
pub struct Contents {
    /// The keys, in the order in which they were asked for.
    pub keys: Vec<Declared>,
    /// Keys that are refused with a message of their own.
    pub refused: Vec<&'static str>,
    /// Keys of which exactly one stands in the table.
    pub either: Vec<&'static str>,
    /// The key whose word decides which others there are, and those for each word.
    pub kinds: Option<(&'static str, Vec<(&'static str, Outline)>)>,
}

/// A key that was asked for.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// What it means, as a phrase.
    pub meaning: &'static str,
    /// What may stand there.
    pub form: Form,
    /// What holds when it is not there.
    pub absence: Absence,
    /// Of an array: whether something must be in it.
    pub filled: bool,
}

/// What holds when a key is not there.
#[derive(Clone, Debug, PartialEq)]
pub enum Absence {
    /// The file is refused.
    Refused,
    /// As if this had been written.
    Default(Value),
    /// What the meaning says.
    Nothing,
}

impl Outline {
    /// Adds a key.
    pub fn declare(&self, name: &'static str, meaning: &'static str, form: Form) -> Declaration {
        let mut contents = self.0.borrow_mut();
        contents.keys.push(Declared { name, meaning, form, absence: Absence::Nothing, filled: false });
        Declaration { outline: self.clone(), index: contents.keys.len() - 1 }
    }

    /// Looks at what is in it.
    pub fn look<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.0.borrow())
    }

    /// Changes what is in it.
    pub fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.0.borrow_mut());
    }
}

/// A key in an outline of which more is still to be said.
#[derive(Debug)]
pub struct Declaration {
    outline: Outline,
    index: usize,
}

impl Declaration {
    /// Says what holds when the key is not there.
    pub fn absent(&self, absence: Absence) {
        self.outline.change(|contents| contents.keys[self.index].absence = absence);
    }

    /// Says that the array may not be empty.
    pub fn filled(&self) {
        self.outline.change(|contents| contents.keys[self.index].filled = true);
    }
}
