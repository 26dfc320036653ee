//! Histories repeat, every fault occurs, and a power cut takes what it may and nothing else.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::FutureExt;

use super::{
    path,
    toys::{Claim, Sender, claim, numbers_topic, sender},
};
use crate::{
    bus::{Bus, Outgoing, TopicInfo, TopicSpec, model::Payload},
    fault::{Effect, Kind},
    model::{TopicName, Why},
    sim::{Counts, Sim, Weather},
    store::{
        Put, Renamed, Store,
        model::{Durability, What},
    },
};

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
    let mut seen = BTreeSet::new();
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
    let mut lengths = BTreeSet::new();
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

#[test]
fn a_power_cut_takes_the_end_of_one_journal_or_any_folders_changes() {
    // `/a/1` was asked for and never answered, `/b/1` was answered later.
    let survivors = |durability| {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut sim = Sim::new(seed);
            sim.world().durability(durability);
            sim.weather(Weather { lose_answer: 1.0, ..Weather::calm() });
            let owner = sim.owner();
            let store = sim.store(owner);
            sim.spawn(owner, async move { drop(store.put_if_absent(&path("/a/1"), Bytes::new()).await) });
            sim.run(20);
            let direct = sim.world().store();
            let put = direct.put_if_absent(&path("/b/1"), Bytes::new()).now_or_never().unwrap();
            assert_eq!(put.unwrap(), Put::Created);
            sim.power_cut();
            seen.insert(sim.world().files().into_keys().collect::<Vec<_>>().join(" "));
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(survivors(Durability::Ordered), ["/a/1 /b/1"]);
    assert_eq!(survivors(Durability::Scattered), ["/a/1 /b/1", "/b/1"]);
}

#[test]
fn a_visible_file_that_was_never_closed_is_torn_by_a_power_cut_and_the_change_is_seen() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut sim = Sim::new(seed);
        let direct = sim.world().store();
        let write = async {
            let mut writer = direct.create(&path("/_staging/1")).await?;
            writer.append(Bytes::from_static(b"bytes")).await?;
            direct.rename_if_absent(&path("/_staging/1"), &path("/1")).await
        };
        assert_eq!(write.now_or_never().unwrap().unwrap(), Renamed::Done);
        sim.power_cut();
        let whats: Vec<_> = sim.world().visible_changes().into_iter().map(|change| change.what).collect();
        assert_eq!(whats[0], What::Appeared);
        seen.insert(whats.get(1).map(|what| format!("{what:?}")));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some("Torn".to_owned())]);
}

fn two_partitions(sim: &Sim) -> TopicInfo {
    let cleanup = crate::bus::Cleanup::Delete { retention_ms: None, retention_bytes: None };
    sim.world().topic(&TopicSpec { name: TopicName::new("t"), num_partitions: 2, cleanup })
}

fn to_both(topic: &TopicInfo, value: &str) -> Vec<Outgoing> {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    let record = |partition| Outgoing {
        topic: topic.name.clone(),
        partition,
        key: None,
        value: value.clone(),
        headers: Vec::new(),
    };
    vec![record(0), record(1)]
}

/// A producer opened in calm weather sends in this one; what it was told, at the end of the day.
fn one_send(sim: &mut Sim, weather: Weather, records: Vec<Outgoing>) -> Option<Effect> {
    sim.weather(Weather::calm());
    let owner = sim.owner();
    let bus = sim.bus(owner);
    let opened = sim.spawn(owner, async move { bus.producer("p").await });
    sim.run(1_000);
    let mut producer = opened.take().unwrap().unwrap();
    sim.weather(weather);
    let sent = sim.spawn(owner, async move { producer.send(records).await });
    sim.run(1_000);
    sent.take().unwrap().err().map(|fault| fault.effect)
}

#[test]
fn an_unknown_send_is_done_or_not_and_torn_only_in_torn_weather() {
    let ends = |torn| {
        let mut seen = BTreeSet::new();
        for seed in 0..300 {
            let mut sim = Sim::new(seed);
            let topic = two_partitions(&sim);
            let weather = Weather { torn, lose_answer: 0.4, lose_request: 0.2, ..Weather::calm() };
            let end = one_send(&mut sim, weather, to_both(&topic, "x"));
            let landed = [0, 1].map(|partition| sim.world().records(&topic.name, partition).len());
            match end {
                None => assert_eq!(landed, [1, 1]),
                Some(effect) => {
                    assert_eq!(effect, Effect::Unknown);
                    seen.insert(landed);
                }
            }
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(ends(0.0), [[0, 0], [1, 1]]);
    assert_eq!(ends(1.0), [[0, 0], [0, 1], [1, 0], [1, 1]]);
}

#[test]
fn a_power_cut_keeps_answered_sends_and_what_was_read() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut sim = Sim::new(seed);
        let topic = two_partitions(&sim);
        let weather = Weather { lose_answer: 0.5, ..Weather::calm() };
        let answered = one_send(&mut sim, weather, to_both(&topic, "x")).is_none();
        let read = sim.one_in(2);
        if read {
            let reader = sim.world().bus().watermarks(&topic, 0).now_or_never().unwrap();
            assert_eq!(reader.unwrap().high, 2);
        }
        sim.power_cut();
        let landed = [0, 1].map(|partition| sim.world().records(&topic.name, partition).len());
        if answered || read {
            assert_eq!(landed, [1, 1]);
        } else {
            seen.insert(landed);
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[0, 0], [1, 1]]);
}

#[test]
fn batches_tile_a_partition_with_holes_of_every_kind() {
    let mut whys = BTreeSet::new();
    for seed in 0..200 {
        let mut sim = Sim::new(seed);
        let topic = two_partitions(&sim);
        let (sender, reader) = (sim.owner(), sim.owner());
        for number in 0..8 {
            let (bus, records) = (sim.bus(sender), to_both(&topic, &number.to_string()));
            sim.spawn(sender, async move { bus.producer("p").await?.send(records).await });
            sim.run(20);
        }
        let (bus, pause, info) = (sim.bus(reader), sim.pause(), topic.clone());
        let read = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let batches = read.clone();
        sim.spawn(reader, async move {
            let mut reader = loop {
                match bus.reader(&info, 0, 0).await {
                    Ok(reader) => break reader,
                    Err(_) => pause.pause(1).await,
                }
            };
            loop {
                match reader.next().await {
                    Ok(batch) => batches.borrow_mut().push(batch),
                    Err(_) => pause.pause(1).await,
                }
            }
        });
        let early = sim.below(30);
        sim.run(early);
        if sim.one_in(2) {
            sim.world().retain(&topic.name, 0, 7);
        }
        sim.calm();
        assert!(sim.run(10_000) < 10_000, "the reader waits at the end");
        let batches = read.borrow();
        assert_eq!(batches[0].from, 0);
        assert!(batches.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(
            batches.last().unwrap().to,
            sim.world().bus().watermarks(&topic, 0).now_or_never().unwrap().unwrap().high
        );
        let records: Vec<_> = batches.iter().flat_map(|batch| batch.records.clone()).collect();
        let gap = batches.iter().find(|batch| batch.why == Why::Retention).map(|batch| batch.from..batch.to);
        let mut ever = sim.world().records_ever(topic.id, 0);
        ever.retain(|record| gap.as_ref().is_none_or(|gap| !gap.contains(&record.offset)));
        assert_eq!(records, ever, "seed {seed}");
        whys.extend(batches.iter().map(|batch| (batch.why, batch.records.is_empty())));
    }
    assert_eq!(
        whys.into_iter().collect::<Vec<_>>(),
        [(Why::Marker, false), (Why::Marker, true), (Why::Retention, true)]
    );
}

#[test]
fn a_topic_made_anew_is_told_to_a_waiting_reader() {
    let mut sim = Sim::new(1);
    sim.calm();
    let topic = two_partitions(&sim);
    let owner = sim.owner();
    let (bus, info) = (sim.bus(owner), topic.clone());
    let end = sim.spawn(owner, async move { bus.reader(&info, 0, 0).await?.next().await });
    sim.run(100);
    assert!(!end.is_done());
    sim.world().recreate(&topic.name);
    sim.run(100);
    assert_eq!(end.take().unwrap().unwrap_err().kind, Kind::Recreated);
}
