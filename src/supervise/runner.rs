//! The future that owns an actor and outlives its deaths.
//!
//! actix runs an actor as one future, a `ContextFut`: the actor, its mailbox, and what it spawned on
//! its context. Run by actix, a panic in any of these takes all of it away, and nobody is told. Here
//! a [`Runner`] owns that future and polls it under `catch_unwind`. After a death the actor's futures
//! and timers are cancelled and its state is overwritten by a blank one; the mailbox, the address and
//! the messages that wait stay where they are. The runner decides nothing: it reports each death to
//! its supervisor and stands still, not polling, until it is told to start again.
//!
//! What counts as a death: a panic wherever the actor runs code (handlers, `started`, `stopping`,
//! spawned and awaited futures, timers, the factory), a declared fault, its own end, and the
//! supervisor's word (stall, order, sibling). A panic while the dead state is dropped is noted as the
//! last error; the new state stands by then, so nothing more has to follow from it. (Two destructors
//! that panic while the same dead state is dropped abort the process: that is Rust's rule.)
//!
//! A runner whose thread was blocked may wake up to find itself given up: it has a successor elsewhere. It
//! then writes nothing that others see, begins nothing, and ends. What stood in the middle of a poll when
//! the thread was blocked runs on to the end of that poll, though: to its next `.await`, or to the end of
//! its handler; and what actix polls behind it in the same pass gets one poll more. A pass that begins
//! later begins none of the actor's futures, for a [`Sentry`] is polled first. So whatever such a life may
//! still do to what is durable is fenced there, by who has taken it over.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFuture, Addr, ArbiterHandle, AsyncContext, Context, Supervised, dev::ContextFut,
    fut::wrap_future,
};
use tokio::{
    sync::{
        OwnedMutexGuard,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::Instant,
};

use super::{
    life::{Birth, Kin},
    mailbox::Gate,
    panics::guarded,
    policy::StageSupervision,
};
use crate::{
    fault::{Domain, Fault, Kind, Result, Retry},
    model::Incarnation,
    vitals::{self, Death, State, Vitals},
};

/// What a supervisor tells a runner. A closed channel means: end at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Start the next incarnation.
    Start,
    /// Let the present incarnation die, for this reason; nothing if it is dead already.
    Fell(Death, String),
    /// Let it stop as actix does (`stopping`, `stopped`), and end in this state. Nothing it does by
    /// then brings it back.
    End(State),
}

/// What a runner tells its supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// `started` has returned.
    Up(Incarnation),
    /// It is dead and waits to be started again.
    Died {
        /// How.
        death: Death,
        /// In words.
        why: String,
        /// For how long it had lived and moved.
        lived: Duration,
    },
    /// The runner ended; the actor, its mailbox and all that waited in it are dropped.
    Ended,
}

/// Where a runner's reports go.
pub(super) type Reporter = Box<dyn Fn(Report) + Send>;

/// An actor of whatever type, as its supervisor sees it.
pub(super) trait Offspring: Send + Sync {
    /// What it counts; also names it.
    fn vitals(&self) -> &Arc<Vitals>;

    /// How it is treated.
    fn stage(&self) -> StageSupervision;

    /// Why it stalls, if it does.
    fn stalled(&self, now: Instant) -> Option<String>;

    /// Puts a runner onto that thread; it waits for its first command.
    fn launch(&self, on: &ArbiterHandle, report: Reporter) -> Result<UnboundedSender<Command>>;

    /// Its thread is blocked: the runner on it is given up, with all that waits in its mailbox. Died of
    /// nothing, the actor is stopped; else a new mailbox waits for the next launch. Answers for how long
    /// it had lived.
    fn abandon(&self, died_of: Option<Death>, why: &str) -> Duration;

    /// Nobody launches it any more: who waits for it is told.
    fn bury(&self);
}

/// Puts a runner of this kin onto that thread; it waits for its first command.
///
/// # Errors
/// The thread has ended.
pub(super) fn launch<A>(kin: Arc<Kin<A>>, on: &ArbiterHandle, report: Reporter) -> Result<UnboundedSender<Command>>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let (mailbox, receiver) = kin.mailbox();
    let (commands, inbox) = unbounded_channel();
    let (me, gate) = (kin.me.clone(), Arc::clone(&mailbox.gate));
    let put = on.spawn_fn(move || {
        let lease = Arc::clone(&kin.lease);
        let mut runner = Runner {
            kin,
            body: Body::Unborn(Context::with_receiver(receiver)),
            phase: Phase::Down,
            fresh: false,
            inbox,
            report,
            gate: mailbox.gate,
            _keep: mailbox.addr,
            lease: None,
        };
        tokio::task::spawn_local(async move {
            runner.lease = Some(lease.lock_owned().await);
            runner.await;
        });
    });
    if put {
        return Ok(commands);
    }
    me.close(&gate);
    Err(Fault::internal(format!("{}: its thread has ended", me.id())))
}

/// Runs one actor from its launch to its end.
struct Runner<A: Actor<Context = Context<A>> + Supervised> {
    kin: Arc<Kin<A>>,
    body: Body<A>,
    phase: Phase,
    /// The state in the body is blank: made and not started.
    fresh: bool,
    inbox: UnboundedReceiver<Command>,
    report: Reporter,
    gate: Arc<Gate>,
    /// actix ends an actor to whom no address leads; a supervised one ends when it is told.
    _keep: Addr<A>,
    lease: Option<OwnedMutexGuard<()>>,
}

enum Body<A: Actor<Context = Context<A>>> {
    /// No factory has returned yet.
    Unborn(Context<A>),
    Born(ContextFut<A, Context<A>>),
    Buried,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Down,
    Up { since: Instant, told: bool },
    Ending(State),
    Over,
}

impl<A: Actor<Context = Context<A>> + Supervised> Future for Runner<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let me = &mut *self;
        loop {
            if me.gate.is_given_up() {
                // What it was told before it was blocked is void, too.
                me.end(State::Stopped);
            }
            match me.inbox.poll_recv(cx) {
                Poll::Ready(Some(command)) => {
                    me.obey(command);
                    continue;
                }
                Poll::Ready(None) => me.end(State::Stopped),
                Poll::Pending => {}
            }
            match &me.phase {
                Phase::Over => return Poll::Ready(()),
                Phase::Down => return Poll::Pending,
                Phase::Up { .. } | Phase::Ending(_) => ready!(me.live(cx)),
            }
        }
    }
}

impl<A: Actor<Context = Context<A>> + Supervised> Runner<A> {
    fn obey(&mut self, command: Command) {
        match (command, &self.phase) {
            (Command::Start, Phase::Down) => self.start(),
            (Command::Fell(death, why), Phase::Up { .. }) => self.die(death, why),
            (Command::End(state), Phase::Up { .. }) => {
                self.phase = Phase::Ending(state);
                if let Body::Born(body) = &mut self.body {
                    body.ctx().stop();
                }
            }
            (Command::End(state), Phase::Down) => self.end(state),
            _ => {}
        }
    }

    /// Begins the next incarnation; `started` runs at the next poll.
    fn start(&mut self) {
        if let Some(death) = self.kin.dies_of(None) {
            self.record(|life| *life.restarts.entry(death).or_default() += 1);
        }
        if !self.fresh
            && let Err(why) = self.make()
        {
            return self.die(Death::Panic, why);
        }
        if self.gate.is_given_up() {
            return;
        }
        self.fresh = false;
        self.phase = Phase::Up { since: Instant::now(), told: false };
        let (incarnation, now) = (self.kin.incarnation(), self.kin.clock.now());
        self.record(|life| {
            life.incarnation = incarnation;
            life.since = now;
        });
        self.kin.pulse().begin();
    }

    /// Polls the actor once; ready when that changed the phase.
    fn live(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let Body::Born(body) = &mut self.body else {
            self.end(State::Stopped);
            return Poll::Ready(());
        };
        let polled = guarded(|| Pin::new(body).poll(cx));
        if self.gate.is_given_up() {
            return Poll::Ready(());
        }
        let fault = self.kin.pulse().take_fault();
        let death = match (polled, fault) {
            (Err(why), _) => (Death::Panic, why),
            (Ok(_), Some(fault)) => (death_of(&fault), fault.to_string()),
            (Ok(Poll::Ready(())), None) => (Death::Ended, "it ended by itself".to_owned()),
            (Ok(Poll::Pending), None) => {
                if let Phase::Up { told: told @ false, .. } = &mut self.phase {
                    *told = true;
                    self.kin.pulse().started();
                    (self.report)(Report::Up(self.kin.incarnation()));
                }
                return Poll::Pending;
            }
        };
        match self.phase.clone() {
            Phase::Ending(state) => {
                if death.0 != Death::Ended {
                    self.note(&death.1);
                }
                self.end(state);
            }
            _ => self.die(death.0, death.1),
        }
        Poll::Ready(())
    }

    /// The present incarnation is dead: throws it away, and tells.
    fn die(&mut self, death: Death, why: String) {
        // Of a stall up to where it began to do nothing: that is not a healthy stretch.
        let idle = if death == Death::Stall { self.kin.stage.stall } else { Duration::ZERO };
        let lived = match self.phase {
            Phase::Up { since, .. } => Some(since.elapsed().saturating_sub(idle)),
            _ => None,
        };
        self.phase = Phase::Down;
        self.kin.dies_of(Some(death));
        self.kin.pulse().end();
        if !matches!(death, Death::Order | Death::Sibling | Death::Ended) {
            self.note(&why);
        }
        self.enter(State::Restarting);
        if lived.is_some()
            && let Err(more) = self.make()
        {
            self.note(&more);
        }
        (self.report)(Report::Died { death, why, lived: lived.unwrap_or_default() });
    }

    /// Makes a blank state, in place of the dead one if there is one.
    fn make(&mut self) -> Result<(), String> {
        if let Body::Unborn(_) = self.body {
            let actor = guarded(|| self.kin.beget())?;
            if let Body::Unborn(mut ctx) = std::mem::replace(&mut self.body, Body::Buried) {
                ctx.spawn(Sentry(Arc::clone(&self.gate)));
                self.body = Body::Born(ctx.into_future(actor));
            }
            self.fresh = true;
            return Ok(());
        }
        // Each of the lists of futures that are dropped here may hold one that panics; what was
        // dropped is gone, so a repetition gets further.
        for _ in 0..4 {
            let Body::Born(body) = &mut self.body else { return Ok(()) };
            self.kin.expect_birth();
            let restarted = guarded(|| body.restart());
            body.ctx().spawn(Sentry(Arc::clone(&self.gate)));
            self.fresh = self.kin.birth() == Birth::Done;
            match (restarted, self.kin.birth()) {
                (Ok(_), Birth::Done) => return Ok(()),
                (Ok(_), _) => break,
                (Err(why), Birth::Unfinished) => return Err(why),
                (Err(why), birth) => {
                    self.note(&why);
                    if birth == Birth::Done {
                        return Ok(());
                    }
                }
            }
        }
        Err("Supervised::restarting does not say `*self = self.life.reborn()`".to_owned())
    }

    /// Drops the actor and its mailbox without a further word from it.
    fn end(&mut self, state: State) {
        if self.phase == Phase::Over {
            return;
        }
        if let Phase::Up { .. } = self.phase {
            // It was not told to stop: it goes down with its supervisor.
            self.kin.dies_of(Some(Death::Sibling));
        }
        self.phase = Phase::Over;
        self.kin.pulse().end();
        self.kin.me.close(&self.gate);
        let mut body = std::mem::replace(&mut self.body, Body::Buried);
        if let Body::Born(body) = &mut body {
            // Else its Drop would poll it once more, and even run `started` on a blank one.
            body.ctx().terminate();
        }
        if let Err(why) = guarded(|| drop(body)) {
            self.note(&why);
        }
        self.enter(state);
        (self.report)(Report::Ended);
    }

    fn note(&self, error: &str) {
        let now = self.kin.clock.now();
        self.record(|life| life.last_error = Some((now, error.to_owned())));
    }

    fn enter(&self, state: State) {
        self.record(|life| super::change(life, &*self.kin.clock, state));
    }

    /// Writes the vitals, which belong to the successor once this one is given up.
    fn record(&self, change: impl FnOnce(&mut vitals::Life)) {
        self.kin.vitals.update(|life| {
            if !self.gate.is_given_up() {
                change(life);
            }
        });
    }
}

/// The first of an actor's futures: when the actor was given up, it keeps the others from being polled.
struct Sentry(Arc<Gate>);

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Sentry {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut A, ctx: &mut Context<A>, _: &mut std::task::Context<'_>) -> Poll<()> {
        if self.0.is_given_up() {
            ctx.wait(wrap_future(std::future::pending::<()>()));
        }
        Poll::Pending
    }
}

impl<A: Actor<Context = Context<A>> + Supervised> Drop for Runner<A> {
    /// The thread ends, and the actor with it.
    fn drop(&mut self) {
        self.end(State::Stopped);
    }
}

/// How a declared fault is mourned: one that no time and no other life mends is told apart.
fn death_of(fault: &Fault) -> Death {
    match (fault.kind, fault.domain, fault.retry) {
        (Kind::Fenced, ..) => Death::Fenced,
        (_, Domain::User, Retry::Never) | (Kind::Recreated | Kind::Lost, ..) => Death::Hopeless,
        _ => Death::Fault,
    }
}
