//! Full spools, full disks, and how room is made.

use super::*;

#[test]
fn a_full_spool_takes_nothing_until_the_reader_has_made_room() {
    let mut spool = new(600);
    spool.settings.max_bytes = spool.scaled(5_000);
    let (mut writer, _) = spool.open();
    let mut written = 0_u64;
    let fault = loop {
        match writer.append(&[entry(&written.to_string())]) {
            Ok(_) => written += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault.kind, fault.effect), (Fate::Full, Effect::NotDone), "{fault}");
    assert!(spool.used() <= spool.settings.max_bytes);
    assert!(written > 5, "{written}");
    // What was taken is durable by now, or the reader could never make room.
    assert_eq!(spool.payloads(0).len() as u64, written);
    check_fault(writer.append(&[entry("x")]), Fate::Full, "full: ");
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    assert!(reader.release(written / 2).unwrap() > 0);
    assert_eq!(append(&mut writer, &["after"]), written..written + 1);
}

#[test]
fn a_spool_whose_only_file_is_full_is_freed_by_the_writer() {
    let mut spool = new(u64::MAX);
    spool.settings.max_bytes = spool.scaled(3_000);
    let (mut writer, _) = spool.open();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    for n in 0..200 {
        append(&mut writer, &[&n.to_string()]);
        writer.sync().unwrap();
        reader.release(n).unwrap();
        if n % 7 == 0 {
            reader.release(n + 1).unwrap();
        }
        assert!(spool.used() <= spool.settings.max_bytes);
        if writer.used() > spool.scaled(2_500) {
            reader.release(n + 1).unwrap();
        }
    }
    assert_eq!(spool.payloads(199), ["199"]);
}

#[test]
fn more_than_the_bound_at_once_is_refused_for_good() {
    let mut spool = new(u64::MAX);
    spool.settings.max_bytes = spool.scaled(2_000);
    let (mut writer, _) = spool.open();
    let fault = writer.append(&[entry(&"x".repeat(spool.settings.max_bytes as usize))]).unwrap_err();
    assert_eq!((fault.domain, fault.kind), (Domain::User, Fate::Other), "{fault}");
    append(&mut writer, &["a"]);
}

#[tokio::test(start_paused = true)]
async fn room_is_told_of_by_the_reader_or_by_time() {
    let spool = new(u64::MAX);
    let (mut writer, recovered) = spool.open();
    let before = tokio::time::Instant::now();
    writer.room().await;
    assert_eq!(before.elapsed().as_millis(), 1_000);
    spool.link.release(Place { spool: recovered.spool, next: 1 });
    writer.room().await;
    assert_eq!(before.elapsed().as_millis(), 1_000);
}

#[test]
fn a_full_disk_in_the_middle_of_a_write_leaves_whole_frames() {
    // The last one tears behind the last byte: were it left there, its second entry would follow
    // the next one, which is as long as its first.
    for torn in [0, 1, 7, 8, 40, 60, 10_000] {
        let spool = new(u64::MAX);
        let (mut writer, _) = spool.open();
        append(&mut writer, &["a"]);
        writer.disk_full_after = Some(torn);
        let fault = writer.append(&[entry("x"), entry("y")]).unwrap_err();
        assert_eq!((fault.kind, fault.effect), (Fate::Full, Effect::NotDone), "{fault}");
        assert_eq!(append(&mut writer, &["b"]), 1..2);
        writer.sync().unwrap();
        assert_eq!(spool.payloads(0), ["a", "b"], "torn after {torn}");
        assert_eq!(spool.open().1.next, 2, "torn after {torn}");
    }
}

#[test]
fn a_full_disk_at_a_roll_leaves_the_old_file_in_use() {
    for torn in [0, 100, 511] {
        let spool = new(600);
        let (mut writer, _) = spool.open();
        append(&mut writer, &["a"]);
        append(&mut writer, &["b"]);
        writer.sync().unwrap();
        writer.disk_full_after = Some(torn);
        check_fault(writer.append(&[entry("no")]), Fate::Full, ".spool");
        assert_eq!(append(&mut writer, &["c"]), 2..3);
        writer.sync().unwrap();
        assert_eq!(spool.payloads(0), ["a", "b", "c"], "torn after {torn}");
        assert_eq!(spool.open().1.next, 3, "torn after {torn}");
    }
}

#[test]
fn released_files_go_and_the_sequence_goes_on() {
    let spool = new(600);
    let (mut writer, _) = spool.open();
    for n in 0..10 {
        append(&mut writer, &[&n.to_string()]);
    }
    writer.sync().unwrap();
    let before = spool.files();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    assert_eq!(reader.release(0).unwrap(), 0);
    assert_eq!(spool.files(), before);
    let gone = reader.release(5).unwrap();
    assert!(gone > 0);
    assert_eq!(spool.files(), before[gone..]);
    assert_eq!(spool.payloads(5), ["5", "6", "7", "8", "9"]);
    drop(writer);
    let (writer, recovered) = spool.open();
    assert!(recovered.first > 0 && recovered.first <= 5, "{recovered:?}");
    reader.release(10).unwrap();
    assert_eq!(spool.files().len(), 1);
    drop(writer);
    let found = found_at(spool.path());
    let (mut writer, recovered) = found.open();
    assert_eq!((recovered.first, recovered.next), (10, 10));
    assert_eq!(append(&mut writer, &["a"]), 10..11);
}
