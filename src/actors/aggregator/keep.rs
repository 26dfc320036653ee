//! Keeping the table in order, beside the counting: what the first replica does for all of them.
//!
//! A round runs while batches are taken and commits are made; the table's protocol holds them apart. One
//! that fails is begun again at the next tick, and counting goes on meanwhile.

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use super::{Aggregator, AggregatorParts};
use crate::{
    actors::{Declared, Reopens, note},
    fault::{Fault, Result, Retry},
    supervise::Life,
    table::{Keeper, Kept, grid::rfc3339},
};

/// Where the keeping of the table stands.
pub(super) struct Keeping {
    /// Between two rounds, from the first on.
    keeper: Option<Keeper>,
    running: Option<SpawnHandle>,
    begun: Instant,
    /// Whether a round has been made since the last commit.
    tidy: bool,
}

impl Keeping {
    pub(super) fn new() -> Self {
        Self { keeper: None, running: None, begun: Instant::now(), tidy: false }
    }

    /// There was a commit.
    pub(super) fn stir(&mut self) {
        self.tidy = false;
    }

    /// Forgets all; what runs is to be cancelled.
    pub(super) fn reset(&mut self) -> Option<SpawnHandle> {
        std::mem::replace(self, Self::new()).running
    }
}

impl Aggregator {
    /// Begins a round if it is time for one and none is under way; true if an ordered end need not wait for
    /// one.
    pub(super) fn keep_if_due(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.keeping.running.is_some() {
            return false;
        }
        let is_ending = self.is_drained();
        if self.life.id.replica != 0 || (is_ending && self.keeping.tidy) {
            return true;
        }
        // Whether or not this replica has committed: hours become final by what the others commit, too.
        if !is_ending && self.keeping.begun.elapsed() < self.parts.settings.commit_interval {
            return false;
        }
        self.keeping.begun = Instant::now();
        self.keeping.tidy = true;
        let (life, parts, keeper) = (self.life.clone(), self.parts.clone(), self.keeping.keeper.take());
        let round = async move {
            let _attempt = life.attempt("keep the table");
            round(&life, &parts, keeper).await
        };
        let running = self.then(round, ctx, |aggregator, kept: Result<_>, ctx| {
            aggregator.keeping.running = None;
            match kept {
                Ok((keeper, kept)) => aggregator.kept(keeper, &kept),
                Err(fault) if fault.retry == Retry::Never => return aggregator.life.fail(ctx, fault),
                Err(fault) => {
                    tracing::warn!(actor = %aggregator.life.id, error = %fault, "a round of keeping the table failed");
                    note(&aggregator.life.vitals, &*aggregator.parts.clock, &fault);
                    // An ordered end does not wait for it: the next start does it.
                    aggregator.keeping.tidy = aggregator.draining.is_some();
                }
            }
            aggregator.commit_if_due(ctx);
        });
        self.keeping.running = Some(running);
        false
    }

    fn kept(&mut self, keeper: Keeper, kept: &Kept) {
        let vitals = &self.life.vitals;
        vitals.final_until.set(keeper.snapshot().final_until().unwrap_or(0));
        vitals.final_hours.add(kept.swapped);
        vitals.deleted_files.add(kept.deleted);
        if let Some(until) = kept.closed {
            tracing::info!(actor = %self.life.id, until = rfc3339(until), "hours are final");
        }
        if *kept != Kept::default() {
            tracing::debug!(actor = %self.life.id, ?kept, "kept the table in order");
        }
        self.keeping.keeper = Some(keeper);
    }
}

async fn round(life: &Life<Aggregator>, parts: &AggregatorParts, keeper: Option<Keeper>) -> Result<(Keeper, Kept)> {
    let settings = &parts.settings;
    let mut keeper = match keeper {
        Some(keeper) => keeper,
        None => {
            let pause = Arc::new(Declared(life.clone()));
            Keeper::open(settings, parts.store.clone(), pause, parts.clock.clone()).await?
        }
    };
    let topic = parts.bus.topic(&settings.topic).await?;
    let topic = topic.ok_or_else(|| Fault::user(format!("topic {} does not exist", settings.topic)))?;
    let kept = keeper.round(&topic).await?;
    Ok((keeper, kept))
}
