//! `howdah archive verify`: one damage at a time to a copy of one archive, each found and named.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use howdah::recorded::Options;
use tempfile::TempDir;

use super::harness::{ARCHIVE, Running, Served, changed_pipeline, command, finish, repository, tempdir};

/// A finished run with several segments. Every test takes a copy.
struct Whole {
    folder: TempDir,
    pipeline: PathBuf,
    lines: u64,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let folder = tempdir();
    let pipeline = changed_pipeline(folder.path(), &[("roll_bytes = \"128MiB\"", "roll_bytes = \"256KiB\"")]);
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options::default());
    let data = folder.path().join("data");
    let mut howdah = Running::start(&pipeline, &data, &served.url, &folder.path().join("log"));
    howdah.await_records(&data, "wiki_changes", served.total);
    howdah.terminate_in_order();
    let lines = served.total;
    Whole { folder, pipeline, lines }
});

/// A copy of the run that may be damaged.
struct Copy {
    _folder: TempDir,
    data: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let folder = tempdir();
        let copied = Command::new("cp").arg("-a").arg(WHOLE.folder.path().join("data")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        let data = folder.path().join("data");
        Self { _folder: folder, data }
    }

    /// The segments, in order.
    fn segments(&self) -> Vec<PathBuf> {
        files(&self.data.join(ARCHIVE), ".jsonl")
    }

    /// The chain's entries, in order.
    fn entries(&self) -> Vec<PathBuf> {
        let chain = self.data.join(ARCHIVE).join("_chain/wiki_changes");
        let identity = fs::read_dir(chain).unwrap().next().unwrap().unwrap().path();
        let mut entries = files(&identity.join("0"), ".json");
        entries.retain(|path| !path.ends_with("begin.json"));
        entries
    }

    fn verify(&self, options: &[&str]) -> (i32, String, String) {
        let arguments = [&["archive", "verify"], options, &[WHOLE.pipeline.to_str().unwrap()]].concat();
        finish(command(&arguments).env("HOWDAH_DATA", &self.data))
    }

    /// The line that begins with `what` names `path` (as the store has it), and the exit code says loss.
    #[track_caller]
    fn check_found(&self, options: &[&str], what: &str, path: &Path) {
        let (code, out, err) = self.verify(options);
        assert_eq!(code, 4, "{options:?}\n{out}{err}");
        let path = path.strip_prefix(self.data.join("store")).unwrap().display().to_string();
        assert!(out.lines().any(|line| line.starts_with(what) && line.contains(&path)), "{what} {path}\n{out}{err}");
        assert!(out.contains("NOT whole"), "{out}");
        let (code, out, err) = self.verify(&[options, &["--json"]].concat());
        assert_eq!(code, 4, "{out}{err}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        let findings = report[0][1]["findings"].as_array().unwrap();
        assert!(findings.iter().any(|finding| finding["place"].as_str().unwrap().contains(&path)), "{out}");
    }

    #[track_caller]
    fn check_whole(&self, options: &[&str]) {
        let (code, out, err) = self.verify(options);
        assert_eq!(code, 0, "{options:?}\n{out}{err}");
        assert!(out.contains(": whole: "), "{out}");
    }
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    files.sort();
    assert!(files.len() >= 5, "{folder:?}: {files:?}");
    files
}

#[test]
fn a_whole_archive_is_called_whole() {
    let copy = Copy::new();
    copy.check_whole(&[]);
    let (code, out, err) = copy.verify(&["--deep", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report[0][0], "wikimedia/archive");
    let (report, lines) = (&report[0][1], WHOLE.lines);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!([&report["lines"], &report["compared"]], [lines, lines]);
    assert_eq!(report["segments"], copy.segments().len());
    // Progress is for people, the report for programs: they do not mix.
    assert!(err.contains("segments"), "{err}");
}

#[test]
fn a_flipped_byte_is_found_by_deep_alone() {
    for at in [0, 1_000, usize::MAX] {
        let copy = Copy::new();
        let path = copy.segments().swap_remove(2);
        let mut bytes = fs::read(&path).unwrap();
        // The last byte but one: the line's end stays.
        let at = at.min(bytes.len() - 2);
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        copy.check_whole(&[]);
        copy.check_found(&["--deep"], "ALTERED", &path);
    }
}

#[test]
fn a_missing_segment_is_found_and_named() {
    for nth in [0, 2, 4] {
        let copy = Copy::new();
        let path = copy.segments().swap_remove(nth);
        fs::remove_file(&path).unwrap();
        copy.check_found(&[], "MISSING", &path);
        copy.check_found(&["--deep"], "MISSING", &path);
    }
}

#[test]
fn a_doubled_segment_is_found_and_named() {
    let copy = Copy::new();
    let path = copy.segments().swap_remove(1);
    let name = path.file_name().unwrap().to_str().unwrap();
    // What a second writer would call it: another staging file's eight digits.
    let stem = name.strip_suffix(".jsonl").unwrap();
    let double = path.with_file_name(format!("{}0badcafe.jsonl", &stem[..stem.len() - 8]));
    fs::copy(&path, &double).unwrap();
    copy.check_found(&[], "UNKNOWN FILE", &double);
    copy.check_found(&["--deep"], "UNKNOWN FILE", &double);
}

#[test]
fn a_removed_entry_of_the_chain_is_found_and_named() {
    for nth in [0, 2] {
        let copy = Copy::new();
        let (entry, segment) = (copy.entries().swap_remove(nth), copy.segments().swap_remove(nth));
        fs::remove_file(&entry).unwrap();
        // The next entry begins where nothing ended, and the segment belongs to nobody.
        copy.check_found(&[], "BROKEN CHAIN", &copy.entries()[nth]);
        copy.check_found(&[], "UNKNOWN FILE", &segment);
        copy.check_found(&["--deep"], "BROKEN CHAIN", &copy.entries()[nth]);
    }
}

/// Nothing follows the last entry; what remains is its segment, which nothing names.
#[test]
fn the_last_entry_removed_is_seen_by_its_segment() {
    let copy = Copy::new();
    fs::remove_file(copy.entries().pop().unwrap()).unwrap();
    copy.check_found(&[], "UNKNOWN FILE", &copy.segments().pop().unwrap());
}

#[test]
fn a_segment_cut_short_is_found() {
    let copy = Copy::new();
    let path = copy.segments().swap_remove(3);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    copy.check_found(&["--deep"], "ALTERED", &path);
}

#[test]
fn swapped_segments_are_found() {
    let copy = Copy::new();
    let segments = copy.segments();
    let (a, b) = (fs::read(&segments[1]).unwrap(), fs::read(&segments[2]).unwrap());
    fs::write(&segments[1], b).unwrap();
    fs::write(&segments[2], a).unwrap();
    copy.check_found(&["--deep"], "ALTERED", &segments[1]);
    copy.check_found(&["--deep"], "ALTERED", &segments[2]);
}

#[test]
fn an_entry_that_cannot_be_read_is_named() {
    let copy = Copy::new();
    let entry = copy.entries().swap_remove(1);
    fs::write(&entry, "{").unwrap();
    copy.check_found(&[], "BROKEN CHAIN", &entry);
}

#[test]
fn damaged_bus_times_are_named() {
    let copy = Copy::new();
    let folder = copy.entries()[0].parent().unwrap().to_owned();
    let times = files(&folder, ".times").swap_remove(1);
    let mut bytes = fs::read(&times).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&times, bytes).unwrap();
    copy.check_found(&["--deep"], "ALTERED", &times);
    fs::remove_file(&times).unwrap();
    copy.check_found(&["--deep"], "MISSING", &times);
}
