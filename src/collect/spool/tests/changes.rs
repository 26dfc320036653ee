//! Layouts that change between two runs.

use super::*;

fn files(template: &str) -> Layout {
    Layout::FilePerEvent(naming::Template::parse(template).unwrap())
}

#[test]
fn what_another_layout_has_left_is_read_to_its_end() {
    let mut spool = Spool::new(Layout::Packed, u64::MAX);
    let layouts = [Layout::Packed, files(naming::DEFAULT), files("r_%Y%m%d_%H%M%S.json"), Layout::Packed];
    let mut written = Vec::new();
    for (run, layout) in layouts.iter().chain(&layouts).enumerate() {
        spool.settings.layout = layout.clone();
        // Another process each time, and in every second one the end was not synced.
        spool.link = Link::new();
        let (mut writer, recovered) = spool.open();
        assert_eq!((recovered.next, recovered.foreign.count), (written.len() as u64, 0), "run {run}");
        for n in 0..3 {
            written.push(format!("{run}.{n}"));
            append(&mut writer, &[&written[written.len() - 1]]);
        }
        if run % 2 == 0 {
            writer.sync().unwrap();
        }
    }
    spool.link = Link::new();
    let (writer, recovered) = spool.open();
    assert_eq!(recovered.token, format!("token of {}", written[written.len() - 1]));
    assert_eq!(spool.payloads(0), written);
    assert_eq!((spool.events(false).len(), spool.events(true).len()), (12, 0));
    assert_eq!(writer.used(), spool.used());
    // What is sent goes, whichever layout it has.
    let mut reader = Reader::open(spool.path(), 24, &spool.link).unwrap();
    reader.release(9).unwrap();
    assert_eq!((spool.events(false).len(), &spool.payloads(9)[..]), (6, &written[9..]));
    reader.release(24).unwrap();
    assert_eq!((spool.events(false).len(), spool.files().len()), (0, 1));
}

#[test]
fn names_move_forward_over_a_packed_run() {
    let mut spool = Spool::new(files(naming::DEFAULT), u64::MAX);
    let run = |spool: &mut Spool, layout: Layout, received: Millis| {
        spool.settings.layout = layout;
        let (mut writer, recovered) = spool.open();
        writer.append(&[Entry { received, ..entry("x") }]).unwrap();
        writer.sync().unwrap();
        Reader::open(spool.path(), recovered.next, &spool.link).unwrap().release(recovered.next).unwrap();
    };
    run(&mut spool, files(naming::DEFAULT), START);
    for _ in 0..3 {
        run(&mut spool, Layout::Packed, START - 9);
    }
    assert_eq!(spool.events(false), [""; 0].map(PathBuf::from));
    run(&mut spool, files(naming::DEFAULT), START - 9);
    let named = spool.events(false)[0].display().to_string();
    assert!(named.ends_with("change_20150911_193320000001.json"), "{named}");
}

#[test]
fn how_much_waits_is_known_without_a_look_at_the_disk() {
    for layout in [Layout::Packed, files(naming::DEFAULT)] {
        let spool = Spool::new(layout, u64::MAX);
        let (mut writer, _) = spool.open();
        assert_eq!(writer.waiting(), 0);
        for n in 10..50 {
            append(&mut writer, &[&n.to_string()]);
        }
        writer.sync().unwrap();
        assert_eq!(writer.waiting(), spool.used());
        // Released, and still there: only a whole file goes.
        let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
        reader.release(30).unwrap();
        assert_eq!((writer.waiting(), spool.events(false).len() % 40), (spool.used() / 4, 0));
        reader.release(40).unwrap();
        assert_eq!(writer.waiting(), 0);
    }
}
