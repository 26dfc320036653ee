//! The actors: thin. They translate messages, call the pure or durable heart in `collect`,
//! `archive` and `table`, do the effect, and count. Each restart begins from what is durable.

mod aggregator;
mod archiver;
mod assignment;
mod collector;
mod ingester;

pub use aggregator::{Aggregator, AggregatorParts};
pub use archiver::{Archiver, ArchiverParts};
pub use assignment::{Drain, TakeBatch};
pub use collector::{Collector, CollectorParts};
pub use ingester::{Handover, Ingester, IngesterParts};
