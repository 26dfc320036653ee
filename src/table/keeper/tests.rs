//! A table that is kept for long, and the final hours of one that other programs meddle with.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::{
    fault::Kind,
    model::{Batch, ManualClock, Offset, Partition, Record, TopicId, Why},
    store::{Entry, Store, memory::MemoryStore},
    table::{
        Committer, Lane, LaneId, Proposal, parquet, show,
        testing::{NoPause, edit, settings},
        window::{Cell, Plan, Row},
    },
};

const TEN: Millis = 1_442_052_000_000; // 2015-09-12T10:00:00Z
const MINUTE: Millis = 60_000;

fn id(partition: Partition) -> LaneId {
    LaneId { topic: TopicId(Uuid::from_u128(7)), partition }
}

/// A table with one lane a partition, which commits and is kept.
struct Table {
    store: Arc<MemoryStore>,
    clock: ManualClock,
    settings: Settings,
    committer: Committer,
    keeper: Keeper,
    lanes: Vec<Lane>,
    topic: TopicInfo,
}

impl Table {
    async fn open(partitions: Partition, change: impl FnOnce(&mut Settings)) -> Self {
        let clock = ManualClock::at(TEN);
        let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        Self::on(store, clock, partitions, change).await
    }

    async fn on(
        store: Arc<MemoryStore>,
        clock: ManualClock,
        partitions: Partition,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let (shared, pause): (SharedStore, Arc<dyn Pause>) = (store.clone(), Arc::new(NoPause));
        let time: Arc<dyn Clock> = Arc::new(clock.clone());
        let committer = Committer::open(&settings, shared.clone(), pause.clone(), time.clone()).await.unwrap();
        let keeper = Keeper::open(&settings, shared, pause, time).await.unwrap();
        let lanes = (0..partitions).map(|partition| committer.lane(id(partition), 0)).collect();
        let topic = TopicInfo { name: "wiki_changes".into(), id: id(0).topic, num_partitions: partitions };
        Self { store, clock, settings, committer, keeper, lanes, topic }
    }

    /// Edits at these minutes after ten, and a commit.
    async fn edits(&mut self, partition: Partition, minutes: &[Millis]) {
        let lane = &mut self.lanes[partition as usize];
        let from = lane.at();
        let record = |(at, minute): (Offset, &Millis)| edit(from + at, TEN + minute * MINUTE, "enwiki");
        let records: Vec<Record> = (0..).zip(minutes).map(record).collect();
        lane.take(&Batch { from, to: from + records.len() as Offset, records, why: Why::Marker });
        let sealed = self.lanes.iter_mut().filter_map(|lane| lane.seal(None)).collect();
        self.committer.commit(&Proposal::new(sealed)).await.unwrap();
    }

    async fn round(&mut self) -> Kept {
        self.keeper.round(&self.topic).await.unwrap()
    }

    async fn list(&self, folder: &str) -> Vec<Entry> {
        self.store.list(&self.settings.path.join(folder)).await.unwrap()
    }

    async fn names(&self, folder: &str) -> Vec<String> {
        self.list(folder).await.into_iter().map(|entry| entry.name).collect()
    }

    /// What a plain reader finds in a file.
    async fn plain(&self, path: &str) -> Vec<(Millis, i64)> {
        let bytes = self.store.read(&self.settings.path.join(path)).await.unwrap().expect("the file is there");
        let rows = parquet::read(self.plan().columns(), bytes).unwrap();
        rows.iter().map(edits_of).collect()
    }

    async fn shown(&self) -> Vec<(Millis, i64)> {
        show(&*self.store, &self.settings.path, None, None).await.unwrap().unwrap().rows.iter().map(edits_of).collect()
    }

    fn plan(&self) -> &Plan {
        &self.keeper.table.plan
    }
}

fn edits_of(row: &Row) -> (Millis, i64) {
    match row.cells[0] {
        Cell::Long(edits) => ((row.window_start - TEN) / MINUTE, edits),
        cell => panic!("{cell:?}"),
    }
}

#[tokio::test]
async fn an_hour_that_is_final_on_all_partitions_is_one_file_for_everybody() {
    let mut table = Table::open(2, |_| ()).await;
    table.edits(0, &[0, 5, 5, 61]).await;
    table.edits(1, &[5, 7]).await;
    table.edits(0, &[90]).await;
    // Partition 1 still stands at 10:07.
    let kept = table.round().await;
    assert_eq!((kept.closed, kept.swapped), (Some(TEN - 60 * MINUTE), 0), "all before nine");
    assert_eq!(table.names("dt=2015-09-12").await, [""; 0]);
    let before = table.shown().await;
    table.edits(1, &[75]).await;
    let kept = table.round().await;
    assert_eq!((kept.closed, kept.swapped), (Some(TEN + 60 * MINUTE), 1));
    assert_eq!(table.names("dt=2015-09-12").await, ["10.parquet"]);
    assert_eq!(table.plain("dt=2015-09-12/10.parquet").await, [(0, 1), (5, 3), (7, 1)]);
    assert_eq!(
        table.shown().await,
        [before, vec![(75, 1)]].concat().into_iter().collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(table.names("_final").await, [""; 0]);
    assert_eq!(table.round().await, Kept::default(), "and that is all");
}

#[tokio::test]
async fn a_partition_that_wakes_after_its_hour_was_final_adds_nothing_to_it() {
    let mut table = Table::open(2, |_| ()).await;
    table.edits(0, &[0, 30]).await;
    table.edits(1, &[0]).await;
    table.edits(0, &[120]).await;
    // Partition 1 sleeps and follows the other one.
    let follow = table.committer.snapshot().watermark_of_others(id(1));
    let sealed = table.lanes[1].seal(follow).into_iter().collect();
    table.committer.commit(&Proposal::new(sealed)).await.unwrap();
    assert_eq!(table.round().await.swapped, 1);
    // It wakes with events of that hour: late, for ever.
    table.edits(1, &[31, 121]).await;
    assert_eq!(table.plain("dt=2015-09-12/10.parquet").await, [(0, 2), (30, 1)]);
    assert_eq!(table.shown().await, [(0, 2), (30, 1), (120, 1), (121, 1)]);
}

#[tokio::test]
async fn who_dies_before_the_swap_is_taken_over_and_a_foreign_file_is_not_taken_for_an_hour() {
    let mut table = Table::open(1, |_| ()).await;
    table.edits(0, &[0, 30, 80]).await;
    // Somebody has brought the file to its name and died: another one adopts it.
    let mut dead = Table::on(table.store.clone(), table.clock.clone(), 1, |_| ()).await;
    dead.round().await;
    let log = table.settings.path.join("_delta_log");
    let swap = table.names("_delta_log").await.pop().unwrap();
    table.store.delete(&log.join(&swap)).await.unwrap();
    let mut heir = Table::on(table.store.clone(), table.clock.clone(), 1, |_| ()).await;
    assert_eq!(heir.round().await.swapped, 1);
    assert_eq!(heir.plain("dt=2015-09-12/10.parquet").await, [(0, 1), (30, 1)]);
    // Now the next hour's name is taken by a file of other rows.
    let foreign = table.store.read(&table.settings.path.join("dt=2015-09-12/10.parquet")).await.unwrap().unwrap();
    let taken = table.settings.path.join("dt=2015-09-12/11.parquet");
    table.store.put_if_absent(&taken, foreign).await.unwrap();
    table.edits(0, &[150]).await;
    let fault = heir.keeper.round(&heir.topic).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Lost);
    for word in ["11.parquet", "2 rows", "another program", "move it away"] {
        assert!(fault.to_string().contains(word), "{word} in {fault}");
    }
    // Nobody lost anything by it, and once it is moved away the hour comes.
    assert_eq!(heir.shown().await, [(0, 1), (30, 1), (80, 1), (150, 1)]);
    table.store.delete(&taken).await.unwrap();
    assert_eq!(heir.round().await.swapped, 1);
}

#[tokio::test]
async fn a_live_file_of_an_owner_that_sleeps_is_kept_however_old_it_is() {
    let hardly_kept = |settings: &mut Settings| {
        (settings.history, settings.checkpoint_every) = (std::time::Duration::from_secs(60), 2);
    };
    let mut table = Table::open(2, hardly_kept).await;
    // The owner of partition 1 has written its file, and falls asleep before it commits.
    let mut sleeper = Table::on(table.store.clone(), table.clock.clone(), 2, |_| ()).await;
    let (asleep, dead) = (id(1).live_path(1), id(0).live_path(1));
    for path in [&asleep, &dead] {
        let mut writer = table.store.create(&table.settings.path.join(path)).await.unwrap();
        writer.append("rows".into()).await.unwrap();
        writer.close().await.unwrap();
    }
    for minute in 0..40 {
        table.clock.advance(10 * MINUTE);
        table.edits(0, &[minute]).await;
        table.round().await;
    }
    let there = |path: &str| table.settings.path.join(path);
    assert!(table.store.stat(&there(&asleep)).await.unwrap().is_some());
    assert!(table.store.stat(&there(&dead)).await.unwrap().is_none(), "its number was committed by another");
    assert!(table.list("_live").await.len() < 12, "{:?}", table.names("_live").await);
    // It wakes, is told that it slept too long for what it knows, begins anew and commits.
    sleeper.edits(1, &[3]).await;
    assert_eq!(sleeper.committer.snapshot().positions(id(1)), None);
    let mut awake = Table::on(table.store.clone(), table.clock.clone(), 2, |_| ()).await;
    awake.edits(1, &[3]).await;
    assert_eq!(awake.committer.snapshot().positions(id(1)).unwrap().next, 1);
}

#[tokio::test]
async fn a_day_is_marked_when_all_its_hours_are_in_their_files() {
    let mut table = Table::open(1, |settings| settings.success_files = true).await;
    table.edits(0, &[0, 13 * 60, 14 * 60]).await;
    table.round().await;
    assert_eq!(table.names("dt=2015-09-12").await, ["10.parquet", "23.parquet"][..1]);
    table.edits(0, &[14 * 60 + 11, 72 * 60]).await;
    table.round().await;
    assert_eq!(table.names("dt=2015-09-12").await, ["10.parquet", "23.parquet", "_SUCCESS"]);
    assert_eq!(table.names("dt=2015-09-13").await, ["00.parquet", "_SUCCESS"]);
    // Nothing came on the 14th, and the 15th is not over.
    for day in ["dt=2015-09-14", "dt=2015-09-15"] {
        assert_eq!(table.names(day).await, [""; 0], "{day}");
    }
}

/// Ten seconds a commit: eleven and a half days.
#[tokio::test]
async fn over_a_hundred_thousand_commits_log_and_folder_stay_bounded() {
    const COMMITS: Millis = 100_000;
    const TWO_HOURS: usize = 720;
    let mut table = Table::open(1, |settings| settings.history = std::time::Duration::from_secs(7_200)).await;
    let (mut most_log, mut most_live, mut before, mut per_commit) = (0, 0, BTreeMap::new(), Vec::new());
    for at in 0..COMMITS {
        table.clock.advance(10_000);
        let lane = &mut table.lanes[0];
        let from = lane.at();
        let records = vec![edit(from, TEN + at * 10_000, "enwiki")];
        lane.take(&Batch { from, to: from + 1, records, why: Why::Marker });
        let sealed = lane.seal(None).into_iter().collect();
        table.committer.commit(&Proposal::new(sealed)).await.unwrap();
        if at % 6 == 0 {
            table.round().await;
        }
        // What a hundred commits write is not deleted within the next two hours.
        if at % 10_000 == 9_000 {
            let (log, live) = (table.list("_delta_log").await.len(), table.list("_live").await.len());
            (most_log, most_live) = (most_log.max(log), most_live.max(live));
            before = table.store.files();
        } else if at % 10_000 == 9_100 {
            let fresh = table.store.files().into_iter().filter(|(path, _)| !before.contains_key(path));
            per_commit.push(fresh.map(|(_, len)| len).sum::<u64>() / 100);
        }
    }
    assert!(
        most_log < TWO_HOURS + 300 && most_live < TWO_HOURS + 300,
        "{most_log} files of the log, {most_live} live ones"
    );
    assert!(table.list("_cleaned").await.len() <= 2);
    let hours = COMMITS as usize / 360;
    let days = table.store.list(&table.settings.path).await.unwrap();
    let mut num_final = 0;
    for day in days.iter().filter(|entry| entry.name.starts_with("dt=")) {
        num_final += table.list(&day.name).await.len();
    }
    assert!((hours - 2..=hours).contains(&num_final), "{num_final} final hours of {hours}");
    println!("bytes per commit: {per_commit:?}; at most {most_log} files of the log and {most_live} live ones");
    let (first, last) = (per_commit[0], per_commit[per_commit.len() - 1]);
    assert!(last < first * 3 / 2, "{per_commit:?} bytes a commit");
    // A reader that begins now reads a checkpoint and a few versions, and sees every edit.
    let edits: i64 = table.shown().await.iter().map(|(_, edits)| edits).sum();
    assert_eq!(edits, COMMITS);
}
