//! The aggregator.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::{
    model::Millis,
    table::{self, testing},
};

/// Records of each life, which make a commit due.
const EACH: u64 = 100;

const NUM_RECORDS: u64 = 100 * EACH;
const MINUTE: Millis = 60_000;

#[actix::test]
async fn an_aggregator_restarted_a_hundred_times_over_its_commits_counts_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    // The last five minutes, so that nothing is late or in the future.
    let begun = SystemClock.now() - 5 * MINUTE;
    let edit = |n: u64| {
        (begun + (n as Millis) * 5 * MINUTE / NUM_RECORDS as Millis, ["dewiki", "enwiki"][(n % 3 / 2) as usize])
    };
    let text = |(time, wiki): (Millis, &str)| {
        format!(r#"{{"wiki":"{wiki}","timestamp":{}.{:03}}}"#, time / 1_000, time % 1_000)
    };
    let mut expected = BTreeMap::<_, u64>::new();
    for (time, wiki) in (0..NUM_RECORDS).map(edit) {
        *expected.entry((time / MINUTE * MINUTE, wiki.to_owned())).or_default() += 1;
    }

    let store = Watched::new(false);
    let settings = table::Settings {
        topic: "t".into(),
        measures: testing::settings().measures.into_iter().take(1).collect(),
        commit_records: EACH,
        ..testing::settings()
    };
    let path = settings.path.clone();
    let parts = AggregatorParts {
        settings: Arc::new(settings),
        replicas: 1,
        bus: bus.clone(),
        store: store.clone(),
        clock: Arc::new(SystemClock),
    };
    let mut tree = tree();
    let aggregator = child(&mut tree, "edits", move |life| Aggregator::new(life, parts.clone()));
    let root = start(tree);
    let feed = async |life| send(&bus, (life * EACH..(life + 1) * EACH).map(|n| text(edit(n)))).await;
    restart_a_hundred_times(&root, &aggregator, &store.witness, feed).await;
    let shown = || async { table::show(&*store, &path, None, None).await.unwrap().unwrap() };

    let (done, answered) = oneshot::channel();
    aggregator.order(Drain { until: BTreeMap::from([(0, NUM_RECORDS)]), done }).await.unwrap();
    answered.await.unwrap();
    let rows = shown().await.rows.into_iter();
    let counted = rows.map(|row| match row.cells[..] {
        [table::window::Cell::Long(edits)] => ((row.window_start, row.keys[0].clone()), edits as u64),
        ref other => panic!("{other:?}"),
    });
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), expected);
}
