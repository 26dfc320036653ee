//! A folder as a source, with a collector that says when what is durable.

mod undone;

use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::{
    collect::source::{Around, RawEvent, Received, Resume, Source},
    fault::{Domain, Fault},
    model::{Clock, Millis, SystemClock},
};

/// A folder, a spool's folder, and what became durable.
struct Place {
    folder: TempDir,
    spool: TempDir,
    settings: FolderSettings,
    clock: Arc<dyn Clock>,
}

/// One life of a source.
struct Life {
    source: Folder,
    durable: watch::Sender<u64>,
    taken: Vec<RawEvent>,
    faults: Vec<Fault>,
}

/// A folder whose lines are read as soon as they are there.
pub(crate) fn settings(path: &Path) -> FolderSettings {
    FolderSettings {
        path: path.to_owned(),
        sub_folders: false,
        include: None,
        ignore: None,
        order: Order::Oldest,
        record: RecordOf::Line,
        done: Done::Rename(".COMPLETED".to_owned()),
        settle: Duration::ZERO,
        look: Duration::from_millis(2),
        max_event: 1_000,
    }
}

impl Place {
    fn new() -> Self {
        let (folder, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings(folder.path());
        Self { folder, spool, settings, clock: Arc::new(SystemClock) }
    }

    /// Puts a file there, changed so many seconds after 2015.
    fn put(&self, name: &str, text: impl AsRef<[u8]>, seconds: u64) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        file.write_all(text.as_ref()).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_442_000_000 + seconds)).unwrap();
    }

    /// What is in the folder, hidden ones left out.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string());
                }
            }
        }
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    fn live(&self, token: &[u8]) -> Life {
        let (durable, told) = watch::channel(0);
        let resume = Resume { token: Bytes::copy_from_slice(token), ..Resume::default() };
        let around = Around { clock: self.clock.clone(), durable: told };
        let source = Folder::new(&self.settings, self.spool.path(), &resume, around);
        Life { source, durable, taken: Vec::new(), faults: Vec::new() }
    }
}

impl Life {
    /// Takes what comes until there is nothing for a while.
    async fn take(&mut self) {
        let quiet = Duration::from_millis(150);
        while let Ok(received) = tokio::time::timeout(quiet, self.source.next()).await {
            self.note(received.unwrap());
        }
    }

    fn note(&mut self, received: Received) {
        match received {
            Received::Events(events) => self.taken.extend(events),
            Received::Disconnected { fault, .. } => self.faults.push(fault),
            Received::OversizedVoid => {}
            other => panic!("{other:?}"),
        }
    }

    /// Takes, and has all of it durable, until there is nothing for a while.
    async fn take_durably(&mut self) {
        loop {
            let before = self.taken.len();
            self.take().await;
            self.durable.send_replace(self.taken.len() as u64);
            if self.taken.len() == before {
                return self.take().await;
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        self.taken.iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect()
    }

    /// The token of the event with this text.
    fn token(&self, text: &str) -> Bytes {
        self.taken.iter().find(|event| event.data == text).unwrap().token.clone()
    }
}

#[tokio::test]
async fn files_are_taken_in_order_and_done_once_their_lines_are_durable() {
    let place = Place::new();
    place.put("b", "b1\nb2\n", 1);
    place.put("a", "a1\n\na3", 1);
    place.put("z", "z1\r\n", 0);
    place.put(".hidden", "no\n", 0);
    place.put("old.COMPLETED", "no\n", 0);
    place.put("empty", "", 2);
    let mut life = place.live(b"");
    life.take().await;
    assert_eq!(life.texts(), ["z1\r", "a1", "", "a3", "b1", "b2"]);
    assert_eq!(place.names(), ["a", "b", "empty", "old.COMPLETED", "z"], "nothing is durable yet");
    life.durable.send_replace(5);
    life.take().await;
    assert_eq!(place.names(), ["a.COMPLETED", "b", "empty", "old.COMPLETED", "z.COMPLETED"]);
    life.durable.send_replace(6);
    life.take().await;
    assert_eq!(place.names(), ["a.COMPLETED", "b.COMPLETED", "empty.COMPLETED", "old.COMPLETED", "z.COMPLETED"]);
    // A name that comes again is another file, and what is there is not overwritten.
    place.put("a", "again\n", 9);
    life.take_durably().await;
    assert_eq!(life.texts()[6..], ["again"]);
    assert!(place.names().contains(&"a.1.COMPLETED".to_owned()) && life.faults.is_empty(), "{:?}", life.faults);
    let tokens: std::collections::BTreeSet<_> = life.taken.iter().map(|event| event.token.clone()).collect();
    assert_eq!(tokens.len(), life.taken.len(), "each event is known apart from all others");
}

#[tokio::test]
async fn a_restart_goes_on_in_the_middle_and_repeats_only_what_is_known() {
    let place = Place::new();
    place.put("a", "a1\na2\n", 0);
    place.put("b", "b1\nb2\nb3\n", 1);
    let mut first = place.live(b"");
    first.take().await;
    // It dies: all up to b2 is durable, and no file is done.
    let mut second = place.live(&first.token("b2"));
    second.take_durably().await;
    assert_eq!(second.texts(), ["a1", "a2", "b3"]);
    assert_eq!(
        (second.token("a1"), second.token("a2")),
        (first.token("a1"), first.token("a2")),
        "known by their tokens"
    );
    assert_eq!(place.names(), ["a.COMPLETED", "b.COMPLETED"]);
}

#[tokio::test]
async fn a_file_that_was_begun_is_gone_on_with_whatever_comes_before_it_and_however_often() {
    let mut place = Place::new();
    place.settings.order = Order::Youngest;
    place.put("old", "o1\no2\no3\no4\n", 0);
    let mut first = place.live(b"");
    first.take().await;
    // Each life dies, with all before this durable, and each time a file has come that is read first.
    place.put("new", "n1\nn2\nn3\n", 1);
    let mut second = place.live(&first.token("o2"));
    second.take().await;
    assert_eq!(second.texts(), ["n1", "n2", "n3", "o3", "o4"]);
    place.put("newest", "N1\nN2\n", 2);
    let mut third = place.live(&second.token("n1"));
    third.take().await;
    assert_eq!(third.texts(), ["N1", "N2", "n2", "n3"], "what was begun is done before another is read");
    let mut fourth = place.live(&third.token("N1"));
    fourth.take_durably().await;
    assert_eq!(fourth.texts(), ["N2", "n2", "n3", "o3", "o4"]);
    assert_eq!(place.names(), ["new.COMPLETED", "newest.COMPLETED", "old.COMPLETED"]);
    // Put back, they are read from their beginnings.
    fs::rename(place.folder.path().join("old.COMPLETED"), place.folder.path().join("back")).unwrap();
    let mut last = place.live(&fourth.token("o4"));
    place.put("b", "b1\n", 9);
    last.take_durably().await;
    let mut after = place.live(&last.token("b1"));
    fs::rename(place.folder.path().join("back.COMPLETED"), place.folder.path().join("again")).unwrap();
    after.take_durably().await;
    assert_eq!((last.texts(), after.texts()[..1].to_vec()), (vec!["b1".to_owned()], vec!["o1".to_owned()]));
}

#[tokio::test]
async fn what_the_journal_says_is_done_is_not_read_again() {
    let place = Place::new();
    place.put("a", "a1\n", 0);
    let about = fs::metadata(place.folder.path().join("a")).unwrap();
    let mut journal = journal::Journal::open(place.spool.path()).unwrap();
    journal.note_done(&[Stand { file: "a".into(), identity: Identity::of(&about), at: 3 }]).unwrap();
    // Who died between the journal and the rename.
    let mut life = place.live(b"");
    life.take().await;
    assert_eq!((life.texts(), place.names()), (vec![], vec!["a.COMPLETED".to_owned()]));
}

#[tokio::test]
async fn files_that_are_read_and_not_done_have_few_events_together() {
    let place = Place::new();
    let long: String = (0..12_000).map(|n| format!("{n}\n")).collect();
    place.put("a", &long, 0);
    place.put("b", "b1\n", 1);
    let mut life = place.live(b"");
    life.take().await;
    assert_eq!(life.taken.len(), 12_000, "b waits until a is done");
    life.durable.send_replace(12_000);
    life.take().await;
    assert_eq!(place.names(), ["a.COMPLETED", "b"]);
    assert_eq!(life.texts()[12_000..], ["b1"]);
}

#[tokio::test]
async fn a_file_that_changes_is_named_and_left_alone_and_all_else_goes_on() {
    let place = Place::new();
    place.put("a", "a1\na2\n", 0);
    let mut life = place.live(b"");
    // The file is taken with its first event; then somebody appends to it.
    while life.taken.is_empty() {
        let received = life.source.next().await.unwrap();
        life.note(received);
    }
    File::options().append(true).open(place.folder.path().join("a")).unwrap().write_all(b"a3\n").unwrap();
    place.put("b", "b1\n", 5);
    life.take_durably().await;
    assert_eq!(life.texts(), ["a1", "a2", "b1"]);
    let said: Vec<_> = life.faults.iter().map(|fault| (fault.domain, fault.message.clone())).collect();
    let [(Domain::Data, text)] = said.as_slice() else { panic!("{said:?}") };
    for words in ["/a: it was changed after it was taken, from 6 to 9 bytes", "6 bytes of it are taken", "tail -c +7"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert_eq!(place.names(), ["a", "b.COMPLETED"], "it stays where it is");
    // Nor is it taken by a later life, whatever became of it since.
    place.put("a", "other\n", 9);
    let mut later = place.live(&life.token("b1"));
    later.take_durably().await;
    assert_eq!(later.texts(), [""; 0]);
    // What a person puts into a file of its own is.
    place.put("a.rest", "a3\n", 9);
    later.take_durably().await;
    assert_eq!(later.texts(), ["a3"]);
}

#[tokio::test]
async fn a_file_that_changed_between_its_last_line_and_its_durability_is_not_done() {
    for done in [Done::Delete, Done::Rename(".COMPLETED".to_owned())] {
        let mut place = Place::new();
        place.settings.done = done;
        place.put("grows", "g1\n", 0);
        place.put("replaced", "r1\n", 1);
        place.put("stays", "s1\n", 2);
        let mut life = place.live(b"");
        life.take().await;
        let path = |name: &str| place.folder.path().join(name);
        File::options().append(true).open(path("grows")).unwrap().write_all(b"g2\n").unwrap();
        place.put(".new", "another\n", 3);
        fs::rename(path(".new"), path("replaced")).unwrap();
        life.take_durably().await;
        assert_eq!(life.texts(), ["g1", "r1", "s1", "another"]);
        let [fault] = &life.faults[..] else { panic!("{:?}", life.faults) };
        let said =
            "grows: it was changed after it was taken, from 3 to 6 bytes: it is left alone from now on; 3 bytes of";
        assert!(fault.message.contains(said), "{fault}");
        assert!(place.names().contains(&"grows".to_owned()), "{:?}", place.names());
        assert!(!path("replaced").exists() && !path("stays").exists(), "{:?}", place.names());
    }
}

#[tokio::test]
async fn links_lead_nowhere_twice() {
    let mut place = Place::new();
    place.settings.sub_folders = true;
    place.put("app.log", "a1\n", 0);
    place.put("below/b.log", "b1\n", 1);
    let path = |name: &str| place.folder.path().join(name);
    std::os::unix::fs::symlink("app.log", path("latest.log")).unwrap();
    std::os::unix::fs::symlink("..", path("below/up")).unwrap();
    std::os::unix::fs::symlink("below", path("beside")).unwrap();
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!((life.texts(), life.faults.len()), (vec!["a1".to_owned(), "b1".to_owned()], 0));
}

#[tokio::test]
async fn files_that_were_moved_into_a_folder_below_are_not_found_again() {
    let mut place = Place::new();
    place.settings.sub_folders = true;
    // The same folder, written otherwise.
    place.settings.done = Done::Move(place.folder.path().join("x/../done"));
    place.put("a", "a1\n", 0);
    place.put("x/b", "b1\n", 1);
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!(
        (life.texts(), place.names()),
        (vec!["a1".to_owned(), "b1".to_owned()], vec!["done/a".to_owned(), "done/x/b".to_owned()])
    );
}

#[tokio::test]
async fn a_packed_file_whose_checksum_is_wrong_is_left_alone() {
    let place = Place::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(b"a1\na2\n").unwrap();
    let mut packed = packed.finish().unwrap();
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    place.put("a.gz", packed, 0);
    place.put("b", "b1\n", 1);
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!((life.texts().last().unwrap().as_str(), life.faults.len()), ("b1", 1), "{:?}", life.faults);
    assert!(life.faults[0].message.contains("/a.gz, behind byte "), "{}", life.faults[0]);
    assert_eq!(place.names(), ["a.gz", "b.COMPLETED"]);
}

#[tokio::test]
async fn packed_files_are_unpacked_and_broken_ones_are_named() {
    let place = Place::new();
    let pack = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    place.put("a.gz", [pack("a1\na2\n"), pack("a3\n")].concat(), 0);
    let long: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let torn = pack(&long);
    place.put("b.gz", &torn[..torn.len() / 2], 1);
    place.put("c", "c1\n", 2);
    let mut life = place.live(b"");
    life.take_durably().await;
    let texts = life.texts();
    assert_eq!((&texts[..3], texts.last().unwrap().as_str()), (&["a1", "a2", "a3"].map(str::to_owned)[..], "c1"));
    assert!(texts.len() > 1_000 && life.faults.len() == 1, "{} {:?}", texts.len(), life.faults);
    assert!(life.faults[0].message.contains("/b.gz, behind byte "), "{}", life.faults[0]);
    assert_eq!(place.names(), ["a.gz.COMPLETED", "b.gz", "c.COMPLETED"]);
    let mut again = place.live(&life.token("a2"));
    place.put("d.gz", pack("d1\nd2\n"), 3);
    again.take_durably().await;
    let mut third = place.live(&again.token("d1"));
    assert_eq!(again.texts(), ["d1", "d2"]);
    fs::rename(place.folder.path().join("d.gz.COMPLETED"), place.folder.path().join("e.gz")).unwrap();
    third.take_durably().await;
    assert_eq!(third.texts(), ["d2"], "the same file under another name is gone on with");
}

#[test]
fn a_file_whose_name_is_no_text_is_passed_over_and_told() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let mut place = Place::new();
    place.settings.sub_folders = true;
    place.put("x/a", "a\n", 0);
    let odd = Path::new("x").join(OsStr::from_bytes(b"\xff.log"));
    fs::write(place.folder.path().join(&odd), "b\n").unwrap();
    let mut nameless = Vec::new();
    let found = listing::list(&place.settings, Millis::MAX, &mut |path| nameless.push(path)).unwrap();
    assert_eq!(found.iter().map(|found| found.file.to_str().unwrap()).collect::<Vec<_>>(), ["x/a"]);
    assert_eq!(nameless, [odd]);
}

#[tokio::test]
async fn sub_folders_patterns_and_whole_files() {
    let mut place = Place::new();
    let target = tempfile::tempdir_in(place.folder.path().parent().unwrap()).unwrap();
    place.settings.sub_folders = true;
    place.settings.include = Some(Regex::new(r"\A.*[.]json\z").unwrap());
    place.settings.ignore = Some(Regex::new(r"\Askip.*\z").unwrap());
    place.settings.order = Order::Name;
    place.settings.record = RecordOf::File { one_line: true };
    place.settings.done = Done::Move(target.path().to_owned());
    place.put("x/y.json", "{\n \"a\": 1\n}\n", 9);
    place.put("b.json", "two\nlines\n", 0);
    place.put("skip.json", "no", 0);
    place.put("json", "no", 0);
    place.put("a.json.tmp", "no", 0);
    place.put(".d/z.json", "no", 0);
    place.put("empty.json", "", 0);
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!(life.texts(), ["two\nlines", "{  \"a\": 1 }"]);
    assert_eq!(place.names(), ["a.json.tmp", "json", "skip.json"]);
    assert!(target.path().join("x/y.json").exists() && target.path().join("empty.json").exists());
    let file = file_of(place.folder.path(), &life.taken[1].token).unwrap();
    assert_eq!(file, place.folder.path().join("x/y.json"));
}

#[tokio::test]
async fn a_line_above_the_bound_comes_in_parts_and_the_next_one_is_a_line() {
    let place = Place::new();
    let long = "x".repeat(700_000);
    place.put("a", format!("a1\n{long}\na3\n"), 0);
    let mut life = place.live(b"");
    let (mut order, mut large) = (Vec::new(), 0);
    while order.len() < 3 {
        match life.source.next().await.unwrap() {
            Received::Events(events) => order.extend(events.into_iter().map(|event| event.data)),
            Received::OversizedPart(part) => large += part.len(),
            Received::OversizedEnd { token, unreadable: None } => {
                order.push(Bytes::from_static(b"large"));
                assert_eq!(Stand::parse(&token).unwrap().at, 3 + 700_001);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((order, large), (vec!["a1".into(), "large".into(), "a3".into()], 700_000));
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_until_it_settles() {
    let mut place = Place::new();
    place.settings.settle = Duration::from_secs(3_600);
    let now = u64::try_from(Clock::now(&SystemClock) / 1_000).unwrap() - 1_442_000_000;
    place.put("new", "no\n", now);
    place.put("old", "old\n", now - 4_000);
    // Of another machine, whose clock is ahead.
    place.put("ahead", "ahead\n", now + 10_000);
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!(life.texts(), ["old", "ahead"]);
}

#[tokio::test]
async fn a_folder_that_a_flume_agent_was_reading_is_taken_over_in_the_middle_of_a_file() {
    let place = Place::new();
    place.put("done.COMPLETED", "no\n", 0);
    place.put("half", "h1\nh2\nh3\n", 1);
    place.put("whole", "w1\n", 2);
    let target = place.folder.path().join("half");
    let meta = place.folder.path().join(TRACKER).join(".flumespool-main.meta");
    fs::create_dir(meta.parent().unwrap()).unwrap();
    // As an agent writes it: the path, and a position behind two lines.
    let mut text = b"Obj\x01\x02\x08file".to_vec();
    let path = target.to_str().unwrap().as_bytes();
    assert!(path.len() < 64, "one byte for the length");
    text.push(u8::try_from(path.len() * 2).unwrap());
    text.extend_from_slice(path);
    text.extend_from_slice(b"\x000123456789abcdef\x02\x02\x0c0123456789abcdef");
    fs::write(&meta, text).unwrap();
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!(life.texts(), ["h3", "w1"]);
    assert_eq!(place.names(), ["done.COMPLETED", "half.COMPLETED", "whole.COMPLETED"]);
    assert!(!meta.exists(), "who is done with the file has no need of the position");
}

#[tokio::test]
async fn a_new_file_with_the_inode_of_one_that_was_deleted_is_a_new_file() {
    let mut place = Place::new();
    place.settings.done = Done::Delete;
    place.put("a", "a1\n", 0);
    let mut life = place.live(b"");
    life.take_durably().await;
    assert_eq!((life.texts(), place.names()), (vec!["a1".to_owned()], vec![]));
    // File systems give an inode that is free to the next file.
    for n in 0..20 {
        place.put(&format!("b{n}"), format!("b{n} is longer\n"), n);
    }
    let mut later = place.live(&life.token("a1"));
    later.take_durably().await;
    assert_eq!((later.taken.len(), later.faults.len(), place.names().len()), (20, 0, 0));
}
