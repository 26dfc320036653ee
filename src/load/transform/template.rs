//! Texts with parts of an element: `{/location/street/number} {/location/street/name}`.

use std::{borrow::Cow, fmt};

use crate::model::{Pointer, Scalar};

/// A template; `{{` and `}}` stand for braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Part(Pointer),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let pointer = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((pointer, after)) = pointer else {
                return Err(format!("{text:?} has a lone brace: write {{{{ or }}}} for one, {{/pointer}} for a part"));
            };
            if !pointer.starts_with('/') {
                return Err(format!("{text:?}: {pointer:?} is no JSON pointer, allowed: like {{/name/first}}"));
            }
            pieces.extend((!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain))));
            pieces.push(Piece::Part(Pointer::parse(pointer)?));
            rest = after;
        }
        plain.push_str(rest);
        pieces.extend((!plain.is_empty()).then_some(Piece::Text(plain)));
        if !pieces.iter().any(|piece| matches!(piece, Piece::Part(_))) {
            return Err(format!(
                "{text:?} has no part like {{/name/first}}: value = \"…\" says a text that is always the same"
            ));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// What it wants of an element, in this order.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(pointer) => Some(pointer),
            Piece::Text(_) => None,
        })
    }

    /// The text with these parts; `None` if one of them is not there or null.
    ///
    /// # Errors
    /// One of them is an object or a list.
    pub(super) fn fill<'f, 'r: 'f>(
        &self,
        mut parts: impl Iterator<Item = Option<&'f Scalar<'r>>>,
    ) -> Result<Option<Scalar<'r>>, String> {
        let (mut filled, mut scratch) = (String::new(), String::new());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Part(pointer) => match parts.next().flatten() {
                    None | Some(Scalar::Null) => return Ok(None),
                    Some(scalar) => match scalar.text(&mut scratch) {
                        Some(text) => filled.push_str(text),
                        None => return Err(format!("{pointer}: an object or a list is no part of a text")),
                    },
                },
            }
        }
        Ok(Some(Scalar::Text(Cow::Owned(filled))))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
