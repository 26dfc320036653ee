//! How a tree of supervised actors is built and started.
//!
//! ```text
//! let mut tree = Tree::new(Vitals::new(id, kind), supervision, spawner, clock);
//! let archive: Ref<Archiver> = tree.child(Spec::new(vitals, stage, move |life| Archiver::new(settings.clone(), life)));
//! let ingest: Ref<Ingester> = tree.child(…);            // started after the archiver
//! let mut node = Tree::new(…);
//! let pipeline: Ref<Supervisor> = node.branch(tree);    // a supervisor is a child like any other
//! let root = node.start(gave_up)?;                      // on a thread with an actix system
//! …
//! root.supervisor().shutdown(limit).await?;
//! ```
//!
//! References may be used before the start: what is sent by then waits in the mailbox.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use actix::{Actor, Context, Supervised};
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

use super::{
    life::Spec,
    lineage::Lineage,
    mailbox::Ref,
    policy::{Policy, StageSupervision, Supervision},
    runner::{Command, Offspring as _, Report, Reporter},
    spawner::{Here, Spawner},
    supervisor::{Child, Plan, Supervisor},
};
use crate::{
    fault::Result,
    model::{ActorId, Clock},
    vitals::{Death, State, Vitals},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A supervisor as its own supervisor treats it. Its messages are orders and reports, all handled at
/// once, so the stall bound is only a safety net; and both have one thread, so neither can see that it is
/// blocked.
const SUPERVISOR: StageSupervision =
    StageSupervision { policy: Policy::Permanent, mailbox: 16, stall: MINUTE, blocked: MINUTE };

/// Who is told that the root gave up.
pub trait Parent: Send + 'static {
    /// `who` gave up, and why. Called once, on the root's thread; there is nobody above to restart
    /// it, so the process should end (exit code 70).
    fn gave_up(&self, who: &ActorId, why: &str);
}

impl<F: Fn(&ActorId, &str) + Send + 'static> Parent for F {
    fn gave_up(&self, who: &ActorId, why: &str) {
        self(who, why);
    }
}

/// A supervisor and its children, before they start.
pub struct Tree {
    vitals: Arc<Vitals>,
    supervision: Supervision,
    spawner: Arc<dyn Spawner>,
    clock: Arc<dyn Clock>,
    children: Vec<Child>,
}

/// A running tree. Dropping it drops every actor of it.
#[must_use = "dropping the root drops every actor below"]
pub struct Root {
    supervisor: Ref<Supervisor>,
    _line: UnboundedSender<Command>,
}

impl Root {
    /// The topmost supervisor.
    pub fn supervisor(&self) -> &Ref<Supervisor> {
        &self.supervisor
    }
}

impl Tree {
    /// A supervisor without children yet; its vitals name it.
    pub fn new(
        vitals: Arc<Vitals>,
        supervision: Supervision,
        spawner: Arc<dyn Spawner>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { vitals, supervision, spawner, clock, children: Vec::new() }
    }

    /// Adds a child, which starts after those added before.
    pub fn child<A>(&mut self, spec: Spec<A>) -> Ref<A>
    where
        A: Actor<Context = Context<A>> + Supervised,
    {
        self.add(spec, false)
    }

    /// Adds a whole tree as a child: its supervisor, which starts its own children.
    pub fn branch(&mut self, tree: Self) -> Ref<Supervisor> {
        let spec = tree.spec();
        self.add(spec, true)
    }

    /// Starts it on this thread (which must run an actix system).
    ///
    /// # Errors
    /// This thread runs no actix system.
    pub fn start(self, parent: impl Parent) -> Result<Root> {
        let here = Here.place(&self.vitals.id)?;
        let clock = Arc::clone(&self.clock);
        let lineage = Lineage::new(self.spec(), clock);
        let who = lineage.vitals().id.clone();
        let own = Arc::new(OnceLock::<WeakUnboundedSender<Command>>::new());
        let report: Reporter = Box::new({
            let own = Arc::clone(&own);
            move |report| {
                if let Report::Died { death, why, .. } = report {
                    // It ends by itself only after it was told to shut down.
                    let told = death == Death::Ended;
                    let line = own.get().and_then(WeakUnboundedSender::upgrade);
                    // Nobody restarts it: who gives it an order from now on is told so.
                    let end = Command::End(if told { State::Stopped } else { State::GaveUp });
                    let _ = line.map(|line| line.send(end));
                    if !told {
                        parent.gave_up(&who, &why);
                    }
                }
            }
        });
        let supervisor = lineage.reference();
        let line = lineage.launch(&here, report)?;
        let _ = own.set(line.downgrade());
        // It waits at the other end.
        let _ = line.send(Command::Start);
        Ok(Root { supervisor, _line: line })
    }

    fn add<A>(&mut self, spec: Spec<A>, here: bool) -> Ref<A>
    where
        A: Actor<Context = Context<A>> + Supervised,
    {
        let held = spec.held;
        if held {
            super::enter(&spec.vitals, &*self.clock, State::Stopped);
        }
        let lineage = Lineage::new(spec, Arc::clone(&self.clock));
        if held {
            // Who gives it an order is told that it is stopped.
            lineage.bury();
        }
        let reference = lineage.reference();
        self.children.push(Child { offspring: Box::new(lineage), here, held: AtomicBool::new(held) });
        reference
    }

    fn spec(self) -> Spec<Supervisor> {
        let Self { vitals, supervision, spawner, clock, children } = self;
        let plan = Arc::new(Plan { supervision, spawner, clock, children, tenures: AtomicU64::new(1) });
        Spec::new(vitals, SUPERVISOR, move |life| Supervisor::new(life, Arc::clone(&plan)))
    }
}
