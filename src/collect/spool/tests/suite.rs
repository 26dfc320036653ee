//! What holds for every layout; included once for each.

use super::{super::*, layout};

mod damage;
mod histories;
mod owners;
mod room;

/// A spool of this layout.
fn new(roll_bytes: u64) -> Spool {
    Spool::new(layout(), roll_bytes)
}

/// As another process finds it.
fn found_at(path: &Path) -> Spool {
    Spool::at(layout(), path)
}

#[test]
fn what_was_appended_is_read_in_order_with_all_it_has() {
    let spool = new(u64::MAX);
    let (mut writer, recovered) = spool.open();
    assert_eq!((recovered.first, recovered.next, recovered.created), (0, 0, START));
    assert!(recovered.token.is_empty());
    let letter =
        Entry { kind: Kind::Letter, token: Bytes::new(), id: Bytes::new(), ..entry("{\"reason\":\"too large\"}") };
    let empty = Entry { payload: Bytes::new(), received: -1, ..entry("") };
    let entries = [entry("a"), letter, empty];
    assert_eq!(writer.append(&entries).unwrap(), 0..3);
    assert_eq!(writer.sync().unwrap(), 3);
    let frames = spool.read_from(0).unwrap();
    let found: Vec<_> = frames.into_iter().map(|Frame { sequence, entry, .. }| (sequence, entry)).collect();
    assert_eq!(found, (0..).zip(entries).collect::<Vec<_>>());
}

#[test]
fn a_reader_sees_nothing_before_it_is_durable() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    assert!(spool.payloads(0).is_empty());
    writer.sync().unwrap();
    append(&mut writer, &["b"]);
    assert_eq!(spool.payloads(0), ["a"]);
}

#[test]
fn a_reader_follows_the_writer_from_file_to_file() {
    let spool = new(600);
    let (mut writer, _) = spool.open();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    let mut read = Vec::new();
    for n in 0..50 {
        append(&mut writer, &[&n.to_string()]);
        let end = writer.sync().unwrap();
        read.extend(reader.read(100, 1_000_000, end).unwrap().into_iter().map(|frame| frame.sequence));
    }
    assert_eq!(read, (0..50).collect::<Vec<_>>());
    assert!(spool.files().len() > 10, "{:?}", spool.files());
    assert_eq!(spool.payloads(33)[0], "33");
}

#[test]
fn a_reader_takes_no_more_than_it_is_told() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["aaaa", "bbbb", "cccc", "dddd"]);
    writer.sync().unwrap();
    let read = |records, bytes, end| Reader::open(spool.path(), 0, &spool.link)?.read(records, bytes, end);
    assert_eq!(read(2, 1_000, 4).unwrap().len(), 2);
    assert_eq!(read(9, 5, 4).unwrap().len(), 2);
    assert_eq!(read(9, 0, 4).unwrap().len(), 1);
    assert_eq!(read(9, 1_000, 3).unwrap().len(), 3);
    assert_eq!(read(9, 1_000, 0).unwrap().len(), 0);
}

#[test]
fn a_restart_goes_on_where_the_spool_ends() {
    let spool = new(u64::MAX);
    let (mut writer, first) = spool.open();
    append(&mut writer, &["a", "b"]);
    drop(writer);
    // Not synced, but the machine did not die either: it is there, and durable from now on.
    let (mut writer, recovered) = spool.open();
    assert_eq!((recovered.first, recovered.next, recovered.spool), (0, 2, first.spool));
    assert_eq!(recovered.token, "token of b");
    assert_eq!(spool.payloads(0), ["a", "b"]);
    assert_eq!(append(&mut writer, &["c"]), 2..3);
    writer.sync().unwrap();
    assert_eq!(spool.payloads(0), ["a", "b", "c"]);
    assert_eq!(spool.files().len(), 2);
}

#[test]
fn the_last_token_is_known_after_restarts_and_releases() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    writer.append(&[Entry { token: Bytes::new(), ..entry("b") }]).unwrap();
    drop(writer);
    for _ in 0..3 {
        let (_, recovered) = spool.open();
        assert_eq!(recovered.token, "token of a");
        Reader::open(spool.path(), 2, &spool.link).unwrap().release(2).unwrap();
        assert_eq!(spool.files().len(), 1);
    }
    let (mut writer, _) = spool.open();
    append(&mut writer, &["c"]);
    assert_eq!(spool.open().1.token, "token of c");
    // The mark of the newest file is torn, the file before still there.
    let newest = OpenOptions::new().write(true).open(&spool.files()[1]).unwrap();
    newest.set_len(HEADER_LEN + 5).unwrap();
    assert_eq!(spool.open().1.token, "token of c");
}

#[test]
fn restarts_leave_no_files_behind() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    for _ in 0..5 {
        let (_, recovered) = spool.open();
        assert_eq!((recovered.first, recovered.next), (0, 1));
        assert_eq!(spool.files().len(), 2);
    }
    assert_eq!(spool.payloads(0), ["a"]);
}

#[test]
fn recent_ids_reach_back_by_time_and_by_number() {
    let spool = new(600);
    let (mut writer, _) = spool.open();
    for n in 0..40 {
        spool.clock.advance(1_000);
        let entry = Entry { received: START + 1_000 * (n + 1), ..entry(&n.to_string()) };
        writer.append(&[entry]).unwrap();
    }
    writer.append(&[Entry { id: Bytes::new(), ..entry("without id") }]).unwrap();
    writer.sync().unwrap();
    let check = |since: Millis, last: u64, oldest: Millis| {
        let mut ids = Vec::new();
        recent(spool.path(), &spool.link, since, last, |id, received| ids.push((id.clone(), received))).unwrap();
        let first = ids[0].1;
        assert!(first <= oldest && first + 8_000 > oldest, "since {since}, last {last}: {first}, not about {oldest}");
        let numbers = (first - START) / 1_000 - 1..40;
        let expected: Vec<_> = numbers.map(|n| (entry(&n.to_string()).id, START + 1_000 * (n + 1))).collect();
        assert_eq!(ids, expected, "since {since}, last {last}");
    };
    check(START + 30_000, 0, START + 30_000);
    check(START + 99_000, 11, START + 31_000);
    check(START + 30_000, 21, START + 21_000);
    check(START + 20_000, 11, START + 20_000);
    check(0, 0, START + 1_000);
    check(START + 99_000, 1_000, START + 1_000);
}
