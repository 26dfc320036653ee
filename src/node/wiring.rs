//! From checked settings to actors under supervision.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::{
    Node, Running,
    kept::Kept,
    losses::Losses,
    opening::{open_bus, open_store},
    outline::outline,
    steering::{House, Lever, WISHES},
};
use crate::{
    actors::{
        Aggregator, AggregatorParts, Archiver, ArchiverParts, Collector, CollectorParts, Counted, Ingester,
        IngesterParts, Ledger, Link, Loader, LoaderParts, Loads, Proposed, Suspects,
    },
    archive::{self, BackedBus},
    bus::SharedBus,
    collect::{self, route::Router},
    config::{Pipeline, Stage, StageKind, StoreSettings},
    disk,
    fault::{Fault, Result},
    load,
    model::{ActorId, Clock, Epoch, NodeId, StageId, SystemClock, TopicName},
    store::{self, SharedStore},
    supervise::{
        Life, Ref, Spec, Threads, Tree,
        policy::{Backoff, Intensity, Strategy, Supervision},
    },
    table::{self, Definition},
    trace::Tracer,
    vitals::{Hold, Kind, Vitals, Wish},
};

/// What the node's own supervisor does when a pipeline gives up: it starts the pipeline again, a
/// few times. Its own giving up ends the process.
const NODE: Supervision = Supervision {
    strategy: Strategy::OneForOne,
    intensity: Intensity { restarts: 3, within: std::time::Duration::from_secs(3600) },
    backoff: Backoff {
        base: std::time::Duration::from_secs(1),
        cap: std::time::Duration::from_secs(30),
        // A pipeline may take minutes to give up: what it bore meanwhile is no healthy stretch.
        healthy: std::time::Duration::from_secs(3600),
    },
};

/// What gives a record of this topic the key and the partition that the pipeline gives it.
pub fn router(pipeline: &Pipeline, topic: &TopicName, num_partitions: u32) -> Router {
    let ingester = pipeline.stages.iter().find_map(|stage| match &stage.kind {
        StageKind::Ingester { collector, settings } if settings.topic == *topic => Some((collector, settings)),
        _ => None,
    });
    let source = ingester.map_or_else(String::new, |(collector, _)| format!("{}/{collector}", pipeline.id));
    Router::new(ingester.and_then(|(_, settings)| settings.key.as_ref()), &source, num_partitions)
}

/// The bus as a reader of this topic has it: with the archive behind it that the pipeline makes of it, if
/// it makes one.
pub fn backed(pipeline: &Pipeline, topic: &TopicName, bus: SharedBus, store: SharedStore) -> SharedBus {
    match archive_of(pipeline, topic) {
        Some(settings) => Arc::new(BackedBus::new(bus, store, Arc::new(settings.clone()))),
        None => bus,
    }
}

/// The archive that the pipeline makes of this topic.
pub fn archive_of<'p>(pipeline: &'p Pipeline, topic: &TopicName) -> Option<&'p archive::Settings> {
    pipeline.stages.iter().find_map(|stage| match &stage.kind {
        StageKind::Archiver(settings) if settings.topic == *topic => Some(settings),
        _ => None,
    })
}

/// What the actors of one pipeline have in common.
struct Common {
    pipeline: Pipeline,
    node: NodeId,
    bus: SharedBus,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    links: HashMap<StageId, Link>,
    wishes: Arc<Kept<Wish>>,
    tracer: Tracer,
}

/// See [`Node::start`].
pub(super) async fn start(pipelines: Vec<Pipeline>, state: &Path, tracer: &Tracer) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let wishes = Arc::new(Kept::open(state, WISHES)?);
    let losses = Arc::new(Losses::open(state, clock.clone())?);
    let spawner = Arc::new(Threads::default());
    let id =
        |pipeline: &Pipeline, stage: &str| ActorId { pipeline: pipeline.id.clone(), stage: stage.into(), replica: 0 };
    let node_id = ActorId { pipeline: "node".into(), stage: "supervisor".into(), replica: 0 };
    let mut root = Tree::new(Vitals::new(node_id, Kind::Supervisor), NODE, spawner.clone(), clock.clone());
    let (mut buses, mut stores, mut topics) = (HashMap::new(), HashMap::new(), Vec::new());
    let (mut running, mut actors, mut levers, mut outlines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pipeline in pipelines {
        let bus = match buses.get(&pipeline.bus) {
            Some(bus) => Arc::clone(bus),
            None => {
                let bus = open_bus(&pipeline.bus)?;
                buses.insert(pipeline.bus.clone(), bus.clone());
                bus
            }
        };
        let store = match stores.get(&pipeline.store) {
            Some(store) => Arc::clone(store),
            None => {
                let store = open_store(&pipeline.store).await?;
                stores.insert(pipeline.store.clone(), store.clone());
                store
            }
        };
        if let StoreSettings::Hdfs(_) = &pipeline.store {
            // Better now than with the first full segment: who am I, and may I write there?
            for folder in pipeline.store_folders() {
                store::probe(&*store, &folder).await.map_err(|fault| fault.at(format!("folder {folder}")))?;
            }
        }
        for stage in &pipeline.stages {
            if let StageKind::Collector(settings) = &stage.kind {
                disk::check_writable(&settings.spool.path)
                    .map_err(|fault| fault.at(format!("spool of {}", stage.id)))?;
            }
        }
        for stage in &pipeline.stages {
            if let StageKind::Aggregator(settings) = &stage.kind {
                table::check_definition(&*store, &settings.path, &Definition::of(settings)).await?;
            }
        }
        for topic in &pipeline.topics {
            bus.ensure_topic(topic).await.map_err(|fault| fault.at(format!("topic {}", topic.name)))?;
        }
        outlines.push(outline(&pipeline, &*bus, &*store));
        let names = pipeline.topics_with_letters().cloned().collect();
        topics.push((pipeline.id.clone(), Arc::clone(&bus), names));
        let vitals = Vitals::new(id(&pipeline, "supervisor"), Kind::Supervisor);
        let tree = Tree::new(vitals, pipeline.supervision, spawner.clone(), clock.clone());
        let links = pipeline.stages.iter().map(|stage| (stage.id.clone(), Link::default())).collect();
        let (node, clock, wishes, tracer) = (host(), clock.clone(), wishes.clone(), tracer.clone());
        let common = Common { pipeline, node, bus, store, clock, links, wishes, tracer };
        let mut wired = Wired::new(tree);
        common.wire(&mut wired)?;
        // People read from the source on; actors start from the sinks on.
        actors.extend(wired.vitals.into_iter().rev());
        levers.extend(wired.levers);
        running.push(Running {
            supervisor: root.branch(wired.tree),
            bus: common.bus,
            collectors: wired.collectors,
            ingesters: wired.ingesters,
            archivers: wired.archivers,
            aggregators: wired.aggregators,
            loaders: wired.loaders,
        });
    }
    let (said, gave_up) = watch::channel(false);
    let last_words = Arc::new(Mutex::new(String::new()));
    let words = last_words.clone();
    let root = root.start(move |who: &ActorId, why: &str| {
        *words.lock().unwrap_or_else(PoisonError::into_inner) = format!("{who}: {why}");
        said.send_replace(true);
    })?;
    actors.iter().for_each(|vitals| losses.begin(vitals));
    let house = House {
        node: host(),
        pipelines: outlines,
        supervisors: running.iter().map(|running| running.supervisor.clone()).collect(),
        levers,
        actors,
        buses: buses.into_values().collect(),
        topics,
        wishes,
        losses,
        clock,
    };
    Ok(Node { root, pipelines: running, house: Arc::new(house), gave_up, last_words })
}

/// What wiring a pipeline gives.
struct Wired {
    tree: Tree,
    vitals: Vec<Arc<Vitals>>,
    levers: Vec<Lever>,
    collectors: Vec<Ref<Collector>>,
    ingesters: Vec<Ref<Ingester>>,
    archivers: Vec<(TopicName, Ref<Archiver>)>,
    aggregators: Vec<(TopicName, Ref<Aggregator>)>,
    loaders: Vec<(TopicName, Ref<Loader>)>,
}

impl Wired {
    fn new(tree: Tree) -> Self {
        Self {
            tree,
            vitals: Vec::new(),
            levers: Vec::new(),
            collectors: Vec::new(),
            ingesters: Vec::new(),
            archivers: Vec::new(),
            aggregators: Vec::new(),
            loaders: Vec::new(),
        }
    }
}

impl Common {
    /// Adds every actor to the tree, sinks first.
    fn wire(&self, wired: &mut Wired) -> Result<()> {
        for stage in &self.pipeline.stages {
            match &stage.kind {
                StageKind::Aggregator(settings) => {
                    let settings = Arc::new(settings.clone());
                    for replica in (0..stage.replicas).rev() {
                        let parts = AggregatorParts {
                            settings: settings.clone(),
                            replicas: stage.replicas,
                            bus: backed(&self.pipeline, &settings.topic, self.bus.clone(), self.store.clone()),
                            store: self.store.clone(),
                            clock: self.clock.clone(),
                            suspects: Suspects::default(),
                            proposed: Proposed::default(),
                            tracer: self.tracer.clone(),
                        };
                        let actor = self.child(wired, stage, replica, move |life| Aggregator::new(life, parts.clone()));
                        self.hand_over(wired, Lever::rolling(&actor));
                        wired.aggregators.push((settings.topic.clone(), actor));
                    }
                }
                StageKind::Archiver(settings) => {
                    let settings = Arc::new(settings.clone());
                    for replica in (0..stage.replicas).rev() {
                        let parts = ArchiverParts {
                            settings: settings.clone(),
                            replicas: stage.replicas,
                            node: self.node.clone(),
                            epoch: Epoch(1),
                            bus: self.bus.clone(),
                            store: self.store.clone(),
                            clock: self.clock.clone(),
                            suspects: Suspects::default(),
                            counted: Counted::default(),
                            tracer: self.tracer.clone(),
                        };
                        let actor = self.child(wired, stage, replica, move |life| Archiver::new(life, parts.clone()));
                        self.hand_over(wired, Lever::rolling(&actor));
                        wired.archivers.push((settings.topic.clone(), actor));
                    }
                }
                StageKind::Loader(settings) => {
                    let (settings, sink) = (Arc::new((**settings).clone()), load::open(&settings.sink)?);
                    let witness = load::Witness::default();
                    for replica in (0..stage.replicas).rev() {
                        let parts = LoaderParts {
                            settings: settings.clone(),
                            replicas: stage.replicas,
                            bus: backed(&self.pipeline, &settings.topic, self.bus.clone(), self.store.clone()),
                            sink: sink.clone(),
                            clock: self.clock.clone(),
                            suspects: Suspects::default(),
                            loads: Loads::default(),
                            witness: witness.clone(),
                            tracer: self.tracer.clone(),
                        };
                        let actor = self.child(wired, stage, replica, move |life| Loader::new(life, parts.clone()));
                        self.hand_over(wired, Lever::rolling(&actor));
                        wired.loaders.push((settings.topic.clone(), actor));
                    }
                }
                StageKind::Ingester { .. } | StageKind::Collector(_) => {}
            }
        }
        for stage in &self.pipeline.stages {
            if let StageKind::Ingester { collector, settings } = &stage.kind {
                let (link, told) = self.collector(collector)?;
                let parts = IngesterParts {
                    settings: Arc::new(settings.clone()),
                    collector: told,
                    source: self.source(collector),
                    bus: self.bus.clone(),
                    link,
                    ledger: Ledger::default(),
                    tracer: self.tracer.clone(),
                    clock: self.clock.clone(),
                };
                let actor = self.child(wired, stage, 0, move |life| Ingester::new(life, parts.clone()));
                self.hand_over(wired, Lever::new(&actor));
                wired.ingesters.push(actor);
            }
        }
        for stage in &self.pipeline.stages {
            if let StageKind::Collector(_) = &stage.kind {
                let (link, settings) = self.collector(&stage.id)?;
                let parts = CollectorParts {
                    settings,
                    source: self.source(&stage.id),
                    node: self.node.clone(),
                    link,
                    ledger: Ledger::default(),
                    tracer: self.tracer.clone(),
                    clock: self.clock.clone(),
                };
                let actor = self.child(wired, stage, 0, move |life| Collector::new(life, parts.clone()));
                self.hand_over(wired, Lever::new(&actor));
                wired.collectors.push(actor);
            }
        }
        Ok(())
    }

    fn child<A>(
        &self,
        wired: &mut Wired,
        stage: &Stage,
        replica: u32,
        make: impl Fn(Life<A>) -> A + Send + Sync + 'static,
    ) -> Ref<A>
    where
        A: actix::Actor<Context = actix::Context<A>> + actix::Supervised,
    {
        let id = ActorId { pipeline: self.pipeline.id.clone(), stage: stage.id.clone(), replica };
        let is_held = self.wishes.of(&id).is_some_and(|wish| wish.hold == Hold::Stopped);
        let vitals = Vitals::new(id, kind_of(&stage.kind));
        vitals.retention_ms.set(self.pipeline.retention_of(stage).unwrap_or(0));
        wired.vitals.push(vitals.clone());
        wired.tree.child(Spec::new(vitals, stage.supervision, make).held(is_held))
    }

    /// Lets orders reach an actor, which begins as a person wanted it.
    fn hand_over(&self, wired: &mut Wired, lever: Lever) {
        lever.begin(self.wishes.of(lever.id()).as_ref());
        wired.levers.push(lever);
    }

    /// What a collector shares with its ingester, and what it was told.
    fn collector(&self, id: &StageId) -> Result<(Link, Arc<collect::Settings>)> {
        let stage = self.pipeline.stages.iter().find(|stage| stage.id == *id);
        match (self.links.get(id), stage.map(|stage| &stage.kind)) {
            (Some(link), Some(StageKind::Collector(settings))) => Ok((link.clone(), Arc::new(settings.clone()))),
            _ => Err(Fault::internal(format!("stage {id} is no collector, and the configuration was checked"))),
        }
    }

    fn source(&self, collector: &StageId) -> String {
        format!("{}/{collector}", self.pipeline.id)
    }
}

fn kind_of(stage: &StageKind) -> Kind {
    match stage {
        StageKind::Collector(_) => Kind::Collector,
        StageKind::Ingester { .. } => Kind::Ingester,
        StageKind::Archiver(_) => Kind::Archiver,
        StageKind::Aggregator(_) => Kind::Aggregator,
        StageKind::Loader(_) => Kind::Loader,
    }
}

/// What this machine calls itself.
pub(super) fn host() -> NodeId {
    NodeId::new(rustix::system::uname().nodename().to_string_lossy().into_owned())
}
