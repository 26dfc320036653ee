//! The simulator itself: it is deterministic, every fault occurs, and protocols that are wrong in
//! the usual ways are caught where the right ones are not.

use std::sync::Arc;

use bytes::Bytes;

use super::{driver::first_failure, *};
use crate::{
    bus::{Bus, Cleanup, Outgoing, TopicInfo, TopicSpec, model::Payload, read_range},
    fault::{Effect, Fault, Result},
    model::TopicName,
    store::{Store, StorePath, model::What},
};

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

// ---- a toy protocol of the store: several owners take numbered places, one each at a time ------

#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Right,
    LooksThenPuts,
    TakesUnknownForMine,
}

async fn readable(store: &dyn Store, pause: &dyn Pause, place: &StorePath) -> Option<Bytes> {
    for attempt in 1.. {
        match store.read(place).await {
            Ok(found) => return found,
            Err(_) => pause.pause(attempt).await,
        }
    }
    unreachable!()
}

/// Takes the first free place; returns its number.
async fn claim(how: Claim, store: &dyn Store, pause: &dyn Pause, mine: Bytes) -> u64 {
    for number in 0.. {
        let place = path(&format!("/places/{number}"));
        if how == Claim::LooksThenPuts {
            if readable(store, pause, &place).await.is_none() {
                let _ = store.put_if_absent(&place, mine.clone()).await;
                return number;
            }
            continue;
        }
        let found = loop {
            match store.put_if_absent(&place, mine.clone()).await {
                Err(fault) if how == Claim::TakesUnknownForMine && fault.effect == Effect::Unknown => return number,
                _ => {}
            }
            if let Some(found) = readable(store, pause, &place).await {
                break found;
            }
            pause.pause(1).await;
        };
        if found == mine {
            return number;
        }
    }
    unreachable!()
}

fn claims(how: Claim, seed: u64) -> std::result::Result<(), String> {
    let mut sim = Sim::new(seed);
    let mut claims = Vec::new();
    for number in 0..3 {
        let owner = sim.owner();
        let (store, pause) = (sim.store(owner), sim.pause());
        let mine = Bytes::from(format!("owner {number}"));
        let value = mine.clone();
        let task = async move { claim(how, &*store, &*pause, mine).await };
        claims.push((owner, value, sim.spawn(owner, task)));
    }
    sim.run(30);
    match sim.below(4) {
        0 => sim.freeze(claims[0].0),
        1 => sim.kill(claims[1].0),
        _ => {}
    }
    sim.run(100);
    sim.calm();
    let alive: Vec<_> = claims.iter().filter(|(owner, _, won)| won.is_done() || sim.is_alive(*owner)).collect();
    if !sim.run_until(5_000, |_| alive.iter().all(|(_, _, won)| won.is_done())) {
        return Err("no progress in calm weather".to_owned());
    }
    let files = sim.world().files();
    for (owner, value, won) in alive {
        let place = format!("/places/{}", won.get().unwrap());
        if files.get(&place) != Some(value) {
            return Err(format!("{owner:?} believes to have {place}, where stands {:?}", files.get(&place)));
        }
    }
    match sim.world().visible_changes().iter().find(|change| change.what != What::Appeared) {
        Some(change) => Err(format!("{change:?}")),
        None => Ok(()),
    }
}

#[test]
fn a_claim_that_reads_back_survives_all_weather() {
    histories("claims", 3_000, |seed| claims(Claim::Right, seed));
}

#[test]
fn a_claim_that_looks_before_it_puts_is_caught() {
    assert!(first_failure(200, &|seed| claims(Claim::LooksThenPuts, seed)).is_some());
}

#[test]
fn a_claim_that_takes_an_unknown_put_for_its_own_is_caught() {
    assert!(first_failure(200, &|seed| claims(Claim::TakesUnknownForMine, seed)).is_some());
}

// ---- a toy protocol of the bus: numbers are sent exactly once, in order ------------------------

#[derive(Clone, Copy, PartialEq)]
enum Sender {
    Right,
    SendsAgain,
    ReadsBackBeforeFencing,
}

const NUMBERS: u64 = 6;

async fn on_the_bus(bus: &dyn Bus, topic: &TopicInfo) -> Result<u64> {
    let records = read_range(bus, topic, 0, 0, u64::MAX).await?;
    Ok(records.len() as u64)
}

async fn sender(how: Sender, bus: Arc<dyn Bus>, pause: Arc<dyn Pause>, topic: TopicInfo) -> bool {
    let mut known = None;
    loop {
        pause.pause(1).await;
        if how == Sender::ReadsBackBeforeFencing {
            known = on_the_bus(&*bus, &topic).await.ok();
        }
        let Ok(mut producer) = bus.producer("numbers").await else { continue };
        if how == Sender::Right || known.is_none() {
            known = on_the_bus(&*bus, &topic).await.ok();
        }
        let Some(mut next) = known else { continue };
        while next < NUMBERS {
            let value = Some(Bytes::from(next.to_string()));
            let record = Outgoing { topic: topic.name.clone(), partition: 0, key: None, value, headers: Vec::new() };
            match producer.send(vec![record]).await {
                Ok(_) => next += 1,
                Err(Fault { kind: crate::fault::Kind::Fenced, .. }) => return false,
                Err(Fault { effect: Effect::NotDone, .. }) => pause.pause(1).await,
                Err(_) => break,
            }
            known = Some(next);
        }
        if next == NUMBERS {
            return true;
        }
    }
}

fn numbers_topic(sim: &Sim) -> TopicInfo {
    sim.world().topic(&TopicSpec {
        name: TopicName::new("numbers"),
        num_partitions: 1,
        cleanup: Cleanup::Delete { retention_ms: None, retention_bytes: None },
    })
}

fn numbers(how: Sender, seed: u64) -> std::result::Result<(), String> {
    let mut sim = Sim::new(seed);
    let topic = numbers_topic(&sim);
    let owners = [sim.owner(), sim.owner()];
    for owner in owners {
        let task = sender(how, sim.bus(owner), sim.pause(), topic.clone());
        sim.spawn(owner, task);
        sim.run(40);
        match sim.below(4) {
            0 => sim.freeze(owner),
            1 => sim.power_cut(),
            _ => {}
        }
    }
    sim.run(60);
    // Everybody may have been fenced by an opening that landed late: somebody begins again.
    sim.calm();
    let last = sim.owner();
    sim.run(300);
    let task = sender(how, sim.bus(last), sim.pause(), topic.clone());
    let done = sim.spawn(last, task);
    sim.run_until(5_000, |_| done.is_done());
    if done.get() != Some(true) {
        return Err("no progress in calm weather".to_owned());
    }
    let found: Vec<_> = sim.world().records(&topic.name, 0).into_iter().filter_map(|record| record.value).collect();
    let wanted: Vec<_> = (0..NUMBERS).map(|n| Bytes::from(n.to_string())).collect();
    if found == wanted { Ok(()) } else { Err(format!("on the bus: {found:?}")) }
}

#[test]
fn a_sender_that_fences_and_then_reads_back_sends_exactly_once() {
    histories("numbers", 3_000, |seed| numbers(Sender::Right, seed));
}

#[test]
fn a_sender_that_sends_again_after_an_unknown_send_is_caught() {
    assert!(first_failure(300, &|seed| numbers(Sender::SendsAgain, seed)).is_some());
}

#[test]
fn a_sender_that_reads_back_before_it_fences_is_caught() {
    assert!(first_failure(3_000, &|seed| numbers(Sender::ReadsBackBeforeFencing, seed)).is_some());
}

// ---- what a history is made of -----------------------------------------------------------------

fn trace_of(seed: u64) -> Vec<String> {
    let mut sim = Sim::new(seed);
    sim.world().keep_trace();
    let topic = numbers_topic(&sim);
    for number in 0..2 {
        let owner = sim.owner();
        let task = sender(Sender::Right, sim.bus(owner), sim.pause(), topic.clone());
        sim.spawn(owner, task);
        let (store, pause) = (sim.store(owner), sim.pause());
        let mine = Bytes::from(number.to_string());
        sim.spawn(owner, async move { claim(Claim::Right, &*store, &*pause, mine).await });
    }
    sim.run(60);
    sim.power_cut();
    sim.world().append(&topic.name, 0, vec![Payload::null()]);
    sim.world().trace()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..50 {
        assert_eq!(trace_of(seed), trace_of(seed), "seed {seed}");
    }
    assert_ne!(trace_of(1), trace_of(2));
}

#[test]
fn every_kind_of_fault_occurs() {
    let mut all = Counts::default();
    for seed in 0..200 {
        let mut sim = Sim::new(seed);
        let owner = sim.owner();
        let (store, pause) = (sim.store(owner), sim.pause());
        sim.spawn(owner, async move { claim(Claim::Right, &*store, &*pause, Bytes::from_static(b"x")).await });
        sim.run(10);
        sim.kill(owner);
        sim.run(300);
        let counts = sim.world().counts();
        all.refused += counts.refused;
        all.timed_out += counts.timed_out;
        all.repeated += counts.repeated;
        all.held += counts.held;
        all.landed_late += counts.landed_late;
    }
    let Counts { refused, timed_out, repeated, held, landed_late, .. } = all;
    assert!([refused, timed_out, repeated, held, landed_late].iter().all(|&n| n > 5), "{all:?}");
}

#[test]
fn a_frozen_owner_does_nothing_but_what_it_asked_for_still_happens() {
    let mut sim = Sim::new(7);
    sim.weather(Weather::calm());
    let owner = sim.owner();
    let store = sim.store(owner);
    let task = async move {
        store.put_if_absent(&path("/a"), Bytes::from_static(b"1")).await?;
        store.put_if_absent(&path("/b"), Bytes::from_static(b"2")).await
    };
    let done = sim.spawn(owner, task);
    assert!(sim.step());
    sim.freeze(owner);
    sim.run(100);
    assert_eq!(sim.world().files().into_keys().collect::<Vec<_>>(), ["/a"]);
    sim.wake(owner);
    assert!(sim.run_until(100, |_| done.is_done()));
    assert_eq!(sim.world().files().into_keys().collect::<Vec<_>>(), ["/a", "/b"]);
}

#[test]
fn a_repeated_rename_meets_its_own_effect() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut sim = Sim::new(seed);
        sim.weather(Weather { repeat: 1.0, ..Weather::calm() });
        let owner = sim.owner();
        let store = sim.store(owner);
        let task = async move {
            store.put_if_absent(&path("/_a"), Bytes::new()).await.unwrap();
            store.rename_if_absent(&path("/_a"), &path("/b")).await.unwrap()
        };
        let renamed = sim.spawn(owner, task);
        sim.run(100);
        seen.insert(format!("{:?}", renamed.take().unwrap()));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["Done", "TargetExists"]);
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_may_lose_what_was_not() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut sim = Sim::new(seed);
        sim.weather(Weather::calm());
        let owner = sim.owner();
        let store = sim.store(owner);
        let task = async move {
            let mut synced = store.create(&path("/_synced")).await?;
            synced.append(Bytes::from_static(b"abc")).await?;
            synced.sync().await?;
            synced.append(Bytes::from_static(b"defg")).await?;
            let mut closed = store.create(&path("/_closed")).await?;
            closed.append(Bytes::from_static(b"xyz")).await?;
            closed.close().await?;
            let mut never = store.create(&path("/_never")).await?;
            never.append(Bytes::from_static(b"xyz")).await
        };
        let done = sim.spawn(owner, task);
        assert!(sim.run_until(500, |_| done.is_done()));
        done.take().unwrap().unwrap();
        sim.power_cut();
        let files = sim.world().files();
        assert_eq!(files["/_closed"], "xyz");
        assert!(files["/_synced"].starts_with(b"abc"));
        lengths.insert((files["/_synced"].len(), files.get("/_never").map(Bytes::len)));
    }
    for synced in 3..=7 {
        for never in [None, Some(0), Some(1), Some(2), Some(3)] {
            assert!(lengths.contains(&(synced, never)), "{synced} and {never:?} bytes");
        }
    }
}
