//! The rule for commits, against answers that are late, lost or somebody else's.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    fault::{Domain, Effect, Kind},
    model::Millis,
    store::Store,
    table::{
        definition::Definition,
        grid::Hour,
        testing::{Mishap, NoPause, Scripted, settings},
    },
};

const NOW: Millis = 1_442_052_000_000;

fn lane(partition: Partition) -> LaneId {
    LaneId { topic: TopicId(Uuid::from_u128(7)), partition }
}

fn hour(text: &str) -> Hour {
    Hour::parse(text).unwrap()
}

fn table() -> StorePath {
    settings().path
}

struct Writer {
    store: Arc<Scripted>,
    snapshot: Snapshot,
    definition: Definition,
}

impl Writer {
    async fn open(store: &Arc<Scripted>) -> Self {
        let definition = Definition::of(&settings());
        let snapshot = create(&**store, &NoPause, &table(), &definition, NOW).await.unwrap();
        Self { store: Arc::clone(store), snapshot, definition }
    }

    async fn commit(&mut self, change: &dyn Change) -> Result<Outcome, crate::fault::Fault> {
        commit(&*self.store, &NoPause, &mut self.snapshot, &self.definition, change, NOW).await
    }
}

/// A commit for one lane, which puts a file for each of these hours.
fn change(partition: Partition, built_on: u64, next: u64, hours: &[(&str, bool)]) -> Lanes {
    let lane = lane(partition);
    let file = |&(at, replaces): &(&str, bool)| NewFile {
        path: lane.live_path(built_on + 1),
        facts: FileFacts { hour: hour(at), size: 10, num_rows: 3, windows: (hour(at).start(), hour(at).start()) },
        replaces,
    };
    let positions = Positions { seq: built_on + 1, next, rewind: 1, watermark: None };
    let lanes = vec![LaneChange { lane, built_on, positions, files: hours.iter().map(file).collect() }];
    Lanes { commit: Uuid::new_v4(), whole: true, lanes }
}

fn superseded(partitions: &[Partition]) -> Outcome {
    Outcome::Superseded { lanes: partitions.iter().map(|&partition| lane(partition)).collect() }
}

const COMMITTED_1: Outcome = Outcome::Committed { version: 1 };
const TWO: &str = "2015-09-12T14:00:00Z";

#[tokio::test]
async fn what_was_committed_is_read_back_and_a_refresh_is_as_good_as_a_load() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut first = change(0, 0, 100, &[(TWO, false)]);
    first.lanes[0].positions.watermark = Some(-5);
    assert_eq!(writer.commit(&first).await.unwrap(), COMMITTED_1);
    let second = change(0, 1, 200, &[(TWO, true), ("2015-09-12T15:00:00Z", false)]);
    assert_eq!(writer.commit(&second).await.unwrap(), Outcome::Committed { version: 2 });
    let loaded = Snapshot::load(&*store, &table()).await.unwrap().unwrap();
    for snapshot in [&loaded, &writer.snapshot] {
        assert_eq!(snapshot.version(), 2);
        // A commit without a watermark leaves the stored one; the windows never propose less.
        let expected = Positions { seq: 2, next: 200, rewind: 1, watermark: Some(-5) };
        assert_eq!(snapshot.lanes().collect::<Vec<_>>(), [(lane(0), expected)]);
        let files: Vec<_> = snapshot.live(lane(0)).map(|(path, file)| (path.to_owned(), file.hour)).collect();
        let mut put: Vec<_> = second.lanes[0].files.iter().map(|f| (f.path.clone(), Some(f.facts.hour))).collect();
        put.sort();
        assert_eq!(files, put);
        assert_eq!(
            snapshot
                .files()
                .map(|(_, file)| (&file.add.partition_values["dt"], file.add.num_rows()))
                .collect::<Vec<_>>(),
            [(&Some("2015-09-12".to_owned()), Some(3)); 2]
        );
    }
}

#[tokio::test]
async fn the_lines_are_those_of_the_protocol() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut change = change(3, 0, 100, &[(TWO, false)]);
    change.lanes[0].positions.watermark = Some(NOW);
    writer.commit(&change).await.unwrap();
    let lines = |version| -> Vec<Value> {
        let file = store.files.lock().unwrap()[&version_path(&table(), version)].clone();
        file.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    };
    let zero = lines(0);
    assert_eq!(zero[1], json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
    let meta = &zero[2]["metaData"];
    assert_eq!(meta["partitionColumns"], json!(["dt"]));
    assert_eq!(meta["format"], json!({"provider": "parquet", "options": {}}));
    let schema: Value = serde_json::from_str(meta["schemaString"].as_str().unwrap()).unwrap();
    let fields: Vec<_> =
        schema["fields"].as_array().unwrap().iter().map(|f| format!("{} {}", f["name"], f["type"])).collect();
    let expected = ["window_start timestamp", "window_end timestamp", "wiki string", "edits long"];
    let expected = [&expected[..], &["size_sum double", "size_count long", "dt string"]].concat();
    assert_eq!(fields, expected.iter().map(|f| format!("\"{}\"", f.replace(' ', "\" \""))).collect::<Vec<_>>());

    let one = lines(1);
    assert_eq!(one[0]["commitInfo"]["txnId"], json!(change.commit.to_string()));
    let app = format!("howdah/{}/00000000000000000000000000000007/3/", meta["id"].as_str().unwrap());
    for (line, (what, version)) in [("seq", 1), ("next", 100), ("rewind", 1), ("watermark", NOW)].iter().enumerate() {
        let txn = json!({"appId": format!("{app}{what}"), "version": version, "lastUpdated": NOW});
        assert_eq!(one[line + 1], json!({ "txn": txn }));
    }
    let add = &one[5]["add"];
    assert_eq!(add["path"], json!(change.lanes[0].files[0].path));
    assert_eq!(add["partitionValues"], json!({"dt": "2015-09-12"}));
    assert_eq!(add["tags"], json!({"howdah.hour": TWO}));
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["minValues"]["window_start"], json!("2015-09-12T14:00:00.000Z"));
}

#[test]
fn a_live_file_says_whose_it_is() {
    let path = lane(3).live_path(12);
    assert_eq!(LaneId::of_live_path(&path), Some((lane(3), 12)));
    for other in ["dt=2015-09-12/14.parquet", "_live/x-1-1-1.parquet", "_live/", "live/a"] {
        assert_eq!(LaneId::of_live_path(other), None, "{other}");
    }
}

#[tokio::test]
async fn a_table_of_other_settings_or_another_program_is_refused() {
    let store = Arc::new(Scripted::default());
    Writer::open(&store).await;
    let mut other = settings();
    other.lateness *= 2;
    let fault = create(&*store, &NoPause, &table(), &Definition::of(&other), NOW).await.unwrap_err();
    assert_eq!(fault.domain, Domain::User);
    for word in ["/aggregates/wiki_edits_minute", "lateness_ms is 600000, not 1200000", "new path", "go back"] {
        assert!(fault.message.contains(word), "{word} in {fault}");
    }
    let path = version_path(&table(), 0);
    let refused = async |from: &str, to: &str, word: &str| {
        let text = String::from_utf8(store.read(&path).await.unwrap().unwrap().to_vec()).unwrap();
        let changed = store.fork();
        changed.files.lock().unwrap().insert(path.clone(), Bytes::from(text.replace(from, to)));
        let fault = Snapshot::load(&changed, &table()).await.unwrap_err();
        assert!(fault.domain == Domain::User && fault.message.contains(word), "{fault}");
    };
    refused("howdah.fingerprint", "other", "did not make").await;
    refused("\"howdah.format\":\"3\"", "\"howdah.format\":\"1\"", "another howdah").await;
    refused("\"minReaderVersion\":1", "\"minReaderVersion\":3", "protocol").await;
}

#[tokio::test]
async fn whoever_comes_first_makes_the_table_and_the_others_take_it() {
    let store = Arc::new(Scripted::default());
    let other = Arc::new(store.fork());
    Writer::open(&other).await;
    *store.rival.lock().unwrap() = other.read(&version_path(&table(), 0)).await.unwrap().unwrap();
    store.next_puts(&[Mishap::Beaten]);
    assert_eq!(Writer::open(&store).await.snapshot.version(), 0);
}

#[tokio::test]
async fn two_lanes_that_race_both_commit() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    // The rival's version 1 is another lane's.
    let other = Arc::new(store.fork());
    Writer::open(&other).await.commit(&change(1, 0, 50, &[(TWO, false)])).await.unwrap();
    *store.rival.lock().unwrap() = other.read(&version_path(&table(), 1)).await.unwrap().unwrap();
    store.next_puts(&[Mishap::Beaten]);
    let outcome = writer.commit(&change(0, 0, 100, &[(TWO, false)])).await.unwrap();
    assert_eq!(outcome, Outcome::Committed { version: 2 });
    assert_eq!(writer.snapshot.lanes().count(), 2);
    assert_eq!(writer.snapshot.files().count(), 2);
}

#[tokio::test]
async fn who_loses_the_race_to_its_own_lane_judges_anew_and_does_not_commit() {
    let store = Arc::new(Scripted::default());
    let mut zombie = Writer::open(&store).await;
    let other = Arc::new(store.fork());
    Writer::open(&other).await.commit(&change(0, 0, 180, &[(TWO, false)])).await.unwrap();
    *store.rival.lock().unwrap() = other.read(&version_path(&table(), 1)).await.unwrap().unwrap();
    store.next_puts(&[Mishap::Beaten]);
    let outcome = zombie.commit(&change(0, 0, 100, &[(TWO, false)])).await.unwrap();
    assert_eq!(outcome, superseded(&[0]));
    assert_eq!(zombie.snapshot.positions(lane(0)).unwrap().next, 180);
}

#[tokio::test]
async fn a_zombie_that_reads_the_newest_version_is_superseded_all_the_same() {
    let store = Arc::new(Scripted::default());
    let (mut owner, mut zombie) = (Writer::open(&store).await, Writer::open(&store).await);
    let both = Lanes {
        lanes: [change(0, 0, 10, &[]).lanes, change(1, 0, 10, &[]).lanes].concat(),
        commit: Uuid::new_v4(),
        whole: true,
    };
    owner.commit(&both).await.unwrap();
    // A commit that only moves the watermark keeps `next`; the zombie, built before it, would
    // bring in records that are late by now.
    let mut idle = change(0, 1, 10, &[]);
    idle.lanes[0].positions.watermark = Some(NOW);
    owner.commit(&idle).await.unwrap();
    zombie.snapshot.refresh(&*store).await.unwrap();
    let late = Lanes {
        whole: true,
        lanes: [change(0, 1, 20, &[(TWO, false)]).lanes, change(1, 1, 20, &[]).lanes].concat(),
        commit: Uuid::new_v4(),
    };
    assert_eq!(zombie.commit(&late).await.unwrap(), superseded(&[0]));
    assert_eq!(zombie.snapshot.version(), 2, "nothing was put");
}

#[tokio::test]
async fn an_unclear_answer_is_read_back_and_nothing_is_committed_twice() {
    for mishap in [Mishap::Lost, Mishap::Unanswered, Mishap::DoneThenAway(3)] {
        let store = Arc::new(Scripted::default());
        let mut writer = Writer::open(&store).await;
        store.next_puts(&[mishap]);
        assert_eq!(writer.commit(&change(0, 0, 10, &[(TWO, false)])).await.unwrap(), COMMITTED_1, "{mishap:?}");
        assert_eq!(store.names(&table().join(LOG)).len(), 2, "{mishap:?}");
    }
}

#[tokio::test]
async fn a_commit_that_was_given_up_as_unknown_is_known_again_when_it_is_repeated() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut unclear = change(0, 0, 10, &[(TWO, false)]);
    store.next_puts(&[Mishap::DoneThenAway(1000)]);
    let fault = writer.commit(&unclear).await.unwrap_err();
    assert_eq!((fault.kind, fault.effect), (Kind::Unknown, Effect::Unknown));
    store.come_back();
    // Tried again with files under fresh names, as the committer does.
    unclear.lanes[0].files[0].path = lane(0).live_path(1);
    assert_eq!(writer.commit(&unclear).await.unwrap(), COMMITTED_1);
    assert_eq!(store.names(&table().join(LOG)).len(), 2);
    // Another one that was built on the same is somebody else's.
    assert_eq!(writer.commit(&change(0, 0, 10, &[])).await.unwrap(), superseded(&[0]));
}

/// Puts a checkpoint of the newest version and forgets all that lies below it.
async fn clean(store: &Scripted) {
    let snapshot = Snapshot::load(store, &table()).await.unwrap().unwrap();
    let version = snapshot.version();
    let bytes = checkpoint::encode(snapshot.actions()).unwrap();
    store.put_if_absent(&checkpoint_path(&table(), version), bytes).await.unwrap();
    store.put_if_absent(&marker_path(&table(), version), Bytes::new()).await.unwrap();
    for version in 0..version {
        store.delete(&version_path(&table(), version)).await.unwrap();
        store.delete(&checkpoint_path(&table(), version)).await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_holds_a_version_whole() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut first = change(0, 0, 100, &[(TWO, false)]);
    first.lanes[0].positions.watermark = Some(NOW);
    writer.commit(&first).await.unwrap();
    writer.commit(&change(0, 1, 200, &[(TWO, true), ("2015-09-12T15:00:00Z", false)])).await.unwrap();
    // Another program's transaction and a file of its own, with a null and no statistics.
    let foreign = concat!(
        r#"{"txn":{"appId":"theirs","version":3}}"#,
        "\n",
        r#"{"add":{"path":"a%20b.parquet","partitionValues":{"dt":null},"size":1,"modificationTime":0,"dataChange":true}}"#
    );
    store.put_if_absent(&version_path(&table(), 3), foreign.into()).await.unwrap();
    let whole = Snapshot::load(&*store, &table()).await.unwrap().unwrap();
    clean(&store).await;
    let mut loaded = Snapshot::load(&*store, &table()).await.unwrap().unwrap();
    let text = |snapshot: &Snapshot| serde_json::to_string(&snapshot.actions().collect::<Vec<_>>()).unwrap();
    assert_eq!(text(&loaded), text(&whole));
    assert_eq!(loaded.removed().map(|(_, version)| version).collect::<Vec<_>>(), [2]);
    // A second one says the same, and so in what goes on from there.
    clean(&store).await;
    loaded.follow(&*store).await.unwrap();
    assert_eq!((loaded.version(), text(&loaded)), (3, text(&whole)));
    writer.commit(&change(0, 2, 300, &[])).await.unwrap();
    loaded.follow(&*store).await.unwrap();
    assert_eq!((loaded.version(), loaded.positions(lane(0)).unwrap().next), (4, 300));
}

#[tokio::test]
async fn a_put_where_the_log_was_cleaned_is_no_commit() {
    let store = Arc::new(Scripted::default());
    let mut owner = Writer::open(&store).await;
    owner.commit(&change(0, 0, 10, &[])).await.unwrap();
    // Two writers fall asleep at version 1, and the log goes on and is cleaned.
    let (mut sleeper, mut other) = (Writer::open(&store).await, Writer::open(&store).await);
    for seq in 1..5 {
        owner.commit(&change(0, seq, 10 * seq, &[])).await.unwrap();
    }
    clean(&store).await;
    assert_eq!(sleeper.commit(&change(0, 1, 99, &[])).await.unwrap(), superseded(&[0]));
    assert!(store.stat(&version_path(&table(), 2)).await.unwrap().is_some(), "its left-over stands there");
    assert_eq!(sleeper.snapshot.positions(lane(0)).unwrap().seq, 5);
    // The second takes the left-over for the log, and the version before its own stands there too.
    assert_eq!(other.commit(&change(0, 2, 98, &[])).await.unwrap(), superseded(&[0]));
    assert!(store.stat(&version_path(&table(), 3)).await.unwrap().is_some() || other.snapshot.version() == 5);
    // Nobody who opens the table sees either of them.
    let loaded = Snapshot::load(&*store, &table()).await.unwrap().unwrap();
    assert_eq!((loaded.version(), loaded.positions(lane(0)).unwrap().next), (5, 40));
    assert_eq!(owner.commit(&change(0, 5, 50, &[])).await.unwrap(), Outcome::Committed { version: 6 });
}

#[tokio::test]
async fn a_partition_that_is_added_later_begins_behind_the_final_hours() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut first = change(0, 0, 10, &[]);
    first.lanes[0].positions.watermark = Some(hour("2015-09-12T14:10:00Z").start());
    writer.commit(&first).await.unwrap();
    let until = hour(TWO).start();
    assert_eq!(Close::possible(&writer.snapshot, lane(0).topic, 1), Some(until));
    assert_eq!(Close::possible(&writer.snapshot, lane(0).topic, 2), None, "partition 1 has no commit yet");
    let close = |num_partitions| Close { commit: Uuid::new_v4(), topic: lane(0).topic, num_partitions, until };
    assert_eq!(writer.commit(&close(1)).await.unwrap(), Outcome::Committed { version: 2 });
    assert_eq!(writer.snapshot.final_until(), Some(until));
    // The other way round: who begins below is turned away, and told where to begin.
    let mut added = change(1, 0, 0, &[]);
    assert_eq!(writer.commit(&added).await.unwrap(), superseded(&[1]));
    added.lanes[0].positions.watermark = writer.snapshot.least_watermark();
    assert_eq!(writer.commit(&added).await.unwrap(), Outcome::Committed { version: 3 });
    // Once a partition has begun, hours are not final without it, whatever the caller knew of it.
    first = change(0, 1, 20, &[]);
    first.lanes[0].positions.watermark = Some(hour("2015-09-12T16:10:00Z").start());
    writer.commit(&first).await.unwrap();
    assert_eq!(Close::possible(&writer.snapshot, lane(0).topic, 1), None);
    let early = Close { until: hour("2015-09-12T16:00:00Z").start(), ..close(1) };
    assert_eq!(writer.commit(&early).await.unwrap(), superseded(&[]));
}

#[tokio::test]
async fn a_log_without_its_beginning_is_no_new_table() {
    let store = Arc::new(Scripted::default());
    Writer::open(&store).await.commit(&change(0, 0, 10, &[])).await.unwrap();
    store.delete(&version_path(&table(), 0)).await.unwrap();
    assert_eq!(Snapshot::load(&*store, &table()).await.unwrap_err().kind, Kind::Lost);
}

#[tokio::test]
async fn an_hour_that_is_final_or_rewritten_by_others_is_not_written_over() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let mut first = change(0, 0, 10, &[(TWO, false)]);
    first.lanes[0].positions.watermark = Some(hour("2015-09-12T13:10:00Z").start());
    writer.commit(&first).await.unwrap();
    // 12:00 is final for the lane under the stored watermark.
    let fault = writer.commit(&change(0, 1, 20, &[("2015-09-12T12:00:00Z", false)])).await.unwrap_err();
    assert_eq!(fault.domain, Domain::Internal);
    // The file that the state was built on is not there: a foreign rewrite.
    let fault = writer.commit(&change(0, 1, 20, &[("2015-09-12T13:00:00Z", true)])).await.unwrap_err();
    assert!(fault.domain == Domain::User && fault.message.contains("another program"), "{fault}");
    let fault = writer.commit(&change(0, 1, 20, &[(TWO, false)])).await.unwrap_err();
    assert_eq!(fault.domain, Domain::User);
}

#[tokio::test]
async fn an_idle_lane_follows_the_largest_watermark_of_its_topics_other_lanes() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    assert_eq!(writer.snapshot.watermark_of_others(lane(0)), None);
    let mut change = change(0, 0, 10, &[]);
    for (partition, watermark) in [(1, Some(50)), (2, None), (3, Some(40)), (0, Some(90))] {
        change.commit = Uuid::new_v4();
        change.lanes[0].lane = lane(partition);
        change.lanes[0].positions.watermark = watermark;
        writer.commit(&change).await.unwrap();
    }
    change.commit = Uuid::new_v4();
    change.lanes[0].lane.topic = TopicId(Uuid::from_u128(8));
    change.lanes[0].positions.watermark = Some(1000);
    writer.commit(&change).await.unwrap();
    assert_eq!(writer.snapshot.watermark_of_others(lane(0)), Some(50));
    assert_eq!(writer.snapshot.watermark_of_others(lane(1)), Some(90));
    assert_eq!(writer.snapshot.watermark_of_others(change.lanes[0].lane), None);
}

#[tokio::test]
async fn a_table_that_was_moved_still_knows_its_lanes() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    assert_eq!(writer.commit(&change(3, 0, 100, &[])).await.unwrap(), Outcome::Committed { version: 1 });
    let (from, to) = (table(), StorePath::new("/elsewhere/edits").unwrap());
    {
        let mut files = store.files.lock().unwrap();
        let moved = std::mem::take(&mut *files).into_iter().map(|(path, bytes)| {
            (to.join(path.as_str().strip_prefix(from.as_str()).unwrap().trim_start_matches('/')), bytes)
        });
        files.extend(moved);
    }
    let snapshot = Snapshot::load(&*store, &to).await.unwrap().unwrap();
    assert_eq!(snapshot.positions(lane(3)).unwrap().next, 100);
}

#[tokio::test]
async fn a_commit_without_its_files_is_only_looked_for() {
    let store = Arc::new(Scripted::default());
    let mut writer = Writer::open(&store).await;
    let absent = Lanes { whole: false, ..change(0, 0, 10, &[]) };
    assert_eq!(writer.commit(&absent).await.unwrap(), superseded(&[0]));
    assert_eq!(writer.snapshot.version(), 0);
    let landed = change(0, 0, 10, &[(TWO, false)]);
    assert_eq!(writer.commit(&landed).await.unwrap(), Outcome::Committed { version: 1 });
    let again = Lanes { whole: false, ..landed };
    assert_eq!(writer.commit(&again).await.unwrap(), Outcome::Committed { version: 1 });
}
