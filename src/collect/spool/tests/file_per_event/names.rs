//! Names: forward whatever the clock does, and never somebody else's.

use super::*;

#[test]
fn names_move_forward_when_the_clock_goes_back() {
    let spool = Spool::new(layout(), 600);
    let (mut writer, _) = spool.open();
    writer.append(&[received("a", START), received("b", START - 3_600_000), received("c", START + 5)]).unwrap();
    writer.sync().unwrap();
    drop(writer);
    // Over a restart, whose newest file names nothing yet, and another one.
    spool.clock.advance(-86_400_000);
    drop(spool.open());
    let (mut writer, _) = spool.open();
    writer.append(&[received("d", START - 86_400_000)]).unwrap();
    writer.sync().unwrap();
    assert_eq!(texts(&spool), ["a", "b", "c", "d"]);
    let last = names(&spool).pop().unwrap();
    // And when all of them are sent and gone.
    let mut reader = Reader::open(spool.path(), 4, &spool.link).unwrap();
    append(&mut writer, &["e"]);
    writer.sync().unwrap();
    reader.release(5).unwrap();
    drop(writer);
    let (mut writer, _) = spool.open();
    reader.release(5).unwrap();
    assert_eq!(names(&spool), [""; 0]);
    drop(writer);
    writer = spool.open().0;
    append(&mut writer, &["f"]);
    writer.sync().unwrap();
    assert!(names(&spool)[0] > last, "{:?} after {last}", names(&spool));
}

#[test]
fn many_events_of_one_microsecond_have_names_of_their_own() {
    for template in [naming::DEFAULT, "response_%Y%m%d_%H%M%S.json"] {
        let template = naming::Template::parse(template).unwrap();
        let spool = Spool::new(Layout::FilePerEvent(template), u64::MAX);
        let (mut writer, _) = spool.open();
        let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
        append(&mut writer, &expected.iter().map(String::as_str).collect::<Vec<_>>());
        writer.sync().unwrap();
        assert_eq!(texts(&spool), expected);
        assert_eq!(spool.payloads(0), expected);
    }
}

#[test]
fn a_name_that_is_taken_is_passed_over_and_what_has_it_left_alone() {
    let spool = Spool::new(layout(), u64::MAX);
    let (mut writer, _) = spool.open();
    let events = EventFolder::of(spool.path());
    fs::write(events.named("change_20150911_193320000000.json"), "theirs").unwrap();
    std::os::unix::fs::symlink("nowhere", events.named("change_20150911_193320000002.json")).unwrap();
    append(&mut writer, &["a", "b"]);
    writer.sync().unwrap();
    assert_eq!(fs::read(events.named("change_20150911_193320000000.json")).unwrap(), b"theirs");
    assert_eq!(fs::read(events.named("change_20150911_193320000001.json")).unwrap(), b"a");
    assert_eq!(fs::read(events.named("change_20150911_193320000003.json")).unwrap(), b"b");
    assert_eq!(spool.payloads(0), ["a", "b"]);
}

#[test]
fn a_name_that_is_taken_in_the_last_moment_leaves_the_event_hidden_and_whole() {
    let spool = Spool::new(layout(), u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "b"]);
    let theirs = EventFolder::of(spool.path()).named("change_20150911_193320000000.json");
    fs::write(&theirs, "theirs").unwrap();
    writer.sync().unwrap();
    assert_eq!((texts(&spool), spool.events(true).len()), (vec!["theirs".to_owned(), "b".to_owned()], 1));
    for _ in 0..2 {
        assert_eq!(spool.payloads(0), ["a", "b"]);
        drop(writer);
        writer = spool.open().0;
    }
    Reader::open(spool.path(), 2, &spool.link).unwrap().release(2).unwrap();
    assert_eq!((texts(&spool), spool.events(true).len()), (vec!["theirs".to_owned()], 0));
    append(&mut writer, &["c"]);
    writer.sync().unwrap();
    assert_eq!(spool.payloads(2), ["c"]);
}

#[test]
fn foreign_files_are_left_alone_and_named() {
    let spool = Spool::new(layout(), 600);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "b", "c"]);
    append(&mut writer, &["d"]);
    writer.sync().unwrap();
    let events = EventFolder::of(spool.path());
    let foreign = ["notes.txt", ".nfs00", "change_20150911_193320000007.json", "sub"].map(|name| events.named(name));
    foreign[..3].iter().for_each(|path| fs::write(path, "theirs").unwrap());
    fs::create_dir(&foreign[3]).unwrap();
    drop(writer);
    for _ in 0..2 {
        let (_, recovered) = spool.open();
        let mut some = recovered.foreign.some;
        some.sort();
        let mut expected = foreign.to_vec();
        expected.sort();
        assert_eq!((recovered.foreign.count, some), (4, expected));
    }
    assert_eq!(spool.payloads(0), ["a", "b", "c", "d"]);
    Reader::open(spool.path(), 4, &spool.link).unwrap().release(4).unwrap();
    assert!(foreign[..3].iter().all(|path| fs::read(path).unwrap() == b"theirs"));
    assert_eq!(fs::read_dir(events.path()).unwrap().count(), 4);
}
