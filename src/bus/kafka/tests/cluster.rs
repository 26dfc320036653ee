//! A cluster of three.
