//! What a collector and its ingester tell each other, beside the spool itself. It outlives the
//! restarts of either.
//!
//! The collector opens its spool and asks to be let in. The ingester answers once it owns the source
//! on the bus: from where a collector without a spool goes on, and which events the topic's tail
//! knows. The collector connects only after that, so that a source is never read for an owner who is
//! not one; and it takes only an answer to its own question, made for its own spool: what was said to
//! an earlier life is old, and events sent since would be taken for new. Nor does an earlier life of the
//! ingester answer any more: its thread may have been blocked, and wakes behind its successor.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    collect::{
        position::Claim,
        spool::{self, Place},
    },
    model::{Fingerprint, Incarnation, Millis, Sequence},
    trace::Handed,
};

/// What the ingester answers.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The question.
    pub question: u64,
    /// The spool it reads.
    pub spool: Uuid,
    /// The resume token of the highest epoch, if anything was ever sent.
    pub token: Option<String>,
    /// Where the source was begun, ms since 1970.
    pub since: Millis,
    /// The spool's entries go on here at the earliest: the bus bears those before.
    pub next: Sequence,
    /// Ids of the topic's tail with their bus times, oldest first.
    pub ids: Arc<Vec<(Fingerprint, Millis)>>,
}

/// See the module's text; cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    /// How far the spool is durable and released.
    pub spool: spool::Link,
    /// What the ingester's lives hold of the source.
    pub claim: Claim,
    /// The sampled batches in the spool.
    pub traced: Handed,
    question: watch::Sender<u64>,
    owned: watch::Sender<(Incarnation, Option<Owned>)>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            spool: spool::Link::new(),
            claim: Claim::default(),
            traced: Handed::default(),
            question: watch::Sender::new(0),
            owned: watch::Sender::new((Incarnation(0), None)),
        }
    }
}

impl Link {
    /// The collector, whose spool is open and who knows its entries: waits for the ingester's answer.
    pub async fn ask(&self, spool: Uuid) -> Owned {
        let mut question = 0;
        self.question.send_modify(|last| {
            *last += 1;
            question = *last;
        });
        let fits = |owned: &Owned| owned.spool == spool && owned.question >= question;
        filled(&mut self.owned.subscribe(), |(_, owned)| owned.clone().filter(fits)).await
    }

    /// The question that waits, or the last one; to be read before what answers it.
    pub fn question(&self) -> watch::Receiver<u64> {
        self.question.subscribe()
    }

    /// The ingester, in this life of it: the source is mine now (or not, while it starts).
    pub fn answer(&self, life: Incarnation, owned: Option<Owned>) {
        self.owned.send_if_modified(|last| {
            let younger = life >= last.0;
            if younger {
                *last = (life, owned);
            }
            younger
        });
    }

    /// Waits for a spool that can be read; answers with its durable end and the first entry it has.
    pub async fn opened(&self) -> (Place, Sequence) {
        let place = filled(&mut self.spool.durable(), Clone::clone).await;
        let released = *self.spool.released().borrow();
        let released = released.filter(|released| released.spool == place.spool).map_or(0, |released| released.next);
        (place, released.max(self.spool.first()))
    }
}

async fn filled<S, T>(slot: &mut watch::Receiver<S>, wanted: impl Fn(&S) -> Option<T>) -> T {
    loop {
        let found = wanted(&slot.borrow_and_update());
        if let Some(found) = found {
            return found;
        }
        if slot.changed().await.is_err() {
            // The link is gone, and with it everybody who could fill the slot.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn an_earlier_life_of_the_ingester_takes_no_answer_back() {
        let (link, spool) = (Link::default(), Uuid::from_u128(1));
        let owned = Owned { question: 9, spool, token: None, since: 0, next: 7, ids: Arc::default() };
        link.answer(Incarnation(2), Some(owned.clone()));
        link.answer(Incarnation(1), None);
        link.answer(Incarnation(1), Some(Owned { next: 5, ..owned }));
        assert_eq!(link.ask(spool).await.next, 7);
    }
}
