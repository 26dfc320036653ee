//! Writers that were replaced and do not know it.

use super::*;

#[test]
fn a_replaced_writer_appends_into_the_void() {
    let spool = new(u64::MAX);
    let (mut old, _) = spool.open();
    append(&mut old, &["a"]);
    old.sync().unwrap();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    assert_eq!(reader.read(9, 1_000, 1).unwrap().len(), 1);
    let (mut new, recovered) = spool.open();
    assert_eq!(recovered.next, 1);
    append(&mut old, &["zombie", "zombie"]);
    check_fault(old.sync(), Fate::Fenced, "00000000000000000001.spool");
    assert!(old.append(&[entry("zombie")]).is_err());
    append(&mut new, &["b", "c"]);
    let end = new.sync().unwrap();
    let frames = reader.read(9, 1_000, end).unwrap();
    assert_eq!(frames.iter().map(|frame| &frame.entry.payload[..]).collect::<Vec<_>>(), [b"b", b"c"]);
    assert_eq!(spool.payloads(0), ["a", "b", "c"]);
    drop(new);
    assert_eq!(spool.open().1.next, 3);
    assert_eq!(spool.payloads(0), ["a", "b", "c"]);
}

/// Its thread was blocked and given up; then it wakes.
#[test]
fn a_life_that_wakes_behind_its_successor_adds_nothing_and_fences_nobody() {
    let spool = new(u64::MAX);
    let (mut old, _) = spool.try_open_as(Incarnation(1)).unwrap();
    append(&mut old, &["a"]);
    old.sync().unwrap();
    let end = fs::metadata(&spool.files()[0]).unwrap().len();
    let (mut new, recovered) = spool.try_open_as(Incarnation(2)).unwrap();
    assert_eq!(recovered.next, 1);
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| {
            append(&mut old, &["zombie"]);
            check_fault(old.sync(), Fate::Fenced, "a newer writer");
            check_fault(spool.try_open_as(Incarnation(1)), Fate::Fenced, "life 1 of the collector would open");
        });
        woken.join().unwrap();
    });
    assert!(fs::metadata(&spool.files()[0]).unwrap().len() > end, "it has written, and behind the end");
    assert_eq!(spool.files().len(), 2, "and has begun nothing");
    append(&mut new, &["b"]);
    new.sync().unwrap();
    assert_eq!(spool.payloads(0), ["a", "b"]);
    let chain = chain::load(spool.path(), u64::MAX, |_| true).unwrap();
    assert_eq!(chain.iter().map(|piece| piece.end).collect::<Vec<_>>(), [Some(end), None]);
    drop(new);
    assert_eq!(spool.try_open_as(Incarnation(3)).unwrap().1.next, 2);
    assert_eq!(spool.payloads(0), ["a", "b"]);
}

#[test]
fn a_replaced_writer_cuts_nothing_off() {
    let spool = new(u64::MAX);
    let (mut old, _) = spool.open();
    append(&mut old, &["a"]);
    let end = fs::metadata(&spool.files()[0]).unwrap().len();
    let (_new, recovered) = spool.open();
    assert_eq!(recovered.next, 1);
    old.disk_full_after = Some(9);
    check_fault(old.append(&[entry("zombie")]), Fate::Fenced, "a newer writer");
    // Had these nine bytes been whole frames before the newer writer looked, they would be its own by now.
    assert_eq!(fs::metadata(&spool.files()[0]).unwrap().len(), end + 9);
}

#[test]
fn a_replaced_writer_cannot_roll() {
    let spool = new(600);
    let (mut old, _) = spool.open();
    append(&mut old, &["a"]);
    let (mut stale, _) = spool.open();
    append(&mut old, &["zombie"]);
    check_fault(old.append(&[entry("zombie")]), Fate::Fenced, "a newer writer");
    let (mut newest, _) = spool.open();
    for n in 1..20 {
        append(&mut newest, &[&n.to_string()]);
        newest.sync().unwrap();
    }
    // The files next to its own are gone, but the newest one tells.
    Reader::open(spool.path(), 0, &spool.link).unwrap().release(20).unwrap();
    append(&mut stale, &["zombie"; 9]);
    check_fault(stale.append(&[entry("zombie")]), Fate::Fenced, "a newer writer");
    append(&mut newest, &["last"]);
    newest.sync().unwrap();
    assert_eq!(spool.payloads(19), ["19", "last"]);
}

#[test]
fn a_writer_that_froze_before_its_header_changes_nothing() {
    let spool = new(u64::MAX);
    let (mut old, _) = spool.open();
    append(&mut old, &["a"]);
    old.sync().unwrap();
    // It has created its file and stands still; the old writer is fenced by that already.
    let frozen = chain::create(spool.path(), 1).unwrap().unwrap();
    append(&mut old, &["b"]);
    check_fault(old.sync(), Fate::Fenced, "00000000000000000001.spool");
    let (mut new, recovered) = spool.open();
    assert_eq!(recovered.next, 2);
    append(&mut new, &["c"]);
    new.sync().unwrap();
    drop(frozen);
    assert_eq!(spool.payloads(0), ["a", "b", "c"]);
}

#[test]
fn a_writer_that_is_late_with_its_news_moves_nothing_back() {
    let link = Link::new();
    let durable = || *link.durable().borrow();
    let place = |spool, next| Place { spool: Uuid::from_u128(spool), next };
    link.synced(place(1, 5));
    assert_eq!(durable(), None);
    link.opened(0, 0, place(1, 5));
    link.synced(place(1, 9));
    link.synced(place(1, 7));
    assert_eq!(durable(), Some(place(1, 9)));
    link.opened(0, 0, place(2, 0));
    link.synced(place(1, 10));
    assert_eq!(durable(), Some(place(2, 0)));
}

/// Of several writers that start at once, one clears away what another is looking at.
#[test]
fn a_chain_that_changes_while_it_is_followed_is_followed_anew() {
    let spool = new(u64::MAX);
    let write = |file: u64, id: u128| {
        let header = header::Header {
            format: header::FORMAT,
            spool: Uuid::from_u128(id),
            replaces: None,
            file,
            incarnation: Uuid::nil(),
            node: NodeId::new("alpha"),
            created: START,
            first: 0,
            mark: false,
            before: None,
            stamp: None,
        };
        fs::write(chain::file_path(spool.path(), file), header::encode(&header).unwrap()).unwrap();
    };
    let is_second = |header: &header::Header| header.spool == Uuid::from_u128(2);
    write(0, 1);
    check_fault(chain::load(spool.path(), 9, is_second), Fate::Lost, "does not belong here");
    let found = chain::load(spool.path(), 9, |header| {
        write(1, 2);
        is_second(header)
    });
    assert_eq!(found.unwrap()[0].header.file, 1);
}

#[test]
fn of_writers_that_start_at_once_one_remains() {
    for _ in 0..20 {
        let spool = new(u64::MAX);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| spool.try_open())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut living = 0;
        for writer in opened {
            match writer {
                Ok((mut writer, _)) => {
                    append(&mut writer, &["a"]);
                    match writer.sync() {
                        Ok(_) => living += 1,
                        Err(fault) => assert_eq!(fault.kind, Fate::Fenced, "{fault}"),
                    }
                }
                Err(fault) => assert_eq!(fault.kind, Fate::Fenced, "{fault}"),
            }
        }
        assert_eq!(living, 1);
        assert_eq!(spool.open().1.next, 1);
        assert_eq!(spool.payloads(0), ["a"]);
    }
}
