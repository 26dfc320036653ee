//! Retention and compaction.

use super::{
    Cleanup, KEEP, Subject, Watermarks, batches, bytes, ends, keyed, make, plain, producer, reader, records, text,
    values,
};
use crate::{bus::latest, model::Why};

fn by_size(bytes: u64) -> Cleanup {
    Cleanup::Delete { retention_ms: None, retention_bytes: Some(bytes) }
}

pub(crate) async fn retention_by_size_moves_low_and_never_next(subject: &impl Subject) {
    let small = make(subject, "small", 2, by_size(350_000)).await;
    let all = make(subject, "all", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..10 {
        let mut value = vec![0; 100_000];
        random.fill(&mut value);
        sender.send(vec![plain(&small, 0, &value), plain(&all, 0, &value)]).await.unwrap();
    }
    sender.send(vec![plain(&small, 1, "x")]).await.unwrap();
    let before = ends(subject, &small, 0).await;
    subject.retain().await.unwrap();
    let after = ends(subject, &small, 0).await;
    assert_eq!(after.high, before.high);
    // A bus may have begun by itself.
    assert!(after.low >= before.low && after.low > 0 && after.low < after.high, "{before:?} {after:?}");
    let left = records(subject, &small, 0, after.low).await;
    assert!((2..=4).contains(&left.len()), "{}", left.len());
    assert!(left.iter().all(|record| record.value.as_ref().unwrap().len() == 100_000));
    assert_eq!(ends(subject, &small, 1).await.low, 0);
    assert_eq!(records(subject, &all, 0, 0).await.len(), 10);
    let next = sender.send(vec![plain(&small, 0, "y")]).await.unwrap();
    assert_eq!(next, [after.high]);
}

pub(crate) async fn retention_by_age_empties_a_partition_and_offsets_go_on(subject: &impl Subject) {
    let Some(clock) = subject.clock() else { return };
    let cleanup = Cleanup::Delete { retention_ms: Some(10_000), retention_bytes: None };
    // The last word counts.
    make(subject, "age", 1, Cleanup::Delete { retention_ms: None, retention_bytes: None }).await;
    let topic = make(subject, "age", 1, cleanup).await;
    let mut sender = producer(subject, "p").await;
    let first = sender.send(vec![plain(&topic, 0, "a"), plain(&topic, 0, "b")]).await.unwrap();
    clock.advance(6_000);
    let second = sender.send(vec![plain(&topic, 0, "c")]).await.unwrap();
    clock.advance(4_000);
    subject.retain().await.unwrap();
    assert_eq!(ends(subject, &topic, 0).await.low, first[0], "ten seconds are not over yet");
    clock.advance(1_000);
    subject.retain().await.unwrap();
    let low = ends(subject, &topic, 0).await.low;
    assert!(low > first[1] && low <= second[0], "{low}");
    assert_eq!(values(subject, &topic, 0, low).await, ["c"]);
    let high = ends(subject, &topic, 0).await.high;
    clock.advance(60_000);
    subject.retain().await.unwrap();
    assert_eq!(ends(subject, &topic, 0).await, Watermarks { low: high, high });
    assert_eq!(sender.send(vec![plain(&topic, 0, "d")]).await.unwrap(), [high]);
    assert_eq!(values(subject, &topic, 0, high).await, ["d"]);
}

pub(crate) async fn a_reader_below_the_low_watermark_is_told_of_retention_once(subject: &impl Subject) {
    let topic = make(subject, "below", 1, by_size(250_000)).await;
    let mut sender = producer(subject, "p").await;
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..10 {
        let mut value = vec![0; 100_000];
        random.fill(&mut value);
        sender.send(vec![plain(&topic, 0, &value)]).await.unwrap();
    }
    let mut slow = reader(subject, &topic, 0, 0).await;
    subject.retain().await.unwrap();
    let low = ends(subject, &topic, 0).await.low;
    assert!(low > 1);
    let gap = slow.next().await.unwrap();
    assert_eq!((gap.from, gap.records.len(), gap.to, gap.why), (0, 0, low, Why::Retention));
    assert_eq!(slow.position(), low);
    let data = slow.next().await.unwrap();
    assert_eq!((data.from, data.records[0].offset, data.why), (low, low, Why::Marker));
    let from_1 = batches(subject, &topic, 0, 1).await;
    assert_eq!((from_1[0].from, from_1[0].to, from_1[0].why), (1, low, Why::Retention));
    assert!(from_1[1..].iter().all(|batch| batch.why == Why::Marker));
}

pub(crate) async fn compaction_keeps_the_last_of_each_key_and_every_offset(subject: &impl Subject) {
    let topic = make(subject, "keys", 1, Cleanup::Compact).await;
    let plain_topic = make(subject, "no_keys", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let sends: [&[(&str, Option<&str>)]; 5] = [
        &[("a", Some("1")), ("b", Some("1"))],
        &[("a", Some("2"))],
        &[("c", Some("1")), ("c", Some("2")), ("d", Some(""))],
        &[("b", None), ("a", Some("3"))],
        &[("e", None)],
    ];
    for send in sends {
        let mut out: Vec<_> = send.iter().map(|(key, value)| keyed(&topic, key, *value)).collect();
        out.extend(send.iter().map(|(key, value)| keyed(&plain_topic, key, *value)));
        sender.send(out).await.unwrap();
    }
    let before = records(subject, &topic, 0, 0).await;
    let ends_before = ends(subject, &topic, 0).await;
    let now = || async {
        let view = latest(subject.bus(), &topic).await.unwrap();
        view.iter().map(|(key, record)| (key.clone(), text(record))).collect::<Vec<_>>()
    };
    let should = [("a", "3"), ("c", "2"), ("d", "")].map(|(key, value)| (bytes(key), value.to_owned()));
    assert_eq!(now().await, should);

    subject.compact().await.unwrap();
    assert_eq!(ends(subject, &topic, 0).await.high, ends_before.high);
    assert_eq!(now().await, should);
    let low = ends(subject, &topic, 0).await.low;
    let after = records(subject, &topic, 0, low).await;
    assert!(after.iter().all(|record| before.contains(record)), "nothing is renumbered or changed");
    let left: Vec<_> =
        after.iter().map(|r| format!("{}={}", String::from_utf8_lossy(r.key.as_ref().unwrap()), text(r))).collect();
    for gone in ["a=1", "a=2", "b=1", "c=1"] {
        assert!(!left.contains(&gone.to_owned()), "{left:?}");
    }
    let all = batches(subject, &topic, 0, low).await;
    assert!(all.iter().all(|batch| batch.why == Why::Marker));
    // Beginning in a hole is no special case.
    let from_1 = batches(subject, &topic, 0, low.max(1)).await;
    assert!(from_1.iter().flat_map(|batch| &batch.records).all(|record| record.offset >= 1));
    assert_eq!(records(subject, &plain_topic, 0, 0).await.len(), sends.iter().map(|send| send.len()).sum::<usize>());

    // Nulls may go after a while, what they removed does not come back, and it goes on.
    if let Some(clock) = subject.clock() {
        clock.advance(7 * 24 * 3_600_000);
    }
    sender.send(vec![keyed(&topic, "c", Some("3")), keyed(&topic, "b", Some("2"))]).await.unwrap();
    subject.compact().await.unwrap();
    let should = [("a", "3"), ("b", "2"), ("c", "3"), ("d", "")].map(|(key, value)| (bytes(key), value.to_owned()));
    assert_eq!(now().await, should);
}
