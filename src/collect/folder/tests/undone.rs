//! Files that can be neither renamed nor moved nor deleted.

use std::{fs, sync::Arc};

use super::*;
use crate::model::ManualClock;

#[tokio::test]
async fn a_file_that_withstands_being_done_is_told_and_holds_nothing_up() {
    let place = Place::new();
    // With what is put behind it, its name is too long.
    let long = "x".repeat(250);
    place.put(&long, "x1\n", 0);
    place.put("b", "b1\n", 1);
    let told = |life: &Life| {
        let [fault] = &life.faults[..] else { panic!("{:?}", life.faults) };
        assert!(fault.message.contains("/xxx") && fault.message.contains("it is not read again"), "{fault}");
    };
    let mut life = place.live(b"");
    life.take_durably().await;
    place.put("c", "c1\n", 2);
    life.take_durably().await;
    assert_eq!(life.texts(), ["x1", "b1", "c1"]);
    told(&life);
    let mut later = place.live(&life.token("c1"));
    place.put("d", "d1\n", 3);
    later.take_durably().await;
    assert_eq!(later.texts(), ["d1"]);
    told(&later);
    assert_eq!(place.names(), ["b.COMPLETED", "c.COMPLETED", "d.COMPLETED", &long]);
    // Somebody mends it.
    fs::rename(place.folder.path().join(&long), place.folder.path().join("short")).unwrap();
    let mut last = place.live(&later.token("d1"));
    last.take_durably().await;
    assert_eq!((last.texts(), last.faults.len()), (vec![], 0));
    assert_eq!(place.names(), ["b.COMPLETED", "c.COMPLETED", "d.COMPLETED", "short.COMPLETED"]);
}

#[tokio::test]
async fn a_file_that_withstood_is_done_a_minute_after_it_was_mended() {
    let mut place = Place::new();
    let clock = Arc::new(ManualClock::at(1_500_000_000_000));
    place.clock = clock.clone();
    let long = "x".repeat(250);
    place.put(&long, "x1\n", 0);
    let mut life = place.live(b"");
    life.take_durably().await;
    fs::rename(place.folder.path().join(&long), place.folder.path().join("short")).unwrap();
    life.take().await;
    assert_eq!((place.names(), life.faults.len()), (vec!["short".to_owned()], 1));
    clock.advance(60_000);
    life.take().await;
    assert_eq!((place.names(), life.faults.len()), (vec!["short.COMPLETED".to_owned()], 1));
    assert_eq!(life.texts(), ["x1"]);
    // Put back, it is read again.
    fs::rename(place.folder.path().join("short.COMPLETED"), place.folder.path().join("again")).unwrap();
    life.take_durably().await;
    assert_eq!(life.texts(), ["x1", "x1"]);
}

/// Of a folder whose files can be moved nowhere until somebody mends it.
struct Stuck {
    place: Place,
    target: TempDir,
}

impl Stuck {
    fn new() -> Self {
        let (mut place, target) = (Place::new(), tempfile::tempdir().unwrap());
        place.settings.done = Done::Move(target.path().join("done"));
        // Where a folder has to be made is a file.
        place.settings.sub_folders = true;
        fs::create_dir(target.path().join("done")).unwrap();
        fs::write(target.path().join("done/sub"), "in the way").unwrap();
        Self { place, target }
    }

    fn mend(&self) {
        fs::remove_file(self.target.path().join("done/sub")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.folder.path().join(name)
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_cannot_be_done_is_left_alone_also_after_a_restart() {
    let stuck = Stuck::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all("p1 and a little more\n".repeat(100).as_bytes()).unwrap();
    stuck.place.put("sub/a.gz", packed.finish().unwrap(), 0);
    stuck.place.put("sub/b", "b1\n", 1);
    let mut life = stuck.place.live(b"");
    life.take_durably().await;
    assert_eq!((life.taken.len(), life.faults.len()), (101, 2), "{:?}", life.faults);
    drop(life);
    for name in ["sub/a.gz", "sub/b"] {
        File::options().append(true).open(stuck.path(name)).unwrap().write_all(b"b2\n").unwrap();
    }
    stuck.mend();
    stuck.place.put("c", "c1\n", 2);
    let mut later = stuck.place.live(b"");
    later.take_durably().await;
    assert_eq!(later.texts(), ["c1"], "all of the others was taken");
    let said: Vec<_> = later.faults.iter().map(|fault| fault.message.clone()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    for words in
        ["a.gz | tail -c +2101 ", "/sub/b: it was changed after it was taken, from 3 to 6 bytes", "tail -c +4 "]
    {
        assert!(said.iter().any(|text| text.contains(words)), "{words:?} is not in {said:?}");
    }
    let mut last = stuck.place.live(b"");
    last.take_durably().await;
    assert_eq!((last.texts(), last.faults.len()), (vec![], 0));
}

#[tokio::test]
async fn a_file_that_cannot_be_done_may_change_its_name_with_another() {
    let mut stuck = Stuck::new();
    let clock = Arc::new(ManualClock::at(1_500_000_000_000));
    stuck.place.clock = clock.clone();
    stuck.place.put("sub/x", "x1\n", 0);
    let mut life = stuck.place.live(b"");
    life.take_durably().await;
    // As who rotates logs does it.
    fs::rename(stuck.path("sub/x"), stuck.path("sub/x.1")).unwrap();
    stuck.place.put("sub/x", "new\n", 1);
    life.take_durably().await;
    assert_eq!(life.texts(), ["x1", "new"]);
    stuck.mend();
    clock.advance(60_000);
    life.take_durably().await;
    let mut later = stuck.place.live(b"");
    later.take_durably().await;
    assert_eq!((later.texts(), stuck.place.names()), (vec![], vec![]));
    let done = stuck.target.path().join("done/sub");
    assert!(done.join("x").exists() && done.join("x.1").exists());
}

#[tokio::test]
async fn what_is_known_of_a_file_outlives_settings_that_pass_it_over() {
    let mut stuck = Stuck::new();
    stuck.place.put("sub/x", "x1\n", 0);
    let mut life = stuck.place.live(b"");
    life.take_durably().await;
    assert_eq!((life.texts(), life.faults.len()), (vec!["x1".to_owned()], 1));
    stuck.place.settings.include = Some(Regex::new(r"\Ay\z").unwrap());
    stuck.place.put("y", "y1\n", 1);
    let mut other = stuck.place.live(b"");
    other.take_durably().await;
    assert_eq!(other.texts(), ["y1"]);
    stuck.place.settings.include = None;
    stuck.mend();
    let mut last = stuck.place.live(b"");
    last.take_durably().await;
    assert_eq!((last.texts(), stuck.place.names()), (vec![], vec![]));
}

#[tokio::test]
async fn a_folder_in_which_no_file_can_be_done_stands_still_after_a_while() {
    let place = Place::new();
    for n in 0..600 {
        place.put(&format!("{}{n:03}", "x".repeat(247)), format!("{n}\n"), n);
    }
    let mut life = place.live(b"");
    let is_told = |fault: &Fault| fault.message.contains("this file and 255 others can be neither");
    let read_on = async |life: &mut Life| {
        while !life.faults.iter().any(is_told) {
            let received = life.source.next().await.unwrap();
            life.note(received);
            life.durable.send_replace(life.taken.len() as u64);
        }
    };
    read_on(&mut life).await;
    let taken = life.taken.len();
    assert!((256..600).contains(&taken), "{taken}");
    // What is known to be done is not read again.
    let mut later = place.live(&life.taken[taken - 1].token);
    read_on(&mut later).await;
    let known: Vec<_> = life.texts().drain(..256).collect();
    assert!(later.texts().iter().all(|text| !known.contains(text)), "{:?}", later.texts());
}
