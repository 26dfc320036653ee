//! The suite, packed.

use super::*;

#[path = "suite.rs"]
mod suite;

fn layout() -> Layout {
    Layout::Packed
}
