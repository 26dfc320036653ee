//! Topics, and what a producer may rely on.

use super::{
    Cleanup, Effect, KEEP, Kind, Outgoing, Subject, TopicInfo, TopicName, TopicSpec, Watermarks, bytes,
    check_recreated, check_refused, ends, make, plain, producer, reader, records, values,
};
use crate::model::{Clock, Header, Record};

pub(crate) async fn a_topic_is_made_once_and_refused_in_another_shape(subject: &impl Subject) {
    let name = TopicName::new(subject.name("shape"));
    assert_eq!(subject.bus().topic(&name).await.unwrap(), None);
    let made = make(subject, "shape", 3, KEEP).await;
    assert_eq!((&made.name, made.num_partitions), (&name, 3));
    assert_eq!(make(subject, "shape", 3, KEEP).await, made);
    assert_eq!(subject.bus().topic(&name).await.unwrap(), Some(made.clone()));
    let spec = |num_partitions, cleanup| TopicSpec { name: name.clone(), num_partitions, cleanup };
    check_refused(subject.bus().ensure_topic(&spec(2, KEEP)).await);
    check_refused(subject.bus().ensure_topic(&spec(4, KEEP)).await);
    check_refused(subject.bus().ensure_topic(&spec(3, Cleanup::Compact)).await);
    // How long it keeps records is a setting that may change.
    let longer = Cleanup::Delete { retention_ms: Some(3_600_000_000), retention_bytes: None };
    assert_eq!(subject.bus().ensure_topic(&spec(3, longer)).await.unwrap(), made);
    assert_eq!(subject.bus().topic(&name).await.unwrap(), Some(made));
}

pub(crate) async fn a_topic_made_anew_is_another_topic(subject: &impl Subject) {
    let old = make(subject, "anew", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    sender.send(vec![plain(&old, 0, "old"), plain(&old, 0, "older")]).await.unwrap();
    let mut early = reader(subject, &old, 0, 0).await;
    early.next().await.unwrap();
    subject.bus().delete_topic(&old.name).await.unwrap();
    assert_eq!(subject.bus().topic(&old.name).await.unwrap(), None);
    check_recreated(subject.bus().watermarks(&old, 0).await);

    let new = make(subject, "anew", 1, KEEP).await;
    assert_ne!(new.id, old.id);
    sender.send(vec![plain(&new, 0, "new")]).await.unwrap();
    check_recreated(subject.bus().watermarks(&old, 0).await);
    check_recreated(subject.bus().commit_offset(&subject.name("g"), &old, 0, 1).await);
    check_recreated(subject.bus().committed_offset(&subject.name("g"), &old, 0).await);
    check_recreated(early.next().await);
    let late = async { subject.bus().reader(&old, 0, 0).await?.next().await };
    check_recreated(late.await);
    assert_eq!(values(subject, &new, 0, 0).await, ["new"]);
}

pub(crate) async fn deleting_a_topic_takes_its_records_and_leaves_others(subject: &impl Subject) {
    let gone = make(subject, "gone", 2, KEEP).await;
    let stays = make(subject, "stays", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    sender.send(vec![plain(&gone, 1, "a"), plain(&stays, 0, "b")]).await.unwrap();
    let group = subject.name("g");
    subject.bus().commit_offset(&group, &gone, 1, 1).await.unwrap();
    subject.bus().delete_topic(&gone.name).await.unwrap();
    subject.bus().delete_topic(&gone.name).await.unwrap();
    subject.retain().await.unwrap();
    let again = make(subject, "gone", 2, KEEP).await;
    assert_eq!(ends(subject, &again, 1).await, Watermarks { low: 0, high: 0 });
    assert_eq!(subject.bus().committed_offset(&group, &again, 1).await.unwrap(), None);
    assert_eq!(values(subject, &stays, 0, 0).await, ["b"]);
}

pub(crate) async fn offsets_count_from_0_in_each_partition_and_batches_tile_them(subject: &impl Subject) {
    let topic = make(subject, "count", 2, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let mut answers = [vec![], vec![]];
    for send in 0..4 {
        let partitions = [0, 1, 1, 0, 1];
        let out = partitions.iter().enumerate().map(|(n, &p)| plain(&topic, p, format!("{send}.{n}"))).collect();
        let offsets = sender.send(out).await.unwrap();
        assert_eq!(offsets.len(), 5);
        for (&partition, offset) in partitions.iter().zip(offsets) {
            answers[partition as usize].push(offset);
        }
    }
    for (partition, answers) in answers.iter().enumerate() {
        let partition = u32::try_from(partition).unwrap();
        let found = records(subject, &topic, partition, 0).await;
        assert_eq!(&found.iter().map(|record| record.offset).collect::<Vec<_>>(), answers);
        if !subject.markers() {
            assert_eq!(answers, &(0..answers.len() as u64).collect::<Vec<_>>());
            assert_eq!(ends(subject, &topic, partition).await, Watermarks { low: 0, high: answers.len() as u64 });
        }
    }
    assert_eq!(values(subject, &topic, 0, 0).await, ["0.0", "0.3", "1.0", "1.3", "2.0", "2.3", "3.0", "3.3"]);
}

pub(crate) async fn a_send_is_done_to_all_partitions_or_to_none(subject: &impl Subject) {
    let (one, two) = (make(subject, "one", 1, KEEP).await, make(subject, "two", 2, KEEP).await);
    let mut sender = producer(subject, "p").await;
    let nowhere = TopicInfo { name: TopicName::new(subject.name("nowhere")), ..one.clone() };
    let refused = sender.send(vec![plain(&one, 0, "x"), plain(&two, 1, "x"), plain(&nowhere, 0, "x")]).await;
    check_refused(refused);
    // A refused send does not end a producer.
    sender.send(vec![plain(&two, 1, "a"), plain(&one, 0, "b"), plain(&two, 0, "c")]).await.unwrap();
    assert_eq!(values(subject, &one, 0, 0).await, ["b"]);
    assert_eq!(values(subject, &two, 0, 0).await, ["c"]);
    assert_eq!(values(subject, &two, 1, 0).await, ["a"]);
}

pub(crate) async fn an_empty_send_is_nothing(subject: &impl Subject) {
    let topic = make(subject, "empty", 1, KEEP).await;
    assert!(producer(subject, "p").await.send(vec![]).await.unwrap().is_empty());
    assert_eq!(ends(subject, &topic, 0).await, Watermarks { low: 0, high: 0 });
}

pub(crate) async fn a_new_holder_fences_the_old_one_for_ever(subject: &impl Subject) {
    let topic = make(subject, "fence", 1, KEEP).await;
    let mut other = producer(subject, "other").await;
    let mut old = producer(subject, "p").await;
    old.send(vec![plain(&topic, 0, "old")]).await.unwrap();
    let mut new = producer(subject, "p").await;
    for _ in 0..3 {
        let fault = old.send(vec![plain(&topic, 0, "fenced")]).await.unwrap_err();
        assert_eq!((fault.kind, fault.effect), (Kind::Fenced, Effect::NotDone), "{fault}");
        new.send(vec![plain(&topic, 0, "new")]).await.unwrap();
    }
    other.send(vec![plain(&topic, 0, "other")]).await.unwrap();
    assert_eq!(values(subject, &topic, 0, 0).await, ["old", "new", "new", "new", "other"]);
}

pub(crate) async fn producers_that_send_at_once_lose_nothing(subject: &impl Subject) {
    let topic = make(subject, "at_once", 1, KEEP).await;
    let sending = (0..5).map(|id| {
        let topic = &topic;
        async move {
            let mut sender = producer(subject, &format!("p{id}")).await;
            for n in 0..20 {
                let out = (0..3).map(|part| plain(topic, 0, format!("{id} {n:02} {part}"))).collect();
                let offsets = sender.send(out).await.unwrap();
                assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "one send lies together: {offsets:?}");
            }
        }
    });
    futures_util::future::join_all(sending).await;
    let all = values(subject, &topic, 0, 0).await;
    for id in 0..5 {
        let mine: Vec<_> = all.iter().filter(|value| value.starts_with(&id.to_string())).cloned().collect();
        let sent: Vec<_> = (0..20).flat_map(|n| (0..3).map(move |part| format!("{id} {n:02} {part}"))).collect();
        assert_eq!(mine, sent);
    }
    assert_eq!(all.len(), 300);
}

pub(crate) async fn an_unknown_topic_or_partition_is_refused(subject: &impl Subject) {
    let topic = make(subject, "known", 2, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let unknown = TopicInfo { name: TopicName::new(subject.name("unknown")), ..topic.clone() };
    check_refused(sender.send(vec![plain(&unknown, 0, "x")]).await);
    check_refused(sender.send(vec![plain(&topic, 0, "x"), plain(&topic, 2, "x")]).await);
    check_refused(subject.bus().watermarks(&topic, 2).await);
    check_refused(async { subject.bus().reader(&topic, 2, 0).await?.next().await }.await);
    check_refused(subject.bus().commit_offset(&subject.name("g"), &topic, 2, 0).await);
    assert_eq!(ends(subject, &topic, 0).await, Watermarks { low: 0, high: 0 });
    let none = TopicSpec { name: TopicName::new(subject.name("none")), num_partitions: 0, cleanup: KEEP };
    check_refused(subject.bus().ensure_topic(&none).await);
}

pub(crate) async fn group_offsets_come_back_per_group_and_partition(subject: &impl Subject) {
    let topic = make(subject, "groups", 2, KEEP).await;
    let (bus, a, b) = (subject.bus(), subject.name("a"), subject.name("b"));
    assert_eq!(bus.committed_offset(&a, &topic, 0).await.unwrap(), None);
    bus.commit_offset(&a, &topic, 0, 7).await.unwrap();
    bus.commit_offset(&a, &topic, 1, 8).await.unwrap();
    bus.commit_offset(&a, &topic, 0, 5).await.unwrap();
    assert_eq!(bus.committed_offset(&a, &topic, 0).await.unwrap(), Some(5));
    assert_eq!(bus.committed_offset(&a, &topic, 1).await.unwrap(), Some(8));
    assert_eq!(bus.committed_offset(&b, &topic, 0).await.unwrap(), None);
}

pub(crate) async fn bytes_come_back_as_they_were_sent(subject: &impl Subject) {
    let topic = make(subject, "bytes", 1, KEEP).await;
    let binary: Vec<u8> = (0..=255).collect();
    let fields: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"\0\n\r\xff"), Some(&binary)];
    let mut sent = Vec::new();
    for key in fields {
        for value in fields {
            let headers: Vec<Header> =
                vec![("seq".into(), bytes(&binary)), ("seq".into(), bytes("")), ("größe".into(), bytes(b"\0"))];
            for headers in [vec![], headers] {
                sent.push(Outgoing { key: key.map(bytes), value: value.map(bytes), headers, ..plain(&topic, 0, "") });
            }
        }
    }
    producer(subject, "p").await.send(sent.clone()).await.unwrap();
    let found = records(subject, &topic, 0, 0).await;
    assert_eq!(found.len(), sent.len());
    for (found, sent) in found.iter().zip(&sent) {
        assert_eq!((&found.key, &found.value, &found.headers), (&sent.key, &sent.value, &sent.headers));
    }
    let mut reader = reader(subject, &topic, 0, 0).await;
    reader.leave_out_headers();
    let mut bare = Vec::new();
    while bare.len() < found.len() {
        bare.extend(reader.next().await.unwrap().records);
    }
    let without = |record: Record| Record { headers: Vec::new(), ..record };
    assert_eq!(bare, found.into_iter().map(without).collect::<Vec<_>>());
}

pub(crate) async fn a_record_of_5_mb_comes_back(subject: &impl Subject) {
    let topic = make(subject, "big", 1, KEEP).await;
    let mut big = vec![0; 5_000_000];
    fastrand::Rng::with_seed(5).fill(&mut big);
    let mut sender = producer(subject, "p").await;
    sender.send(vec![plain(&topic, 0, "a"), plain(&topic, 0, &big), plain(&topic, 0, "b")]).await.unwrap();
    let found = records(subject, &topic, 0, 0).await;
    let lens: Vec<_> = found.iter().map(|record| record.value.as_ref().unwrap().len()).collect();
    assert_eq!(lens, [1, 5_000_000, 1]);
    assert!(found[1].value.as_deref() == Some(&big[..]));
}

pub(crate) async fn times_do_not_go_back(subject: &impl Subject) {
    let topic = make(subject, "times", 1, KEEP).await;
    let mut sender = producer(subject, "p").await;
    let mut should = Vec::new();
    for step in [0, -500, 2_000] {
        if let Some(clock) = subject.clock() {
            clock.advance(step);
            should.push(clock.now().max(should.last().copied().unwrap_or(clock.now())));
        }
        sender.send(vec![plain(&topic, 0, "x")]).await.unwrap();
    }
    let times: Vec<_> = records(subject, &topic, 0, 0).await.iter().map(|record| record.time).collect();
    assert!(times.is_sorted(), "{times:?}");
    if !should.is_empty() {
        assert_eq!(times, should);
    }
}
