//! The aggregator.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::{
    model::Millis,
    table::{self, testing},
    vitals::Death,
};

/// Records of each life, which make a commit due.
const EACH: u64 = 100;

const NUM_RECORDS: u64 = 100 * EACH;
const MINUTE: Millis = 60_000;

pub(super) fn settings() -> table::Settings {
    let measures = testing::settings().measures.into_iter().take(1).collect();
    table::Settings { topic: "t".into(), measures, commit_records: EACH, ..testing::settings() }
}

pub(super) fn parts(settings: table::Settings, bus: SharedBus, store: &Arc<Watched>) -> AggregatorParts {
    let clock = Arc::new(SystemClock);
    let suspects = Suspects::default();
    AggregatorParts {
        settings: Arc::new(settings),
        replicas: 1,
        bus,
        store: store.clone(),
        clock,
        suspects,
        proposed: Proposed::default(),
        tracer: Tracer::default(),
    }
}

pub(super) fn text((time, wiki): (Millis, &str)) -> String {
    format!(r#"{{"wiki":"{wiki}","timestamp":{}.{:03}}}"#, time / 1_000, time % 1_000)
}

pub(super) async fn view(store: &Watched) -> table::View {
    table::show(store, &settings().path, None, None).await.unwrap().unwrap()
}

pub(super) async fn drain(aggregator: &Ref<Aggregator>, until: BTreeMap<Partition, Offset>) {
    let (done, answered) = oneshot::channel();
    aggregator.order(Drain { until, done }).await.unwrap();
    answered.await.unwrap();
}

#[actix::test]
async fn an_aggregator_restarted_a_hundred_times_over_its_commits_counts_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    // The last five minutes, so that nothing is late or in the future.
    let begun = SystemClock.now() - 5 * MINUTE;
    let edit = |n: u64| {
        (begun + (n as Millis) * 5 * MINUTE / NUM_RECORDS as Millis, ["dewiki", "enwiki"][(n % 3 / 2) as usize])
    };
    let mut expected = BTreeMap::<_, u64>::new();
    for (time, wiki) in (0..NUM_RECORDS).map(edit) {
        *expected.entry((time / MINUTE * MINUTE, wiki.to_owned())).or_default() += 1;
    }

    let store = Watched::new(false);
    let parts = parts(settings(), bus.clone(), &store);
    let mut tree = tree();
    let aggregator = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
    let root = start(tree);
    let feed = async |life| send(&bus, (life * EACH..(life + 1) * EACH).map(|n| text(edit(n)))).await;
    restart_a_hundred_times(&root, &aggregator, &store.witness, feed).await;
    drain(&aggregator, BTreeMap::from([(0, NUM_RECORDS)])).await;
    let rows = view(&store).await.rows.into_iter();
    let counted = rows.map(|row| match row.cells[..] {
        [table::window::Cell::Long(edits)] => ((row.window_start, row.keys[0].clone()), edits as u64),
        ref other => panic!("{other:?}"),
    });
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), expected);
    let vitals = aggregator.vitals();
    assert_eq!((vitals.records_in.get(), vitals.records_out.get()), (NUM_RECORDS, NUM_RECORDS));
    assert_eq!(vitals.latency.get().count, NUM_RECORDS);
}

/// A partition that nothing comes from because it cannot be read is not idle: taken for idle, all that
/// it holds would be late for ever.
#[actix::test]
async fn a_partition_that_was_not_read_to_its_end_does_not_follow_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let inner = bus_of(folder.path(), 2).await;
    let now = SystemClock.now();
    send_to(&inner, 0, (0..10).map(|n| text((now - 1_000 * n, "enwiki")))).await;
    // Three hours behind the other.
    send_to(&inner, 1, (0..10).map(|n| text((now - 180 * MINUTE + 1_000 * n, "dewiki")))).await;
    let (bus, store) = (WatchedBus::new(inner, true), Watched::new(false));
    let at_once = Duration::from_millis(5);
    let parts = parts(table::Settings { idle: at_once, commit_interval: at_once, ..settings() }, bus.clone(), &store);
    let mut tree = tree();
    let aggregator = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
    let _root = start(tree);
    // The other one is committed, and many more intervals go by.
    let watermarks = async || view(&store).await.positions.iter().map(|(_, p)| p.watermark).collect::<Vec<_>>();
    let begun = async || table::show(&*store, &settings().path, None, None).await.unwrap().is_some();
    while !begun().await || watermarks().await.iter().flatten().count() == 0 {
        tokio::task::yield_now().await;
    }
    // Nothing tells of what does not happen: this is a hundred times the idle time.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(watermarks().await.last(), Some(&None), "it followed before it was read");
    }
    bus.held.send_replace(false);
    drain(&aggregator, BTreeMap::from([(0, 10), (1, 10)])).await;
    assert_eq!((aggregator.vitals().late.get(), aggregator.vitals().records_out.get()), (0, 20));
    // Read to its end and quiet, it follows.
    while watermarks().await[1] != watermarks().await[0] {
        tokio::task::yield_now().await;
    }
}

/// The first replica has nothing to commit any more; the last partition to pass an hour is another's.
#[actix::test]
async fn hours_become_final_by_what_another_replica_commits() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus_of(folder.path(), 2).await;
    let now = SystemClock.now();
    send_to(&bus, 0, (0..10).map(|n| text((now - 1_000 * n, "enwiki")))).await;
    let store = Watched::new(false);
    let (often, never) = (Duration::from_millis(5), Duration::from_secs(3_600));
    let settings = table::Settings { commit_interval: often, idle: never, ..settings() };
    let parts = AggregatorParts { replicas: 2, ..parts(settings.clone(), bus.clone(), &store) };
    let mut tree = tree();
    let aggregator = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
    let _root = start(tree);
    while aggregator.vitals().records_out.get() < 10 {
        tokio::task::yield_now().await;
    }
    // Many rounds after its last commit, in which nothing was final.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(aggregator.vitals().final_until.get(), 0);
    let (pause, clock) = (Arc::new(testing::NoPause), Arc::new(SystemClock));
    let mut other = table::Committer::open(&settings, store.clone(), pause, clock).await.unwrap();
    let topic = bus.topic(&"t".into()).await.unwrap().unwrap().id;
    let mut lane = other.lane(table::LaneId { topic, partition: 1 }, 0);
    for sealed in [lane.begin(), lane.seal(Some(now))] {
        other.commit(&table::Proposal::new(sealed.into_iter().collect())).await.unwrap();
    }
    let closed = async {
        while aggregator.vitals().final_until.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("the hours before are final");
}

/// Nothing comes from its source; whoever empties the table beside it wants it counted all the same.
#[actix::test]
async fn a_table_replaced_beside_an_idle_aggregator_is_counted_again() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, store) = (bus(folder.path()).await, Watched::new(false));
    send(&bus, (0..10).map(|n| text((SystemClock.now() - n, "enwiki")))).await;
    for commit_interval in [Duration::from_millis(5), Duration::from_secs(3_600)] {
        let settings = table::Settings { commit_interval, ..settings() };
        let parts = parts(settings.clone(), bus.clone(), &store);
        let mut tree = tree();
        let aggregator = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
        let root = start(tree);
        drain(&aggregator, BTreeMap::from([(0, 10)])).await;
        let counted = view(&store).await.rows;
        assert!(!counted.is_empty());
        let lane = table::LaneId { topic: bus.topic(&"t".into()).await.unwrap().unwrap().id, partition: 0 };
        table::replace(&settings, &*store, &testing::NoPause, &[(lane, 0)], SystemClock.now()).await.unwrap();
        // By itself at the next interval, and at an ordered end whenever that is.
        let again = async {
            if commit_interval > Duration::from_secs(1) {
                drain(&aggregator, BTreeMap::from([(0, 10)])).await;
            }
            while view(&store).await.rows != counted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), again).await.expect("it is counted again");
        drop(root);
    }
}

#[actix::test]
async fn a_table_of_another_topic_of_the_same_name_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, store) = (bus(folder.path()).await, Watched::new(false));
    send(&bus, (0..10).map(|n| text((SystemClock.now() - n, "enwiki")))).await;
    let made = parts(settings(), bus.clone(), &store);
    let again = made.clone();
    let mut first = tree();
    let aggregator = child(&mut first, "edits", move |life| Aggregator::new(life, made.clone()));
    let root = start(first);
    drain(&aggregator, BTreeMap::from([(0, 10)])).await;
    drop(root);
    bus.delete_topic(&"t".into()).await.unwrap();
    let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    bus.ensure_topic(&TopicSpec { name: "t".into(), num_partitions: 1, cleanup }).await.unwrap();
    let before = view(&store).await;
    let mut second = tree();
    child(&mut second, "edits", move |life| Aggregator::new(life, again.clone()));
    let why = start_and_give_up(second).await;
    assert!(why.contains("deleted and created anew; give the table another path"), "{why}");
    assert_eq!(view(&store).await, before);
}

#[actix::test]
async fn a_record_that_an_aggregator_dies_of_is_a_dead_letter_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, store) = (bus(folder.path()).await, Watched::new(false));
    let now = SystemClock.now();
    let edits = || (0..50).map(|n| text((now - n, "enwiki")));
    send(&bus, edits().chain(["poison".to_owned()]).chain(edits())).await;
    let (made, again) = (parts(settings(), bus.clone(), &store), parts(settings(), bus.clone(), &store));
    let mut first = tree();
    let aggregator = child(&mut first, "edits", move |life| Aggregator::new(life, made.clone()));
    let root = start(first);
    // An order goes with the life that has it.
    while aggregator.vitals().dead_letters.get() == 0 {
        tokio::task::yield_now().await;
    }
    drain(&aggregator, BTreeMap::from([(0, 101)])).await;
    let counted = async || match view(&store).await.rows.iter().map(|row| row.cells[0]).collect::<Vec<_>>()[..] {
        [table::window::Cell::Long(one)] => one,
        [table::window::Cell::Long(one), table::window::Cell::Long(two)] => one + two,
        ref other => panic!("{other:?}"),
    };
    assert_eq!((counted().await, aggregator.vitals().life().restarts[&Death::Panic]), (100, 4));
    assert_eq!((aggregator.vitals().skipped.get(), aggregator.vitals().dead_letters.get()), (1, 1));
    let dead = bus.topic(&"t.dead_letters".into()).await.unwrap().unwrap();
    let letters = crate::bus::read_range(&*bus, &dead, 0, 0, 10).await.unwrap();
    let coordinate = format!("t/{}/0@50", bus.topic(&"t".into()).await.unwrap().unwrap().id);
    let found: Vec<_> =
        letters.iter().map(|letter| (letter.key.clone().unwrap(), letter.value.clone().unwrap())).collect();
    assert_eq!(found, [(coordinate.into(), "poison".into())]);
    drop(root);
    // Another process knows of it by the letter, though the record still feeds an open hour.
    send(&bus, edits()).await;
    let mut second = tree();
    let aggregator = child(&mut second, "edits", move |life| Aggregator::new(life, again.clone()));
    let _root = start(second);
    drain(&aggregator, BTreeMap::from([(0, 151)])).await;
    assert_eq!((counted().await, aggregator.vitals().life().restarts.len()), (150, 0));
}
