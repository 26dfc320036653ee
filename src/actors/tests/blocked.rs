//! A collector whose thread is blocked in the middle of its work, before a server of recorded events.

use std::{
    collections::BTreeMap,
    sync::{Mutex, mpsc},
};

use super::{
    collector::{NUM_EVENTS, check, house_of, serve},
    *,
};
use crate::{model::Millis, recorded::Options, vitals::Death};

/// A clock that blocks the collector's thread once, when it is asked for the time.
#[derive(Default)]
struct Blocking(Mutex<Option<mpsc::Receiver<()>>>);

impl Clock for Blocking {
    fn now(&self) -> Millis {
        let thread = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        if thread.trim() == "p/collect/0" {
            let freed = self.0.lock().unwrap().take();
            let _ = freed.map(|freed| freed.recv());
        }
        SystemClock.now()
    }
}

#[actix::test]
async fn a_collector_whose_thread_was_blocked_keeps_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (_served, url, edits) = serve(Options { speed: 10_000.0, ..Options::default() }).await;
    let clock = Arc::new(Blocking::default());
    let tree = tree_on(Arc::new(Threads::default()));
    let house = house_of(tree, clock.clone(), folder.path(), &bus, &url, Duration::from_secs(600));
    let vitals = house.collector.vitals();
    while vitals.records_out.get() < 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (free, freed) = mpsc::channel();
    *clock.0.lock().unwrap() = Some(freed);
    while vitals.life().incarnation != Incarnation(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(vitals.abandoned.get(), 1);
    // It wakes while its successor is at work.
    free.send(()).unwrap();
    house.end(&bus, NUM_EVENTS).await;
    check(&bus, &edits).await;
    while vitals.abandoned.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(vitals.life().restarts, BTreeMap::from([(Death::Blocked, 1)]));
    assert_eq!(vitals.possible_gaps.get(), 0);
}
