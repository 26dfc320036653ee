//! A file as it was written: parsed, each value with its place, variables filled in.
//!
//! First the text is parsed, then variables are filled in ([`fill`]), string by string. After a
//! mistake of grammar nothing more is said about the file: what the parser guessed behind it would
//! lead to complaints about things nobody wrote.

use std::{path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    complaint::{Place, Sink, join},
    variables::fill,
};

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// A value as it was written.
#[derive(Debug)]
pub enum Value {
    /// A string, with its variables filled in.
    Text(String),
    /// A whole number; `None` if it is beyond 64 bits.
    Integer(Option<i64>),
    /// `true` or `false`.
    Bool(bool),
    /// What no key takes yet: `a float`, `a date or time`.
    Other(&'static str),
    /// An array.
    Array(Vec<Node>),
    /// A table, its entries in the order of the file.
    Table(Vec<Entry>),
    /// Wrong in itself, and complained about already.
    Broken,
}

impl Value {
    /// What it is, for complaints.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Bool(_) => "a boolean",
            Self::Other(what) => what,
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Broken => "a mistake",
        }
    }
}

/// A key and its value.
#[derive(Debug)]
pub struct Entry {
    /// The key alone.
    pub key: String,
    /// Where the key stands (of a table: in its header).
    pub place: Place,
    /// The value.
    pub node: Node,
}

/// Parses a file and fills in its variables; `None` if it is no TOML.
pub fn parse(file: &Arc<Path>, bytes: &[u8], env: &dyn Fn(&str) -> Option<String>, sink: &Sink) -> Option<Node> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            sink.say(&Lines::new(file, &valid).place(valid.len(), String::new()), "the file is not UTF-8 from here on");
            return None;
        }
    };
    let lines = Lines::new(file, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let hint = if is_bare_word(text, at) { " (texts, sizes and durations stand in quotes)" } else { "" };
        sink.say(&lines.place(at, String::new()), format!("not TOML: {}{hint}", error.message()));
    }
    if !errors.is_empty() {
        return None;
    }
    let reading = Reading { lines: &lines, env, sink };
    let value = reading.table(root.into_inner(), "");
    Some(Node { value, place: lines.place(0, String::new()) })
}

/// Whether what stands at `at` is a value that was probably meant to be a string.
fn is_bare_word(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at_checked(at).unwrap_or_default();
    // The parser may point behind the digits of `10m`.
    let before = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric());
    before.trim_end_matches([' ', '\t']).ends_with('=') && after.starts_with(|c: char| c.is_alphanumeric())
}

/// From offsets in a text to lines and columns.
struct Lines<'t> {
    file: &'t Arc<Path>,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(file: &'t Arc<Path>, text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    fn place(&self, offset: usize, key: String) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Place { file: self.file.clone(), line, column: before.chars().count() + 1, key }
    }
}

struct Reading<'t> {
    lines: &'t Lines<'t>,
    env: &'t dyn Fn(&str) -> Option<String>,
    sink: &'t Sink,
}

impl Reading<'_> {
    fn table(&self, table: DeTable<'_>, path: &str) -> Value {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
            let start = key.span().start;
            let key: std::borrow::Cow<'_, str> = key.into_inner();
            let path = join(path, &key);
            let at = value.span().start;
            let node = self.node(value.into_inner(), at, path.clone());
            Entry { key: key.into_owned(), place: self.lines.place(start, path), node }
        };
        Value::Table(entries.into_iter().map(entry).collect())
    }

    fn node(&self, value: DeValue<'_>, at: usize, path: String) -> Node {
        let place = self.lines.place(at, path);
        let value = match value {
            DeValue::String(text) => self.text(&text, &place),
            DeValue::Integer(integer) => Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Float(_) => Value::Other("a float"),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(array) => Value::Array(
                array
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let start = item.span().start;
                        self.node(item.into_inner(), start, format!("{}[{index}]", place.key))
                    })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table, &place.key),
        };
        Node { value, place }
    }

    fn text(&self, text: &str, place: &Place) -> Value {
        match fill(text, self.env) {
            Ok(filled) => Value::Text(filled),
            Err(wrong) => {
                wrong.into_iter().for_each(|message| self.sink.say(place, message));
                Value::Broken
            }
        }
    }
}
