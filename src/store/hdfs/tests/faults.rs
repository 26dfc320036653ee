//! A cluster in trouble.
