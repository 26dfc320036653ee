//! The archiver.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::{archive, model::Epoch};

const NUM_RECORDS: u64 = 20_000;

struct House {
    store: Arc<Watched>,
    archiver: Ref<Archiver>,
    root: Root,
}

/// An archiver of a topic that holds [`NUM_RECORDS`].
async fn house(folder: &Path, held: bool) -> House {
    let bus = bus(folder).await;
    send(&bus, (0..NUM_RECORDS).map(|n| format!("event {n}"))).await;
    let store = Watched::new(held);
    let parts = ArchiverParts {
        settings: Arc::new(archive::Settings { roll_bytes: 1_000, ..archive::Settings::for_test() }),
        replicas: 1,
        node: "n".into(),
        epoch: Epoch(1),
        bus,
        store: store.clone(),
        clock: Arc::new(SystemClock),
    };
    let mut tree = tree();
    let archiver = child(&mut tree, "archive", move |life| Archiver::new(life, parts.clone()));
    House { store, archiver, root: start(tree) }
}

async fn drain(archiver: &Ref<Archiver>) {
    let (done, answered) = oneshot::channel();
    archiver.order(Drain { until: BTreeMap::from([(0, NUM_RECORDS)]), done }).await.unwrap();
    answered.await.unwrap();
}

/// The archive's lines, in the order of the files' names.
async fn lines(store: &dyn Store) -> Vec<String> {
    let folder = StorePath::new("/raw").unwrap();
    let mut lines = Vec::new();
    for entry in store.list(&folder).await.unwrap().into_iter().filter(|entry| !entry.name.starts_with('_')) {
        let bytes = store.read(&folder.join(&entry.name)).await.unwrap().unwrap();
        lines.extend(String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned));
    }
    lines
}

fn expected() -> Vec<String> {
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
    assert_eq!(vitals.records_in.get(), 0, "a batch was taken while the store was held");
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
}
