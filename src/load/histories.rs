//! Model histories of a loader: several owners of one partition, each running the lane's own code, in a world
//! that delays, loses, repeats and tears calls, freezes and kills owners, and cuts the power; before a sink that
//! does too. What the sink holds is compared with what the records say, worked out without the lane's code.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Around, Lane, Parts, Witness,
    sink::{Answer, Place, Sink, Verdicts, Written},
    state, testing,
    transform::Row,
};
use crate::{
    bus::{Cleanup, TopicInfo, TopicSpec, model::Payload},
    failpoint::tests_only::taken,
    fault::{Fault, Kind, Result, Retry},
    model::{Offset, Pause},
    sim::{Owner, Sim, Weather, histories},
};

const COUNT: u64 = 20_000;

/// Rare branches that the histories must have taken, all together.
const RARE: &[&str] = &["load.position_without_keys", "load.position_without_letters"];

/// What a sink holds by identity, and every write that changed what was there: there must be none.
#[derive(Default)]
struct Held {
    points: BTreeMap<String, String>,
    changed: Vec<String>,
}

/// A sink of points `partition-offset-element key n`, which refuses `n` below zero.
struct Model {
    held: Arc<Mutex<Held>>,
    pause: Arc<dyn Pause>,
}

#[async_trait]
impl Sink for Model {
    fn describe(&self) -> String {
        "a model of a sink".to_owned()
    }

    fn write(&self, row: &Row<'_>, place: &Place) -> std::result::Result<Written, String> {
        let text = format!("{}-{} {}", place.offset, place.element, String::from_utf8_lossy(row.element));
        Ok(Written { text: text.into(), identity: None })
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn send(&self, rows: &[Bytes]) -> Answer {
        let later = || {
            let fault = Fault::external("away for a moment");
            if fastrand::bool() { Answer::Later(fault) } else { Answer::Unclear(fault) }
        };
        // The request is on its way; its owner may die meanwhile.
        self.pause.pause(1).await;
        if fastrand::u8(..8) == 0 {
            return later();
        }
        let mut refused = Vec::new();
        {
            let mut held = self.held.lock().unwrap();
            for (at, row) in rows.iter().enumerate() {
                let text = std::str::from_utf8(row).unwrap();
                let (identity, element) = text.split_once(' ').unwrap();
                if element.contains("\"bad\"") {
                    refused.push((at, "is bad".to_owned()));
                } else if let Some(before) = held.points.insert(identity.to_owned(), element.to_owned())
                    && before != element
                {
                    held.changed.push(format!("{identity}: {before} became {element}"));
                }
            }
        }
        // And so is the answer.
        self.pause.pause(1).await;
        if fastrand::u8(..8) == 0 {
            return later();
        }
        if refused.is_empty() || fastrand::bool() {
            return Answer::Each(Verdicts { refused, ..Verdicts::default() });
        }
        Answer::Bad("something is bad".to_owned())
    }
}

struct Calm(Arc<dyn Pause>);

#[async_trait]
impl Around for Calm {
    fn answered(&self) {}

    async fn wait(&self, _: &Fault, attempt: u32) {
        self.0.pause(attempt).await;
    }
}

/// What a loader does with its lane, without the mailbox: until it has loaded up to `target`.
async fn loader(parts: Parts, topic: TopicInfo, pause: Arc<dyn Pause>, target: Rc<Cell<Offset>>) -> Fault {
    let mut attempt = 0;
    loop {
        match life(&parts, &topic, &pause, &target).await {
            Err(fault) if fault.retry == Retry::Never && fault.kind != Kind::Fenced => return fault,
            Err(_) => {
                attempt += 1;
                pause.pause(attempt).await;
            }
            Ok(()) => return Fault::internal("drained"),
        }
    }
}

async fn life(parts: &Parts, topic: &TopicInfo, pause: &Arc<dyn Pause>, target: &Cell<Offset>) -> Result<()> {
    let mut lane = Lane::open(parts.clone(), topic.clone(), 0).await?;
    let mut reader = parts.bus.reader(topic, 0, lane.position()).await?;
    while lane.loaded() < target.get() {
        if lane.due().is_some() && (lane.is_full() || lane.position() >= target.get() || fastrand::bool()) {
            lane.deliver(&Calm(pause.clone())).await;
            lane.store().await?;
            continue;
        }
        let batch = reader.next().await?;
        assert!(lane.take(&batch, |_| false, Instant::now()), "a batch that begins elsewhere");
    }
    Ok(())
}

/// A record of up to three elements with few keys, or one that cannot be used.
fn payload(sim: &Sim, serial: &mut u32) -> Payload {
    *serial += 1;
    let element = |sim: &Sim| match sim.below(12) {
        0 => r#"{"n":1}"#.to_owned(),
        1 => format!(r#"{{"n":"x","key":"k{}"}}"#, sim.below(6)),
        2 => format!(r#"{{"n":{serial},"key":"k{}","as":"bad"}}"#, sim.below(6)),
        _ => format!(r#"{{"n":{serial},"key":"k{}"}}"#, sim.below(6 + *serial as usize)),
    };
    match sim.below(12) {
        0 => Payload::null(),
        1 => Payload::value("no json"),
        _ => {
            let elements: Vec<_> = (0..sim.below(4)).map(|_| element(sim)).collect();
            Payload::value(format!(r#"{{"r":[{}]}}"#, elements.join(",")))
        }
    }
}

fn history(seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed);
    let world = sim.world().clone();
    let read = spec("t", Cleanup::Delete { retention_ms: None, retention_bytes: None });
    let topic = world.topic(&read);
    world.topic(&spec("t.dead_letters", Cleanup::Delete { retention_ms: None, retention_bytes: None }));
    world.topic(&state::positions_spec());
    let settings = Arc::new(testing::settings());
    world.topic(&state::keys_spec(&"p".into(), &"load".into(), &read, settings.horizon.unwrap()));
    let held = Arc::new(Mutex::new(Held::default()));
    let parts = |sim: &Sim, owner: Owner| Parts {
        actor: crate::model::ActorId { pipeline: "p".into(), stage: "load".into(), replica: 0 },
        settings: settings.clone(),
        bus: sim.bus(owner),
        sink: Arc::new(Model { held: held.clone(), pause: sim.pause() }),
        witness: Witness::default(),
        clock: Arc::new(world.clock()),
        progress: Arc::new(|| ()),
    };
    let torn = if sim.one_in(2) { 0.7 } else { 0.0 };
    let never = Rc::new(Cell::new(Offset::MAX));
    let owners: Vec<_> = (0..=sim.below(2)).map(|_| sim.owner()).collect();
    let mut serial = 0;
    for _ in 0..10 + sim.below(10) {
        sim.weather(Weather { torn, ..Weather::rough() });
        let owner = owners[sim.below(owners.len())];
        match sim.below(10) {
            0 | 1 => sim.kill(owner),
            2 => sim.freeze(owner),
            3 => sim.wake(owner),
            4 if sim.one_in(4) => sim.power_cut(),
            _ => {
                let records = (0..1 + sim.below(4)).map(|_| payload(&sim, &mut serial)).collect();
                world.append(&"t".into(), 0, records);
            }
        }
        for &owner in &owners {
            if !sim.is_alive(owner) && sim.one_in(2) {
                let (parts, pause) = (parts(&sim, owner), sim.pause());
                sim.spawn(owner, loader(parts, topic.clone(), pause, never.clone()));
            }
        }
        let steps = sim.below(120);
        sim.run(steps);
    }
    owners.iter().for_each(|&owner| sim.kill(owner));
    sim.calm();
    let last = world.append(&"t".into(), 0, vec![Payload::value(r#"{"r":[{"n":0,"key":"the end"}]}"#)])[0];
    let survivor = sim.owner();
    let (parts, pause) = (parts(&sim, survivor), sim.pause());
    let end = sim.spawn(survivor, loader(parts, topic.clone(), pause, Rc::new(Cell::new(last + 1))));
    if !sim.run_until(50_000, |_| end.is_done()) {
        return Err("the last owner came to no end in calm weather".to_owned());
    }
    match end.take() {
        Some(fault) if fault.message == "drained" => check(&sim, &topic, &held.lock().unwrap(), torn > 0.0),
        Some(fault) => Err(format!("the last owner died: {fault}")),
        None => Err("no outcome".to_owned()),
    }
}

fn spec(name: &str, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name: name.into(), num_partitions: 1, cleanup }
}

/// What the sink and the dead letters hold, against what the records say.
fn check(sim: &Sim, topic: &TopicInfo, held: &Held, is_torn: bool) -> Result<(), String> {
    let (mut points, mut letters) = (BTreeMap::new(), BTreeSet::new());
    let mut known = BTreeSet::new();
    for record in sim.world().records(&"t".into(), 0) {
        let Some(value) = &record.value else { continue };
        let place = format!("t/{}/0@{}/load", topic.id, record.offset);
        let Ok(value) = serde_json::from_slice::<Json>(value) else {
            letters.insert(place);
            continue;
        };
        for (element, row) in value["r"].as_array().unwrap().iter().enumerate() {
            let (Some(key), true) = (row["key"].as_str(), row["n"].is_i64()) else {
                letters.insert(place.clone());
                continue;
            };
            // What the sink refuses has won nothing; but who comes behind a winner is not even tried.
            if known.contains(key) {
                continue;
            }
            if row["as"] == "bad" {
                letters.insert(place.clone());
            } else {
                known.insert(key.to_owned());
                points.insert(format!("{}-{element}", record.offset), row.clone());
            }
        }
    }
    if let Some(changed) = held.changed.first() {
        return Err(format!("a point was changed: {changed}"));
    }
    let found: BTreeMap<_, Json> =
        held.points.iter().map(|(identity, text)| (identity.clone(), serde_json::from_str(text).unwrap())).collect();
    if found != points {
        return Err(format!("the sink holds {found:?}\ninstead of {points:?}"));
    }
    let records = sim.world().records(&"t.dead_letters".into(), 0);
    let keys: Vec<_> =
        records.iter().map(|letter| String::from_utf8_lossy(letter.key.as_ref().unwrap()).into_owned()).collect();
    let found: BTreeSet<_> = keys.iter().cloned().collect();
    if found != letters {
        return Err(format!("the dead letters are {found:?}\ninstead of {letters:?}"));
    }
    // A transaction that a bus has torn is sent again; its letters have the same keys.
    if !is_torn && keys.len() != letters.len() {
        return Err(format!("a dead letter was written twice: {keys:?}"));
    }
    Ok(())
}

#[test]
fn every_good_row_is_in_the_sink_once_whatever_happens() {
    histories("load", COUNT, history);
    let taken = taken();
    for rare in RARE {
        assert!(taken.contains_key(rare), "no history took the branch {rare}; taken: {taken:?}");
    }
}
