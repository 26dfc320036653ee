//! The node: pipelines become running actors, and end in order. The only place that names every
//! kind of actor.
//!
//! Each pipeline is a supervisor below the node's own; below it the sinks start first, so that
//! nothing is collected that nobody takes. An ordered end goes the other way round: the collectors
//! stop reading and sync, the ingesters send what the spools hold, and archivers and aggregators
//! take and publish everything that is then on the bus. Each step has a time limit; what was not
//! reached by then is durable in spool or bus, and the next start goes on from there.

mod kept;
mod losses;
mod opening;
mod outline;
mod service;
mod steering;
mod wiring;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_rt::System;
use futures_util::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::timeout,
};

pub use opening::{open_bus, open_bus_read_only, open_store, open_store_to_read};
pub use wiring::{archive_of, router};

use steering::House;

use crate::{
    actors::{Aggregator, Archiver, Collector, Drain, DrainSpool, EndCollecting, Ingester, Loader},
    api::{Api, Bound, steer::Steer},
    bus::{Bus, SharedBus},
    config::{NodeSettings, Pipeline},
    fault::{Fault, Result},
    model::{ActorId, Offset, Partition, SystemClock, TopicName},
    supervise::{Delivery, Gone, Ref, Root, Supervisor},
    trace::Tracer,
    vitals::Vitals,
};

/// How long each step of an ordered end may take: together under the 30 seconds that people and
/// service managers wait.
const STEP: Duration = Duration::from_secs(9);

/// How long the last spans may take on their way out.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// How long the actors may take to stop when everything is drained.
const STOP: Duration = Duration::from_secs(2);

/// How a node came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it was told, and everything collected is in archive and table.
    Drained,
    /// As it was told, but a step took too long; the rest is durable, and the next start goes on.
    Unfinished,
    /// Supervision gave up.
    GaveUp,
}

/// A running node.
pub struct Node {
    root: Root,
    pipelines: Vec<Running>,
    house: Arc<House>,
    gave_up: watch::Receiver<bool>,
    last_words: Arc<Mutex<String>>,
}

/// A pipeline's actors, by kind.
struct Running {
    supervisor: Ref<Supervisor>,
    bus: SharedBus,
    collectors: Vec<Ref<Collector>>,
    ingesters: Vec<Ref<Ingester>>,
    archivers: Vec<(TopicName, Ref<Archiver>)>,
    aggregators: Vec<(TopicName, Ref<Aggregator>)>,
    loaders: Vec<(TopicName, Ref<Loader>)>,
}

impl Node {
    /// Opens bus and store, creates topics, and starts every actor that no person has stopped before; what they
    /// want is kept in the folder `state`; a sample of the batches is traced by `tracer`.
    ///
    /// # Errors
    /// What kept it from starting.
    pub async fn start(pipelines: Vec<Pipeline>, state: &Path, tracer: &Tracer) -> Result<Self> {
        wiring::start(pipelines, state, tracer).await
    }

    /// What each actor counts, in the order of a record's life.
    pub fn actors(&self) -> &[Arc<Vitals>] {
        &self.house.actors
    }

    /// How it is looked at and steered.
    pub fn steer(&self) -> Arc<dyn Steer> {
        self.house.clone()
    }

    /// Lets an actor die and come back.
    pub async fn kill(&self, id: &ActorId) {
        for pipeline in self.pipelines.iter().filter(|pipeline| pipeline.supervisor.id().pipeline == id.pipeline) {
            if let Err(fault) = pipeline.supervisor.restart(id).await {
                tracing::warn!(actor = %id, error = %fault, "cannot be restarted");
            }
        }
    }

    /// Returns when supervision has given up.
    pub async fn gave_up(&self) {
        let mut gave_up = self.gave_up.clone();
        if gave_up.wait_for(|gave_up| *gave_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why supervision gave up.
    pub fn last_words(&self) -> String {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends in order; see the module's text.
    pub async fn stop(self) -> End {
        let drained = join_all(self.pipelines.iter().map(Running::drain)).await.into_iter().all(|drained| drained);
        if let Err(fault) = self.root.supervisor().shutdown(STOP).await {
            tracing::warn!(error = %fault, "the actors did not stop in order");
        }
        match (*self.gave_up.borrow(), drained) {
            (true, _) => End::GaveUp,
            (false, true) => End::Drained,
            (false, false) => End::Unfinished,
        }
    }
}

impl Running {
    /// Collectors, then ingesters, then the sinks, those of one kind together; true if all of them
    /// came to their end.
    async fn drain(&self) -> bool {
        let mut steps = Vec::new();
        // Whom a person holds takes nothing in: there is nothing to wait for.
        let collectors = self.collectors.iter().filter(|actor| !is_held(actor.vitals()));
        let end = collectors.map(|actor| step("end collecting", actor, |done| EndCollecting { done }));
        steps.extend(join_all(end).await);
        let ingesters = self.ingesters.iter().filter(|actor| !is_held(actor.vitals()));
        let drain = ingesters.map(|actor| step("drain the spool", actor, |done| DrainSpool { done }));
        steps.extend(join_all(drain).await);
        let archivers = self.archivers.iter().filter(|(_, actor)| !is_held(actor.vitals()));
        let archivers = archivers.map(|(topic, actor)| self.drain_sink(topic, actor));
        let aggregators = self.aggregators.iter().filter(|(_, actor)| !is_held(actor.vitals()));
        let aggregators = aggregators.map(|(topic, actor)| self.drain_sink(topic, actor));
        let loaders = self.loaders.iter().filter(|(_, actor)| !is_held(actor.vitals()));
        let loaders = loaders.map(|(topic, actor)| self.drain_sink(topic, actor));
        let (archived, counted, loaded) = tokio::join!(join_all(archivers), join_all(aggregators), join_all(loaders));
        steps.into_iter().chain(archived).chain(counted).chain(loaded).all(|done| done)
    }

    /// Lets a sink take and publish what its topic holds now.
    async fn drain_sink<A>(&self, topic: &TopicName, actor: &Ref<A>) -> bool
    where
        A: actix::Actor<Context = actix::Context<A>> + actix::Handler<Delivery<Drain>>,
    {
        let late = || Fault::external(format!("the bus did not answer within {} seconds", STEP.as_secs()));
        match timeout(STEP, ends(&*self.bus, topic)).await.unwrap_or_else(|_| Err(late())) {
            Ok(until) => step("drain", actor, |done| Drain { until: until.clone(), done }).await,
            Err(fault) => {
                tracing::warn!(actor = %actor.id(), error = %fault, "not drained: the bus does not say where the topic ends");
                false
            }
        }
    }
}

/// Whether a person has stopped or paused it.
fn is_held(vitals: &Vitals) -> bool {
    vitals.life().wish.is_some()
}

/// Gives an order that is answered later, again if the actor died over it, until the time is over.
async fn step<A, M>(what: &str, actor: &Ref<A>, order: impl Fn(oneshot::Sender<()>) -> M) -> bool
where
    A: actix::Actor<Context = actix::Context<A>> + actix::Handler<Delivery<M>>,
    M: actix::Message<Result = ()> + Send + 'static,
{
    let trying = async {
        loop {
            let (done, answered) = oneshot::channel();
            match actor.order(order(done)).await {
                Ok(()) => {}
                Err(Gone::Stopped(_)) => return false,
                Err(Gone::Died(_)) => tokio::task::yield_now().await,
            }
            if answered.await.is_ok() {
                return true;
            }
        }
    };
    let done = timeout(STEP, trying).await.unwrap_or(false);
    if !done {
        tracing::warn!(actor = %actor.id(), step = what, "not finished in time, the next start goes on from here");
    }
    done
}

/// Where each partition of a topic ends.
async fn ends(bus: &dyn Bus, topic: &TopicName) -> Result<BTreeMap<Partition, Offset>> {
    let mut ends = BTreeMap::new();
    if let Some(topic) = bus.topic(topic).await? {
        for partition in 0..topic.num_partitions {
            ends.insert(partition, bus.watermarks(&topic, partition).await?.high);
        }
    }
    Ok(ends)
}

/// Runs a future on an actix system of its own.
///
/// # Errors
/// The system cannot be started.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(System::new().block_on(future))
}

/// Runs pipelines until SIGTERM, SIGINT, or until supervision gives up; answers with the exit code.
///
/// # Errors
/// What kept them from starting.
pub fn run(pipelines: Vec<Pipeline>, settings: &NodeSettings) -> Result<End> {
    block_on(async {
        let interrupted = interrupted();
        let bound = settings.api.as_ref().map(Bound::new).transpose()?;
        let tracer = match &settings.traces {
            Some(traces) => Tracer::open(traces, &wiring::host())?,
            None => Tracer::default(),
        };
        let node = Node::start(pipelines, &settings.state, &tracer).await?;
        let api = bound.map(|bound| bound.serve(node.steer(), Arc::new(SystemClock))).transpose()?;
        let url = api.as_ref().map_or_else(|| "off".to_owned(), Api::url);
        tracing::info!(actors = node.actors().len(), api = url, "started");
        service::ready(node.actors().len());
        tokio::select! {
            () = interrupted => {}
            () = service::live() => {}
            () = node.house.watch_losses() => {}
            () = node.gave_up() => {
                tracing::error!(why = node.last_words(), "supervision gave up");
            }
        }
        tracing::info!("ending");
        service::ending();
        let house = Arc::clone(&node.house);
        let end = node.stop().await;
        house.note_losses();
        tracer.close(LAST_SPANS);
        if let Some(api) = api {
            api.stop().await;
        }
        tracing::info!(?end, "ended");
        Ok(end)
    })?
}

/// A future that ends when the process is asked to end. From the call on (not from the first poll) the
/// process does not die of the signals themselves: who is asked while it starts ends in order too.
pub fn interrupted() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut term), Ok(mut int)) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}
