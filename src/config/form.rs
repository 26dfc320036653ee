//! What may stand at a key.
//!
//! A reader says once which form its value has. From that come the words of the complaint about a
//! value of another type, and the schema that an editor checks the file with while it is written.

use std::fmt;

use super::{complaint::listed, outline::Outline};

/// How a kind of text is written.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// In words that follow "allowed: ".
    pub words: &'static str,
    /// As a regular expression for the whole text. It takes whatever the reader takes, and may take
    /// more: what it cannot say is left to the reader. It knows of no variables, and takes two
    /// dollars where a dollar may stand.
    pub pattern: &'static str,
}

/// A text of which nothing more is said.
pub const STRING: Text = Text { words: "a string", pattern: r"(?:[^$]|\$\$)*" };

/// What may stand at a key.
#[derive(Clone, Debug)]
pub enum Form {
    /// A string that is written in a certain way.
    Text {
        /// See [`Text::words`].
        words: String,
        /// See [`Text::pattern`].
        pattern: String,
        /// The least and the largest value, as they would be written.
        bounds: Option<(String, String)>,
    },
    /// One of a few words.
    Word(Vec<&'static str>),
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// A table with these keys.
    Table(Outline),
    /// Tables under names that the user chose.
    Named {
        /// The key that they stand below.
        key: String,
        /// How the names are written.
        names: Text,
        /// The keys of each.
        each: Outline,
    },
    /// An array of tables with these keys.
    Tables(Outline),
    /// An array of strings.
    Texts,
}

impl Form {
    /// A text whose values lie within bounds, as far as it has any.
    pub fn text(text: Text, bounds: Option<(String, String)>) -> Self {
        Self::Text { words: text.words.to_owned(), pattern: text.pattern.to_owned(), bounds }
    }

    /// The same text, or this word.
    #[must_use]
    pub fn or_word(self, word: &str) -> Self {
        match self {
            Self::Text { words, pattern, bounds } => {
                Self::Text { words: format!("{words}, or {word:?}"), pattern: format!("{pattern}|{word}"), bounds }
            }
            other => other,
        }
    }
}

/// The words that follow "allowed: ".
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { words, .. } => f.write_str(words),
            Self::Word(words) => write!(f, "one of {}", listed(words.iter().copied())),
            Self::Integer(low, high) if low == high => write!(f, "{low}"),
            Self::Integer(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Boolean => f.write_str("true or false"),
            Self::Table(_) => f.write_str("a table"),
            Self::Named { key, .. } => write!(f, "tables [{key}.<name>]"),
            Self::Tables(_) => f.write_str("an array of tables: [{ … }, { … }]"),
            Self::Texts => f.write_str("an array of strings: [\"…\", \"…\"]"),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)
    }
}
