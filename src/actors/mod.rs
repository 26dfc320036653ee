//! The actors: thin. They translate messages, call the pure or durable heart in `collect`,
//! `archive` and `table`, do the effect, and count. Each restart begins from what is durable.

mod aggregator;
mod archiver;
mod assignment;
mod collector;
mod ingester;
mod link;
mod oversized;
#[cfg(test)]
mod tests;

pub use aggregator::{Aggregator, AggregatorParts};
pub use archiver::{Archiver, ArchiverParts};
pub use assignment::{Drain, TakeBatch};
pub use collector::{Collector, CollectorParts, EndCollecting};
pub use ingester::{DrainSpool, Ingester, IngesterParts};
pub use link::Link;

use crate::{
    fault::{Fault, Result},
    model::Clock,
    vitals::Vitals,
};

/// Notes a fault that its actor lives through.
fn note(vitals: &Vitals, clock: &dyn Clock, fault: &Fault) {
    vitals.update(|life| life.last_error = Some((clock.now(), fault.to_string())));
}

/// Runs file work on a thread where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::internal(format!("a helper thread died: {error}")))?
}
