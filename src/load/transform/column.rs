//! A column: where its value comes from, and of which type it is.

use std::borrow::Cow;

use super::{Template, shown};
use crate::model::{Pointer, Scalar};

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub from: From,
    /// Of which type it is, whatever stands there.
    pub kind: Kind,
    /// Whether an element without it cannot be used; else it has no value then.
    pub required: bool,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// What stands there in the element.
    Element(Pointer),
    /// What stands there in the record that the element is of.
    Record(Pointer),
    /// A text with parts of the element.
    Template(Template),
    /// Always this.
    Constant(String),
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text; numbers and booleans as they are written in JSON.
    Text,
    /// A whole number from -2⁶³ to 2⁶³-1, or a text that is one.
    Integer,
    /// A number, or a text that is one.
    Float,
    /// `true` or `false`, or a text that is one of them.
    Boolean,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'r> {
    /// See [`Kind::Text`].
    Text(Cow<'r, str>),
    /// See [`Kind::Integer`].
    Integer(i64),
    /// See [`Kind::Float`]; finite.
    Float(f64),
    /// See [`Kind::Boolean`].
    Boolean(bool),
}

impl Column {
    /// The column's value from its parts; `None` if one of them is not there or null.
    ///
    /// # Errors
    /// What stands there is of no use: another type, or nothing though it is required.
    pub fn value<'f, 'r: 'f>(
        &self,
        mut parts: impl Iterator<Item = Option<&'f Scalar<'r>>>,
    ) -> Result<Option<Value<'r>>, String> {
        let found = match &self.from {
            From::Constant(text) => return self.typed(&Scalar::Text(Cow::Owned(text.clone()))),
            From::Template(template) => template.fill(parts).map_err(|why| self.wrong(&why))?,
            From::Element(_) | From::Record(_) => parts.next().flatten().cloned(),
        };
        match found {
            Some(scalar) if scalar != Scalar::Null => self.typed(&scalar),
            _ if self.required => Err(self.wrong("nothing stands there, and it is required")),
            _ => Ok(None),
        }
    }

    fn typed<'r>(&self, scalar: &Scalar<'r>) -> Result<Option<Value<'r>>, String> {
        let typed = match (self.kind, scalar) {
            (_, Scalar::Null | Scalar::Composite) => None,
            (Kind::Text, Scalar::Text(text)) => Some(Value::Text(text.clone())),
            (Kind::Text, other) => other.text(&mut String::new()).map(|text| Value::Text(Cow::Owned(text.to_owned()))),
            (Kind::Integer, Scalar::Int(number)) => Some(Value::Integer(*number)),
            (Kind::Integer, Scalar::Float(number)) => whole(*number).map(Value::Integer),
            (Kind::Integer, Scalar::Text(text)) => text.trim().parse().ok().map(Value::Integer),
            #[allow(clippy::cast_precision_loss)] // as a reader of JSON numbers has it
            (Kind::Float, Scalar::Int(number)) => Some(Value::Float(*number as f64)),
            (Kind::Float, Scalar::Float(number)) => Some(Value::Float(*number)),
            (Kind::Float, Scalar::Text(text)) => {
                text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float)
            }
            (Kind::Boolean, Scalar::Bool(truth)) => Some(Value::Boolean(*truth)),
            (Kind::Boolean, Scalar::Text(text)) => text.trim().parse().ok().map(Value::Boolean),
            (Kind::Integer | Kind::Float, Scalar::Bool(_)) | (Kind::Boolean, Scalar::Int(_) | Scalar::Float(_)) => None,
        };
        let what = || match scalar {
            Scalar::Composite => "an object or a list".to_owned(),
            other => other.text(&mut String::new()).map_or_else(|| "null".to_owned(), |text| shown(text).into_owned()),
        };
        typed.map(Some).ok_or_else(|| self.wrong(&format!("{} is no {}", what(), self.kind.word())))
    }

    fn wrong(&self, why: &str) -> String {
        match &self.from {
            From::Element(pointer) | From::Record(pointer) => format!("{} ({pointer}): {why}", self.name),
            From::Template(_) | From::Constant(_) => format!("{}: {why}", self.name),
        }
    }
}

impl Kind {
    /// Its name, as it stands in a pipeline's file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
        }
    }
}

/// A number without a fraction that an `i64` holds.
#[allow(clippy::cast_possible_truncation)]
fn whole(number: f64) -> Option<i64> {
    // 2⁶³ itself is no `i64`, and the largest one below it is.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-BOUND..BOUND).contains(&number)).then_some(number as i64)
}
