//! From an order to restart an actor to its next record, in the shipped pipeline at work. Its spool is synced
//! every 5 ms and its tables commit ten times a second here: an ingester takes what is synced, and an
//! aggregator counts what is committed, so that the shipped waits for either would be measured instead.

use std::{path::Path, sync::Arc, time::Duration};

use howdah::{
    config::{Pipeline, StageKind},
    node::Node,
    recorded::{self, Feed, Layout, Options},
    trace::Tracer,
    vitals::Vitals,
};
use tokio::{net::TcpListener, time::Instant};

/// Restarts of each actor.
const RESTARTS: usize = 20;

/// Events a second, so that the next record is never far.
const SPEED: f64 = 1_000.0;

/// Serves `events` and runs the pipeline that `of` makes for the server's URL.
pub async fn restart(events: &[u8], state: &Path, of: impl FnOnce(&str) -> Pipeline) {
    let feed = Arc::new(Feed::load(events, Layout::default()).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let options = Options { speed: SPEED, ..Options::default() };
    let (served, work) = recorded::serve(listener, feed, options, std::future::pending()).unwrap();
    tokio::task::spawn_local(work);
    let mut pipeline = of(&format!("http://{}/v2/stream/recentchange", served.addr));
    for stage in &mut pipeline.stages {
        match &mut stage.kind {
            StageKind::Aggregator(settings) => settings.commit_interval = Duration::from_millis(100),
            StageKind::Collector(settings) => settings.spool.sync_within = Duration::from_millis(10),
            StageKind::Archiver(_) | StageKind::Ingester { .. } | StageKind::Loader(_) => {}
        }
    }
    let begun = Instant::now();
    let node = Node::start(vec![pipeline], state, &Tracer::default()).await.unwrap();
    println!("restarts, at {SPEED} events a second");
    for actor in node.actors() {
        moved(actor, 0).await;
    }
    println!("  start to the first record through every stage: {} ms", begun.elapsed().as_millis());
    for actor in node.actors() {
        let mut took = Vec::new();
        for _ in 0..RESTARTS {
            let ordered = Instant::now();
            node.kill(&actor.id).await;
            moved(actor, actor.records_in.get()).await;
            took.push(ordered.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        took.sort();
        let (half, most) = (took[RESTARTS / 2].as_millis(), took[RESTARTS - 1].as_millis());
        println!("  {:<28} order to next record: median {half} ms, at most {most} ms", actor.id.to_string());
    }
    node.stop().await;
}

/// Waits until an actor has taken in more records than so many.
async fn moved(actor: &Vitals, than: u64) {
    while actor.records_in.get() <= than {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
