//! The suite with a file per event.

use super::*;

mod crashes;
mod names;
#[path = "suite.rs"]
#[allow(clippy::duplicate_mod, reason = "once for each layout")]
mod suite;

fn layout() -> Layout {
    Layout::FilePerEvent(naming::Template::parse(naming::DEFAULT).unwrap())
}

/// The names of the events that other programs see.
fn names(spool: &Spool) -> Vec<String> {
    spool.events(false).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What they read.
fn texts(spool: &Spool) -> Vec<String> {
    spool.events(false).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn received(payload: &str, received: Millis) -> Entry {
    Entry { received, ..entry(payload) }
}

#[test]
fn each_event_is_one_file_with_its_bytes_and_nothing_else() {
    let spool = Spool::new(layout(), u64::MAX);
    let (mut writer, _) = spool.open();
    let letter = Entry { kind: Kind::Letter, ..entry("{\"reason\":\"too large\"}") };
    writer.append(&[entry("{\"a\": 1}\n\0"), letter, entry("")]).unwrap();
    assert_eq!(names(&spool), [""; 0], "nothing is seen that is not durable");
    writer.sync().unwrap();
    assert_eq!(texts(&spool), ["{\"a\": 1}\n\0", ""]);
    assert_eq!(names(&spool), ["change_20150911_193320000000.json", "change_20150911_193320000001.json"]);
    assert_eq!(spool.events(true).len(), 0);
}

#[test]
fn a_small_event_takes_a_block_of_the_bound() {
    let mut spool = Spool::new(layout(), u64::MAX);
    spool.settings.max_bytes = 100 * 4_096;
    let (mut writer, _) = spool.open();
    let taken = (0..).take_while(|_| writer.append(&[entry("x")]).is_ok()).count();
    assert!((70..90).contains(&taken), "{taken} events of a byte in a hundred blocks");
}

#[test]
fn events_go_with_the_file_that_names_them_when_they_were_read_back() {
    let spool = Spool::new(layout(), 600);
    let (mut writer, _) = spool.open();
    for n in 0..10 {
        append(&mut writer, &[&n.to_string()]);
    }
    writer.sync().unwrap();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    reader.release(5).unwrap();
    assert_eq!(texts(&spool), ["4", "5", "6", "7", "8", "9"], "two to a file");
    // A restart without what was sent: its ids are known all the same.
    fs::remove_file(&spool.events(false)[0]).unwrap();
    drop(writer);
    let mut ids = Vec::new();
    let (mut writer, _) = spool.open();
    recent(spool.path(), &spool.link, 0, 0, |id, _| ids.push(id.clone())).unwrap();
    assert_eq!(ids.len(), 6);
    reader.release(10).unwrap();
    assert_eq!(texts(&spool), [""; 0]);
    append(&mut writer, &["after"]);
    writer.sync().unwrap();
    assert_eq!((texts(&spool), spool.payloads(10)), (vec!["after".to_owned()], vec!["after".to_owned()]));
}

#[test]
fn events_that_the_bus_has_go_when_the_spool_goes_on_behind_them() {
    let spool = Spool::new(layout(), 600);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "b", "c"]);
    writer.skip_to(7).unwrap();
    assert_eq!((texts(&spool), spool.files().len()), (vec![], 2));
    append(&mut writer, &["d"]);
    writer.sync().unwrap();
    drop(writer);
    let found = Spool::at(layout(), spool.path());
    let (_, recovered) = found.open();
    assert_eq!((recovered.first, recovered.next, recovered.foreign), (7, 8, Foreign::default()));
    assert_eq!(found.payloads(7), ["d"]);
}
