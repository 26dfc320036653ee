//! Protocols small enough to be seen through: those that are wrong in the usual ways are caught,
//! the right ones are not.

use std::sync::Arc;

use bytes::Bytes;

use super::path;
use crate::{
    bus::{Bus, Cleanup, Outgoing, TopicInfo, TopicSpec, read_range},
    fault::{Effect, Fault, Kind, Result},
    model::{Pause, TopicName},
    sim::{Sim, driver::first_failure, histories},
    store::{Store, StorePath, model::What},
};

// ---- a toy protocol of the store: several owners take numbered places, one each at a time ------

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Claim {
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
pub(super) async fn claim(how: Claim, store: &dyn Store, pause: &dyn Pause, mine: Bytes) -> u64 {
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
pub(super) enum Sender {
    Right,
    SendsAgain,
    ReadsBackBeforeFencing,
}

const NUMBERS: u64 = 6;

async fn on_the_bus(bus: &dyn Bus, topic: &TopicInfo) -> Result<u64> {
    let records = read_range(bus, topic, 0, 0, u64::MAX).await?;
    Ok(records.len() as u64)
}

pub(super) async fn sender(how: Sender, bus: Arc<dyn Bus>, pause: Arc<dyn Pause>, topic: TopicInfo) -> bool {
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
                Err(Fault { kind: Kind::Fenced, .. }) => return false,
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

pub(super) fn numbers_topic(sim: &Sim) -> TopicInfo {
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
