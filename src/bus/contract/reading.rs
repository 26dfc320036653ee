//! What a reader may rely on.

use std::time::Duration;

use super::{KEEP, Kind, Subject, batches, ends, make, plain, producer, reader, some_records, text, values};
use crate::bus::read_range;

pub(crate) async fn a_reader_at_the_end_waits_and_wakes(subject: &impl Subject) {
    let topic = make(subject, "wake", 2, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let mut reader = reader(subject, &topic, 1, 0).await;
    for n in 0..20 {
        let (read, sent) = futures_util::join!(some_records(&mut *reader), async {
            tokio::task::yield_now().await;
            // Another partition's records wake nobody for nothing.
            sender.send(vec![plain(&topic, 0, "other")]).await.unwrap();
            sender.send(vec![plain(&topic, 1, n.to_string())]).await
        });
        sent.unwrap();
        assert_eq!(read, [n.to_string()]);
    }
}

pub(crate) async fn a_reader_begins_in_the_middle_of_a_send(subject: &impl Subject) {
    let topic = make(subject, "middle", 1, KEEP).await;
    let out = (0..10).map(|n| plain(&topic, 0, n.to_string())).collect();
    let offsets = producer(subject, "p").await.send(out).await.unwrap();
    assert_eq!(values(subject, &topic, 0, offsets[6]).await, ["6", "7", "8", "9"]);
    assert_eq!(values(subject, &topic, 0, offsets[9]).await, ["9"]);
    let some = read_range(subject.bus(), &topic, 0, offsets[3], offsets[5]).await.unwrap();
    assert_eq!(some.iter().map(text).collect::<Vec<_>>(), ["3", "4"]);
    let rest = read_range(subject.bus(), &topic, 0, offsets[8], 1_000).await.unwrap();
    assert_eq!(rest.iter().map(text).collect::<Vec<_>>(), ["8", "9"]);
}

pub(crate) async fn a_reader_above_the_end_gets_a_fault_and_no_reset(subject: &impl Subject) {
    let topic = make(subject, "above", 1, KEEP).await;
    producer(subject, "p").await.send(vec![plain(&topic, 0, "a")]).await.unwrap();
    let high = ends(subject, &topic, 0).await.high;
    for from in [high + 1, high + 1_000_000, i64::MAX.unsigned_abs(), u64::MAX] {
        let mut reader = reader(subject, &topic, 0, from).await;
        let fault = reader.next().await.unwrap_err();
        assert_eq!(fault.kind, Kind::Lost, "from {from}: {fault}");
        assert_eq!(reader.position(), from);
    }
}

pub(crate) async fn dropping_a_wait_or_a_read_loses_nothing(subject: &impl Subject) {
    let topic = make(subject, "drop", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let mut reader = reader(subject, &topic, 0, 0).await;
    let (mut read, mut at) = (Vec::new(), 0);
    for n in 0..30 {
        // Dropped at different moments: before it was ever polled, while it looks, while it waits.
        for polls in 0..3 {
            let mut next = std::pin::pin!(reader.next());
            for _ in 0..polls {
                if let Some(Ok(batch)) = futures_util::FutureExt::now_or_never(&mut next) {
                    assert_eq!(batch.from, at);
                    at = batch.to;
                    read.extend(batch.records.iter().map(text));
                    break;
                }
                tokio::time::sleep(Duration::from_micros(fastrand::u64(..300))).await;
            }
        }
        sender.send(vec![plain(&topic, 0, n.to_string())]).await.unwrap();
    }
    while read.len() < 30 {
        let batch = reader.next().await.unwrap();
        assert_eq!(batch.from, at);
        at = batch.to;
        read.extend(batch.records.iter().map(text));
    }
    assert_eq!(read, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn many_small_sends_come_back_in_order(subject: &impl Subject) {
    let topic = make(subject, "many", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let sent: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    for value in &sent {
        sender.send(vec![plain(&topic, 0, value)]).await.unwrap();
    }
    assert_eq!(values(subject, &topic, 0, 0).await, sent);
    let high = ends(subject, &topic, 0).await.high;
    for from in [high / 3, high / 2, high - 2] {
        let all = batches(subject, &topic, 0, from).await;
        assert!(all.iter().flat_map(|batch| &batch.records).all(|record| record.offset >= from));
    }
}
