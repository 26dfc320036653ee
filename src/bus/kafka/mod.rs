//! Kafka as the bus, by way of librdkafka.
//!
//! - A [`Producer`](super::Producer) is a transactional producer: one batch is one transaction, and opening
//!   its id fences the former holder (`sending`).
//! - A [`Reader`](super::Reader) is given its partition and its offset; no group is ever joined, so nobody but
//!   the placement decides who reads what (`reading`).
//! - A topic's identity is Kafka's topic id (`native`).
//! - Group offsets are committed for people's tools, with the topic's identity as their metadata.
//!
//! Every request has a deadline ([`Settings::deadline`]); librdkafka's own calls that block run on
//! threads that may.
//!
//! The settings are known to every howdah, so that a file means the same to all of them; one that was
//! built without the cargo feature `kafka` refuses to open such a bus.

mod settings;

#[cfg(feature = "kafka")]
mod bus;
#[cfg(feature = "kafka")]
mod clients;
#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "kafka")]
mod faults;
#[cfg(feature = "kafka")]
mod native;
#[cfg(feature = "kafka")]
mod portion;
#[cfg(feature = "kafka")]
mod reading;
#[cfg(feature = "kafka")]
mod sending;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod tests;
#[cfg(feature = "kafka")]
mod topics;

#[cfg(feature = "kafka")]
pub use bus::KafkaBus;
pub use settings::{Compression, Durability, Mechanism, Sasl, Settings, Tls};
