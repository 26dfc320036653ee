//! The actor that keeps a family of actors running.
//!
//! It owns the line to each child's runner, and nothing else that matters: what happened goes into
//! the pure [`Family`], and the steps that come out are carried out. Dropping it drops the lines, and
//! a runner without a line ends: no child outlives its supervisor, however that went. A supervisor is
//! a child like any other, so a tree is supervisors in supervisors, and *giving up* is nothing but
//! its own declared fault, which its parent bears, or not.
//!
//! Reports of a runner that is no longer the child's present one carry an older tenure and are
//! ignored.

mod orders;

pub use orders::{Restart, Shutdown, Stop};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Running, SpawnHandle, Supervised,
    WrapFuture,
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    family::{Family, Outcome, Step},
    life::Life,
    policy::Supervision,
    runner::{Command, Offspring, Report, Reporter},
    spawner::Spawner,
    watch::Watch,
};
use crate::{
    fault::{Fault, Result},
    model::{ActorId, Clock, Incarnation},
    vitals::{Death, State},
};

/// How long a child may take to stop when nobody says otherwise.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long a child that passed its limit may take to be dropped; after that its thread is taken to
/// be blocked, and nobody waits any more.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// So many blocked threads of one actor are borne at a time, however long it lived between: each keeps
/// its memory, and nothing but the end of the process frees it.
const MOST_LEFT: i64 = 8;

/// Keeps its children running, by its [`Supervision`].
pub struct Supervisor {
    life: Life<Self>,
    plan: Arc<Plan>,

    family: Family,
    tenures: Vec<Option<Tenure>>,
    limit: Duration,
    restarting: Vec<(usize, oneshot::Sender<Result<Incarnation>>)>,
    stopping: Vec<(usize, oneshot::Sender<()>)>,
    closing: Vec<oneshot::Sender<()>>,
    hopeless: Option<Fault>,
    alarm: Option<(Instant, SpawnHandle)>,
}

/// What all incarnations of a supervisor have in common.
pub(super) struct Plan {
    pub(super) supervision: Supervision,
    pub(super) spawner: Arc<dyn Spawner>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) children: Vec<Child>,
    pub(super) tenures: AtomicU64,
}

/// A child as its supervisor was given it.
pub(super) struct Child {
    pub(super) offspring: Box<dyn Offspring>,
    /// Runs on the supervisor's own thread (it is a supervisor itself).
    pub(super) here: bool,
    /// Stopped by a person.
    pub(super) held: AtomicBool,
}

/// The line to a child's runner.
struct Tenure {
    number: u64,
    /// None once it was told to end at once.
    line: Option<UnboundedSender<Command>>,
    /// None on our own thread, of which we cannot say whether it is blocked.
    watch: Option<Watch>,
}

/// A runner's word.
struct Reported {
    child: usize,
    tenure: u64,
    report: Report,
}

impl Message for Reported {
    type Result = ();
}

impl Supervisor {
    pub(super) fn new(life: Life<Self>, plan: Arc<Plan>) -> Self {
        let policies = plan.children.iter().map(|child| child.offspring.stage().policy).collect();
        let wanted: Vec<_> = plan.children.iter().map(|child| !child.held.load(Ordering::Relaxed)).collect();
        Self {
            family: Family::new(&plan.supervision, policies, &wanted),
            tenures: plan.children.iter().map(|_| None).collect(),
            limit: STOP_LIMIT,
            restarting: Vec::new(),
            stopping: Vec::new(),
            closing: Vec::new(),
            hopeless: None,
            alarm: None,
            life,
            plan,
        }
    }

    fn id(&self, child: usize) -> &ActorId {
        &self.plan.children[child].offspring.vitals().id
    }

    fn find(&self, id: &ActorId) -> Result<usize> {
        (0..self.plan.children.len()).find(|child| self.id(*child) == id).ok_or_else(|| {
            let known: Vec<_> = (0..self.plan.children.len()).map(|child| self.id(child).to_string()).collect();
            Fault::user(format!("{} has no actor {id}; it has {}", self.life.id, known.join(", ")))
        })
    }

    /// Carries out what follows from the last event.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        loop {
            let steps = self.family.advance(Instant::now());
            if steps.is_empty() {
                break;
            }
            for step in steps {
                self.take(step, ctx);
            }
        }
        let due = self.family.next_due(Instant::now());
        if self.alarm.map(|(at, _)| at) != due {
            if let Some((_, handle)) = self.alarm.take() {
                ctx.cancel_future(handle);
            }
            self.alarm = due.map(|at| (at, ctx.spawn(tokio::time::sleep_until(at).into_actor(self).map(rung))));
        }
    }

    fn take(&mut self, step: Step, ctx: &mut Context<Self>) {
        match step {
            Step::Fell(child, death) => {
                let why = if death == Death::Order { "restarted by order" } else { "restarted with a sibling" };
                self.tell(child, Command::Fell(death, why.to_owned()));
            }
            Step::Raise(child) => {
                if self.tenures[child].is_none()
                    && let Err(fault) = self.launch(child, ctx)
                {
                    return self.mourn(child, Death::Fault, fault.to_string(), Duration::ZERO);
                }
                self.tell(child, Command::Start);
            }
            Step::End(child, state) => self.end(child, state, self.limit, ctx),
            Step::GivenUp => {
                let fault = self.hopeless.take().unwrap_or_else(|| Fault::internal("gave up"));
                self.life.fail(ctx, fault);
            }
            Step::Closed => {
                self.closing.drain(..).for_each(answer(()));
                ctx.stop();
            }
        }
    }

    fn tell(&self, child: usize, command: Command) {
        // A line that is closed at the other end is reported from there.
        let line = self.tenures[child].as_ref().and_then(|tenure| tenure.line.as_ref());
        let _ = line.map(|line| line.send(command));
    }

    fn launch(&mut self, child: usize, ctx: &Context<Self>) -> Result<()> {
        let number = self.plan.tenures.fetch_add(1, Ordering::Relaxed);
        let Child { offspring, here, .. } = &self.plan.children[child];
        let on = if *here { super::Here.place(self.id(child))? } else { self.plan.spawner.place(self.id(child))? };
        let me = ctx.address();
        // Our mailbox has no bound; when it is closed, so are the lines, and nobody listens.
        let report: Reporter = Box::new(move |report| {
            let _ = me.try_send(Reported { child, tenure: number, report });
        });
        let line = offspring.launch(&on, report)?;
        let watch = (!*here).then(|| Watch::new(on));
        self.tenures[child] = Some(Tenure { number, line: Some(line), watch });
        Ok(())
    }

    fn end(&mut self, child: usize, state: State, limit: Duration, ctx: &mut Context<Self>) {
        let Some(tenure) = &self.tenures[child] else {
            self.plan.children[child].offspring.bury();
            super::enter(self.plan.children[child].offspring.vitals(), &*self.plan.clock, state);
            return self.gone(child);
        };
        let number = tenure.number;
        self.tell(child, Command::End(state));
        ctx.run_later(limit, move |me, ctx| me.overdue(child, number, ctx));
    }

    /// It did not stop in time: drops it.
    fn overdue(&mut self, child: usize, number: u64, ctx: &mut Context<Self>) {
        let Some(tenure) = self.tenures[child].as_mut().filter(|tenure| tenure.number == number) else { return };
        tenure.line = None;
        warn!(actor = %self.id(child), "it did not stop in time and is dropped");
        ctx.run_later(DROP_LIMIT, move |me, ctx| {
            if me.tenures[child].as_ref().is_some_and(|tenure| tenure.number == number) {
                error!(actor = %me.id(child), "it cannot be dropped: its thread is blocked, and is given up");
                me.abandon(child, None, "its thread was blocked when it was to stop");
                me.gone(child);
                me.go_on(ctx);
            }
        });
    }

    /// Nothing of it is left.
    fn gone(&mut self, child: usize) {
        self.tenures[child] = None;
        self.family.gone(child);
        let id = self.id(child).clone();
        take_of(&mut self.stopping, child).for_each(answer(()));
        take_of(&mut self.restarting, child)
            .for_each(|waits| drop(waits.send(Err(Fault::internal(format!("{id} was stopped"))))));
    }

    /// A death: counts it, decides, says so.
    fn mourn(&mut self, child: usize, death: Death, why: String, lived: Duration) {
        let outcome = self.family.died(child, death, Instant::now(), lived, fastrand::f64());
        let id = self.id(child);
        let lived_s = lived.as_secs();
        match (outcome, death) {
            (Outcome::Restart(_), Death::Order | Death::Sibling) => info!(actor = %id, %why, "actor goes down"),
            (Outcome::Restart(pause), _) => {
                let pause_ms = pause.as_millis();
                warn!(actor = %id, ?death, %why, lived_s, pause_ms, "actor died and is restarted");
            }
            (Outcome::Left, Death::Ended) => info!(actor = %id, "actor ended"),
            (Outcome::Left, _) => warn!(actor = %id, ?death, %why, lived_s, "actor died and is not restarted"),
            (Outcome::GaveUp, _) => {
                let intensity = self.plan.supervision.intensity;
                error!(actor = %id, ?death, %why, lived_s, "actor died too often: giving up");
                self.hopeless = Some(Fault::internal(format!(
                    "{id} died: more than {} restarts within {:?}; the last death: {why}",
                    intensity.restarts, intensity.within
                )));
            }
        }
    }

    /// Looks for blocked threads and for stalls.
    fn check(&mut self, ctx: &mut Context<Self>) {
        let (now, every) = (Instant::now(), self.plan.looks());
        for child in 0..self.tenures.len() {
            self.look_after(child, every, ctx);
            if self.family.is_up(child)
                && let Some(why) = self.plan.children[child].offspring.stalled(now)
            {
                self.family.felling(child);
                self.tell(child, Command::Fell(Death::Stall, why));
            }
        }
        self.go_on(ctx);
    }

    fn look_after(&mut self, child: usize, every: Duration, ctx: &mut Context<Self>) {
        let watch = self.tenures[child].as_mut().and_then(|tenure| tenure.watch.as_mut());
        let Some(silence) = watch.map(|watch| watch.look(every)) else { return };
        if silence <= self.plan.children[child].offspring.stage().blocked || !self.family.is_lively(child) {
            return;
        }
        let now = self.plan.clock.now();
        let since = now.saturating_sub(i64::try_from(silence.as_millis()).unwrap_or(i64::MAX));
        let since = jiff::Timestamp::from_millisecond(since).unwrap_or_default();
        let why = format!("its thread has been blocked since {since:.0}, and is given up");
        // Up to where it fell silent: that is not a healthy stretch.
        let lived = self.abandon(child, Some(Death::Blocked), &why).saturating_sub(silence);
        self.tenures[child] = None;
        self.mourn(child, Death::Blocked, why, lived);
        let (id, left) = (self.id(child), self.plan.children[child].offspring.vitals().abandoned.get());
        if left > MOST_LEFT {
            let fault = Fault::internal(format!("{id}: {left} of its threads are blocked and do not come back"));
            error!(actor = %id, left, "too many of its threads are blocked: giving up");
            self.life.fail(ctx, fault);
        }
    }

    /// Leaves a blocked thread to itself; whatever it still reports is of an older tenure.
    fn abandon(&self, child: usize, died_of: Option<Death>, why: &str) -> Duration {
        let Child { offspring, here, .. } = &self.plan.children[child];
        if !here {
            self.plan.spawner.abandon(self.id(child));
        }
        offspring.abandon(died_of, why)
    }
}

impl Plan {
    /// How often a supervisor looks after its children.
    fn looks(&self) -> Duration {
        let stages = self.children.iter().map(|child| child.offspring.stage());
        let shortest = stages.map(|stage| stage.stall.min(stage.blocked)).min().unwrap_or_default();
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if !self.plan.children.is_empty() {
            ctx.run_interval(self.plan.looks(), Self::check);
        }
        self.go_on(ctx);
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.family.is_idle() {
            return Running::Stop;
        }
        // `Closed` stops it again when the children are gone.
        self.family.close();
        self.go_on(ctx);
        Running::Continue
    }
}

impl Supervised for Supervisor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Drop for Supervisor {
    /// Without their lines the runners end; the last started first.
    fn drop(&mut self) {
        while self.tenures.pop().is_some() {}
    }
}

impl Handler<Reported> for Supervisor {
    type Result = ();

    fn handle(&mut self, reported: Reported, ctx: &mut Self::Context) {
        let Reported { child, tenure, report } = reported;
        if self.tenures[child].as_ref().is_none_or(|present| present.number != tenure) {
            return;
        }
        match report {
            Report::Up(incarnation) if self.family.up(child) => {
                take_of(&mut self.restarting, child).for_each(answer(Ok(incarnation)));
            }
            Report::Up(_) => {}
            Report::Died { death, why, lived } => self.mourn(child, death, why, lived),
            Report::Ended if self.family.is_ending(child) => return self.take_back(child, tenure, ctx),
            Report::Ended => {
                self.tenures[child] = None;
                self.mourn(child, Death::Fault, "its thread ended".to_owned(), Duration::ZERO);
            }
        }
        self.go_on(ctx);
    }
}

impl Supervisor {
    /// Its runner ended as it was told: now its thread may end too.
    fn take_back(&mut self, child: usize, tenure: u64, ctx: &mut Context<Self>) {
        let (spawner, id) = (Arc::clone(&self.plan.spawner), self.id(child).clone());
        let here = self.plan.children[child].here;
        let release = async move {
            if !here {
                spawner.release(&id).await;
            }
        };
        ctx.spawn(release.into_actor(self).map(move |(), me, ctx| {
            if me.tenures[child].as_ref().is_some_and(|present| present.number == tenure) {
                me.gone(child);
                me.go_on(ctx);
            }
        }));
    }
}

fn rung((): (), me: &mut Supervisor, ctx: &mut Context<Supervisor>) {
    me.alarm = None;
    me.go_on(ctx);
}

/// Takes out what waits for this child.
fn take_of<T>(waiting: &mut Vec<(usize, T)>, child: usize) -> impl Iterator<Item = T> + use<T> {
    let (its, others) = std::mem::take(waiting).into_iter().partition::<Vec<_>, _>(|(of, _)| *of == child);
    *waiting = others;
    its.into_iter().map(|(_, waits)| waits)
}

/// Answers with this; who asked may have gone.
fn answer<T: Clone>(with: T) -> impl FnMut(oneshot::Sender<T>) {
    move |waits| drop(waits.send(with.clone()))
}
