//! The archiver.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::{
    archive,
    model::{Epoch, Incarnation, Why},
    vitals::{Death, State},
};

const NUM_RECORDS: u64 = 20_000;

struct House {
    store: Arc<Watched>,
    archiver: Ref<Archiver>,
    root: Root,
}

/// An archiver's parts, and its store; the topic holds [`NUM_RECORDS`].
pub(super) async fn parts(folder: &Path, held: bool) -> (ArchiverParts, Arc<Watched>) {
    parts_on(folder, Watched::new(held), NUM_RECORDS).await
}

async fn parts_on(folder: &Path, store: Arc<Watched>, num_records: u64) -> (ArchiverParts, Arc<Watched>) {
    let bus = bus(folder).await;
    send(&bus, (0..num_records).map(|n| format!("event {n}"))).await;
    let parts = ArchiverParts {
        settings: Arc::new(archive::Settings { roll_bytes: 1_000, ..archive::Settings::for_test() }),
        replicas: 1,
        node: "n".into(),
        epoch: Epoch(1),
        bus,
        store: store.clone(),
        clock: Arc::new(SystemClock),
        suspects: Suspects::default(),
        counted: Counted::default(),
        tracer: Tracer::default(),
    };
    (parts, store)
}

async fn house(folder: &Path, held: bool) -> House {
    let (parts, store) = parts(folder, held).await;
    let mut tree = tree();
    let archiver = child(&mut tree, "archive", move |life| Archiver::new(life, parts.clone()));
    House { store, archiver, root: start(tree) }
}

pub(super) async fn drain(archiver: &Ref<Archiver>) {
    drain_to(archiver, NUM_RECORDS).await;
}

async fn drain_to(archiver: &Ref<Archiver>, until: u64) {
    let (done, answered) = oneshot::channel();
    archiver.order(Drain { until: BTreeMap::from([(0, until)]), done }).await.unwrap();
    answered.await.unwrap();
}

/// The archive's lines, in the order of the files' names.
pub(super) async fn lines(store: &dyn Store) -> Vec<String> {
    let folder = StorePath::new("/raw").unwrap();
    let mut lines = Vec::new();
    for entry in store.list(&folder).await.unwrap().into_iter().filter(|entry| !entry.name.starts_with('_')) {
        let bytes = store.read(&folder.join(&entry.name)).await.unwrap().unwrap();
        lines.extend(String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned));
    }
    lines
}

pub(super) fn expected() -> Vec<String> {
    (0..NUM_RECORDS).map(|n| format!("event {n}")).collect()
}

#[actix::test]
async fn a_suspended_archiver_makes_its_reader_wait_within_the_mailbox_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path(), true).await;
    let vitals = house.archiver.vitals().clone();
    // The reader fills the mailbox and then waits: the depth reaches the bound and stays there.
    while vitals.mailbox_depth.get() < MAILBOX as i64 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(vitals.mailbox_depth.get() <= MAILBOX as i64, "more in the mailbox than it holds");
    }
    assert_eq!(vitals.records_in.get(), 1_000, "one batch is in its hands, and no more while the store is held");
    assert_eq!(vitals.records_out.get(), 0);
    house.store.free();
    drain(&house.archiver).await;
    assert_eq!(lines(&*house.store).await, expected());
    assert_eq!(vitals.records_in.get(), NUM_RECORDS);
    assert!(vitals.life().restarts.is_empty(), "{:?}", vitals.life().restarts);
}

#[actix::test]
async fn an_archiver_restarted_a_hundred_times_over_its_writes_archives_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path(), false).await;
    restart_a_hundred_times(&house.root, &house.archiver, &house.store.witness, async |_| ()).await;
    assert!(lines(&*house.store).await.len() < expected().len(), "the restarts came while it wrote");
    drain(&house.archiver).await;
    assert_eq!(lines(&*house.store).await, expected());
    let vitals = house.archiver.vitals();
    assert_eq!((vitals.records_in.get(), vitals.records_out.get()), (NUM_RECORDS, NUM_RECORDS));
    assert_eq!(vitals.latency.get().count, NUM_RECORDS);
    let bytes = expected().iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    assert_eq!((vitals.bytes_in.get(), vitals.bytes_out.get()), (bytes - NUM_RECORDS, bytes));
}

/// What was read for another life, under another assignment or for another place is no hole.
#[actix::test]
async fn a_batch_of_another_life_assignment_or_place_is_not_archived() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path(), false).await;
    let (archiver, vitals) = (&house.archiver, house.archiver.vitals().clone());
    while vitals.records_in.get() == 0 {
        tokio::task::yield_now().await;
    }
    let gap = |assignment| {
        let batch = Batch { from: NUM_RECORDS - 999, records: Vec::new(), to: NUM_RECORDS - 500, why: Why::Marker };
        TakeBatch { partition: 0, assignment, batch: Ok(batch) }
    };
    for assignment in 0..50 {
        archiver.deliver(gap(assignment), Incarnation(0)).await.unwrap();
    }
    archiver.deliver(gap(1), Incarnation(1)).await.unwrap();
    while vitals.stale_batches.get() < 51 {
        tokio::task::yield_now().await;
    }
    assert!(vitals.life().restarts.is_empty(), "{:?}", vitals.life().restarts);
    // Of the right life and assignment, and yet from elsewhere: not taken, and not passed over.
    archiver.deliver(gap(2), Incarnation(1)).await.unwrap();
    while vitals.life().restarts.is_empty() {
        tokio::task::yield_now().await;
    }
    drain(archiver).await;
    assert_eq!(vitals.life().restarts, BTreeMap::from([(Death::Fault, 1)]));
    assert_eq!(lines(&*house.store).await, expected());
}

#[actix::test]
async fn two_archivers_of_one_partition_adopt_each_others_segments() {
    let folder = tempfile::tempdir().unwrap();
    let (parts, store) = parts(folder.path(), false).await;
    let mine = parts.clone();
    let theirs = ArchiverParts { node: "m".into(), counted: Counted::default(), ..parts };
    let mut tree = tree();
    let one = child(&mut tree, "archive", move |life| Archiver::new(life, mine.clone()));
    let other = child(&mut tree, "rival", move |life| Archiver::new(life, theirs.clone()));
    let _root = start(tree);
    futures_util::join!(drain(&one), drain(&other));
    assert_eq!(lines(&*store).await, expected());
    let both = [&one, &other].map(|archiver| archiver.vitals().clone());
    assert_eq!(both.iter().map(|vitals| vitals.records_out.get()).sum::<u64>(), NUM_RECORDS);
    assert!(both.iter().all(|vitals| vitals.records_in.get() > 0), "only one of them took records");
}

/// One batch is many segments, each of several calls: the bound is for a single one of them.
#[actix::test]
async fn a_slow_store_restarts_nobody() {
    const FEW: u64 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let begun = tokio::time::Instant::now();
    let (parts, store) = parts_on(folder.path(), Watched::slow(false, Duration::from_millis(100)), FEW).await;
    let (mut tree, stall) = (tree(), Duration::from_secs(2));
    let archiver = child_with(&mut tree, "archive", stall, move |life| Archiver::new(life, parts.clone()));
    let _root = start(tree);
    drain_to(&archiver, FEW).await;
    assert_eq!(lines(&*store).await, expected()[..FEW as usize]);
    assert!(archiver.vitals().life().restarts.is_empty(), "{:?}", archiver.vitals().life().restarts);
    assert!(begun.elapsed() > 2 * stall, "not slow enough to prove anything: {:?}", begun.elapsed());
}

/// An archive leaves nothing out: who cannot get past a record stands before it, and the others go on.
#[actix::test]
async fn an_archiver_is_parked_before_a_record_that_it_dies_of() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus_of(folder.path(), 2).await;
    let events = |what: &'static str, num: u64| (0..num).map(move |n| format!("{what} {n}"));
    send_to(&bus, 0, events("before", 10).chain(events("poison", 1)).chain(events("after", 10))).await;
    send_to(&bus, 1, events("other", 10)).await;
    let (parts, store) = parts_on(tempfile::tempdir().unwrap().path(), Watched::new(false), 0).await;
    let parts = ArchiverParts { bus: bus.clone(), ..parts };
    let mut tree = tree();
    let archiver = child(&mut tree, "archive", move |life| Archiver::new(life, parts.clone()));
    let root = start(tree);
    let parked = async || {
        while !matches!(archiver.vitals().life().state, State::Waiting(on) if on.contains("parked before t-0@10")) {
            tokio::task::yield_now().await;
        }
    };
    parked().await;
    assert_eq!(archiver.vitals().life().restarts[&Death::Panic], 4);
    assert_eq!(archiver.vitals().parked.get(), 1);
    let (done, answered) = oneshot::channel();
    archiver.order(Drain { until: BTreeMap::from([(0, 21), (1, 10)]), done }).await.unwrap();
    answered.await.unwrap();
    let found = lines(&*store).await;
    assert_eq!(found.len(), 10, "the other partition: {found:?}");
    // A person may think that it is mended by now: it is tried again, and is not.
    root.supervisor().restart(archiver.id()).await.unwrap();
    while archiver.vitals().life().restarts[&Death::Panic] < 8 {
        tokio::task::yield_now().await;
    }
    parked().await;
}
