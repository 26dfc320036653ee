//! The actors: thin. They translate messages, call the pure or durable heart in `collect`,
//! `archive`, `table` and `load`, do the effect, and count. Each restart begins from what is durable.

mod aggregator;
mod archiver;
mod assignment;
mod collector;
mod ingester;
mod ledger;
mod link;
mod loader;
mod oversized;
mod suspects;
#[cfg(test)]
mod tests;

pub use aggregator::{Aggregator, AggregatorParts, Proposed};
pub use archiver::{Archiver, ArchiverParts, Counted};
pub use assignment::{Drain, TakeBatch};
pub use collector::{Collector, CollectorParts, EndCollecting};
pub use ingester::{DrainSpool, Ingester, IngesterParts};
pub use ledger::Ledger;
pub use link::Link;
pub use loader::{Loader, LoaderParts, Loads};
pub use suspects::Suspects;

use actix::prelude::*;
use async_trait::async_trait;

use crate::{
    fault::{Fault, Result},
    model::{Clock, Doubling, Incarnation, Pause},
    supervise::{Delivery, Life},
    vitals::Vitals,
};

/// Say which life you are: who asks wants to know that it handles messages.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Incarnation")]
pub struct Greet;

macro_rules! greets {
    ($($actor:ty),*) => {$(
        impl Handler<Delivery<Greet>> for $actor {
            type Result = MessageResult<Delivery<Greet>>;

            fn handle(&mut self, _: Delivery<Greet>, _: &mut Context<Self>) -> Self::Result {
                MessageResult(self.life.incarnation)
            }
        }
    )*};
}

greets!(Aggregator, Archiver, Collector, Ingester, Loader);

/// The pauses of a protocol that an actor runs as one attempt, told to its supervisor: between two
/// tries it waits, and each try has the stall's whole bound. Without this an outage of the store
/// that is longer than the bound would be the actor's death, again and again. And so has each step: a
/// batch may be many segments, and a store may be slow.
struct Declared<A: Actor<Context = Context<A>>>(Life<A>);

#[async_trait]
impl<A: Actor<Context = Context<A>>> Pause for Declared<A> {
    async fn pause(&self, attempt: u32) {
        let _waiting = self.0.waiting(format!("a back-off after {attempt} failures"));
        Doubling::default().pause(attempt).await;
        self.0.progress();
    }

    fn stepped(&self) {
        self.0.progress();
    }
}

/// An actor that opens what it stands on anew after a fault: work that was begun for an earlier opening
/// is void then, whatever came of it.
trait Reopens: Actor<Context = Context<Self>> + Sized {
    /// A number that each opening raises.
    fn opening(&self) -> u64;

    /// Does work off the handlers and goes on with what it gives, unless there was another opening.
    fn then<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
        ctx: &mut Context<Self>,
        next: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) -> SpawnHandle {
        let opening = self.opening();
        ctx.spawn(work.into_actor(self).map(move |done, actor, ctx| {
            if actor.opening() == opening {
                next(actor, done, ctx);
            }
        }))
    }
}

/// Notes a fault that its actor lives through.
fn note(vitals: &Vitals, clock: &dyn Clock, fault: &Fault) {
    vitals.update(|life| life.last_error = Some((clock.now(), fault.to_string())));
}

/// Runs file work on a thread where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::internal(format!("a helper thread died: {error}")))?
}
