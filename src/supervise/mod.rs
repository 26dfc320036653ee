//! Supervision.
pub mod policy;
