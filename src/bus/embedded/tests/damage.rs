//! Damaged bytes and full disks.

use std::{fs::OpenOptions, os::unix::fs::FileExt, process::Command as Process};

use super::*;
use crate::fault::{Domain, Effect, Kind};

/// A closed bus with 60 sends of 1 to 40 records.
async fn filled(folder: &Path) -> (TopicInfo, Vec<Vec<u8>>) {
    let bus = open(folder).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let mut sent = Vec::new();
    for _ in 0..60 {
        let values: Vec<_> = (0..random.usize(1..40)).map(|_| noise(random.usize(..400), random.u64(..))).collect();
        sender.send(values.iter().map(|value| record(&topic, value)).collect()).await.unwrap();
        sent.extend(values);
    }
    (topic, sent)
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// Opens and reads what may be damaged: it ends in a fault, or in exactly what was sent (`whole`)
/// or the beginning of it. Answers whether it was a fault.
async fn check(folder: &Path, topic: &TopicInfo, sent: &[Vec<u8>], whole: bool, damage: &str) -> bool {
    let result = match open(folder) {
        Ok(bus) => match bus.topic(&topic.name).await {
            // The row of the topic is out of sight: nothing is read as if it were this topic.
            Ok(None) => return true,
            Ok(Some(_)) => read_values(&bus, topic).await,
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    };
    match result {
        Ok(read) if whole => assert!(read == sent, "{damage}: {} records of {}", read.len(), sent.len()),
        Ok(read) => assert!(sent.starts_with(&read), "{damage}: {} records of {}", read.len(), sent.len()),
        Err(fault) => {
            assert!(matches!(fault.domain, Domain::Data | Domain::User), "{damage}: {fault:?}");
            assert!(fault.message.contains(folder.to_str().unwrap()), "{damage}: {fault}");
            return true;
        }
    }
    false
}

#[tokio::test]
async fn overwritten_bytes_end_in_a_fault_and_never_in_other_records() {
    let folder = tempfile::tempdir().unwrap();
    let (topic, sent) = filled(folder.path()).await;
    let len = std::fs::metadata(database::file_of(folder.path())).unwrap().len();
    let mut random = fastrand::Rng::with_seed(7);
    let mut found = 0;
    for round in 0..150 {
        let damaged = copy(folder.path());
        let file = OpenOptions::new().write(true).open(database::file_of(damaged.path())).unwrap();
        let at = random.u64(..len);
        let bytes = noise([1, 16, 600, 20_000][round % 4], random.u64(..));
        file.write_all_at(&bytes, at).unwrap();
        let damage = format!("{} bytes at {at}", bytes.len());
        found += usize::from(check(damaged.path(), &topic, &sent, true, &damage).await);
    }
    // The rest hit free bytes.
    assert!(found > 75, "{found}");
}

#[tokio::test]
async fn every_block_is_read_with_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let (topic, _) = filled(folder.path()).await;
    let change = |sql: &str| rusqlite::Connection::open(database::file_of(folder.path())).unwrap().execute(sql, []);
    // Two blocks of the same length and count change places: only their place tells them apart.
    let swap = "UPDATE blocks SET block = (SELECT block FROM blocks b WHERE b.base = 0) WHERE row = 7";
    change(swap).unwrap();
    let bus = open(folder.path()).unwrap();
    let fault = read_values(&bus, &topic).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Lost);
    assert!(fault.message.contains("t-0@") && fault.message.contains("checksum"), "{fault}");
    drop(bus);
    change("DELETE FROM blocks WHERE row = 7").unwrap();
    let bus = open(folder.path()).unwrap();
    let fault = read_values(&bus, &topic).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Lost, "{fault}");
    drop(bus);
    change("UPDATE partitions SET next = next - 1").unwrap();
    assert_eq!(open(folder.path()).err().unwrap().kind, Kind::Lost);
}

#[tokio::test]
async fn a_cut_file_ends_in_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (topic, sent) = filled(folder.path()).await;
    let len = std::fs::metadata(database::file_of(folder.path())).unwrap().len();
    for cut in [1, 100, 4_096, 8_192, len / 3, len / 2, len - 8_192, len - 4_096] {
        let damaged = copy(folder.path());
        let file = OpenOptions::new().write(true).open(database::file_of(damaged.path())).unwrap();
        file.set_len(cut).unwrap();
        assert!(check(damaged.path(), &topic, &sent, true, &format!("cut to {cut}")).await, "cut to {cut}");
    }
}

#[tokio::test]
async fn a_failed_commit_is_undone_for_sure_or_said_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let settle = |code, may_write: bool| {
        bus.inner.write(move |writer| {
            writer.conn.pragma_update(None, "query_only", !may_write).unwrap();
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let fault = writer.settle(&error);
            writer.conn.pragma_update(None, "query_only", false).unwrap();
            Ok((fault.kind, fault.effect))
        })
    };
    let (fsync, full) = (rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_FULL);
    assert_eq!(settle(fsync, true).await.unwrap(), (Kind::Other, Effect::NotDone));
    assert_eq!(settle(fsync, false).await.unwrap(), (Kind::Other, Effect::Unknown));
    assert_eq!(settle(full, false).await.unwrap(), (Kind::Full, Effect::NotDone));
}

#[tokio::test]
async fn a_writer_that_died_leaves_the_effect_of_what_it_held_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let (free, wait) = mpsc::channel::<()>();
    let die = move |_: &mut Writer| {
        let _ = wait.recv();
        panic!("a test's own");
    };
    bus.inner.post(Command::Run(Box::new(die))).unwrap();
    let (sent, ()) = futures_util::join!(sender.send(vec![record(&topic, "x")]), async { drop(free) });
    assert_eq!(sent.unwrap_err().effect, Effect::Unknown);
    assert!(read_values(&bus, &topic).await.unwrap().is_empty());
    drop((bus, sender));
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_torn_copy_is_an_earlier_state_or_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let mut sent = Vec::new();
    let mut random = fastrand::Rng::with_seed(8);
    for n in 0..120 {
        let value = noise(30_000, n);
        sender.send(vec![record(&topic, &value)]).await.unwrap();
        sent.push(value);
        if n % 5 == 0 {
            let torn = copy(folder.path());
            std::fs::remove_file(torn.path().join("bus.sqlite-shm")).unwrap();
            let wal = OpenOptions::new().write(true).open(torn.path().join("bus.sqlite-wal")).unwrap();
            wal.set_len(random.u64(..=wal.metadata().unwrap().len())).unwrap();
            check(torn.path(), &topic, &sent, false, &format!("torn after {n}")).await;
        }
    }
}

#[tokio::test]
async fn a_database_without_room_refuses_and_works_again_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let limit = |pages: i64| {
        bus.inner.write(move |writer| {
            writer.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0)).unwrap();
            Ok(())
        })
    };
    limit(300).await.unwrap();
    let mut sent = Vec::new();
    let fault = loop {
        let value = noise(100_000, sent.len() as u64);
        match sender.send(vec![record(&topic, &value)]).await {
            Ok(_) => sent.push(value),
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault.kind, fault.effect), (Kind::Full, Effect::NotDone), "{fault}");
    assert!(sent.len() > 5);
    // In one commit with a large send, a small one still gets through.
    let mut other = bus.producer("q").await.unwrap();
    let (large, small) = futures_util::join!(
        sender.send(vec![record(&topic, noise(3_000_000, 0))]),
        other.send(vec![record(&topic, "small")])
    );
    assert_eq!(large.unwrap_err().kind, Kind::Full);
    small.unwrap();
    sent.push(b"small".to_vec());
    limit(1_000_000).await.unwrap();
    sender.send(vec![record(&topic, "again")]).await.unwrap();
    sent.push(b"again".to_vec());
    assert_eq!(read_values(&bus, &topic).await.unwrap(), sent);
}

/// A file system of a few megabytes, if this process may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Process::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=6m", "howdah-test"]).arg(folder.path());
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let disk = SmallDisk::new().expect("a small disk is mounted (tmpfs): this test needs the right to mount");
    let bus = open(&disk.0.path().join("bus")).unwrap();
    let topic = bus.ensure_topic(&spec("t", KEEP)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let ballast = disk.0.path().join("ballast");
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for round in 0..4 {
        std::fs::write(&ballast, vec![1; 1_500_000 >> round]).unwrap();
        let fault = loop {
            let value = noise([1_000, 30_000, 100_000][sent.len() % 3], sent.len() as u64);
            match sender.send(vec![record(&topic, &value)]).await {
                Ok(_) => sent.push(value),
                Err(fault) => break fault,
            }
        };
        assert_eq!((fault.kind, fault.effect), (Kind::Full, Effect::NotDone), "{fault}");
        assert_eq!(read_values(&bus, &topic).await.unwrap(), sent, "round {round}");
        std::fs::remove_file(&ballast).unwrap();
    }
    drop((bus, sender));
    let bus = open(&disk.0.path().join("bus")).unwrap();
    assert_eq!(read_values(&bus, &topic).await.unwrap(), sent);
}
