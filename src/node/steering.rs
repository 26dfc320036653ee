//! Orders to the actors of this process.
//!
//! What a person wants is written down before it is done, so that a crash in between does it with the next
//! start. An order is answered when it has taken effect: a restart when the new life has handled its
//! first message.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, Context, Handler};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{
    kept::{About, Kept},
    losses::Losses,
};
use crate::{
    actors::{Drain, Greet},
    api::{
        steer::{BusFigures, By, Done, Order, Steer},
        views::PipelineView,
    },
    bus::{
        SharedBus,
        letters::{self, Letter},
    },
    fault::{Fault, Result},
    model::{ActorId, Clock, Incarnation, NodeId, PipelineId, TopicName},
    supervise::{Delivery, Gone, Ref, Supervisor},
    vitals::{Hold, Loss, State, Vitals, Wish},
};

/// What people want of actors, other than that they run: who stopped one finds it stopped after a reboot.
pub(super) const WISHES: About = About {
    name: "wishes.json",
    way_out: "what is wanted of actors is not known: mend it, or delete it and all of them run",
};

/// How long an actor may take to stop by itself before it is dropped.
const STOP: Duration = Duration::from_secs(10);

/// One actor, as orders reach it.
pub(super) struct Lever {
    vitals: Arc<Vitals>,
    /// Closes and opens what it takes in.
    pause: Box<dyn Fn(Option<String>) + Send + Sync>,
    /// Returns when it has handled a message.
    greet: Box<dyn Fn() -> BoxFuture<'static, Result<Incarnation>> + Send + Sync>,
    /// Brings what is open to where readers see it, where there is something.
    roll: Option<Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>>,
}

impl Lever {
    /// Of an actor that has nothing to roll.
    pub(super) fn new<A>(actor: &Ref<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Delivery<Greet>>,
    {
        let (paused, greeted) = (actor.clone(), actor.clone());
        Self {
            vitals: Arc::clone(actor.vitals()),
            pause: Box::new(move |by| match by {
                Some(by) => paused.pause(by),
                None => paused.resume(),
            }),
            greet: Box::new(move || {
                let actor = greeted.clone();
                async move {
                    loop {
                        match actor.order(Greet).await {
                            Ok(incarnation) => return Ok(incarnation),
                            // The next life is asked again; one that comes to no life is stopped in the end.
                            Err(Gone::Died(_)) => tokio::task::yield_now().await,
                            Err(gone) => return Err(gone.into()),
                        }
                    }
                }
                .boxed()
            }),
            roll: None,
        }
    }

    /// Of an actor that has.
    pub(super) fn rolling<A>(actor: &Ref<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Delivery<Greet>> + Handler<Delivery<Drain>>,
    {
        let rolled = actor.clone();
        let roll = move || {
            let actor = rolled.clone();
            async move {
                let (done, answered) = oneshot::channel();
                // Up to where it stands.
                actor.order(Drain { until: BTreeMap::new(), done }).await?;
                answered.await.map_err(|_| Fault::from(Gone::Died(actor.id().clone())))
            }
            .boxed()
        };
        Self { roll: Some(Box::new(roll)), ..Self::new(actor) }
    }

    pub(super) fn id(&self) -> &ActorId {
        &self.vitals.id
    }

    /// Applies what is wanted of it before it starts.
    pub(super) fn begin(&self, wish: Option<&Wish>) {
        self.note(wish);
        if let Some(Wish { hold: Hold::Paused, by, .. }) = wish {
            (self.pause)(Some(by.clone()));
        }
    }

    fn note(&self, wish: Option<&Wish>) {
        self.vitals.update(|life| life.wish = wish.cloned());
    }
}

/// Everything of a node that is looked at and steered.
pub(super) struct House {
    pub(super) node: NodeId,
    pub(super) pipelines: Vec<PipelineView>,
    pub(super) supervisors: Vec<Ref<Supervisor>>,
    pub(super) levers: Vec<Lever>,
    pub(super) actors: Vec<Arc<Vitals>>,
    pub(super) buses: Vec<SharedBus>,
    /// The topics of each pipeline that have dead letters, with their bus.
    pub(super) topics: Vec<(PipelineId, SharedBus, Vec<TopicName>)>,
    pub(super) wishes: Arc<Kept<Wish>>,
    pub(super) losses: Arc<Losses>,
    pub(super) clock: Arc<dyn Clock>,
}

impl House {
    fn find(&self, actor: &ActorId) -> Result<(&Lever, &Ref<Supervisor>)> {
        let lever = self.levers.iter().find(|lever| lever.vitals.id == *actor);
        let above = self.supervisors.iter().find(|above| above.id().pipeline == actor.pipeline);
        lever.zip(above).ok_or_else(|| Fault::user(format!("there is no actor {actor} that takes orders")))
    }

    /// Writes down what is wanted from now on.
    async fn want(&self, lever: &Lever, hold: Option<(Hold, &By)>) -> Result<()> {
        let wish = hold.map(|(hold, by)| Wish { hold, by: by.to_string(), since: self.clock.now() });
        let (wishes, actor, written) = (Arc::clone(&self.wishes), lever.vitals.id.clone(), wish.clone());
        let writing = tokio::task::spawn_blocking(move || wishes.set(&actor, written));
        writing.await.map_err(|error| Fault::internal(error.to_string()))??;
        lever.note(wish.as_ref());
        Ok(())
    }

    /// Writes down what actors lose, for as long as this is polled.
    pub(super) async fn watch_losses(&self) {
        Arc::clone(&self.losses).watch(self.actors.clone()).await;
    }

    /// Writes down what they lost last. Blocks.
    pub(super) fn note_losses(&self) {
        if let Err(fault) = self.losses.note(&self.actors) {
            tracing::error!(error = %fault, "losses are not written down");
        }
    }

    fn holds(&self, lever: &Lever) -> Option<Hold> {
        self.wishes.of(&lever.vitals.id).map(|wish| wish.hold)
    }
}

#[async_trait]
impl Steer for House {
    fn node(&self) -> NodeId {
        self.node.clone()
    }

    fn pipelines(&self) -> &[PipelineView] {
        &self.pipelines
    }

    fn actors(&self) -> &[Arc<Vitals>] {
        &self.actors
    }

    async fn dead_letters(&self, pipeline: &str, newest: u64) -> Result<Vec<Letter>> {
        let found = self.topics.iter().find(|(id, ..)| id.as_str() == pipeline);
        let (_, bus, topics) = found.ok_or_else(|| Fault::user(format!("there is no pipeline {pipeline}")))?;
        letters::standing(&**bus, topics, Some(newest)).await
    }

    fn buses(&self) -> Vec<BusFigures> {
        let figures = |bus: &SharedBus| Some(BusFigures { bus: bus.describe(), connections: bus.connections()? });
        self.buses.iter().filter_map(figures).collect()
    }

    async fn order(&self, actor: &ActorId, order: Order, by: &By) -> Result<Done> {
        let (lever, above) = self.find(actor)?;
        let present = || lever.vitals.life();
        let is_down = || matches!(present().state, State::Stopped | State::GaveUp);
        let done = |incarnation, text: String| Ok(Done { incarnation, text });
        match order {
            Order::Restart | Order::Start => {
                if order == Order::Start && !is_down() {
                    let (incarnation, state) = (present().incarnation, "it runs already");
                    return done(incarnation, state.to_owned());
                }
                if self.holds(lever) == Some(Hold::Stopped) {
                    self.want(lever, None).await?;
                }
                let before = present().incarnation;
                above.restart(actor).await?;
                let incarnation = (lever.greet)().await?;
                done(incarnation, format!("a new life has begun, the one before was {before}"))
            }
            Order::Stop => {
                self.want(lever, Some((Hold::Stopped, by))).await?;
                (lever.pause)(None);
                above.stop(actor, STOP).await?;
                done(present().incarnation, "it is stopped, until it is started".to_owned())
            }
            Order::Pause => {
                if is_down() {
                    return Err(Fault::user(format!("{actor} does not run: there is nothing to pause")));
                }
                self.want(lever, Some((Hold::Paused, by))).await?;
                (lever.pause)(Some(by.to_string()));
                // What lay before it is done then.
                let incarnation = (lever.greet)().await?;
                done(incarnation, "it takes nothing in, until it is resumed".to_owned())
            }
            Order::Resume => {
                if self.holds(lever) != Some(Hold::Paused) {
                    return Err(Fault::user(format!("{actor} is not paused")));
                }
                self.want(lever, None).await?;
                (lever.pause)(None);
                let incarnation = (lever.greet)().await?;
                done(incarnation, "it goes on".to_owned())
            }
            Order::Roll => {
                let Some(roll) = &lever.roll else {
                    let kind = lever.vitals.kind.word();
                    return Err(Fault::user(format!(
                        "{actor} is {kind}: only archivers and aggregators have something to roll"
                    )));
                };
                if is_down() {
                    return Err(Fault::user(format!("{actor} does not run: start it first")));
                }
                roll().await?;
                done(present().incarnation, "what was open is where readers see it".to_owned())
            }
            Order::Acknowledge => {
                let (losses, vitals) = (Arc::clone(&self.losses), Arc::clone(&lever.vitals));
                let acknowledging = tokio::task::spawn_blocking(move || losses.acknowledge(&vitals));
                let known = acknowledging.await.map_err(|error| Fault::internal(error.to_string()))??;
                if known.is_empty() {
                    return Err(Fault::user(format!("{actor} has no loss to acknowledge")));
                }
                let text = known.iter().map(Loss::to_string).collect::<Vec<_>>().join(", ");
                done(present().incarnation, format!("acknowledged: {text}"))
            }
        }
    }
}
