//! The simulator itself.

mod contracts;
mod faults;
mod toys;

use crate::store::StorePath;

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}
