//! A bus whose file was damaged, and two processes that want the same folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use howdah::recorded::Options;

use super::harness::{Running, Served, TOPIC, command, finish, judge_archive, judge_table, repository, tempdir};

fn pipeline() -> PathBuf {
    repository("pipelines/wikimedia.toml")
}

/// Every file of the archive, the table and the spool, with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_damaged_bus_is_named_and_nothing_is_written_over() {
    let folder = tempdir();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_records(&data, TOPIC, served.total);
    howdah.terminate_in_order();

    let file = data.join("bus/bus.sqlite");
    let whole = fs::read(&file).unwrap();
    let store = contents(&data.join("store"));
    let check = |place: &str, range: std::ops::Range<usize>| {
        let mut bytes = whole.clone();
        bytes[range].fill(0xa5);
        fs::write(&file, &bytes).unwrap();

        let (code, out, err) =
            finish(command(&["archive", "verify", "--deep", pipeline().to_str().unwrap()]).env("HOWDAH_DATA", &data));
        assert_eq!(code, 4, "{place}: {out}{err}");
        assert!(err.contains(file.to_str().unwrap()) || out.contains("bus"), "{place}: {out}{err}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{place}: verify has written");
        assert_eq!(contents(&data.join("store")), store, "{place}: verify has written");
    };
    check("the header", 0..64);
    check("the first page", 100..4096);
    check("the middle", whole.len() / 2..whole.len() / 2 + 20_000);

    // The header again: the start refuses, and leaves all as it was.
    let mut bytes = whole.clone();
    bytes[..64].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let mut run = command(&["run", pipeline().to_str().unwrap()]);
    run.env("HOWDAH_DATA", &data).env("WIKIMEDIA_URL", &served.url);
    let ended = Running::spawn(run, &log).end();
    assert_eq!(ended.status.code(), Some(4), "{}", ended.log);
    assert!(ended.log.contains(file.to_str().unwrap()) && ended.log.contains("put it aside"), "{}", ended.log);
    assert_eq!(fs::read(&file).unwrap(), bytes, "the start has written over a bus it does not understand");
    assert_eq!(contents(&data.join("store")), store);

    // With the file as it was everything goes on.
    fs::write(&file, &whole).unwrap();
    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    howdah.terminate_in_order();
    judge_archive(&repository("data/recentchange-2015-09-12.ndjson.gz"), &data, &[]);
}

/// Damage while it runs: whoever reads it says so and everything ends, at once and not after many
/// tries; nothing is archived that was not served.
#[test]
fn a_bus_that_is_damaged_while_it_is_read_ends_everything_and_names_the_file() {
    let folder = tempdir();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options { speed: 400.0, ..Options::default() });
    let file = data.join("bus/bus.sqlite");
    // After an ordered end everything is in the file itself, nothing in its log.
    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    super::harness::wait_for("a part", || (served.progress().sent > 300).then_some(()), || howdah.log());
    howdah.terminate_in_order();
    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    let len = fs::metadata(&file).unwrap().len();
    let garbage = vec![0xa5; usize::try_from(len).unwrap() - 8_192];
    let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&opened, &garbage, 8_192).unwrap();
    let ended = howdah.end();
    assert_eq!(ended.status.code(), Some(70), "{}", ended.log);
    let last =
        ended.log.lines().find(|line| line.contains("supervision gave up")).unwrap_or_else(|| panic!("{}", ended.log));
    assert!(last.contains(file.to_str().unwrap()) && last.contains("put it aside"), "{last}");
    judge_archive(&events, &data, &["--allow-prefix"]);
}

/// A disk that comes back without the last bytes of the spool, which the bus has: they do not come
/// again, and what follows is not taken for them.
#[test]
fn a_spool_that_lost_its_end_goes_on_and_says_so() {
    let folder = tempdir();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options { speed: 600.0, ..Options::default() });
    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    super::harness::wait_for("a part", || (served.progress().sent > 900).then_some(()), || howdah.log());
    // In order, so that all of the spool is on the bus.
    howdah.terminate_in_order();
    let spool = data.join("spool/wikimedia");
    let files = contents(&spool).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "spool"));
    let (newest, bytes) = files.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&newest).unwrap();
    file.set_len(bytes.len() as u64 * 2 / 3).unwrap();

    let mut howdah = Running::start(&pipeline(), &data, &served.url, &log);
    howdah.await_records(&data, TOPIC, served.total);
    let ended = howdah.terminate_in_order();
    assert!(ended.log.contains("possible gap") && ended.log.contains("the spool has lost its end"), "{}", ended.log);
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let folder = tempdir();
    let data = folder.path().join("data");
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options { speed: 1_500.0, ..Options::default() });
    let mut first = Running::start(&pipeline(), &data, &served.url, &folder.path().join("log"));
    first.await_line(&["connected"]);

    let mut run = command(&["run", pipeline().to_str().unwrap()]);
    let (code, out, err) = finish(run.env("HOWDAH_DATA", &data).env("WIKIMEDIA_URL", &served.url));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    let words =
        format!("this bus is in use by another howdah (process {}): stop it, or give this one a folder", first.id());
    assert!(err.contains(&words) && err.contains(data.join("bus").to_str().unwrap()), "{err}");
    assert!(served.progress().sent < served.total, "the first was still at it");

    first.await_records(&data, TOPIC, served.total);
    let ended = first.terminate_in_order();
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}
