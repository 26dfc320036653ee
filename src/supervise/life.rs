//! What an actor knows about its own life, and how it is born again.
//!
//! The factory of a [`Spec`] gets a [`Life`] and keeps it in the actor. By it the actor tells its
//! supervisor what it does (attempts, waiting, progress, a fault that ends it), and knows which
//! incarnation it is.
//!
//! # Being born again
//! actix keeps the mailbox in one piece with the actor, and lets go of neither: a restart that keeps
//! the mailbox has to keep the place where the actor lies and overwrite what lies there. So each
//! supervised actor says
//!
//! ```ignore
//! impl Supervised for Archiver {
//!     fn restarting(&mut self, _: &mut Context<Self>) {
//!         *self = self.life.reborn();
//!     }
//! }
//! ```
//!
//! and nothing more: the whole old state is dropped and a whole new one stands in its place; no field
//! can be forgotten. (An actor that leaves this out is refused at its first restart.) It happens
//! right after the death, so that files, permits and connections of the dead are free at once;
//! `started` runs after the pause. Two rules follow. The factory is cheap and takes nothing that
//! exists once only (a lock, a port, a producer id), because for a moment both states exist: that
//! belongs into `started`. And what a factory captures is all that a new incarnation has, beside what
//! is durable.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, SpawnHandle, dev::channel::AddressReceiver, fut::wrap_future,
};

use super::{
    mailbox::{Delivery, Gate, Gone, Mailbox, Ref},
    policy::StageSupervision,
    pulse::{AttemptGuard, Pulse, RecoveryGuard, WaitGuard},
};
use crate::{
    fault::Fault,
    model::{ActorId, Clock, Incarnation},
    vitals::{Death, Vitals},
};

/// Messages that one actor handles before it lets its thread's other tasks run. At 5 µs a message a
/// neighbour waits for a third of a millisecond; yielding costs well under 1 µs.
const BREATH: u32 = 64;

/// How to make an actor, and how to treat it.
pub struct Spec<A: Actor<Context = Context<A>>> {
    pub(super) vitals: Arc<Vitals>,
    pub(super) stage: StageSupervision,
    pub(super) make: Factory<A>,
    pub(super) held: bool,
}

/// Not behind a lock: one that blocks its thread must not block the next one's.
type Factory<A> = Arc<dyn Fn(Life<A>) -> A + Send + Sync>;

impl<A: Actor<Context = Context<A>>> Spec<A> {
    /// The actor whose vitals these are (they name it), made anew for each incarnation by `make`.
    pub fn new(
        vitals: Arc<Vitals>,
        stage: StageSupervision,
        make: impl Fn(Life<A>) -> A + Send + Sync + 'static,
    ) -> Self {
        Self { vitals, stage, make: Arc::new(make), held: false }
    }

    /// Stopped by a person before: it does not start with its supervisor, only by an order.
    #[must_use]
    pub fn held(self, held: bool) -> Self {
        Self { held, ..self }
    }
}

/// One incarnation's own view of itself; clones go into the futures it spawns.
pub struct Life<A: Actor<Context = Context<A>>> {
    /// Who it is.
    pub id: ActorId,
    /// Which of its lives this is.
    pub incarnation: Incarnation,
    /// What it counts, over all its lives in this process.
    pub vitals: Arc<Vitals>,
    pulse: Arc<Pulse>,
    kin: Arc<Kin<A>>,
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    /// The permanent reference to this actor.
    pub fn myself(&self) -> Ref<A> {
        self.kin.me.clone()
    }

    /// The next incarnation, blank from the factory; see the module's text.
    pub fn reborn(&self) -> A {
        self.kin.beget()
    }

    /// Ends this incarnation with a fault that it cannot deal with itself. Nothing of it runs after
    /// the present handler or future has returned (neither `stopping` nor `stopped`, as with a
    /// panic); the supervisor decides what follows.
    pub fn fail(&self, ctx: &mut Context<A>, fault: Fault) {
        self.pulse.declare(fault);
        // Keeps actix from handing it one more message before the runner looks.
        ctx.wait(wrap_future(std::future::pending::<()>()));
    }

    /// Something got done: all bounds start anew. Handling a message counts by itself.
    pub fn progress(&self) {
        self.pulse.progress();
    }

    /// Begins a single attempt, which must come to an end (or to [`AttemptGuard::progress`]) within
    /// the stage's stall bound. Other work of the actor does not extend it.
    pub fn attempt(&self, name: &'static str) -> AttemptGuard {
        self.pulse.attempt(name)
    }

    /// Begins to wait for somebody else; `on` names whom, for people. Not a stall, however long.
    pub fn waiting(&self, on: impl Into<String>) -> WaitGuard {
        self.pulse.waiting(on.into())
    }

    /// Waits, and says so, for as long as a person has paused this actor: who brings data to it asks before
    /// each batch.
    pub async fn while_paused(&self) {
        let valve = self.kin.me.valve();
        if let Some(by) = valve.closed_by() {
            let _waiting = self.waiting(format!("a person to resume it: paused by {by}"));
            valve.turned(false).await;
        }
    }

    /// Returns when a person has paused this actor.
    pub async fn paused(&self) {
        self.kin.me.valve().turned(true).await;
    }

    /// Begins a recovery that outlasts `started`; the state stays `Starting` until it is dropped.
    pub fn recovering(&self) -> RecoveryGuard {
        self.pulse.recovering()
    }

    /// As [`Ref::deliver`], and `waiting` on the receiver for as long as its mailbox is full.
    ///
    /// # Errors
    /// As [`Ref::deliver`].
    pub async fn deliver<B, M>(&self, to: &Ref<B>, message: M, meant_for: Incarnation) -> Result<(), Gone>
    where
        B: Actor<Context = Context<B>> + Handler<Delivery<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        to.deliver_waiting(message, meant_for, || self.waiting(to.id().to_string())).await
    }

    /// Whether a delivery is for this incarnation; one that is not is counted as stale.
    pub fn takes<M>(&self, delivery: &Delivery<M>) -> bool {
        let mine = delivery.is_for(self.incarnation);
        if !mine && !delivery.is_void() {
            self.vitals.stale_batches.add(1);
        }
        mine
    }

    /// Runs `future` as a part of this actor: it ends with the incarnation, and a panic in it is the
    /// actor's death. (A task spawned on the runtime panics unseen, and outlives its actor.)
    pub fn linked(&self, ctx: &mut Context<A>, future: impl Future<Output = ()> + 'static) -> SpawnHandle {
        linked(ctx, future)
    }

    /// To be called by each handler of a busy actor: every 64th time the thread's other tasks get
    /// their turn before the next message. (actix empties a mailbox without a pause; an actor whose
    /// senders are faster than itself would keep its thread for good.)
    pub fn breathe(&self, ctx: &mut Context<A>) {
        if self.pulse.breath_is_due(BREATH) {
            ctx.wait(wrap_future(tokio::task::yield_now()));
        }
    }
}

/// As [`Life::linked`], where no life is at hand.
pub fn linked<A>(ctx: &mut Context<A>, future: impl Future<Output = ()> + 'static) -> SpawnHandle
where
    A: Actor<Context = Context<A>>,
{
    ctx.spawn(wrap_future(future))
}

impl<A: Actor<Context = Context<A>>> Clone for Life<A> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            incarnation: self.incarnation,
            vitals: Arc::clone(&self.vitals),
            pulse: Arc::clone(&self.pulse),
            kin: Arc::clone(&self.kin),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Life<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life({} {})", self.id, self.incarnation)
    }
}

/// What the incarnations of an actor have in common that follow each other on one thread. Who comes after
/// a blocked thread has a [successor](Kin::successor) of its own: whatever the old thread still does to
/// its kin, nobody looks there any more.
pub(super) struct Kin<A: Actor<Context = Context<A>>> {
    pub(super) me: Ref<A>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stage: StageSupervision,
    /// Held by the runner for as long as it lives: a new one waits for the end of the old.
    pub(super) lease: Arc<tokio::sync::Mutex<()>>,
    /// The mailbox that exists before the first start.
    first: Mutex<Option<(Mailbox<A>, AddressReceiver<A>)>>,
    /// The bounds of its runners' mailboxes: beside the last one's also that of a runner which a supervisor
    /// before has left, and which has not ended yet.
    gates: Mutex<Vec<Weak<Gate>>>,
    /// How the last incarnation died, until that is counted.
    died_of: Mutex<Option<Death>>,
    make: Factory<A>,
    youngest: Mutex<(Incarnation, Arc<Pulse>)>,
    /// Of all incarnations, so that no two have one number.
    births: Arc<AtomicU64>,
    stage_of_birth: AtomicU8,
}

/// How far the last rebirth came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// The factory was not called.
    Unasked,
    /// The factory was called and did not return.
    Unfinished,
    /// There is a new actor.
    Done,
}

impl<A: Actor<Context = Context<A>>> Kin<A> {
    pub(super) fn new(spec: Spec<A>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let Spec { vitals, stage, make, .. } = spec;
        let me = Ref::new(vitals);
        let kin = Self::blank(me, clock, stage, make, Arc::default());
        kin.expect(kin.me.renew(stage.mailbox));
        kin
    }

    /// The kin of who comes after a life that died so on a blocked thread. A mailbox of its own exists at
    /// once; after none, it is stopped and nobody comes.
    pub(super) fn successor(&self, died_of: Option<Death>) -> Arc<Self> {
        let (make, births) = (Arc::clone(&self.make), Arc::clone(&self.births));
        let kin = Self::blank(self.me.clone(), Arc::clone(&self.clock), self.stage, make, births);
        if died_of.is_some() {
            kin.dies_of(died_of);
            kin.expect(kin.me.renew(kin.stage.mailbox));
        }
        kin
    }

    fn blank(
        me: Ref<A>,
        clock: Arc<dyn Clock>,
        stage: StageSupervision,
        make: Factory<A>,
        births: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let vitals = Arc::clone(me.vitals());
        let pulse = Pulse::new(Arc::clone(&vitals), Arc::clone(&clock));
        Arc::new(Self {
            me,
            vitals,
            clock,
            stage,
            lease: Arc::default(),
            first: Mutex::new(None),
            gates: Mutex::default(),
            died_of: Mutex::new(None),
            make,
            youngest: Mutex::new((Incarnation(0), pulse)),
            births,
            stage_of_birth: AtomicU8::new(Birth::Unasked as u8),
        })
    }

    /// The mailbox of the next runner.
    pub(super) fn mailbox(&self) -> (Mailbox<A>, AddressReceiver<A>) {
        let opened = self.take_first().unwrap_or_else(|| self.me.renew(self.stage.mailbox));
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(&opened.0.gate));
        opened
    }

    fn expect(&self, first: (Mailbox<A>, AddressReceiver<A>)) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
    }

    /// The mailbox that waits for the first runner, if none has come.
    pub(super) fn take_first(&self) -> Option<(Mailbox<A>, AddressReceiver<A>)> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The bounds of the mailboxes whose runners may not have ended.
    pub(super) fn gates(&self) -> Vec<Arc<Gate>> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes the next incarnation.
    pub(super) fn beget(self: &Arc<Self>) -> A {
        self.stage_of_birth.store(Birth::Unfinished as u8, Ordering::Relaxed);
        let pulse = Pulse::new(Arc::clone(&self.vitals), Arc::clone(&self.clock));
        let incarnation = Incarnation(self.births.fetch_add(1, Ordering::Relaxed) + 1);
        let life = Life {
            id: self.vitals.id.clone(),
            incarnation,
            vitals: Arc::clone(&self.vitals),
            pulse: Arc::clone(&pulse),
            kin: Arc::clone(self),
        };
        let actor = (self.make)(life);
        *self.youngest.lock().unwrap_or_else(PoisonError::into_inner) = (incarnation, pulse);
        self.stage_of_birth.store(Birth::Done as u8, Ordering::Relaxed);
        actor
    }

    /// Forgets the last birth, so that the next can be told from it.
    pub(super) fn expect_birth(&self) {
        self.stage_of_birth.store(Birth::Unasked as u8, Ordering::Relaxed);
    }

    /// How far the birth came.
    pub(super) fn birth(&self) -> Birth {
        match self.stage_of_birth.load(Ordering::Relaxed) {
            done if done == Birth::Done as u8 => Birth::Done,
            unfinished if unfinished == Birth::Unfinished as u8 => Birth::Unfinished,
            _ => Birth::Unasked,
        }
    }

    /// Notes how the present incarnation died; gives what was noted before.
    pub(super) fn dies_of(&self, death: Option<Death>) -> Option<Death> {
        std::mem::replace(&mut *self.died_of.lock().unwrap_or_else(PoisonError::into_inner), death)
    }

    /// The number of the youngest incarnation.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.youngest.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The pulse of the youngest incarnation.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.youngest.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}
