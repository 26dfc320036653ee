//! Conditions that a record must meet, by what stands at a pointer.

use super::Pointer;

/// A condition on one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Where to look.
    pub pointer: Pointer,
    /// `true`: what stands there must be one of `values`; `false`: it must be none of them
    /// (nothing standing there is none of them).
    pub include: bool,
    /// Texts; numbers and booleans are compared as they are written in JSON.
    pub values: Vec<String>,
}
