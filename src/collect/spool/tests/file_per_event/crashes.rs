//! Crashes between an event's file, its frame and its name; files that are altered or gone.

use super::*;

/// Opens a copy of the spool as another process does, after `harm` was done to it; answers what is in
/// it, and the sequence it goes on with.
fn after(spool: &Spool, harm: impl FnOnce(&Spool)) -> (TempDir, Spool, Result<Sequence>) {
    let folder = TempDir::new().unwrap();
    copy(spool.path(), folder.path());
    let found = Spool::at(layout(), folder.path());
    harm(&found);
    let next = found.try_open().map(|(_, recovered)| recovered.next);
    (folder, found, next)
}

fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Two events that are synced, and three that are not.
fn half_synced() -> (Spool, Writer, u64) {
    let spool = Spool::new(layout(), u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "b"]);
    writer.sync().unwrap();
    let synced = fs::metadata(&spool.files()[0]).unwrap().len();
    append(&mut writer, &["c", "d", "e"]);
    assert_eq!((names(&spool).len(), spool.events(true).len()), (2, 3));
    (spool, writer, synced)
}

#[test]
fn events_whose_frames_are_not_there_are_left_overs_and_never_seen() {
    let (spool, _writer, synced) = half_synced();
    let (_folder, found, next) = after(&spool, |found| truncate(&found.files()[0], synced));
    assert_eq!(next.unwrap(), 2);
    assert_eq!((texts(&found), found.events(true).len()), (vec!["a".to_owned(), "b".to_owned()], 0));
    // What comes again gets a name of its own.
    let (mut writer, recovered) = found.open();
    assert_eq!(recovered.foreign, Foreign::default());
    append(&mut writer, &["c"]);
    writer.sync().unwrap();
    assert_eq!((found.payloads(0), texts(&found).len()), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 3));
}

#[test]
fn frames_whose_events_are_not_there_end_the_spool_unless_they_were_durable() {
    let (spool, _writer, _) = half_synced();
    for torn in 0..3 {
        for len in [None, Some(0)] {
            let (_folder, found, next) = after(&spool, |found| match len {
                Some(len) => truncate(&found.events(true)[torn], len),
                None => fs::remove_file(&found.events(true)[torn]).unwrap(),
            });
            assert_eq!(next.unwrap(), 2 + torn as u64, "event {torn} torn to {len:?}");
            assert_eq!(found.payloads(0), ["a", "b", "c", "d"][..2 + torn]);
            assert_eq!(texts(&found), found.payloads(0));
            assert_eq!(found.events(true).len(), 0, "the others are left-overs");
            let (mut writer, recovered) = found.open();
            assert_eq!(recovered.token, format!("token of {}", ["b", "c", "d"][torn]));
            append(&mut writer, &["next"]);
            writer.sync().unwrap();
            assert_eq!(found.payloads(2 + torn as u64), ["next"]);
        }
    }
}

#[test]
fn events_that_were_durable_get_their_names_at_the_next_start() {
    let (spool, mut writer, _) = half_synced();
    let hidden = spool.events(true);
    let kept: Vec<_> = hidden.iter().map(|path| fs::read(path).unwrap()).collect();
    writer.sync().unwrap();
    let named = spool.events(false);
    // Names that were not durable: all of them, and one.
    for undone in [0..3, 1..2] {
        let (_folder, found, next) = after(&spool, |found| {
            for at in undone.clone() {
                let place = |path: &Path| EventFolder::of(found.path()).path().join(path.file_name().unwrap());
                fs::remove_file(place(&named[2 + at])).unwrap();
                fs::write(place(&hidden[at]), &kept[at]).unwrap();
            }
        });
        assert_eq!(next.unwrap(), 5);
        assert_eq!((names(&found), found.events(true).len()), (names(&spool), 0));
        assert_eq!(texts(&found), ["a", "b", "c", "d", "e"]);
    }
}

const HARMS: [&str; 4] = [
    "is gone",
    "was altered: it has 0 bytes instead of 1",
    "was altered: it has 2 bytes instead of 1",
    "was altered: it still has 1 bytes, but other ones",
];

/// Does what is said to a file of one byte.
fn harm(path: &Path, says: &str) {
    let done = match HARMS.iter().position(|harm| *harm == says).unwrap() {
        0 => fs::remove_file(path),
        number => fs::write(path, ["", "xx", "x"][number - 1]),
    };
    done.unwrap();
}

#[test]
fn an_event_that_was_altered_or_deleted_is_a_loss_that_names_it() {
    let (spool, mut writer, _) = half_synced();
    writer.sync().unwrap();
    for at in 0..5 {
        for says in HARMS {
            // Also of the last sync, and in another process: it was durable, so it is no torn end.
            let (_folder, found, next) = after(&spool, |found| harm(&found.events(false)[at], says));
            assert_eq!(next.unwrap(), 5, "event {at} {says}");
            let named = spool.events(false)[at].file_name().unwrap().to_str().unwrap().to_owned();
            let says = format!("{named}: the file of entry {at} {says}");
            check_fault(found.read_from(0), Fate::Lost, &says);
            assert_eq!(found.read_from(at as u64 + 1).unwrap().len(), 4 - at, "those behind it are there");
        }
    }
}

#[test]
fn a_folder_that_is_gone_is_a_loss() {
    let (spool, mut writer, _) = half_synced();
    writer.sync().unwrap();
    let (_folder, found, next) =
        after(&spool, |found| fs::remove_dir_all(EventFolder::of(found.path()).path()).unwrap());
    assert_eq!(next.unwrap(), 5);
    check_fault(found.read_from(0), Fate::Lost, "is gone");
}

#[test]
fn a_replaced_writer_shows_nothing_to_other_programs() {
    for synced in [false, true] {
        let (spool, mut old, _) = half_synced();
        if synced {
            old.sync().unwrap();
        }
        let (mut new, recovered) = spool.open();
        assert_eq!((recovered.next, texts(&spool).len()), (5, 5));
        // Both choose the same names now.
        assert!(old.append(&[entry("zombie"), entry("zombie")]).is_ok());
        append(&mut new, &["f", "g"]);
        check_fault(old.sync(), Fate::Fenced, "a newer writer");
        new.sync().unwrap();
        assert_eq!(texts(&spool), ["a", "b", "c", "d", "e", "f", "g"]);
        drop((old, new));
        let found = Spool::at(layout(), spool.path());
        assert_eq!(found.open().1.foreign, Foreign::default());
        assert_eq!((found.payloads(0).len(), found.events(true).len()), (7, 0), "what it began is cleared away");
    }
}

#[test]
fn a_deletion_that_was_cut_off_is_done_again() {
    let spool = Spool::new(layout(), 600);
    let (mut writer, _) = spool.open();
    for n in 0..6 {
        append(&mut writer, &[&n.to_string()]);
    }
    writer.sync().unwrap();
    drop(writer);
    let (_folder, found, next) = after(&spool, |found| fs::remove_file(&found.events(false)[0]).unwrap());
    assert_eq!(next.unwrap(), 6);
    Reader::open(found.path(), 4, &found.link).unwrap().release(4).unwrap();
    assert_eq!((texts(&found), found.payloads(4)), (found.payloads(4), found.payloads(4)));
}
