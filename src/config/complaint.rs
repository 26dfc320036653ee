//! Complaints, and the places they are about.
//!
//! Reading a file does not end at the first mistake: whatever is found wrong goes into a [`Sink`],
//! the reader goes on with what it still understands, and the person gets the whole list at once.

use std::{cell::RefCell, fmt, path::Path, path::PathBuf, sync::Arc};

use crate::model::nearest;

/// One thing that is wrong with a file, and what is allowed instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// Its line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// The key, from the root: `archiver.archive.roll_bytes`; empty when no key is meant.
    pub key: String,
    /// What is wrong and what is allowed, lower case, no stop.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Where something stands: what a [`Complaint`] says besides its message.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// See [`Complaint::line`].
    pub line: usize,
    /// See [`Complaint::column`].
    pub column: usize,
    /// See [`Complaint::key`].
    pub key: String,
}

impl Place {
    /// The file as a whole.
    pub fn whole(file: &Arc<Path>) -> Self {
        Self { file: file.clone(), line: 0, column: 0, key: String::new() }
    }

    /// The same spot, for a key that is or should be within this one.
    pub fn child(&self, key: &str) -> Self {
        Self { key: join(&self.key, key), ..self.clone() }
    }

    /// For references in messages of other places: `wikimedia.toml:12`.
    pub fn line(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// The path of a key within a table, quoted where TOML would want it quoted.
pub fn join(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { quoted(key) };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// A value with the place where it stands.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands, or would stand if it had been written.
    pub place: Place,
}

/// Where complaints are gathered.
#[derive(Debug, Default)]
pub struct Sink(RefCell<Vec<Complaint>>);

impl Sink {
    /// Adds a complaint.
    pub fn say(&self, place: &Place, message: impl Into<String>) {
        self.0.borrow_mut().push(Complaint {
            file: place.file.to_path_buf(),
            line: place.line,
            column: place.column,
            key: place.key.clone(),
            message: message.into(),
        });
    }

    /// All complaints, in the order of `files`, then by line and column.
    pub fn sorted(self, files: &[PathBuf]) -> Vec<Complaint> {
        let mut complaints = self.0.into_inner();
        complaints.sort_by_key(|c| (files.iter().position(|file| *file == c.file), c.line, c.column));
        complaints.dedup();
        complaints
    }
}

/// A text in quotes, with control characters escaped, cut to a length that fits on a line.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// The one of `allowed` that was probably meant by `written`, as words for a complaint.
pub fn did_you_mean<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, allowed).map_or_else(String::new, |word| format!("did you mean {}? ", quoted(word)))
}

/// A list of names for a complaint: `"a", "b"`.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(quoted).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_where_toml_would_want_it() {
        assert_eq!(join("", "bus"), "bus");
        assert_eq!(join("topics", "a.b"), "topics.\"a.b\"");
        assert_eq!(join("topics", ""), "topics.\"\"");
    }
}
