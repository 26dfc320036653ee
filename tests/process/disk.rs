//! Disks that are full or cannot be written. Needs the right to mount a tmpfs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use howdah::recorded::Options;

use super::harness::{
    Running, Served, TOPIC, changed_pipeline, command, finish, judge_archive, judge_table_with_leftovers, make_events,
    repository, tempdir, wait_for,
};

/// A small file system of its own, unmounted when this is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    #[track_caller]
    fn mount(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        mount(&["-t", "tmpfs", "-o", options, "howdah-test", at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    #[track_caller]
    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[track_caller]
fn mount(arguments: &[&str]) {
    let (code, _, err) = finish(Command::new("mount").args(arguments));
    assert_eq!(code, 0, "this test has to mount a tmpfs (root, or CAP_SYS_ADMIN in a container): {err}");
}

/// Runs into a full disk at `small` (below `data`), gets more room, and has lost nothing.
fn check_full(small: &str, size: &str, words: &[&str], changes: &[(&str, &str)], outage: Duration) {
    let begun = Instant::now();
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    make_events(&events, "--copies 3 --seed 11");
    let served = Served::start(&events, Options { cut_every: Some(900), ..Options::default() });
    let disk = Tmpfs::mount(&data.join(small).components().collect::<PathBuf>(), &format!("size={size}"));
    let pipeline = changed_pipeline(folder.path(), changes);
    let mut howdah = Running::start(&pipeline, &data, &served.url, &folder.path().join("log"));

    let place = disk.0.to_str().unwrap();
    howdah.await_line(&[&["WARN", place], words].concat());
    // It goes on trying, and does not die of it: a second complaint, later than the first.
    let complaints = |log: &str| log.lines().filter(|line| line.contains(place) && line.contains(words[0])).count();
    wait_for("another attempt", || (complaints(&howdah.log()) >= 3).then_some(()), || howdah.log());
    // As long as it lasts, nobody takes the back-off for a stall: that would end in giving up.
    wait_for("the end of the outage", || (begun.elapsed() >= outage).then_some(()), || howdah.log());
    assert!(howdah.is_alive(), "{}", howdah.log());
    assert!(!howdah.log().contains("died and is restarted"), "{}", howdah.log());

    disk.remount("size=200m");
    howdah.await_records(&data, TOPIC, served.total);
    let ended = howdah.terminate_in_order();
    assert!(!ended.log.contains("panic"), "{}", ended.log);
    judge_archive(&events, &data, &[]);
    judge_table_with_leftovers(&events, &data);
    let (code, out, err) =
        finish(command(&["archive", "verify", "--deep", pipeline.to_str().unwrap()]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_full_disk_under_everything_loses_nothing() {
    check_full(".", "4m", &["No space left"], &[], Duration::ZERO);
}

#[test]
fn a_full_disk_under_the_store_loses_nothing() {
    let quick = [
        ("roll_bytes = \"128MiB\"", "roll_bytes = \"256KiB\""),
        ("commit_interval = \"10s\"", "commit_interval = \"1s\"\nstall = \"8s\""),
    ];
    check_full("store", "1m", &["No space left"], &quick, Duration::from_secs(12));
}

/// Bus and store are opened before anything runs.
#[test]
fn folders_that_cannot_be_written_are_named() {
    let pipeline = repository("pipelines/wikimedia.toml");
    let folder = tempdir();
    let check = |unwritable: &str, named: &str, words: &str| {
        let data = folder.path().join(unwritable.replace('.', "all")).join("data");
        let _disk = Tmpfs::mount(&data.join(unwritable).components().collect::<PathBuf>(), "ro,size=1m");
        let mut run = command(&["run", pipeline.to_str().unwrap()]);
        run.env("HOWDAH_DATA", &data);
        let ended = Running::spawn(run, &folder.path().join("log")).end();
        assert_eq!(ended.status.code(), Some(3), "{unwritable}: {}", ended.log);
        // "<data>/./bus" when everything is unwritable: the path as the pipeline spells it.
        let named = data.join(named).display().to_string();
        assert!(ended.log.contains(&named) && ended.log.contains(words), "{unwritable}: {}", ended.log);
    };
    check(".", "bus", "Read-only file system");
    check("bus", "bus", "Read-only file system");
    check("bus", "bus", "bus must be writable for uid 0");
    check("spool", "spool/wikimedia", "spool/wikimedia must be writable for uid 0");
    check("store", "store", "store must be writable for uid 0");
}
