//! What a collector and its ingester tell each other, beside the spool itself. It outlives the
//! restarts of either.
//!
//! The collector says which spool is open and how far it is durable. The ingester says that it owns
//! the source on the bus, and from where a collector without a spool goes on; the collector connects
//! only after that, so that a source is never read for an owner who is not one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    collect::spool::{self, Place},
    model::{Millis, Sequence},
};

/// What the ingester found when it took the source over.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The resume token of the highest epoch, if anything was ever sent.
    pub token: Option<String>,
    /// Where the source was begun, ms since 1970.
    pub since: Millis,
    /// The spool's entries go on here at the earliest: the bus bears those before.
    pub next: Sequence,
    /// Ids of the topic's tail with their bus times, oldest first.
    pub ids: Arc<Vec<(Bytes, Millis)>>,
}

/// See the module's text; cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    /// How far the spool is durable and released.
    pub spool: spool::Link,
    found: watch::Sender<Sequence>,
    owned: watch::Sender<Option<Owned>>,
}

impl Default for Link {
    fn default() -> Self {
        Self { spool: spool::Link::new(), found: watch::Sender::new(0), owned: watch::Sender::new(None) }
    }
}

impl Link {
    /// The collector, before it opens the writer's end: the first entry that was found on disk.
    pub fn set_found(&self, first: Sequence) {
        self.found.send_replace(first);
    }

    /// The ingester: the source is mine now (or not, while it starts).
    pub fn set_owned(&self, owned: Option<Owned>) {
        self.owned.send_replace(owned);
    }

    /// Waits for an open spool; answers with its durable end and the first entry it still has.
    pub async fn opened(&self) -> (Place, Sequence) {
        let place = filled(&mut self.spool.durable()).await;
        let released = *self.spool.released().borrow();
        let released = released.filter(|released| released.spool == place.spool).map_or(0, |released| released.next);
        (place, released.max(*self.found.borrow()))
    }

    /// Waits for the ingester to own the source.
    pub async fn owned(&self) -> Owned {
        filled(&mut self.owned.subscribe()).await
    }
}

async fn filled<T: Clone>(slot: &mut watch::Receiver<Option<T>>) -> T {
    loop {
        if let Some(value) = slot.borrow_and_update().clone() {
            return value;
        }
        if slot.changed().await.is_err() {
            // The link is gone, and with it everybody who could fill the slot.
            std::future::pending::<()>().await;
        }
    }
}
