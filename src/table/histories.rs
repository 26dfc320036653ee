//! Model histories of the table: replicas of an aggregator, each running the committer's and the
//! lanes' own code, in a world that delays, loses and repeats calls, freezes and kills owners and
//! cuts the power. Every version of the table must then equal a recomputation from the records,
//! judged by what the log itself says of positions and watermarks; log and records are read here
//! without the table's code.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;

use super::{
    Columns, Committer, Lane, LaneId, MeasureKind, Outcome, Proposal, Settings, Taken, parquet, testing,
    window::Cell as Number,
};
use crate::{
    bus::{Bus, Cleanup, SharedBus, TopicInfo, TopicSpec, model::Payload},
    failpoint::tests_only::taken,
    fault::{Fault, Result, Retry},
    model::{Clock, Millis, Offset, Partition, Pause},
    sim::{Owner, Sim, Weather, histories},
    store::{SharedStore, model::Durability},
};

const COUNT: u64 = 30_000;
const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// Rare branches that the histories must have taken, all together.
const RARE: &[&str] = &[
    "table.lost_race",
    "table.superseded",
    "table.committed_unseen",
    "table.mine_after_unknown",
    "table.live_again",
    "table.created_by_another",
];

fn settings() -> Settings {
    Settings {
        topic: "t".into(),
        measures: vec![super::Measure { name: "edits".into(), kind: MeasureKind::Count }],
        lateness: Duration::from_secs(600),
        watermark_delay: Duration::from_secs(10),
        ..testing::settings()
    }
}

#[derive(Clone)]
struct Parts {
    bus: SharedBus,
    store: SharedStore,
    pause: Arc<dyn Pause>,
    clock: Arc<dyn Clock>,
    topic: TopicInfo,
    partitions: Vec<Partition>,
    /// Where each partition ends, once the history wants an end.
    ends: Rc<Cell<Option<[Offset; 3]>>>,
}

/// What an aggregator does, without the mailbox.
async fn aggregator(parts: Parts) -> Fault {
    let mut attempt = 0;
    loop {
        match life(&parts).await {
            Ok(()) => return Fault::internal("drained"),
            Err(fault) if fault.retry == Retry::Never => return fault,
            Err(_) => {
                attempt += 1;
                parts.pause.pause(attempt).await;
            }
        }
    }
}

async fn life(parts: &Parts) -> Result<()> {
    let mut committer =
        Committer::open(&settings(), parts.store.clone(), parts.pause.clone(), parts.clock.clone()).await?;
    let mut lanes = Vec::new();
    for &partition in &parts.partitions {
        lanes.push(committer.lane(LaneId { topic: parts.topic.id, partition }, 0));
    }
    let begun: Vec<_> = lanes.iter_mut().filter_map(Lane::begin).collect();
    if !begun.is_empty()
        && let Outcome::Superseded { .. } = commit(parts, &mut committer, &Proposal::new(begun)).await?
    {
        return Err(Fault::external("begun by another"));
    }
    loop {
        let mut drained = parts.ends.get().is_some();
        for lane in &mut lanes {
            let partition = lane.id().partition;
            let high = parts.bus.watermarks(&parts.topic, partition).await?.high;
            if lane.at() < high {
                let batch = parts.bus.reader(&parts.topic, partition, lane.at()).await?.next().await?;
                match lane.take(&batch) {
                    Taken::Counted { .. } => {}
                    other => return Err(Fault::internal(format!("a batch was {other:?}"))),
                }
            }
            drained &= parts.ends.get().is_some_and(|ends| lane.at() >= ends[partition as usize]);
        }
        if drained || fastrand::u8(..3) == 0 {
            let mut sealed = Vec::new();
            for lane in &mut lanes {
                let follow =
                    if fastrand::u8(..4) == 0 { committer.snapshot().watermark_of_others(lane.id()) } else { None };
                sealed.extend(lane.seal(follow));
            }
            if sealed.is_empty() {
                if drained {
                    return Ok(());
                }
            } else if let Outcome::Superseded { .. } = commit(parts, &mut committer, &Proposal::new(sealed)).await? {
                return Err(Fault::external("superseded"));
            }
        }
        parts.pause.pause(1).await;
    }
}

/// Commits, and now and then gives the same proposal again after a fault, as one may.
async fn commit(parts: &Parts, committer: &mut Committer, proposal: &Proposal) -> Result<Outcome> {
    loop {
        match committer.commit(proposal).await {
            Err(fault) if fault.retry != Retry::Never && fastrand::bool() => parts.pause.pause(2).await,
            outcome => return outcome,
        }
    }
}

fn history(seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed);
    let world = sim.world().clone();
    if sim.one_in(2) {
        world.durability(Durability::Scattered);
    }
    let num_partitions = 1 + sim.below(3) as u32;
    let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let topic = world.topic(&TopicSpec { name: "t".into(), num_partitions, cleanup });
    let replicas = 1 + sim.below(num_partitions as usize) as u32;
    let ends = Rc::new(Cell::new(None));
    let parts = |sim: &Sim, owner: Owner, replica: u32| Parts {
        bus: sim.bus(owner),
        store: sim.store(owner),
        pause: sim.pause(),
        clock: Arc::new(sim.world().clock()),
        topic: topic.clone(),
        partitions: (replica..num_partitions).step_by(replicas as usize).collect(),
        ends: ends.clone(),
    };
    // Two owners of each replica: one of them is the other's zombie.
    let owners: Vec<_> = (0..replicas * 2).map(|n| (sim.owner(), n % replicas)).collect();
    let mut now = world.clock().now();
    let blackout = sim.one_in(24);
    for round in 0..8 + sim.below(10) {
        // Long enough for a commit to be given up as unknown, with what it did still there.
        let dark = blackout && round == 5;
        sim.weather(if dark { Weather { lose_answer: 0.95, ..Weather::calm() } } else { Weather::rough() });
        now = now.max(world.clock().now());
        let (owner, _) = owners[sim.below(owners.len())];
        match sim.below(10) {
            0 => sim.kill(owner),
            1 => sim.freeze(owner),
            2 | 3 => sim.wake(owner),
            4 if sim.one_in(4) => sim.power_cut(),
            5 => world.clock().advance(sim.below(45) as Millis * MINUTE),
            _ => {
                let partition = sim.below(num_partitions as usize) as Partition;
                let records = (0..1 + sim.below(4)).map(|_| event(&sim, now)).collect();
                world.append(&"t".into(), partition, records);
                world.clock().advance(sim.below(3) as Millis * MINUTE);
            }
        }
        for &(owner, replica) in &owners {
            if !sim.is_alive(owner) && sim.one_in(2) {
                let parts = parts(&sim, owner, replica);
                sim.spawn(owner, aggregator(parts));
            }
        }
        let steps = if dark { 3_000 } else { sim.below(80) };
        sim.run(steps);
    }
    owners.iter().for_each(|&(owner, _)| sim.kill(owner));
    sim.calm();
    let high = |partition| {
        let ends = world.bus().watermarks(&topic, partition).now_or_never();
        ends.and_then(Result::ok).map_or(0, |ends| ends.high)
    };
    ends.set(Some([0, 1, 2].map(|partition| if partition < num_partitions { high(partition) } else { 0 })));
    let survivors: Vec<_> = (0..replicas)
        .map(|replica| {
            let owner = sim.owner();
            let parts = parts(&sim, owner, replica);
            sim.spawn(owner, aggregator(parts))
        })
        .collect();
    if !sim.run_until(100_000, |_| survivors.iter().all(crate::sim::Outcome::is_done)) {
        return Err("the last owners came to no end in calm weather".to_owned());
    }
    for survivor in survivors {
        match survivor.take() {
            Some(fault) if fault.message == "drained" => {}
            other => return Err(format!("a last owner ended with {other:?}")),
        }
    }
    check(&sim, &topic, ends.get().unwrap_or_default())
}

fn event(sim: &Sim, now: Millis) -> Payload {
    let jitter = sim.below(120) as Millis * 1000;
    let time = match sim.below(12) {
        0 => now - 3 * HOUR,
        1 => now + 400 * 24 * HOUR,
        2 => now - 70 * MINUTE,
        _ => now - jitter,
    };
    match sim.below(10) {
        0 => Payload::null(),
        1 => Payload::value(format!("{{\"timestamp\":{}}}", time / 1000)),
        2 => Payload::value(format!(
            "{{\"timestamp\":{},\"wiki\":\"x\",\"meta\":{{\"domain\":\"canary\"}}}}",
            time / 1000
        )),
        _ => Payload::value(format!("{{\"timestamp\":{},\"wiki\":\"{}\"}}", time / 1000, sim.below(3))),
    }
}

type Rows = BTreeMap<(Millis, String), i64>;

/// What one commit stored for a partition.
#[derive(Clone, Copy)]
struct Cut {
    next: Offset,
    watermark: Option<Millis>,
}

fn check(sim: &Sim, topic: &TopicInfo, ends: [Offset; 3]) -> Result<(), String> {
    let files = sim.world().files();
    let folder = format!("{}/", settings().path);
    let log = format!("{folder}_delta_log/");
    let mut live: BTreeMap<String, ()> = BTreeMap::new();
    let mut cuts: BTreeMap<Partition, Vec<Cut>> = BTreeMap::new();
    let versions: Vec<_> = files.range(log.clone()..).take_while(|(path, _)| path.starts_with(&log)).collect();
    let versions: Vec<_> = versions.into_iter().filter(|(path, _)| !path.contains("/.")).collect();
    let last = versions.len().saturating_sub(1);
    let chosen = sim.below(versions.len().max(1));
    for (number, (path, text)) in versions.iter().enumerate() {
        if **path != format!("{log}{number:020}.json") {
            return Err(format!("{path} stands where version {number} is wanted"));
        }
        apply(text, &mut live, &mut cuts).map_err(|what| format!("{path}: {what}"))?;
        if number == last || number == chosen {
            let found = rows(&files, &folder, &live)?;
            let expected = recompute(sim, topic, &cuts)?;
            if found != expected {
                return Err(format!("version {number} holds {found:?} instead of {expected:?}"));
            }
        }
    }
    for (partition, cuts) in &cuts {
        let end = cuts.last().map_or(0, |cut| cut.next);
        if end != ends[*partition as usize] {
            return Err(format!("partition {partition} is committed to {end} of {}", ends[*partition as usize]));
        }
    }
    match (0..topic.num_partitions).find(|partition| ends[*partition as usize] > 0 && !cuts.contains_key(partition)) {
        Some(partition) => Err(format!("partition {partition} was never committed")),
        None => Ok(()),
    }
}

/// Takes one version's actions, as the Delta protocol reads them.
fn apply(text: &[u8], live: &mut BTreeMap<String, ()>, cuts: &mut BTreeMap<Partition, Vec<Cut>>) -> Result<(), String> {
    let mut stored: BTreeMap<Partition, BTreeMap<String, i64>> = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if let Some(path) = action["add"]["path"].as_str() {
            if live.insert(path.to_owned(), ()).is_some() {
                return Err(format!("{path} is added twice"));
            }
        } else if let Some(path) = action["remove"]["path"].as_str() {
            live.remove(path).ok_or(format!("{path} is removed and was not there"))?;
        } else if let Some(app) = action["txn"]["appId"].as_str() {
            let mut parts = app.rsplit('/');
            let what = parts.next().ok_or("txn")?.to_owned();
            let partition = parts.next().and_then(|number| number.parse().ok()).ok_or(format!("txn {app}"))?;
            let version = action["txn"]["version"].as_i64().ok_or("txn version")?;
            stored.entry(partition).or_default().insert(what, version);
        }
    }
    for (partition, stored) in stored {
        let cuts = cuts.entry(partition).or_default();
        if stored.get("seq") != Some(&(cuts.len() as i64 + 1)) {
            return Err(format!("partition {partition} stores {stored:?} as commit {}", cuts.len() + 1));
        }
        let next = stored["next"].cast_unsigned();
        let before = cuts.last().copied();
        let watermark = stored.get("watermark").copied().or(before.and_then(|cut| cut.watermark));
        if before.is_some_and(|before| before.next > next || before.watermark > watermark) {
            return Err(format!("partition {partition} goes back: {stored:?}"));
        }
        cuts.push(Cut { next, watermark });
    }
    Ok(())
}

fn rows(files: &BTreeMap<String, Bytes>, folder: &str, live: &BTreeMap<String, ()>) -> Result<Rows, String> {
    let columns: Columns = super::Definition::of(&settings()).columns();
    let mut rows = Rows::new();
    for path in live.keys() {
        let bytes = files.get(&format!("{folder}{path}")).ok_or(format!("{path} is not there"))?;
        for row in parquet::read(&columns, bytes.clone()).map_err(|fault| fault.message)? {
            let Number::Long(edits) = row.cells[0] else { return Err(format!("{path}: {:?}", row.cells)) };
            *rows.entry((row.window_start, row.keys[0].clone())).or_default() += edits;
        }
    }
    Ok(rows)
}

/// The rule, written once more: what lies between two commits is judged by the watermark of the
/// first.
fn recompute(sim: &Sim, topic: &TopicInfo, cuts: &BTreeMap<Partition, Vec<Cut>>) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for (&partition, cuts) in cuts {
        let records = sim.world().records_ever(topic.id, partition);
        let (mut from, mut judge, mut newest) = (0, None, None);
        for cut in cuts {
            for record in records.iter().filter(|record| (from..cut.next).contains(&record.offset)) {
                let Some(value) = &record.value else { continue };
                let event: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
                let time = event["timestamp"].as_i64().ok_or("timestamp")? * 1000;
                if time > record.time + 300_000 {
                    continue;
                }
                newest = newest.max(Some(time));
                let end = time.div_euclid(HOUR) * HOUR + HOUR;
                let late = judge.is_some_and(|judge: Millis| judge >= end + 600_000);
                let canary = event["meta"]["domain"] == "canary";
                if let (Some(wiki), false, false) = (event["wiki"].as_str(), late, canary) {
                    *rows.entry((time.div_euclid(MINUTE) * MINUTE, wiki.to_owned())).or_default() += 1;
                }
            }
            let seen = judge.max(newest.map(|newest: Millis| newest - 10_000));
            if cut.watermark < seen {
                return Err(format!("partition {partition}: watermark {:?} where {seen:?} was seen", cut.watermark));
            }
            (from, judge) = (cut.next, cut.watermark);
        }
    }
    Ok(rows)
}

#[test]
fn every_version_of_the_table_equals_the_recomputation_whatever_happens() {
    let rough = Weather::rough();
    assert!(rough.lose_answer > 0.0, "calm histories prove nothing");
    histories("table", COUNT, history);
    let taken = taken();
    for rare in RARE {
        assert!(taken.contains_key(rare), "no history took the branch {rare}; taken: {taken:?}");
    }
}
