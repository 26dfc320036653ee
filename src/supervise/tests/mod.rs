//! Supervision on a paused clock: a house of probes that die in every way there is.

mod blocked;
mod deaths;
mod families;
mod mailboxes;
mod orders;
mod stalls;
mod threads;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Running, Supervised, System,
    fut::wrap_future,
};

use super::{policy::*, *};
use crate::{
    fault::{Fault, Kind},
    model::{ActorId, Incarnation, ManualClock},
    vitals::{Death, State, Vitals},
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Runs a test on an actix system of its own, whose clock moves only when everybody waits.
pub(super) fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(runtime).block_on(async {
        tokio::time::timeout(Duration::from_secs(1_000_000), test).await.expect("the test waits for ever")
    })
}

/// What the probes share with the test.
#[derive(Default)]
pub(super) struct House {
    /// What happened, in order: `"up a 1"`, `"drop a 1"`, …
    pub(super) log: Mutex<Vec<String>>,
    /// Probe states that exist.
    pub(super) alive: AtomicI64,
    /// Traps that are armed: (probe, place) → how often it still panics.
    pub(super) traps: Mutex<BTreeMap<(&'static str, Place), u32>>,
    /// Where a probe blocks its thread the next time.
    pub(super) blocks: Mutex<BTreeMap<(&'static str, Place), Block>>,
    /// Guards that outlive who opened them.
    pub(super) leaked: Mutex<Vec<(AttemptGuard, WaitGuard)>>,
    pub(super) permits: Mutex<Vec<Permit>>,
}

/// Where a probe may panic by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Factory,
    Started,
    Stopping,
    Stopped,
    Drop,
}

impl House {
    pub(super) fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    pub(super) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(super) fn arm(&self, probe: &'static str, place: Place, times: u32) {
        self.traps.lock().unwrap().insert((probe, place), times);
    }

    fn cross(&self, probe: &'static str, place: Place) {
        let block = self.blocks.lock().unwrap().remove(&(probe, place));
        if let Some(block) = block {
            block.enter();
        }
        let mut traps = self.traps.lock().unwrap();
        let Some(left) = traps.get_mut(&(probe, place)).filter(|left| **left > 0) else { return };
        *left -= 1;
        drop(traps);
        panic!("trap in {place:?}");
    }
}

/// Blocks the thread that enters it until the test lets it go, by a word or by dropping its end.
#[derive(Clone, Debug)]
pub(super) struct Block(Arc<(tokio::sync::Notify, Mutex<mpsc::Receiver<()>>)>);

impl Block {
    pub(super) fn new() -> (Self, mpsc::Sender<()>) {
        let (free, freed) = mpsc::channel();
        (Self(Arc::new((tokio::sync::Notify::new(), Mutex::new(freed)))), free)
    }

    fn enter(&self) {
        self.0.0.notify_one();
        let _ = self.0.1.lock().unwrap().recv();
    }

    /// Returns when a thread is blocked.
    pub(super) async fn entered(&self) {
        self.0.0.notified().await;
    }
}

/// An actor that does as it is told.
pub(super) struct Probe {
    house: Arc<House>,
    name: &'static str,
    life: Life<Self>,
    handled: u32,
    kept: Vec<Permit>,
    refuses: bool,
}

/// What a probe is told to do; times are in seconds.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Nothing,
    Panic,
    PanicInSpawned,
    PanicInWaited,
    PanicLater,
    PanicInLinked,
    PanicInBlocking,
    /// With a future that panics when it is dropped.
    PanicWithBomb,
    Fail,
    /// With a fault of this kind.
    FailAs(Kind),
    FailLater,
    /// End by itself.
    Leave,
    /// Open an attempt that lasts so long.
    Attempt(u64),
    SlowAttempt {
        steps: u64,
        each: u64,
    },
    /// Handle nothing for so long, without a word.
    Deaf(u64),
    /// Handle nothing for so long, waiting.
    Wait(u64),
    WaitThenDeaf(u64, u64),
    /// So long an outage: attempts of a second that fail, and back-off between them.
    Outage(u64),
    Recover(u64),
    /// Keep the permit of this message.
    Keep,
    LeakGuards,
    /// Let the permit of this message outlive the actor.
    LeakPermit,
    /// A line in the log each second.
    Tick,
    /// A line in the log.
    Say(&'static str),
    /// A line in the log once it is told.
    Hear(Arc<tokio::sync::Notify>),
    /// Block the thread.
    Block(Block),
    /// Send so many messages on.
    Feed(Ref<Probe>, usize),
    Breathe,
    /// Do not stop when told.
    Refuse,
}

impl Message for Do {
    type Result = ();
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("bomb");
    }
}

/// On which thread it runs, by id and by the system's name.
pub(super) struct Thread;

impl Message for Thread {
    type Result = (String, String);
}

impl Handler<Delivery<Thread>> for Probe {
    type Result = actix::MessageResult<Delivery<Thread>>;

    fn handle(&mut self, _: Delivery<Thread>, _: &mut Self::Context) -> Self::Result {
        let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        actix::MessageResult((format!("{:?}", std::thread::current().id()), name.trim().to_owned()))
    }
}

/// How many messages it has handled in this incarnation, and which that is.
pub(super) struct Count;

impl Message for Count {
    type Result = (u32, Incarnation);
}

impl Probe {
    fn act(&mut self, what: Do, permit: Permit, ctx: &mut Context<Self>) {
        self.handled += 1;
        let nap = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        match what {
            Do::Nothing => {}
            Do::Panic => panic!("told to"),
            Do::PanicInSpawned => drop(ctx.spawn(wrap_future(async { panic!("told to") }))),
            Do::PanicInWaited => ctx.wait(wrap_future::<_, Self>(nap(1)).map(|(), _, _| panic!("told to"))),
            Do::PanicLater => drop(ctx.run_later(SECOND, |_, _| panic!("told to"))),
            Do::PanicInLinked => drop(self.life.linked(ctx, async { panic!("told to") })),
            Do::PanicInBlocking => drop(self.life.linked(ctx, blocking(|| panic!("told to")))),
            Do::Fail => self.life.fail(ctx, Fault::external("the disk is gone")),
            Do::FailAs(kind) => self.life.fail(ctx, Fault::external("it is so for good").kind(kind)),
            Do::FailLater => ctx.wait(
                wrap_future::<_, Self>(nap(1))
                    .map(|(), me, ctx| me.life.fail(ctx, Fault::external("the disk is gone"))),
            ),
            Do::Leave => ctx.stop(),
            Do::Attempt(seconds) => {
                let attempt = self.life.attempt("put");
                self.life.linked(ctx, async move {
                    nap(seconds).await;
                    drop(attempt);
                });
            }
            Do::Deaf(seconds) => ctx.wait(wrap_future(nap(seconds))),
            Do::Wait(seconds) => {
                let waiting = self.life.waiting("the store");
                ctx.wait(wrap_future(async move {
                    nap(seconds).await;
                    drop(waiting);
                }));
            }
            Do::Outage(seconds) => {
                let life = self.life.clone();
                ctx.wait(wrap_future(async move {
                    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
                    while tokio::time::Instant::now() < end {
                        let attempt = life.attempt("put");
                        nap(1).await;
                        drop(attempt);
                        let _waiting = life.waiting("the store");
                        nap(20).await;
                    }
                }));
            }
            Do::SlowAttempt { steps, each } => {
                let attempt = self.life.attempt("put");
                self.life.linked(ctx, async move {
                    for _ in 0..steps {
                        nap(each).await;
                        attempt.progress();
                    }
                });
            }
            Do::WaitThenDeaf(waits, deaf) => {
                let waiting = self.life.waiting("the store");
                ctx.wait(wrap_future(async move {
                    nap(waits).await;
                    drop(waiting);
                    nap(deaf).await;
                }));
            }
            Do::Recover(seconds) => {
                let recovering = self.life.recovering();
                self.life.linked(ctx, async move {
                    nap(seconds).await;
                    drop(recovering);
                });
            }
            Do::LeakPermit => self.house.permits.lock().unwrap().push(permit),
            Do::LeakGuards => {
                let guards = (self.life.attempt("for ever"), self.life.waiting("nobody"));
                self.house.leaked.lock().unwrap().push(guards);
            }
            Do::PanicWithBomb => {
                let bomb = Bomb;
                self.life.linked(ctx, async move {
                    let _bomb = bomb;
                    std::future::pending().await
                });
                self.life.linked(ctx, async { panic!("told to") });
            }
            Do::Feed(to, messages) => {
                let life = self.life.clone();
                self.life.linked(ctx, async move {
                    for _ in 0..messages {
                        life.deliver(&to, Do::Nothing, Incarnation(1)).await.unwrap();
                    }
                });
            }
            Do::Say(what) => self.house.note(format!("{what} {} {}", self.name, self.life.incarnation)),
            Do::Hear(word) => {
                let (house, line) = (Arc::clone(&self.house), format!("hears {} {}", self.name, self.life.incarnation));
                self.life.linked(ctx, async move {
                    word.notified().await;
                    house.note(line);
                });
            }
            Do::Block(block) => {
                block.enter();
                self.act(Do::Say("wakes"), permit, ctx);
            }
            Do::Breathe => self.life.breathe(ctx),
            Do::Refuse => self.refuses = true,
            Do::Keep => self.kept.push(permit),
            Do::Tick => {
                let (house, name, incarnation) = (Arc::clone(&self.house), self.name, self.life.incarnation);
                ctx.run_interval(SECOND, move |_, _| house.note(format!("tick {name} {incarnation}")));
            }
        }
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.house.cross(self.name, Place::Started);
        self.house.note(format!("up {} {}", self.name, self.life.incarnation));
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.house.cross(self.name, Place::Stopping);
        self.house.note(format!("stopping {} {}", self.name, self.life.incarnation));
        if self.refuses { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.house.cross(self.name, Place::Stopped);
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.house.alive.fetch_sub(1, Ordering::SeqCst);
        self.house.note(format!("drop {} {}", self.name, self.life.incarnation));
        self.house.cross(self.name, Place::Drop);
    }
}

impl Handler<Delivery<Do>> for Probe {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Do>, ctx: &mut Self::Context) {
        if self.life.takes(&delivery) {
            self.act(delivery.message, delivery.permit, ctx);
        }
    }
}

impl Handler<Delivery<Count>> for Probe {
    type Result = actix::MessageResult<Delivery<Count>>;

    fn handle(&mut self, _: Delivery<Count>, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult((self.handled, self.life.incarnation))
    }
}

pub(super) fn id(name: &str) -> ActorId {
    ActorId { pipeline: "test".into(), stage: name.into(), replica: 0 }
}

/// Generous: restarts at once (1 s, then doubled), and never gives up.
pub(super) fn patient() -> Supervision {
    Supervision {
        strategy: Strategy::OneForOne,
        intensity: Intensity { restarts: 1_000_000, within: SECOND },
        backoff: Backoff { base: SECOND, cap: 60 * SECOND, healthy: 60 * SECOND },
    }
}

pub(super) fn stage() -> StageSupervision {
    StageSupervision { policy: Policy::Permanent, mailbox: 4, stall: 30 * SECOND, blocked: 30 * SECOND }
}

pub(super) fn spec(house: &Arc<House>, name: &'static str, stage: StageSupervision) -> Spec<Probe> {
    let house = Arc::clone(house);
    Spec::new(Vitals::new(id(name), vitals::Kind::Supervisor), stage, move |life| {
        house.cross(name, Place::Factory);
        house.alive.fetch_add(1, Ordering::SeqCst);
        Probe { house: Arc::clone(&house), name, life, handled: 0, kept: Vec::new(), refuses: false }
    })
}

pub(super) fn tree(name: &str, supervision: Supervision) -> Tree {
    Tree::new(
        Vitals::new(id(name), vitals::Kind::Supervisor),
        supervision,
        Arc::new(Here),
        Arc::new(ManualClock::at(7)),
    )
}

/// A root that may not give up.
pub(super) fn start(tree: Tree) -> Root {
    tree.start(|who: &ActorId, why: &str| panic!("{who} gave up: {why}")).unwrap()
}

/// One probe under a patient supervisor.
pub(super) fn one(stage: StageSupervision) -> (Arc<House>, Ref<Probe>, Root) {
    let house = Arc::new(House::default());
    let mut tree = tree("root", patient());
    let probe = tree.child(spec(&house, "a", stage));
    (house, probe, start(tree))
}

/// Lets everybody run until all of them wait; takes a millisecond of the paused clock.
pub(super) async fn settle() {
    tokio::time::sleep(MS).await;
}

pub(super) fn restarts(of: &Ref<Probe>) -> BTreeMap<Death, u64> {
    of.vitals().life().restarts
}
