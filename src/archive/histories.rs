//! Model histories of the archive: several owners of one partition, each running the lane's own
//! code, in a world that delays, loses and repeats calls, freezes and kills owners, cuts the power,
//! lets the bus forget, and deletes the topic. What the archive then says is compared with what
//! the bus ever held, by reading its files as plain JSON and lines.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::Instant;

use super::{Codec, Lane, Parts, Settings};
use crate::{
    bus::{Bus, Cleanup, TopicInfo, TopicSpec, model::Payload},
    failpoint::tests_only::taken,
    fault::{Fault, Kind, Result, Retry},
    model::{ActorId, Epoch, Incarnation, Offset},
    sim::{Owner, Sim, Weather, histories},
    store::{
        Store, StorePath,
        model::{Durability, What},
    },
};

const COUNT: u64 = 40_000;

/// Rare branches that the histories must have taken, all together.
const RARE: &[&str] = &[
    "chain.mine_after_unclear_put",
    "chain.lost",
    "chain.put_again",
    "chain.unknown",
    "archive.adopted",
    "archive.rename_again",
    "archive.rewritten",
];

pub(in crate::archive) fn spec(name: &str) -> TopicSpec {
    let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    TopicSpec { name: name.into(), num_partitions: 1, cleanup }
}

pub(in crate::archive) fn parts(sim: &Sim, owner: Owner, settings: &Arc<Settings>) -> Parts {
    Parts {
        actor: ActorId { pipeline: "p".into(), stage: "archive".into(), replica: 0 },
        node: "n".into(),
        epoch: Epoch(1),
        incarnation: Incarnation(1),
        bus: sim.bus(owner),
        store: sim.store(owner),
        pause: sim.pause(),
        settings: settings.clone(),
    }
}

/// What an archiver does with its lane, without the mailbox: until the chain has reached `target`.
pub(super) async fn archiver(parts: Parts, topic: TopicInfo, target: Rc<Cell<Offset>>) -> Fault {
    let mut attempt = 0;
    loop {
        match life(&parts, &topic, &target).await {
            Err(fault) if fault.retry == Retry::Never => return fault,
            Err(_) => {
                attempt += 1;
                parts.pause.pause(attempt).await;
            }
            Ok(()) => return Fault::internal("drained"),
        }
    }
}

async fn life(parts: &Parts, topic: &TopicInfo, target: &Cell<Offset>) -> Result<()> {
    let mut lane = Lane::open(parts.clone(), topic.clone(), 0).await?;
    loop {
        let mut reader = parts.bus.reader(topic, 0, lane.position()).await?;
        loop {
            let drained = lane.position() >= target.get();
            if drained || fastrand::u8(..5) == 0 {
                let stood = lane.position();
                lane.roll().await?;
                if lane.position() != stood {
                    break;
                }
                if drained {
                    return Ok(());
                }
            }
            let batch = reader.next().await?;
            lane.take(&batch, Instant::now()).await?;
            if lane.position() != batch.to {
                break;
            }
        }
    }
}

fn history(seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed);
    let world = sim.world().clone();
    if sim.one_in(2) {
        world.durability(Durability::Scattered);
    }
    let topic = world.topic(&spec("t"));
    world.topic(&spec("t.dead_letters"));
    let bucketed = sim.one_in(4);
    let settings = Arc::new(Settings {
        path: if bucketed { "/raw/%H%M".into() } else { "/raw".into() },
        bucket: Duration::from_secs(60),
        roll_bytes: 8 + sim.below(60) as u64,
        codec: [Codec::Gzip, Codec::Zstd].get(sim.below(32)).copied().unwrap_or_default(),
        ..Settings::for_test()
    });
    if sim.one_in(8) {
        world.append(&"t".into(), 0, (0..5).map(|n| Payload::value(format!("before {n}"))).collect());
        world.retain(&"t".into(), 0, 3);
    }
    let never = Rc::new(Cell::new(Offset::MAX));
    let owners: Vec<_> = (0..=sim.below(3)).map(|_| sim.owner()).collect();
    let mut serial = 0_u32;
    let blackout = sim.one_in(24);
    for round in 0..12 + sim.below(12) {
        let dark = blackout && round == 5;
        sim.weather(if dark {
            Weather { refuse: 0.3, lose_request: 0.7, ..Weather::calm() }
        } else {
            Weather::rough()
        });
        let owner = owners[sim.below(owners.len())];
        match sim.below(12) {
            0 => sim.kill(owner),
            1 => sim.freeze(owner),
            2 | 3 => sim.wake(owner),
            4 if sim.one_in(4) => sim.power_cut(),
            5 if sim.one_in(4) => {
                let high = world.records(&"t".into(), 0).last().map_or(0, |record| record.offset + 1);
                world.retain(&"t".into(), 0, high.saturating_sub(sim.below(8) as u64));
            }
            6 => world.skip(&"t".into(), 0, 1 + sim.below(2) as u64),
            _ => {
                let records = (0..1 + sim.below(5)).map(|_| payload(&sim, &mut serial)).collect();
                world.append(&"t".into(), 0, records);
            }
        }
        for &owner in &owners {
            if !sim.is_alive(owner) && sim.one_in(2) {
                sim.spawn(owner, archiver(parts(&sim, owner, &settings), topic.clone(), never.clone()));
            }
        }
        if bucketed && sim.one_in(3) {
            world.clock().advance(30_000);
        }
        if sim.one_in(40) {
            plunder(&sim);
        }
        let steps = if dark { 2_000 } else { sim.below(40) };
        sim.run(steps);
    }
    if sim.one_in(20) {
        return recreated(&mut sim, &topic, &settings);
    }
    owners.iter().for_each(|&owner| sim.kill(owner));
    sim.calm();
    let last = world.append(&"t".into(), 0, vec![Payload::value("the end")])[0];
    let survivor = sim.owner();
    let target = Rc::new(Cell::new(last + 1));
    let end = sim.spawn(survivor, archiver(parts(&sim, survivor, &settings), topic.clone(), target));
    if !sim.run_until(50_000, |_| end.is_done()) {
        return Err("the last owner came to no end in calm weather".to_owned());
    }
    match end.take() {
        Some(fault) if fault.message == "drained" => check(&sim, &topic, last + 1),
        // Bytes that were plundered and that the bus has forgotten: said, not hidden.
        Some(fault) if fault.kind == Kind::Lost => Ok(()),
        Some(fault) => Err(format!("the last owner died: {fault}")),
        None => Err("no outcome".to_owned()),
    }
}

fn payload(sim: &Sim, serial: &mut u32) -> Payload {
    *serial += 1;
    match sim.below(14) {
        0 => Payload::null(),
        1 => Payload::value(""),
        2 => Payload::value(format!("two\nlines {serial}")),
        _ => Payload::value(format!("event {serial}")),
    }
}

fn is_entry(path: &str) -> bool {
    let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Somebody deletes the staging file of the last entry before it is renamed.
fn plunder(sim: &Sim) {
    let files = sim.world().files();
    let last = files.iter().rfind(|(path, _)| path.contains("/_chain/") && is_entry(path));
    let Some(staging) = last.and_then(|(_, bytes)| {
        let entry: Value = serde_json::from_slice(bytes).ok()?;
        Some(format!("/raw/{}", entry["staging"].as_str()?))
    }) else {
        return;
    };
    if files.contains_key(&staging) {
        let path = StorePath::new(&staging).unwrap();
        let deleted = sim.world().store().delete(&path).now_or_never();
        assert!(matches!(deleted, Some(Ok(true))));
    }
}

/// The topic is deleted and created anew: nobody goes on in the old chain, or begins a new one in
/// its archive.
fn recreated(sim: &mut Sim, old: &TopicInfo, settings: &Arc<Settings>) -> Result<(), String> {
    let began = sim.world().files().keys().any(|path| path.contains(&old.id.to_string()));
    let new = sim.world().recreate(&"t".into());
    sim.calm();
    let owner = sim.owner();
    let target = Rc::new(Cell::new(1));
    sim.world().append(&"t".into(), 0, vec![Payload::value("new history")]);
    for topic in [old.clone(), new] {
        let is_old = topic.id == old.id;
        let end = sim.spawn(owner, archiver(parts(sim, owner, settings), topic, target.clone()));
        if !sim.run_until(50_000, |_| end.is_done()) {
            return Err("an owner of a re-created topic came to no end".to_owned());
        }
        let fault = end.take().ok_or("no outcome")?;
        if (is_old || began) && fault.kind != Kind::Recreated {
            // An old chain that already stands at its target needs nothing of the topic.
            let drained = is_old && fault.message == "drained";
            if !drained {
                return Err(format!("an owner of a re-created topic ended with {fault:?}"));
            }
        }
    }
    check(sim, old, 0)
}

/// The archive, read without its own code, against what the bus ever held.
pub(super) fn check(sim: &Sim, topic: &TopicInfo, end: Offset) -> Result<(), String> {
    let world = sim.world();
    let files = world.files();
    let ever: BTreeMap<_, _> = world.records_ever(topic.id, 0).into_iter().map(|r| (r.offset, r.value)).collect();
    let letters = world.records(&"t.dead_letters".into(), 0);
    let low = world.bus().watermarks(topic, 0).now_or_never().and_then(Result::ok).map_or(Offset::MAX, |ends| ends.low);
    let folder = format!("/raw/_chain/t/{}/0/", topic.id);
    let mut next = 0;
    let mut finals = Vec::new();
    for (path, bytes) in files.range(folder.clone()..).take_while(|(path, _)| path.starts_with(&folder)) {
        if !is_entry(path) {
            continue;
        }
        let entry: Value = serde_json::from_slice(bytes).map_err(|e| format!("{path}: {e}"))?;
        let number = |key: &str| entry[key].as_u64().ok_or(format!("{path}: no {key}"));
        if number("start")? != next {
            return Err(format!("{path}: starts at {}, the entry before ended at {next}", number("start")?));
        }
        let start = next;
        next = number("next")?;
        let mut holes = BTreeMap::new();
        for hole in entry["holes"].as_array().ok_or("holes")? {
            for offset in hole["from"].as_u64().ok_or("from")?..hole["to"].as_u64().ok_or("to")? {
                holes.insert(offset, hole["why"].as_str().ok_or("why")?.to_owned());
            }
        }
        let mut expected = Vec::new();
        for offset in start..next {
            let record = ever.get(&offset);
            let right = match (holes.get(&offset).map(String::as_str), record) {
                (None, Some(Some(value))) => {
                    expected.extend_from_slice(value);
                    expected.push(b'\n');
                    !value.contains(&b'\n')
                }
                (None, _) => false,
                (Some("marker"), record) => record.is_none(),
                (Some("null"), record) => record == Some(&None),
                (Some("dead_letter"), Some(Some(value))) => {
                    value.contains(&b'\n') && letters.iter().any(|l| l.value.as_ref() == Some(value))
                }
                (Some("start" | "retention"), _) => offset < low,
                _ => false,
            };
            if !right {
                return Err(format!("{path}: offset {offset} is {:?}, the bus had {record:?}", holes.get(&offset)));
            }
        }
        match entry["final"].as_str() {
            None if expected.is_empty() => {}
            None => return Err(format!("{path}: no file for {} bytes", expected.len())),
            Some(target) => {
                let target = format!("/raw/{target}");
                // Only the last rename may be still to come, and only before a drain.
                let Some(raw) = files.get(&target) else {
                    if end == 0 { continue } else { return Err(format!("{target} is missing")) }
                };
                let text = unpack(&target, raw)?;
                if text != expected {
                    return Err(format!(
                        "{target}: {:?} instead of {:?}",
                        text.escape_ascii().to_string(),
                        expected.escape_ascii().to_string()
                    ));
                }
                finals.push(target);
            }
        }
    }
    if next < end {
        return Err(format!("the chain ends at {next}, the topic at {end}"));
    }
    for path in files.keys().filter(|path| !path.contains("/_") && !path.contains("/.")) {
        if !finals.contains(path) {
            return Err(format!("{path} is named by no entry"));
        }
    }
    if let Some(left) = files
        .keys()
        .find(|path| path.starts_with("/raw/_staging/") && end > 0 && !path.contains(&format!("/{next:020}-")))
    {
        return Err(format!("{left} was left over, the chain ends at {next}"));
    }
    let changes = world.visible_changes();
    match changes.iter().find(|change| !matches!(change.what, What::Appeared | What::Lost)) {
        Some(change) => Err(format!("a visible file was changed: {change:?}")),
        None => Ok(()),
    }
}

fn unpack(path: &str, raw: &[u8]) -> Result<Vec<u8>, String> {
    if path.ends_with(".zst") {
        return zstd::decode_all(raw).map_err(|e| format!("{path}: {e}"));
    }
    if !path.ends_with(".gz") {
        return Ok(raw.to_vec());
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(raw), &mut text)
        .map_err(|e| format!("{path}: {e}"))?;
    Ok(text)
}

#[test]
fn every_record_is_archived_once_in_order_whatever_happens() {
    histories("archive", COUNT, history);
    let taken = taken();
    for rare in RARE {
        assert!(taken.contains_key(rare), "no history took the branch {rare}; taken: {taken:?}");
    }
}
