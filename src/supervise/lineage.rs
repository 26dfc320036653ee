//! One actor as its supervisor has it: the way to its present runner, whatever became of those before.
//!
//! After most deaths the runner goes on, on its thread. A blocked thread it cannot leave: then the whole
//! [`Kin`] is left to the old thread, and the lineage goes on with a successor, which shares with it what an
//! actor is known by (its reference, its vitals, its factory, the count of its lives) and nothing else.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ArbiterHandle, Context, Supervised};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    life::{Kin, Spec},
    mailbox::Ref,
    policy::StageSupervision,
    runner::{Command, Offspring, Reporter, launch},
};
use crate::{
    fault::Result,
    model::Clock,
    vitals::{Death, State, Vitals},
};

/// See the module's text.
pub(super) struct Lineage<A: Actor<Context = Context<A>>> {
    vitals: Arc<Vitals>,
    present: Mutex<Arc<Kin<A>>>,
}

impl<A: Actor<Context = Context<A>>> Lineage<A> {
    pub(super) fn new(spec: Spec<A>, clock: Arc<dyn Clock>) -> Self {
        let kin = Kin::new(spec, clock);
        Self { vitals: Arc::clone(&kin.vitals), present: Mutex::new(kin) }
    }

    pub(super) fn reference(&self) -> Ref<A> {
        self.lock().me.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Kin<A>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Offspring for Lineage<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn stage(&self) -> StageSupervision {
        self.lock().stage
    }

    fn stalled(&self, now: Instant) -> Option<String> {
        let kin = self.lock();
        kin.pulse().stalled(now, kin.stage.stall, kin.me.gate().as_deref())
    }

    fn launch(&self, on: &ArbiterHandle, report: Reporter) -> Result<UnboundedSender<Command>> {
        let kin = Arc::clone(&self.lock());
        launch(kin, on, report)
    }

    fn abandon(&self, died_of: Option<Death>, why: &str) -> Duration {
        let mut present = self.lock();
        let old = Arc::clone(&present);
        let (gates, lived) = (old.gates(), old.pulse().lived());
        old.pulse().end();
        // In one step, as whoever writes the vitals sees it: from here on the old thread writes nothing.
        old.vitals.update(|life| {
            let now = old.clock.now();
            let state = if died_of.is_some() { State::Restarting } else { State::Stopped };
            super::change(life, &*old.clock, state);
            life.last_error = Some((now, why.to_owned()));
            gates.iter().for_each(|gate| gate.give_up());
        });
        // The new mailbox first: nobody may find the old one closed and think that the actor was stopped.
        *present = old.successor(died_of);
        gates.iter().for_each(|gate| old.me.close(gate));
        lived
    }

    fn bury(&self) {
        let kin = self.lock();
        if let Some((mailbox, _)) = kin.take_first() {
            kin.me.close(&mailbox.gate);
        }
    }
}
