//! Each kind of actor, with a thread that is blocked in the middle of its work: its successor goes on,
//! and what it held when it wakes is void.

use std::{
    collections::BTreeMap,
    sync::{Mutex, mpsc},
};

use super::{
    aggregator, archiver,
    collector::{NUM_EVENTS, check, house_of, serve},
    *,
};
use crate::{model::Millis, recorded::Options, vitals::Death};

/// A clock that blocks the thread of one actor once, when that asks for the time.
struct Blocking {
    thread: &'static str,
    freed: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Blocking {
    fn the(thread: &'static str) -> Arc<Self> {
        Arc::new(Self { thread, freed: Mutex::default() })
    }

    /// Blocks the actor and waits for its successor; whoever sends then wakes the earlier life.
    async fn block(&self, vitals: &Vitals) -> mpsc::Sender<()> {
        while vitals.records_out.get() < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (free, freed) = mpsc::channel();
        *self.freed.lock().unwrap() = Some(freed);
        while vitals.life().incarnation != Incarnation(2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(vitals.abandoned.get(), 1);
        free
    }
}

impl Clock for Blocking {
    fn now(&self) -> Millis {
        let thread = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        if thread.trim() == self.thread {
            let freed = self.freed.lock().unwrap().take();
            let _ = freed.map(|freed| freed.recv());
        }
        SystemClock.now()
    }
}

/// The earlier life is gone, and it was the only one that was.
async fn check_lives(vitals: &Vitals) {
    while vitals.abandoned.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(vitals.life().restarts, BTreeMap::from([(Death::Blocked, 1)]));
}

/// Of a collector and its ingester, the one whose thread has this name is blocked.
async fn check_source(thread: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (_served, url, edits) = serve(Options { speed: 10_000.0, ..Options::default() }).await;
    let clock = Blocking::the(thread);
    let tree = tree_on(Arc::new(Threads::default()));
    let house = house_of(tree, clock.clone(), folder.path(), &bus, &url, Duration::from_secs(600));
    let vitals = if thread == "p/collect/0" { house.collector.vitals() } else { house.ingester.vitals() };
    let free = clock.block(vitals).await;
    // It wakes while its successor is at work.
    free.send(()).unwrap();
    house.end(&bus, NUM_EVENTS).await;
    check(&bus, &edits).await;
    check_lives(vitals).await;
    assert_eq!(house.collector.vitals().possible_gaps.get(), 0);
}

#[actix::test]
async fn a_collector_whose_thread_was_blocked_keeps_every_event_once() {
    check_source("p/collect/0").await;
}

#[actix::test]
async fn an_ingester_whose_thread_was_blocked_sends_every_event_once() {
    check_source("p/ingest/0").await;
}

#[actix::test]
async fn an_archiver_whose_thread_was_blocked_archives_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Blocking::the("p/archive/0");
    let (parts, store) = archiver::parts(folder.path(), false).await;
    let parts = ArchiverParts { clock: clock.clone(), ..parts };
    let mut tree = tree_on(Arc::new(Threads::default()));
    let archive = child(&mut tree, "archive", move |life| Archiver::new(life, parts.clone()));
    let _root = start(tree);
    let free = clock.block(archive.vitals()).await;
    free.send(()).unwrap();
    archiver::drain(&archive).await;
    check_lives(archive.vitals()).await;
    assert!(archiver::lines(&*store).await == archiver::expected(), "not every record once and in order");
}

#[actix::test]
async fn an_aggregator_whose_thread_was_blocked_counts_every_record_once() {
    const EACH: Millis = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let (bus, store) = (bus(folder.path()).await, Watched::new(false));
    let edits = || (0..EACH).map(|n| aggregator::text((SystemClock.now() - n, "enwiki")));
    send(&bus, edits()).await;
    let clock = Blocking::the("p/edits/0");
    let parts = aggregator::parts(aggregator::settings(), bus.clone(), &store);
    let parts = AggregatorParts { clock: clock.clone(), ..parts };
    let mut tree = tree_on(Arc::new(Threads::default()));
    let edits_table = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
    let _root = start(tree);
    let free = clock.block(edits_table.vitals()).await;
    // Its successor commits more before the earlier life wakes in the middle of its own commit.
    aggregator::drain(&edits_table, BTreeMap::from([(0, EACH.unsigned_abs())])).await;
    free.send(()).unwrap();
    send(&bus, edits()).await;
    aggregator::drain(&edits_table, BTreeMap::from([(0, 2 * EACH.unsigned_abs())])).await;
    check_lives(edits_table.vitals()).await;
    let cells = aggregator::view(&store).await.rows.into_iter().map(|row| match row.cells[..] {
        [crate::table::window::Cell::Long(edits)] => edits,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(cells.sum::<i64>(), 2 * EACH);
}
