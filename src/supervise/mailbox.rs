//! The way to an actor: a stable reference, and messages that carry their own place in the mailbox.
//!
//! actix's own bound does not bind: every clone of an `Addr` brings a slot of its own, `send` retries
//! past a full mailbox and `do_send` never looks. So the bound is ours, and it travels: who sends
//! takes a [`Permit`] from the mailbox first (waiting for one *is* the back-pressure), packs it into
//! the [`Delivery`], and the permit goes back when the delivery is dropped: handled, thrown away with
//! a dead actor, or never taken out of the mailbox. Nothing has to be given back by hand, so nothing
//! can be forgotten, and the depth is exact at any moment.
//!
//! Two kinds of message, two pools of permits:
//! - *data* ([`Ref::deliver`]) is meant for one incarnation. It stays in the mailbox over a restart,
//!   but the receiver drops what was meant for its predecessor ([`Delivery::is_for`]): a batch that
//!   was read for another state would tear a hole into this one.
//! - an *order* ([`Ref::order`]) is meant for the actor, whoever lives: it waits over restarts and is
//!   answered. Its permits are its own, so that a person's word is not stuck behind a full pipe.
//!
//! A [`Ref`] outlives every restart, and also a stop and a new start, which gives the actor a new
//! mailbox behind the same reference. So does a blocked thread: it cannot be made to hand its mailbox
//! over. That one is *given up*: who waits for an answer out of it is told that the actor died, and when
//! the thread comes back, nothing that lies in it is for anybody any more.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{
    Actor, Addr, Context, Handler, Message,
    dev::channel::{AddressReceiver, channel},
};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::valve::Valve;
use crate::{
    fault::{Fault, Retry},
    model::{ActorId, Incarnation},
    vitals::Vitals,
};

/// Orders that wait in a mailbox at most; a person or the coordinator gives them, one at a time.
const ORDERS: usize = 16;

/// A message on its way, with its place in the mailbox.
#[derive(Debug)]
pub struct Delivery<M> {
    /// What was sent.
    pub message: M,
    /// The place it takes in the mailbox until dropped. Who works on the message after the handler
    /// returned moves it along, so that the work counts against the bound.
    pub permit: Permit,
    /// The incarnation it was meant for; none for an order.
    pub meant_for: Option<Incarnation>,
}

/// The permanent reference to an actor; cheap to clone.
pub struct Ref<A: Actor<Context = Context<A>>> {
    slot: Arc<Slot<A>>,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The actor is not running and will not be started by itself. Data and orders that were not
    /// queued yet had no effect; an order that was may have been carried out in part.
    #[error("{0} is stopped")]
    Stopped(ActorId),
    /// The actor died over this order: it may have been carried out in part.
    #[error("{0} died before it had answered")]
    Died(ActorId),
}

/// A place in a mailbox; returned when dropped, which also counts as progress of the receiver.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    data: bool,
    _room: OwnedSemaphorePermit,
}

impl<M: Message> Message for Delivery<M> {
    type Result = M::Result;
}

impl<M> Delivery<M> {
    /// Whether the receiver, in its present incarnation, may use it. Orders are for any; nothing is for
    /// one whose mailbox was given up.
    pub fn is_for(&self, incarnation: Incarnation) -> bool {
        !self.is_void() && self.meant_for.is_none_or(|meant| meant == incarnation)
    }

    /// It lay in a mailbox that was given up, and was counted as dropped then.
    pub(super) fn is_void(&self) -> bool {
        self.permit.gate.is_given_up()
    }
}

impl From<Gone> for Fault {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Stopped(_) => Self::internal(gone.to_string()).unknown_effect(),
            Gone::Died(_) => Self::internal(gone.to_string()).retry(Retry::Backoff).unknown_effect(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> Ref<A> {
    /// Whom it leads to.
    pub fn id(&self) -> &ActorId {
        &self.slot.vitals.id
    }

    /// What the actor counts.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.slot.vitals
    }

    /// Has it take nothing in from now on, over all its lives, until it is [resumed](Self::resume). What it has
    /// taken already it brings to its end. `by` names who wants it, for people.
    pub fn pause(&self, by: impl Into<String>) {
        self.slot.valve.set(Some(by.into()));
    }

    /// Lets it go on; see [`pause`](Self::pause).
    pub fn resume(&self) {
        self.slot.valve.set(None);
    }

    /// Data messages in the mailbox or in the receiver's hands now.
    pub fn depth(&self) -> usize {
        self.open().map_or(0, |mailbox| mailbox.gate.lock().data)
    }

    /// Whether a delivery would have to wait for room now.
    pub fn is_full(&self) -> bool {
        self.open().is_ok_and(|mailbox| mailbox.gate.data.available_permits() == 0)
    }

    /// Queues data for `meant_for`, the incarnation that asked for it; waits for room first and
    /// returns when it is queued. Dropping the future takes nothing and leaves nothing behind.
    ///
    /// # Errors
    /// [`Gone::Stopped`]: the message was dropped.
    pub async fn deliver<M>(&self, message: M, meant_for: Incarnation) -> Result<(), Gone>
    where
        A: Handler<Delivery<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.deliver_waiting(message, meant_for, || ()).await
    }

    /// As [`Self::deliver`]; if there is no room, `waiting` is called and what it returns is kept
    /// until there is.
    pub(super) async fn deliver_waiting<M, G>(
        &self,
        message: M,
        meant_for: Incarnation,
        waiting: impl FnOnce() -> G,
    ) -> Result<(), Gone>
    where
        A: Handler<Delivery<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let mailbox = self.open()?;
        let room = mailbox.gate.room(waiting).await.map_err(|_| self.gone(&mailbox.gate))?;
        let permit = Permit::new(mailbox.gate, true, room);
        let delivery = Delivery { message, permit, meant_for: Some(meant_for) };
        // The channel has no bound of its own: the only error left is a closed one.
        mailbox.addr.try_send(delivery).map_err(|_| self.stopped())
    }

    /// Gives an order and waits for the answer, over a restart if there is one before its turn.
    ///
    /// # Errors
    /// [`Gone`], which also says whether the order may have been carried out in part.
    pub async fn order<M>(&self, message: M) -> Result<M::Result, Gone>
    where
        A: Handler<Delivery<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let mailbox = self.open()?;
        let room = Arc::clone(&mailbox.gate.orders).acquire_owned().await.map_err(|_| self.gone(&mailbox.gate))?;
        let permit = Permit::new(Arc::clone(&mailbox.gate), false, room);
        let answer = mailbox.addr.send(Delivery { message, permit, meant_for: None });
        tokio::select! {
            biased;
            // With the question dropped, actix does not carry out the order either, should its turn come.
            () = mailbox.gate.given_up() => Err(self.gone(&mailbox.gate)),
            answer = answer => answer.map_err(|_| self.gone(&mailbox.gate)),
        }
    }

    fn open(&self) -> Result<Mailbox<A>, Gone> {
        self.slot.lock().clone().ok_or_else(|| self.stopped())
    }

    /// Why nothing comes out of this mailbox.
    fn gone(&self, gate: &Gate) -> Gone {
        if gate.is_open() || gate.is_given_up() { Gone::Died(self.id().clone()) } else { self.stopped() }
    }

    fn stopped(&self) -> Gone {
        Gone::Stopped(self.id().clone())
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Ref<A> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot) }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Ref<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({})", self.id())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.left(self.data);
    }
}

impl Permit {
    fn new(gate: Arc<Gate>, data: bool, room: OwnedSemaphorePermit) -> Self {
        gate.entered(data);
        Self { gate, data, _room: room }
    }
}

/// Where the reference finds the present mailbox; empty while the actor is stopped.
struct Slot<A: Actor<Context = Context<A>>> {
    vitals: Arc<Vitals>,
    valve: Valve,
    mailbox: Mutex<Option<Mailbox<A>>>,
}

impl<A: Actor<Context = Context<A>>> Slot<A> {
    fn lock(&self) -> MutexGuard<'_, Option<Mailbox<A>>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half of one mailbox.
pub(super) struct Mailbox<A: Actor<Context = Context<A>>> {
    pub(super) addr: Addr<A>,
    pub(super) gate: Arc<Gate>,
}

impl<A: Actor<Context = Context<A>>> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { addr: self.addr.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<A: Actor<Context = Context<A>>> Ref<A> {
    /// A reference that leads nowhere yet.
    pub(super) fn new(vitals: Arc<Vitals>) -> Self {
        Self { slot: Arc::new(Slot { vitals, valve: Valve::open(), mailbox: Mutex::new(None) }) }
    }

    /// A new mailbox behind this reference, for `capacity` data messages.
    pub(super) fn renew(&self, capacity: usize) -> (Mailbox<A>, AddressReceiver<A>) {
        // 0 is actix's word for a channel without a bound: the permits are the bound.
        let (sender, receiver) = channel(0);
        let gate = Arc::new(Gate::new(Arc::clone(&self.slot.vitals), capacity.max(1)));
        let mailbox = Mailbox { addr: Addr::new(sender), gate };
        *self.slot.lock() = Some(mailbox.clone());
        (mailbox, receiver)
    }

    /// Ends a mailbox: who waits for room is told, who comes later too.
    pub(super) fn close(&self, gate: &Arc<Gate>) {
        gate.data.close();
        gate.orders.close();
        let mut slot = self.slot.lock();
        if slot.as_ref().is_some_and(|mailbox| Arc::ptr_eq(&mailbox.gate, gate)) {
            *slot = None;
        }
    }

    /// What a person may close.
    pub(super) fn valve(&self) -> &Valve {
        &self.slot.valve
    }

    /// The bound of the present mailbox.
    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        self.slot.lock().as_ref().map(|mailbox| Arc::clone(&mailbox.gate))
    }
}

/// The bound of one mailbox, and what it holds.
#[derive(Debug)]
pub(super) struct Gate {
    vitals: Arc<Vitals>,
    data: Arc<Semaphore>,
    orders: Arc<Semaphore>,
    held: Mutex<Held>,
    given_up: watch::Sender<bool>,
}

#[derive(Debug)]
struct Held {
    data: usize,
    orders: usize,
    /// When the last message left, or when the first came after there was none.
    moved: Instant,
    /// Waiting that is not yet a whole millisecond of the vitals' count.
    waited: Duration,
}

impl Gate {
    fn new(vitals: Arc<Vitals>, capacity: usize) -> Self {
        vitals.mailbox_capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let held = Held { data: 0, orders: 0, moved: Instant::now(), waited: Duration::ZERO };
        Self {
            vitals,
            data: Arc::new(Semaphore::new(capacity)),
            orders: Arc::new(Semaphore::new(ORDERS)),
            held: Mutex::new(held),
            given_up: watch::Sender::new(false),
        }
    }

    /// When the messages that wait last moved; none if there are none.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let held = self.lock();
        (held.data + held.orders > 0).then_some(held.moved)
    }

    /// Nobody takes anything out any more, because the thread that should is blocked. What the mailbox
    /// holds counts as dropped, and who waits at it is told.
    pub(super) fn give_up(&self) {
        let held = self.lock();
        if self.given_up.send_replace(true) {
            return;
        }
        self.vitals.mailbox_depth.add(-i64::try_from(held.data).unwrap_or(i64::MAX));
        self.vitals.stale_batches.add(held.data as u64);
        self.vitals.abandoned.add(1);
        self.data.close();
        self.orders.close();
    }

    pub(super) fn is_given_up(&self) -> bool {
        *self.given_up.borrow()
    }

    async fn given_up(&self) {
        // The sender lives as long as we.
        let _ = self.given_up.subscribe().wait_for(|given_up| *given_up).await;
    }

    fn is_open(&self) -> bool {
        !self.orders.is_closed()
    }

    async fn room<G>(&self, waiting: impl FnOnce() -> G) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Ok(room) = Arc::clone(&self.data).try_acquire_owned() {
            return Ok(room);
        }
        let _waiting = waiting();
        let _queueing = Queueing { gate: self, since: Instant::now() };
        Arc::clone(&self.data).acquire_owned().await
    }

    fn entered(&self, data: bool) {
        let mut held = self.lock();
        if held.data + held.orders == 0 {
            held.moved = Instant::now();
        }
        if data {
            held.data += 1;
            self.count(1);
        } else {
            held.orders += 1;
        }
    }

    fn left(&self, data: bool) {
        let mut held = self.lock();
        held.moved = Instant::now();
        if data {
            held.data -= 1;
            self.count(-1);
        } else {
            held.orders -= 1;
        }
    }

    /// Under the lock: giving up has taken what was held out of the count.
    fn count(&self, by: i64) {
        if !self.is_given_up() {
            self.vitals.mailbox_depth.add(by);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gate {
    /// The last message and the runner have let go of it: the thread has come back, if it was blocked.
    fn drop(&mut self) {
        if self.is_given_up() {
            self.vitals.abandoned.add(-1);
            tracing::info!(actor = %self.vitals.id, "a thread that was given up has come back, and what it held is free");
        }
    }
}

/// A sender that waits for room; its time is counted also when it gives up.
struct Queueing<'a> {
    gate: &'a Gate,
    since: Instant,
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        let mut held = self.gate.lock();
        held.waited += self.since.elapsed();
        let whole = u64::try_from(held.waited.as_millis()).unwrap_or(u64::MAX);
        held.waited -= Duration::from_millis(whole);
        self.gate.vitals.mailbox_waited_ms.add(whole);
    }
}
