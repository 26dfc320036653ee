//! What was archived comes back: for an aggregator that was away too long, for a table that is counted
//! again, for a topic that wants the records once more.

use std::{collections::BTreeSet, fs, path::Path, time::Instant};

use howdah::{
    bus::{Bus, Watermarks, embedded::EmbeddedBus},
    model::Record,
    recorded::Options,
};

use super::harness::{
    ARCHIVE, LETTERS, Running, Served, TABLE, TOPIC, block_on, changed_pipeline, command, finish, judge_archive,
    judge_table, make_events, records, repository, tempdir, wait_for,
};

fn ends(data: &Path, topic: &str) -> Watermarks {
    block_on(async {
        let bus = EmbeddedBus::open_read_only(data.join("bus")).unwrap();
        let topic = bus.topic(&topic.into()).await.unwrap().unwrap();
        bus.watermarks(&topic, 0).await.unwrap()
    })
}

/// Runs a command of the pipeline to its end, which must be in order; what it said.
#[track_caller]
fn done(pipeline: &Path, data: &Path, before: &[&str], after: &[&str]) -> String {
    let arguments = [before, &[pipeline.to_str().unwrap()], after].concat();
    let (code, out, err) = finish(command(&arguments).env("HOWDAH_DATA", data));
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// The rows of each table in what `table show --json` says.
fn rows(shown: &str) -> Vec<serde_json::Value> {
    let table = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["rows"].take();
    shown.lines().map(table).collect()
}

fn values(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| record.value.as_deref().unwrap()).collect()
}

#[test]
fn a_table_counted_from_the_archive_is_the_one_that_the_bus_would_have_given() {
    let folder = tempdir();
    let (data, events, log) =
        (folder.path().join("data"), folder.path().join("events.ndjson"), folder.path().join("log"));
    make_events(&events, "--copies 24 --canary 50 --bare 37 --odd 41 --times 97 --seed 5");
    let served = Served::start(&events, Options { cut_every: Some(7_000), ..Options::default() });
    // A bus that forgets most, an archive that is far ahead of that, and a table that is not.
    let changes = [
        ("retention_bytes = \"8GiB\"", "retention_bytes = \"5MiB\""),
        ("roll_bytes = \"128MiB\"", "roll_bytes = \"1MiB\""),
        ("roll_age = \"10m\"", "roll_age = \"1s\""),
        ("commit_interval = \"10s\"", "commit_interval = \"1h\"\ncommit_records = 10_000_000"),
    ];
    let pipeline = changed_pipeline(folder.path(), &changes);
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_records(&data, TOPIC, served.total);
    // What the bus forgets with the next start is to be archived by then.
    let end = format!("-{:020}-", served.total);
    let is_archived = || {
        let files = fs::read_dir(data.join(ARCHIVE)).ok()?.map(|entry| entry.unwrap().file_name());
        files.into_iter().any(|name| name.to_string_lossy().contains(&end)).then_some(())
    };
    wait_for("the archive's last segment", is_archived, String::new);
    let low = wait_for("a bus that forgets", || Some(ends(&data, TOPIC).low).filter(|low| *low > 0), String::new);
    drop(howdah);
    let none = done(&pipeline, &data, &["table", "show"], &["--json"]);
    assert!(none.contains("\"rows\":[]"), "nothing was committed: {none}");

    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    let ended = howdah.terminate_in_order();
    assert!(!ended.log.contains("ERROR") && low > 1_000, "{}", ended.log);
    judge_archive(&events, &data, &[]);
    let archive = data.join(ARCHIVE);
    let at_positions = ["--at-positions", archive.to_str().unwrap()];
    judge_table(&events, &data, &at_positions);
    let shown = || done(&pipeline, &data, &["table", "show"], &["--json"]);
    let counted = shown();

    // All of it once more, by the same settings.
    done(&pipeline, &data, &["table", "rebuild"], &["--table", "edits", "--all"]);
    assert_ne!(shown(), counted, "it is empty now");
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    howdah.terminate_in_order();
    assert!(rows(&shown()) == rows(&counted), "counted once more: {}\nbefore: {counted}", shown());

    // Final hours, late events and all.
    let hours = final_hours(&data);
    let (first, last) = (hours.first().unwrap(), hours.last().unwrap());
    let range = ["--table", "edits", "--from", first, "--to", last, "--source"];
    let said = done(&pipeline, &data, &["table", "rebuild"], &[&range[..], &["auto"]].concat());
    let again = done(&pipeline, &data, &["table", "rebuild"], &[&range[..], &["archive"]].concat());
    assert!(said.contains(" corrected") && again.contains(": 0 hours corrected"), "{said}{again}");
}

#[test]
fn what_is_not_there_or_other_than_the_settings_say_is_told_apart_by_exit_codes() {
    let folder = tempdir();
    let data = folder.path().join("data");
    let pipeline = changed_pipeline(folder.path(), &[]);
    let file = pipeline.to_str().unwrap();
    let answer = |arguments: &[&str]| finish(command(arguments).env("HOWDAH_DATA", &data));
    let absent = |arguments: &[&str], words: &str| {
        let (code, out, err) = answer(arguments);
        assert_eq!((code, out.as_str()), (3, ""), "{arguments:?}: {err}");
        assert!(err.contains(words) && err.contains("`howdah run` makes it"), "{arguments:?}: {err}");
        assert!(!data.exists(), "{arguments:?} made something");
    };
    absent(&["table", "show", file], "there is no folder");
    absent(&["archive", "verify", file], "there is no folder");
    absent(&["dead-letters", "list", file], "there is no bus");
    absent(&["table", "rebuild", file, "--table", "edits", "--all"], "there is no bus");
    let until = ["--until", "2015-09-12T15:00:00Z", "--timeout", "1s"];
    let (code, _, err) = answer(&[&["wait", file, "--table", "edits"][..], &until].concat());
    assert!(code == 3 && err.contains("there is no folder"), "{err}");

    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options::default());
    let log = folder.path().join("log");
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_records(&data, TOPIC, served.total);
    howdah.terminate_in_order();
    judge_table(&events, &data, &[]);
    let counted = rows(&answer(&["table", "show", "--json", file]).1);
    let (code, _, err) = answer(&["archive", "replay", file, "--onto", "bad name!"]);
    assert!(code == 2 && err.contains("bad name!"), "{code}: {err}");

    // Whoever read as much as they wanted closes the pipe.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut show = command(&["table", "show", file]);
    let child = show.env("HOWDAH_DATA", &data).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr).unwrap()), (Some(0), String::new()));

    // Another table than the settings mean is refused before anything starts.
    let (old, new) = ("lateness = \"10m\"", "lateness = \"20m\"");
    let text = fs::read_to_string(&pipeline).unwrap();
    let at = text.find(old).unwrap();
    fs::write(&pipeline, [&text[..at], new, &text[at + old.len()..]].concat()).unwrap();
    let (code, _, err) = finish(command(&["run", file]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 1, "{err}");
    for words in ["wiki_edits_minute", "lateness_ms is 600000, not 1200000", "a new path", "--all", "its settings"] {
        assert!(err.contains(words), "{words}: {err}");
    }
    done(&pipeline, &data, &["table", "rebuild"], &["--table", "edits", "--all"]);
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    howdah.terminate_in_order();
    let again = rows(&answer(&["table", "show", "--json", file]).1);
    assert!(again == counted, "counted once more: {again:?}\nbefore: {counted:?}");
}

/// When the hours begin that plain readers see.
fn final_hours(data: &Path) -> BTreeSet<String> {
    let mut hours = BTreeSet::new();
    for day in fs::read_dir(data.join(TABLE)).unwrap().map(|entry| entry.unwrap()) {
        let name = day.file_name().into_string().unwrap();
        // Odd times are of other years.
        let Some(date) = name.strip_prefix("dt=").filter(|date| date.starts_with("2015-09")) else { continue };
        for hour in fs::read_dir(day.path()).unwrap() {
            let hour = hour.unwrap().file_name().into_string().unwrap();
            hours.extend(hour.strip_suffix(".parquet").map(|hour| format!("{date}T{hour}:00:00Z")));
        }
    }
    hours
}

#[test]
fn an_archive_goes_onto_another_topic_and_mended_letters_back_to_theirs() {
    let folder = tempdir();
    let (data, events, log) =
        (folder.path().join("data"), folder.path().join("events.ndjson"), folder.path().join("log"));
    make_events(&events, "--copies 2 --big 900 --seed 6");
    let served = Served::start(&events, Options::default());
    let pipeline = changed_pipeline(folder.path(), &[("max_event = \"1MiB\"", "max_event = \"64KiB\"")]);
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    let letters = || records(&data, LETTERS).len() as u64;
    let all = || (records(&data, TOPIC).len() as u64 + letters() == served.total).then_some(());
    wait_for("all events", all, String::new);
    howdah.terminate_in_order();
    let (taken, letters) = (records(&data, TOPIC), letters());
    assert!(letters >= 2, "{letters} letters");

    let begun = Instant::now();
    done(&pipeline, &data, &["archive", "replay"], &["--onto", "again", "--rate", "5000"]);
    assert!(begun.elapsed().as_secs() >= (taken.len() as u64 - 1_000) / 5_000, "the rate is kept");
    let again = records(&data, "again");
    assert_eq!(values(&again), values(&taken));
    let time = |record: &Record| String::from_utf8(record.header("howdah.time").unwrap().to_vec()).unwrap();
    assert!(again.iter().zip(&taken).all(|(again, taken)| time(again) == taken.time.to_string()));

    let own = ["archive", "replay", pipeline.to_str().unwrap(), "--onto", TOPIC];
    let (code, _, err) = finish(command(&own).env("HOWDAH_DATA", &data));
    assert!(code == 1 && err.contains("once more") && err.contains("--twice"), "{code}: {err}");
    assert_eq!(records(&data, TOPIC), taken, "nothing is doubled unasked");

    let listed = || done(&pipeline, &data, &["dead-letters", "list"], &[]);
    assert!(listed().contains(&format!("{letters} dead letters")), "{}", listed());
    let said = done(&pipeline, &data, &["dead-letters", "resend"], &["--all", "--reason", "oversized"]);
    assert_eq!(said, format!("{letters} dead letters sent again\n"));
    assert_eq!(listed(), "0 dead letters\n");
    let all = records(&data, TOPIC);
    let (before, sent) = all.split_at(taken.len());
    assert_eq!((before, sent.len() as u64), (&taken[..], letters));
    let served: BTreeSet<_> =
        fs::read_to_string(&events).unwrap().lines().map(|line| line.as_bytes().to_vec()).collect();
    assert!(sent.iter().all(|record| served.contains(&record.value.as_ref().unwrap().to_vec())), "byte for byte");
    let (code, _, err) =
        finish(command(&["dead-letters", "resend", pipeline.to_str().unwrap(), "nowhere@1"]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 1);
    assert!(err.contains("dead-letters list"), "{err}");
}
