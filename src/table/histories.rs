//! Model histories of the table: replicas of an aggregator, each running the committer's and the
//! lanes' own code, in a world that delays, loses and repeats calls, freezes and kills owners and
//! cuts the power. Every version of the table must then equal a recomputation from the records,
//! judged by what the log itself says of positions and watermarks; log and records are read here
//! without the table's code, cleaned versions included. Plain readers must see each final hour once and
//! for good, and every version that still stands must have its files.

mod check;

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use futures_util::FutureExt;

use self::check::check;
use super::{Committer, Keeper, Lane, LaneId, MeasureKind, Outcome, Proposal, Settings, Source, Taken, testing};
use crate::{
    bus::{Bus, Cleanup, SharedBus, TopicInfo, TopicSpec, model::Payload},
    failpoint::tests_only::taken,
    fault::{Fault, Result, Retry},
    model::{Clock, Millis, Offset, Partition, Pause},
    sim::{Owner, Sim, Weather, histories},
    store::{SharedStore, model::Durability},
};

/// Histories of commits …
const COUNT: u64 = 20_000;
/// … and longer ones, in which hours become final and the log is cleaned.
const SWIFT: u64 = 500;
const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// Rare branches that the histories must have taken, all together …
const RARE: &[&str] = &[
    "table.lost_race",
    "table.superseded",
    "table.committed_unseen",
    "table.mine_after_unknown",
    "table.live_again",
    "table.created_by_another",
];
/// … and those of the longer ones.
const RARE_SWIFT: &[&str] = &[
    "table.cleaned_while_loading",
    "table.final_again",
    "table.final_stands",
    "table.final_too_late",
    "table.left_over_deleted",
    "table.log_cleaned",
    "table.not_final_after_all",
    "table.rebuild_again",
    "table.rebuilt_by_another",
    "table.slept_too_long",
    "table.swapped_by_another",
];

fn settings() -> Settings {
    Settings {
        topic: "t".into(),
        measures: vec![super::Measure { name: "edits".into(), kind: MeasureKind::Count }],
        lateness: Duration::from_secs(600),
        watermark_delay: Duration::from_secs(10),
        // A log that is hardly kept.
        history: Duration::from_secs(60),
        checkpoint_every: 3,
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
    /// Whether hours pass quickly, so that they become final and old.
    swift: bool,
    /// How many partitions the topic has by now.
    reported: Rc<Cell<u32>>,
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
    let topic = TopicInfo { num_partitions: parts.reported.get(), ..parts.topic.clone() };
    let mut keeper = None;
    let is_first = parts.partitions.contains(&0);
    let mut lanes = Vec::new();
    for &partition in parts.partitions.iter().filter(|&&partition| partition < topic.num_partitions) {
        lanes.push(committer.lane(LaneId { topic: parts.topic.id, partition }, 0));
    }
    let begun: Vec<_> = lanes.iter_mut().filter_map(Lane::begin).collect();
    if !begun.is_empty()
        && let Outcome::Superseded { .. } = commit(parts, &mut committer, &Proposal::new(begun)).await?
    {
        return Err(Fault::external("begun by another"));
    }
    loop {
        if topic.num_partitions != parts.reported.get() && fastrand::bool() {
            return Err(Fault::external("there are more partitions"));
        }
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
                    return if is_first { keep(parts, &mut keeper, &topic).await } else { Ok(()) };
                }
            } else if let Outcome::Superseded { .. } = commit(parts, &mut committer, &Proposal::new(sealed)).await? {
                return Err(Fault::external("superseded"));
            }
        }
        if is_first && fastrand::u8(..if parts.swift { 2 } else { 20 }) == 0 {
            keep(parts, &mut keeper, &topic).await?;
        }
        parts.pause.pause(1).await;
    }
}

/// Who counts final hours again, now and then, while all goes on.
async fn corrector(parts: Parts) -> Fault {
    let mut attempt = 0;
    loop {
        match correct(&parts).await {
            Err(fault) if fault.retry == Retry::Never => return fault,
            _ => attempt += 1,
        }
        parts.pause.pause(attempt).await;
    }
}

async fn correct(parts: &Parts) -> Result<()> {
    let (store, pause, clock) = (parts.store.clone(), parts.pause.clone(), parts.clock.clone());
    let mut keeper = Keeper::open(&settings(), store, pause, clock).await?;
    loop {
        keeper.table.snapshot.follow(&*parts.store).await?;
        if let Some(until) = keeper.table.snapshot.final_until() {
            let from = until - fastrand::i64(1..8) * HOUR;
            let source = Source { bus: &*parts.bus, despite_gaps: false };
            keeper
                .rebuild(&parts.topic, &(from..from + fastrand::i64(1..4).min((until - from) / HOUR) * HOUR), &source)
                .await?;
        }
        parts.pause.pause(1 + fastrand::u32(..3)).await;
    }
}

/// A round of the keeper.
async fn keep(parts: &Parts, keeper: &mut Option<Keeper>, topic: &TopicInfo) -> Result<()> {
    if keeper.is_none() {
        let (store, pause, clock) = (parts.store.clone(), parts.pause.clone(), parts.clock.clone());
        *keeper = Some(Keeper::open(&settings(), store, pause, clock).await?);
    }
    match keeper {
        Some(keeper) => keeper.round(topic).await.map(drop),
        None => Ok(()),
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

fn history(seed: u64, swift: bool) -> Result<(), String> {
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
    let reported = Rc::new(Cell::new(1 + sim.below(num_partitions as usize) as u32));
    let parts = |sim: &Sim, owner: Owner, replica: u32| Parts {
        bus: sim.bus(owner),
        store: sim.store(owner),
        pause: sim.pause(),
        clock: Arc::new(sim.world().clock()),
        topic: topic.clone(),
        partitions: (replica..num_partitions).step_by(replicas as usize).collect(),
        swift,
        reported: reported.clone(),
        ends: ends.clone(),
    };
    // Two owners of each replica: one of them is the other's zombie.
    let owners: Vec<_> = (0..replicas * 2).map(|n| (sim.owner(), n % replicas)).collect();
    let correctors: Vec<_> = (0..if swift { sim.below(3) } else { 0 }).map(|_| sim.owner()).collect();
    let mut now = world.clock().now();
    let blackout = sim.one_in(24);
    for round in 0..8 + sim.below(if swift { 40 } else { 10 }) {
        // Long enough for a commit to be given up as unknown, with what it did still there.
        let dark = blackout && round == 5;
        sim.weather(match (dark, swift && sim.one_in(2)) {
            (true, _) => Weather { lose_answer: 0.95, ..Weather::calm() },
            (false, true) => Weather::calm(),
            (false, false) => Weather::rough(),
        });
        now = now.max(world.clock().now());
        let all: Vec<_> = owners.iter().map(|&(owner, _)| owner).chain(correctors.iter().copied()).collect();
        let owner = all[sim.below(all.len())];
        if swift {
            world.clock().advance(sim.below(50) as Millis * MINUTE);
        }
        match sim.below(10) {
            0 => sim.kill(owner),
            1 => sim.freeze(owner),
            2 => sim.wake(owner),
            3 if !swift => sim.wake(owner),
            4 if sim.one_in(4) => sim.power_cut(),
            5 => world.clock().advance(sim.below(45) as Millis * MINUTE),
            6 if sim.one_in(2) => reported.set(num_partitions.min(reported.get() + 1)),
            _ => {
                let partition = sim.below(reported.get() as usize) as Partition;
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
        for &owner in &correctors {
            if !sim.is_alive(owner) && sim.one_in(2) {
                let parts = parts(&sim, owner, 0);
                sim.spawn(owner, corrector(parts));
            }
        }
        let steps = if dark { 3_000 } else { sim.below(if swift { 400 } else { 80 }) };
        sim.run(steps);
    }
    owners.iter().map(|&(owner, _)| owner).chain(correctors).for_each(|owner| sim.kill(owner));
    sim.calm();
    reported.set(num_partitions);
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

fn all_taken(rare: &[&str]) {
    let taken = taken();
    for rare in rare {
        assert!(taken.contains_key(rare), "no history took the branch {rare}; taken: {taken:?}");
    }
}

#[test]
fn every_version_of_the_table_equals_the_recomputation_whatever_happens() {
    assert!(Weather::rough().lose_answer > 0.0, "calm histories prove nothing");
    histories("table", COUNT, |seed| history(seed, false));
    all_taken(RARE);
}

#[test]
fn final_hours_are_seen_once_and_what_is_cleaned_away_is_missed_by_nobody() {
    histories("table, swift", SWIFT, |seed| history(seed, true));
    all_taken(RARE_SWIFT);
}
