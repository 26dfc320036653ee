//! Lanes, files and log together: owners that crash, freeze and are replaced.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{
    delta::LIVE,
    testing::{Mishap, NoPause, Scripted, edit, record, settings},
    window::{Cell, Counts},
    *,
};
use crate::{
    fault::Kind,
    model::{Batch, ManualClock, Millis, Offset, Partition, Record, TopicId, Why},
    store::Store,
};

const TEN: Millis = 1_442_052_000_000;
const MINUTE: Millis = 60_000;

fn id(partition: Partition) -> LaneId {
    LaneId { topic: TopicId(Uuid::from_u128(7)), partition }
}

async fn open(store: &Arc<Scripted>) -> Committer {
    let store = Arc::clone(store);
    Committer::open(&settings(), store, Arc::new(NoPause), Arc::new(ManualClock::at(TEN))).await.unwrap()
}

/// The records of `log` from `from` on, at most `max`.
fn batch(log: &[Record], from: Offset, max: usize) -> Batch {
    let records: Vec<_> = log.iter().filter(|record| record.offset >= from).take(max).cloned().collect();
    let to = records.last().map_or(from, |record| record.offset + 1);
    Batch { from, records, to, why: Why::Marker }
}

async fn edits(store: &Scripted) -> BTreeMap<(Millis, String), i64> {
    let view = show(store, &settings().path, None, None).await.unwrap().unwrap();
    let edits = |row: window::Row| match row.cells[0] {
        Cell::Long(edits) => ((row.window_start, row.keys[0].clone()), edits),
        cell => panic!("{cell:?}"),
    };
    view.rows.into_iter().map(edits).collect()
}

#[tokio::test]
async fn rows_of_several_lanes_are_shown_as_one() {
    let store = Arc::new(Scripted::default());
    let mut committer = open(&store).await;
    let mut lanes = [committer.lane(id(0), 0), committer.lane(id(1), 0)];
    // `edit` gives `/len` as the offset modulo 7.
    lanes[0].take(&batch(&[edit(0, TEN, "enwiki"), edit(1, TEN + MINUTE, "enwiki")], 0, 9));
    lanes[1].take(&batch(&[edit(0, TEN, "dewiki"), edit(5, TEN + 1000, "enwiki")], 0, 9));
    let sealed = lanes.iter_mut().filter_map(|lane| lane.seal(None)).collect();
    committer.commit(&Proposal::new(sealed)).await.unwrap();
    let view = show(&*store, &settings().path, None, None).await.unwrap().unwrap();
    let row = |start, wiki: &str, edits, sum, count| window::Row {
        window_start: start,
        keys: vec![wiki.to_owned()],
        cells: vec![Cell::Long(edits), Cell::Double(sum), Cell::Long(count)],
    };
    let expected =
        [row(TEN, "dewiki", 1, 0.0, 1), row(TEN, "enwiki", 2, 5.0, 2), row(TEN + MINUTE, "enwiki", 1, 1.0, 1)];
    assert_eq!(view.rows, expected);
    assert_eq!(view.version, 1);
    assert_eq!(view.positions.iter().map(|(lane, p)| (lane.partition, p.next)).collect::<Vec<_>>(), [(0, 2), (1, 6)]);
    let shown = async |from, to| show(&*store, &settings().path, from, to).await.unwrap().unwrap().rows;
    assert_eq!(shown(Some(TEN + 1), None).await, expected[2..]);
    assert_eq!(shown(None, Some(TEN + MINUTE)).await, expected[..2]);
    assert_eq!(shown(Some(TEN + 60 * MINUTE), None).await, []);
    assert_eq!(shown(None, Some(TEN)).await, []);
    assert_eq!(show(&*store, &StorePath::new("/none").unwrap(), None, None).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_could_not_be_closed_is_written_again_under_another_name() {
    let store = Arc::new(Scripted::default());
    let mut committer = open(&store).await;
    let mut lane = committer.lane(id(0), 0);
    lane.take(&batch(&[edit(0, TEN, "enwiki")], 0, 9));
    *store.closes_fail.lock().unwrap() = 2;
    committer.commit(&Proposal::new(vec![lane.seal(None).unwrap()])).await.unwrap();
    assert_eq!(store.names(&settings().path.join(LIVE)).len(), 3);
    assert_eq!(edits(&store).await, [((TEN, "enwiki".to_owned()), 1)].into());
}

#[tokio::test]
async fn what_is_superseded_for_one_lane_can_be_committed_for_the_others() {
    let store = Arc::new(Scripted::default());
    let (mut committer, mut other) = (open(&store).await, open(&store).await);
    let mut lanes = [committer.lane(id(0), 0), committer.lane(id(1), 0)];
    let log = [edit(0, TEN, "enwiki")];
    for lane in &mut lanes {
        lane.take(&batch(&log, 0, 9));
    }
    let proposal = Proposal::new(lanes.iter_mut().filter_map(|lane| lane.seal(None)).collect());
    let mut moved = other.lane(id(1), 0);
    moved.take(&batch(&log, 0, 9));
    other.commit(&Proposal::new(vec![moved.seal(None).unwrap()])).await.unwrap();
    let Outcome::Superseded { lanes } = committer.commit(&proposal).await.unwrap() else { panic!() };
    assert_eq!(lanes, [id(1)]);
    assert!(matches!(
        committer.commit(&proposal.without(&lanes).unwrap()).await,
        Ok(Outcome::Committed { version: 2 })
    ));
    assert_eq!(edits(&store).await, [((TEN, "enwiki".to_owned()), 2)].into());
}

#[tokio::test]
async fn a_lane_whose_records_are_gone_is_restored_from_its_files() {
    let store = Arc::new(Scripted::default());
    let mut committer = open(&store).await;
    let mut lane = committer.lane(id(0), 0);
    let log: Vec<_> = (0..200).map(|n| edit(n, TEN + n as Millis * MINUTE, "enwiki")).collect();
    lane.take(&batch(&log, 0, 110));
    committer.commit(&Proposal::new(vec![lane.seal(None).unwrap()])).await.unwrap();

    let mut lane = committer.lane(id(0), 0);
    let gone = Batch { from: lane.at(), records: Vec::new(), to: 130, why: Why::Retention };
    assert_eq!(lane.take(&gone), Taken::ReplayGone);
    committer.restore(&mut lane).await.unwrap();
    let lost = Batch { from: 110, records: Vec::new(), to: 130, why: Why::Retention };
    assert_eq!(
        lane.take(&lost),
        Taken::Counted { counts: Counts::default(), lost: 20, moments: crate::vitals::Moments::default() }
    );
    lane.take(&batch(&log, 130, 70));
    committer.commit(&Proposal::new(vec![lane.seal(None).unwrap()])).await.unwrap();
    let expected = (0..200).filter(|n| !(110..130).contains(n));
    assert_eq!(edits(&store).await, expected.map(|n| ((TEN + n * MINUTE, "enwiki".to_owned()), 1)).collect());

    // A lane that is not as the snapshot has it is not restored from it.
    lane.take(&batch(&[edit(200, TEN + 200 * MINUTE, "x")], 200, 1));
    lane.seal(None).unwrap();
    assert!(committer.restore(&mut lane).await.is_err());
}

// An owner of all lanes, with what it has not committed yet.
struct Owner {
    committer: Committer,
    lanes: Vec<Lane>,
    pending: Option<Proposal>,
}

impl Owner {
    async fn start(store: &Arc<Scripted>, partitions: Partition) -> Self {
        let committer = open(store).await;
        let lanes = (0..partitions).map(|partition| committer.lane(id(partition), 0)).collect();
        Self { committer, lanes, pending: None }
    }

    /// Seals and commits; false if this owner is at its end.
    async fn commit(&mut self) -> bool {
        let proposal = self.pending.take().or_else(|| {
            let sealed: Vec<_> = self.lanes.iter_mut().filter_map(|lane| lane.seal(None)).collect();
            (!sealed.is_empty()).then(|| Proposal::new(sealed))
        });
        let Some(proposal) = proposal else { return true };
        match self.committer.commit(&proposal).await {
            Ok(Outcome::Committed { .. }) => true,
            Ok(Outcome::Superseded { .. }) => false,
            Err(fault) => {
                assert!(fault.kind == Kind::Unknown || fault.message.contains("away"), "{fault}");
                self.pending = Some(proposal);
                true
            }
        }
    }
}

#[tokio::test]
async fn owners_that_crash_freeze_and_lose_answers_leave_the_table_of_the_records() {
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let logs: Vec<Vec<Record>> = (0..2).map(|_| log(&mut random)).collect();
        let store = Arc::new(Scripted::default());
        let mut owners = [Owner::start(&store, 2).await, Owner::start(&store, 2).await];
        for _ in 0..120 {
            // One of the two is awake; either may believe that it owns everything.
            let owner = &mut owners[random.usize(0..2)];
            match random.u8(0..10) {
                0 => *owner = Owner::start(&store, 2).await,
                1..=3 => {
                    let away = Mishap::DoneThenAway(random.u32(0..40));
                    let mishaps = [Mishap::None, Mishap::Lost, Mishap::Unanswered, away];
                    store.next_puts(&[mishaps[random.usize(0..4)], mishaps[random.usize(0..3)]]);
                    let alive = owner.commit().await;
                    store.come_back();
                    if !alive {
                        *owner = Owner::start(&store, 2).await;
                    }
                }
                _ => {
                    let lane = random.usize(0..2);
                    let next = batch(&logs[lane], owner.lanes[lane].at(), random.usize(1..30));
                    owner.lanes[lane].take(&next);
                }
            }
        }
        store.next_puts(&[]);
        let mut last = Owner::start(&store, 2).await;
        for (lane, log) in last.lanes.iter_mut().zip(&logs) {
            lane.take(&batch(log, lane.at(), log.len()));
        }
        assert!(last.commit().await);
        assert_eq!(edits(&store).await, recount(&logs), "seed {seed}");
        let live: Vec<_> = last.committer.snapshot().files().map(|(path, _)| path.to_owned()).collect();
        for path in live {
            assert!(store.stat(&settings().path.join(&path)).await.unwrap().is_some(), "{path}");
        }
    }
}

/// Records none of which is ever late, however they are cut: the times go back less than the
/// lateness allows. Some cannot be counted.
fn log(random: &mut fastrand::Rng) -> Vec<Record> {
    let mut now = TEN;
    let mut offset = 0;
    let mut log = Vec::new();
    for _ in 0..150 {
        now += random.i64(0..3 * MINUTE);
        offset += random.u64(1..3);
        let time = now - random.i64(0..9 * MINUTE);
        let edit = edit(offset, time, ["enwiki", "dewiki"][random.usize(0..2)]);
        log.push(if random.u8(0..8) == 0 { record(offset, now, "{}") } else { Record { time: now, ..edit } });
    }
    log
}

fn recount(logs: &[Vec<Record>]) -> BTreeMap<(Millis, String), i64> {
    let mut table = BTreeMap::new();
    for record in logs.iter().flatten() {
        let event: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        if let (Some(wiki), Some(time)) = (event["wiki"].as_str(), event["timestamp"].as_f64()) {
            *table.entry(((time / 60.0).floor() as Millis * MINUTE, wiki.to_owned())).or_default() += 1;
        }
    }
    table
}

/// The same records, cut the same, give the same files, whether or not the owner died over one of the
/// commits and replayed.
#[tokio::test]
async fn two_builds_of_one_log_with_the_same_cuts_give_the_same_bytes() {
    async fn build(log: &[Record], crash: Option<usize>) -> Vec<(grid::Hour, Vec<u8>)> {
        let store = Arc::new(Scripted::default());
        let mut committer = open(&store).await;
        let mut lane = committer.lane(id(0), 0);
        for (at, part) in log.chunks(40).enumerate() {
            let upto = part.last().map_or(0, |record| record.offset + 1);
            let known = &log[..log.partition_point(|record| record.offset < upto)];
            let fill = |lane: &mut Lane| {
                while lane.at() < upto {
                    lane.take(&batch(known, lane.at(), 7));
                }
            };
            fill(&mut lane);
            if crash == Some(at) {
                committer = open(&store).await;
                lane = committer.lane(id(0), 0);
                fill(&mut lane);
            }
            let sealed = lane.seal(None).into_iter().collect();
            committer.commit(&Proposal::new(sealed)).await.unwrap();
        }
        let files = committer.snapshot().live(id(0)).map(|(path, file)| (file.hour.unwrap(), path.to_owned()));
        let bytes = |path: &str| store.files.lock().unwrap()[&settings().path.join(path)].to_vec();
        let mut files: Vec<_> = files.map(|(hour, path)| (hour, bytes(&path))).collect();
        files.sort();
        files
    }
    let mut log = log(&mut fastrand::Rng::with_seed(3));
    let last = log.last().unwrap().clone();
    // A null, and an event of 2038.
    log.push(Record { offset: last.offset + 1, value: None, ..last.clone() });
    log.push(Record { time: last.time, ..edit(last.offset + 2, 2_147_483_647_000, "enwiki") });
    let whole = build(&log, None).await;
    assert!(whole.len() >= 2, "{} hours", whole.len());
    for crash in 0..4 {
        assert!(build(&log, Some(crash)).await == whole, "a crash over commit {crash} gives other bytes");
    }
}
