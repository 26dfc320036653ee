//! A folder of files, before a howdah that is killed again and again: every line is archived once and knows its file,
//! files are done.
//! (That a file is done only when its lines are on the disk shows at a power cut, not at a kill: the source's own
//! tests hold it, with a spool that says when.)

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use howdah::failpoint::POINTS;

use super::harness::{Running, command, records_of, repository, tempdir, wait_for};
use crate::torture::process::Process;

const FILES: usize = 120;
const LINES: usize = 200;
const KILLS: usize = 16;

/// The lines of all archived files, in order.
fn archived(store: &Path) -> Vec<String> {
    let folder = store.join("user/bigdata/lines");
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_folder_is_archived_once_over_kills_and_each_file_is_done() {
    let folder = tempdir();
    let (data, incoming) = (folder.path().join("data"), folder.path().join("incoming"));
    fs::create_dir(&incoming).unwrap();
    let text = fs::read_to_string(repository("pipelines/from-folder.toml")).unwrap();
    let text = text.replace("roll_age = \"10m\"", "roll_age = \"300ms\"");
    let text = text.replace("record = \"line\" ", "settle = \"0s\"\nlook = \"20ms\"\nrecord = \"line\" ");
    let text = text + "\n[collector.collect]\nfile_header = \"file\"\nbasename_header = \"basename\"\n";
    let pipeline = folder.path().join("pipeline.toml");
    fs::write(&pipeline, text).unwrap();
    let run = |fail: Option<String>| {
        let mut run = command(&["run", pipeline.to_str().unwrap()]);
        run.env("HOWDAH_DATA", &data).env("HOWDAH_FOLDER", &incoming);
        fail.map(|fail| run.args(["--fail", &fail]));
        run
    };
    // Whole files, moved in.
    let put = |n: usize| {
        let lines: String = (0..LINES).map(|line| format!("file {n:03} line {line:03} {}\n", "x".repeat(n))).collect();
        fs::write(incoming.join(".new"), lines).unwrap();
        fs::rename(incoming.join(".new"), incoming.join(format!("{n:03}.log"))).unwrap();
    };
    let mut rng = fastrand::Rng::with_seed(11);
    let points: Vec<_> = POINTS
        .iter()
        .filter(|point| ["collect.", "spool.a", "spool.s", "ingest."].iter().any(|start| point.starts_with(start)))
        .collect();
    let (mut put_so_far, mut hits) = (0, 0);
    for kill in 0..KILLS {
        for _ in 0..FILES / KILLS {
            put(put_so_far);
            put_so_far += 1;
        }
        let fail = kill.is_multiple_of(2).then(|| format!("{}={}", points[kill / 2 % points.len()], rng.u32(1..=3)));
        let life = Duration::from_millis(if fail.is_some() { 3_000 } else { rng.u64(250..900) });
        let mut howdah = Process::start(&mut run(fail), &folder.path().join("log"));
        match howdah.ended_within(life) {
            Some(_) => hits += 1,
            None => drop(howdah.kill()),
        }
    }
    (put_so_far..FILES).for_each(put);
    assert!(hits >= 5, "{hits} deaths at fail points");
    let howdah = Running::spawn(run(None), &folder.path().join("log"));
    let left = || {
        fs::read_dir(&incoming)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "log"))
            .count()
    };
    wait_for("all files to be done", || (left() == 0).then_some(()), || format!("{} left\n{}", left(), howdah.log()));
    howdah.terminate_in_order();

    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let lines = archived(&data.join("store-from-folder"));
    for line in &lines {
        by_file.entry(line[..8].to_owned()).or_default().push(line.clone());
    }
    assert_eq!((lines.len(), by_file.len()), (FILES * LINES, FILES));
    for (n, (file, lines)) in by_file.iter().enumerate() {
        let expected: Vec<_> = (0..LINES).map(|line| format!("file {n:03} line {line:03} {}", "x".repeat(n))).collect();
        assert!(*lines == expected, "{file} has not its lines once and in order");
    }
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), FILES, "each is there as a done one");
    for record in records_of(&data.join("bus-from-folder"), "lines") {
        let line = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap();
        let name = format!("{}.log", &line[5..8]);
        let headers = ["file", "basename"].map(|key| record.header(key).unwrap().as_ref());
        assert_eq!(headers, [incoming.join(&name).to_str().unwrap().as_bytes(), name.as_bytes()]);
    }
}
