//! Opening, closing, sharing, waiting, keeping small.

use std::time::Duration;

use super::*;
use crate::{
    fault::{Domain, Kind},
    model::SystemClock,
};

#[tokio::test]
async fn what_was_answered_is_there_after_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut old = bus.producer("p").await.unwrap();
    old.send(vec![record(&topic, "a")]).await.unwrap();
    bus.commit_offset("g", &topic, 0, 1).await.unwrap();
    drop((bus, old));
    let wal = folder.path().join("bus.sqlite-wal");
    assert!(wal.metadata().map_or(0, |wal| wal.len()) == 0, "the log was not cut back");

    let bus = open(folder.path()).unwrap();
    assert_eq!(bus.topics().await.unwrap(), std::slice::from_ref(&topic));
    assert_eq!(read_values(&bus, &topic).await.unwrap(), [b"a"]);
    assert_eq!(bus.committed_offset("g", &topic, 0).await.unwrap(), Some(1));
    let mut new = bus.producer("p").await.unwrap();
    assert_eq!(new.send(vec![record(&topic, "b")]).await.unwrap(), [1]);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    for n in 0..50_u8 {
        sender.send(vec![record(&topic, [n])]).await.unwrap();
        if n % 7 == 0 {
            // What a kill leaves: the files as they are, nothing flushed, nothing closed.
            let left = tempfile::tempdir().unwrap();
            for name in ["bus.sqlite", "bus.sqlite-wal"] {
                std::fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
            }
            let after = open(left.path()).unwrap();
            assert_eq!(read_values(&after, &topic).await.unwrap(), (0..=n).map(|n| vec![n]).collect::<Vec<_>>());
        }
    }
}

/// The files that a kill leaves look the same with less; a power cut would tell.
#[tokio::test]
async fn a_commit_is_on_disk_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let settings = bus.inner.write(|writer| {
        let synchronous: i64 = writer.conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        let journal: String = writer.conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        Ok((synchronous, journal))
    });
    // 2 is FULL: one sync with each commit (https://sqlite.org/pragma.html#pragma_synchronous).
    assert_eq!(settings.await.unwrap(), (2, "wal".to_owned()));
}

#[tokio::test]
async fn an_emptied_partition_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let open = || EmbeddedBus::open(Settings { path: folder.path().to_owned() }, Arc::new(clock.clone())).unwrap();
    let bus = open();
    let short = Cleanup::Delete { retention_ms: Some(10), retention_bytes: None };
    let topic = bus.ensure_topic(&spec("t", short)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    for value in ["a", "b", "c"] {
        sender.send(vec![record(&topic, value)]).await.unwrap();
    }
    clock.advance(60_000);
    bus.retain_now().await.unwrap();
    drop((bus, sender));
    let bus = open();
    let ends = bus.watermarks(&topic, 0).await.unwrap();
    assert_eq!((ends.low, ends.high), (3, 3));
    assert_eq!(bus.producer("p").await.unwrap().send(vec![record(&topic, "d")]).await.unwrap(), [3]);
}

#[tokio::test]
async fn a_reader_that_rests_does_not_hold_up_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    for n in 0..2 {
        sender.send(vec![record(&topic, noise(1_000_000, n))]).await.unwrap();
    }
    let mut reader = bus.reader(&topic, 0, 0).await.unwrap();
    let first = reader.next().await.unwrap();
    for n in 2..20 {
        sender.send(vec![record(&topic, noise(1_000_000, n))]).await.unwrap();
    }
    // Cut back although the reader stands in the middle of what lies in the log.
    let cut = bus.inner.write(|writer| {
        let busy = writer.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        Ok(busy.unwrap())
    });
    assert_eq!(cut.await.unwrap(), 0);
    assert_eq!(folder.path().join("bus.sqlite-wal").metadata().unwrap().len(), 0);
    assert_eq!(reader.next().await.unwrap().records[0].value.as_deref(), Some(&noise(1_000_000, first.to)[..]));
}

#[tokio::test]
async fn a_folder_belongs_to_one_bus_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/it");
    let bus = open(&path).unwrap();
    let fault = open(&path).err().unwrap();
    assert_eq!(fault.domain, Domain::User);
    assert!(fault.message.contains(path.to_str().unwrap()), "{fault}");
    assert!(fault.message.contains(&format!("process {}", std::process::id())), "{fault}");
    drop(bus);
    open(&path).unwrap();
}

#[tokio::test]
async fn beside_a_running_bus_others_may_read_and_not_write() {
    let folder = tempfile::tempdir().unwrap();
    let none = EmbeddedBus::open_read_only(folder.path()).err().unwrap();
    assert_eq!(none.domain, Domain::User, "{none}");

    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    sender.send(vec![record(&topic, "a")]).await.unwrap();
    let beside = EmbeddedBus::open_read_only(folder.path()).unwrap();
    assert_eq!(read_values(&beside, &topic).await.unwrap(), [b"a"]);
    let refused = beside.producer("p").await.err().unwrap();
    assert_eq!(refused.domain, Domain::User, "{refused}");
    assert!(beside.ensure_topic(&spec("u", KEEP)).await.is_err());
    assert!(beside.commit_offset("g", &topic, 0, 1).await.is_err());
    assert!(beside.delete_topic(&topic.name).await.is_err());

    // Its readers see what comes later, and what is left when the other one is gone.
    let mut reader = beside.reader(&topic, 0, 1).await.unwrap();
    let (batch, sent) = futures_util::join!(reader.next(), sender.send(vec![record(&topic, "b")]));
    sent.unwrap();
    assert_eq!(batch.unwrap().records.len(), 1);
    drop((bus, sender, beside, reader));
    let alone = EmbeddedBus::open_read_only(folder.path()).unwrap();
    assert_eq!(read_values(&alone, &topic).await.unwrap(), [b"a", b"b"]);
}

#[tokio::test]
async fn a_bus_of_another_format_or_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let file = database::file_of(folder.path());
    let change = |sql| rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    change("UPDATE meta SET value = 2 WHERE name = 'format'");
    for fault in [open(folder.path()).err().unwrap(), EmbeddedBus::open_read_only(folder.path()).err().unwrap()] {
        assert_eq!(fault.domain, Domain::User);
        assert!(fault.message.contains("format 2"), "{fault}");
    }
    change("DROP TABLE meta");
    let fault = open(folder.path()).err().unwrap();
    assert_eq!(fault.domain, Domain::User);
    assert!(fault.message.contains("no bus of howdah's"), "{fault}");
}

/// Stops the writer until the sender of the channel is dropped.
fn hold(bus: &EmbeddedBus) -> mpsc::Sender<()> {
    let (free, wait) = mpsc::channel();
    let hold = move |_: &mut Writer| {
        let _ = wait.recv();
    };
    bus.inner.post(Command::Run(Box::new(hold))).unwrap();
    free
}

#[tokio::test]
async fn within_one_commit_the_fenced_send_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut old = bus.producer("p").await.unwrap();
    let mut new = bus.producer("p").await.unwrap();
    let mut other = bus.producer("q").await.unwrap();
    let free = hold(&bus);
    let (a, b, c, ()) = futures_util::join!(
        new.send(vec![record(&topic, "a")]),
        old.send(vec![record(&topic, "b")]),
        other.send(vec![record(&topic, "c")]),
        async { drop(free) }
    );
    assert_eq!(a.unwrap(), [0]);
    assert_eq!(b.unwrap_err().kind, Kind::Fenced);
    assert_eq!(c.unwrap(), [1]);
    assert_eq!(read_values(&bus, &topic).await.unwrap(), [b"a", b"c"]);
}

#[tokio::test]
async fn a_dropped_send_breaks_nothing_and_the_next_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let free = hold(&bus);
    for value in ["a", "b", "c"] {
        let send = sender.send(vec![record(&topic, value)]);
        tokio::time::timeout(Duration::from_millis(20), send).await.unwrap_err();
    }
    drop(free);
    let offset = sender.send(vec![record(&topic, "d")]).await.unwrap();
    // The first was on its way; the others had waited for it and never began.
    assert_eq!(offset, [1]);
    assert_eq!(read_values(&bus, &topic).await.unwrap(), [b"a", b"d"]);
}

#[tokio::test]
async fn a_waiting_reader_hears_that_its_topic_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut reader = bus.reader(&topic, 0, 0).await.unwrap();
    let (read, deleted) = futures_util::join!(reader.next(), bus.delete_topic(&topic.name));
    deleted.unwrap();
    assert_eq!(read.unwrap_err().kind, Kind::Recreated);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_run_ahead_of_a_send_or_a_read() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let start = tokio::time::Instant::now();
    let work = async {
        let topic = bus.ensure_topic(&spec("t", KEEP)).await?;
        let mut sender = bus.producer("p").await?;
        for n in 0..20_u8 {
            sender.send(vec![record(&topic, [n])]).await?;
        }
        read_all(&bus, &topic).await
    };
    tokio::time::timeout(Duration::from_millis(1), work).await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn small_sends_are_read_in_batches_of_up_to_a_thousand_and_a_megabyte() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    for _ in 0..25 {
        sender.send((0..100).map(|_| record(&topic, "x")).collect()).await.unwrap();
    }
    sender.send((0..2_500).map(|_| record(&topic, "x")).collect()).await.unwrap();
    sender.send((0..3).map(|n| record(&topic, noise(400_000, n))).collect()).await.unwrap();
    sender.send(vec![record(&topic, noise(3_000_000, 9)), record(&topic, "x")]).await.unwrap();
    let sizes: Vec<_> = read_all(&bus, &topic).await.unwrap().iter().map(|batch| batch.records.len()).collect();
    assert_eq!(sizes, [1_000, 1_000, 500, 1_000, 1_000, 500 + 2, 1, 1, 1]);
}

#[tokio::test]
async fn who_opens_the_bus_has_time_to_say_that_records_stay_for_longer() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let open = || EmbeddedBus::open(Settings { path: folder.path().into() }, Arc::new(clock.clone())).unwrap();
    let kept = |days: i64| Cleanup::Delete { retention_ms: Some(days * 86_400_000), retention_bytes: None };
    let bus = open();
    let topic = bus.ensure_topic(&spec("t", kept(7))).await.unwrap();
    bus.producer("p").await.unwrap().send(vec![record(&topic, "x")]).await.unwrap();
    drop(bus);
    clock.advance(8 * 86_400_000);
    let bus = open();
    bus.ensure_topic(&spec("another", kept(7))).await.unwrap();
    clock.advance(3_500_000);
    bus.commit_offset("g", &topic, 0, 0).await.unwrap();
    bus.ensure_topic(&spec("t", kept(30))).await.unwrap();
    clock.advance(3_600_000);
    for _ in 0..2 {
        bus.commit_offset("g", &topic, 0, 0).await.unwrap();
    }
    assert_eq!(bus.watermarks(&topic, 0).await.unwrap(), Watermarks { low: 0, high: 1 });
    // And shorter again, from now on.
    bus.ensure_topic(&spec("t", kept(7))).await.unwrap();
    clock.advance(3_600_000);
    for _ in 0..2 {
        bus.commit_offset("g", &topic, 0, 0).await.unwrap();
    }
    assert_eq!(bus.watermarks(&topic, 0).await.unwrap(), Watermarks { low: 1, high: 1 });
}

#[tokio::test]
async fn retention_and_compaction_run_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let bus = EmbeddedBus::open(Settings { path: folder.path().into() }, Arc::new(clock.clone())).unwrap();
    let short = Cleanup::Delete { retention_ms: Some(30_000), retention_bytes: None };
    let aged = bus.ensure_topic(&spec("aged", short)).await.unwrap();
    let keys = bus.ensure_topic(&spec("keys", Cleanup::Compact)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let key = Some(Bytes::from_static(b"k"));
    for n in 0..4 {
        let mut out: Vec<_> = (0..500).map(|_| Outgoing { key: key.clone(), ..record(&keys, "x") }).collect();
        out.push(record(&aged, [n]));
        sender.send(out).await.unwrap();
        clock.advance(20_000);
    }
    // Upkeep comes after the answer; whatever is answered next came after it.
    sender.send(vec![record(&aged, "last")]).await.unwrap();
    bus.commit_offset("g", &aged, 0, 0).await.unwrap();
    assert_eq!(bus.watermarks(&aged, 0).await.unwrap(), Watermarks { low: 3, high: 5 });
    let left = read_all(&bus, &keys).await.unwrap();
    assert!(left.iter().map(|batch| batch.records.len()).sum::<usize>() <= 501);
    assert_eq!(left.last().unwrap().to, 2_000);
}

#[tokio::test]
async fn compacting_again_and_again_keeps_blocks_few_and_the_last_values() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", Cleanup::Compact)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut should = std::collections::BTreeMap::new();
    for round in 0..30 {
        let mut out = Vec::new();
        for _ in 0..300 {
            let key = Bytes::from(random.u16(..3_000).to_string());
            let value = random.u8(..5).gt(&0).then(|| Bytes::from(noise(500, random.u64(..))));
            should.insert(key.clone(), value.clone());
            out.push(Outgoing { key: Some(key), value, ..record(&topic, "") });
        }
        sender.send(out).await.unwrap();
        if round % 4 == 3 {
            bus.compact_now().await.unwrap();
        }
        let view = crate::bus::latest(&bus, &topic).await.unwrap();
        let is: Vec<_> = view.into_iter().map(|(key, record)| (key, record.value)).collect();
        let live: Vec<_> =
            should.iter().filter(|(_, value)| value.is_some()).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert!(is == live, "round {round}");
    }
    bus.compact_now().await.unwrap();
    let num_records = read_all(&bus, &topic).await.unwrap().iter().map(|batch| batch.records.len()).sum::<usize>();
    assert_eq!(num_records, should.len());
    let count =
        |sql: &'static str| bus.inner.pool.read(move |conn| Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?));
    assert!(count("SELECT count(*) FROM blocks").await.unwrap() <= 8);
    let (is, says) = ("SELECT sum(length(block)) FROM blocks", "SELECT bytes FROM partitions");
    assert_eq!(count(is).await.unwrap(), count(says).await.unwrap());
}

async fn cut_back(bus: &EmbeddedBus) {
    let work = |writer: &mut Writer| {
        upkeep::checkpoint(&writer.conn);
        Ok(())
    };
    bus.inner.write(work).await.unwrap();
}

#[tokio::test]
async fn space_is_used_again_and_what_is_too_much_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    bus.inner
        .write(|writer| {
            writer.upkeep.spare_pages = 100;
            Ok(())
        })
        .await
        .unwrap();
    let small = Cleanup::Delete { retention_ms: None, retention_bytes: Some(2_000_000) };
    let topic = bus.ensure_topic(&spec("t", small)).await.unwrap();
    let other = bus.ensure_topic(&spec("other", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let bytes = || std::fs::metadata(database::file_of(folder.path())).unwrap().len();
    for seed in 0..40 {
        sender.send(vec![record(&topic, noise(1_000_000, seed)), record(&other, noise(100_000, seed))]).await.unwrap();
    }
    cut_back(&bus).await;
    assert!(bytes() > 40_000_000, "{}", bytes());
    bus.retain_now().await.unwrap();
    cut_back(&bus).await;
    assert!(bytes() < 10_000_000, "{}", bytes());
    assert_eq!(read_values(&bus, &topic).await.unwrap(), [noise(1_000_000, 39)]);
    assert_eq!(read_values(&bus, &other).await.unwrap(), (0..40).map(|seed| noise(100_000, seed)).collect::<Vec<_>>());
    bus.delete_topic(&other.name).await.unwrap();
    bus.retain_now().await.unwrap();
    let left =
        bus.inner.pool.read(|conn| Ok(conn.query_row("SELECT count(*) FROM blocks", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(left.await.unwrap(), 1);
}

#[tokio::test]
async fn the_machines_clock_gives_the_times() {
    let folder = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(Settings { path: folder.path().into() }, Arc::new(SystemClock)).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let before = SystemClock.now();
    bus.producer("p").await.unwrap().send(vec![record(&topic, "a")]).await.unwrap();
    let time = read_all(&bus, &topic).await.unwrap()[0].records[0].time;
    assert!((before..=SystemClock.now()).contains(&time));
}

#[tokio::test]
async fn retention_by_size_leaves_the_newest_block() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let tiny = Cleanup::Delete { retention_ms: None, retention_bytes: Some(1) };
    let topic = bus.ensure_topic(&spec("t", tiny)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    for value in ["a", "b", "c"] {
        sender.send(vec![record(&topic, value)]).await.unwrap();
    }
    bus.retain_now().await.unwrap();
    assert_eq!(read_values(&bus, &topic).await.unwrap(), [b"c"]);
}
