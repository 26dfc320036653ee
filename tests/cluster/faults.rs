//! One fault each, under load.
