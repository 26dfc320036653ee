//! Several files of one process, and folders that come too near to each other.

use std::path::PathBuf;

use super::{SMALL, check as check_files, env, schema, small};
use crate::config::Pipeline;

fn load(texts: &[&str]) -> Result<Vec<Pipeline>, Vec<String>> {
    let file = |(index, text): (usize, &&str)| (PathBuf::from(format!("{index}.toml")), Ok(text.as_bytes().to_vec()));
    let files = texts.iter().enumerate().map(file).collect();
    let pipelines = check_files(files, &env);
    let complaints = pipelines.as_ref().err().map_or(&[][..], Vec::as_slice);
    texts.iter().for_each(|text| schema::agrees(text, complaints));
    pipelines.map_err(|complaints| complaints.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(texts: &[&str], expected: &[&str]) {
    let complaints = load(texts).map(|pipelines| format!("{pipelines:?}")).unwrap_err();
    assert_eq!(complaints, expected);
}

/// A second pipeline that shares bus and store with the small one, and nothing else.
fn second() -> String {
    let mut text = SMALL.to_owned();
    for (from, to) in [("\"p\"", "\"q\""), ("d/spool", "d/spool2"), ("/raw/t", "/raw/q"), ("/tables/t", "/tables/q")] {
        text = text.replace(from, to);
    }
    text
}

#[test]
fn pipelines_share_a_bus_and_a_store() {
    let pipelines = load(&[SMALL, &second()]).unwrap();
    assert_eq!(pipelines.len(), 2);
    assert_eq!((&pipelines[0].bus, &pipelines[0].store), (&pipelines[1].bus, &pipelines[1].store));
}

#[test]
fn a_copy_of_a_pipeline_is_refused_for_all_that_it_shares() {
    let alone = "each bus, store, spool and source needs a folder for it alone";
    let spool = std::path::absolute("d/spool").unwrap();
    check(
        &[SMALL, SMALL],
        &[
            "1.toml:2:17: pipeline.name: there is a pipeline \"p\" already (0.toml:2)",
            &format!("1.toml:8:18: collector.c.spool.path: {spool:?} is the spool's folder too (0.toml:8): {alone}"),
            "1.toml:14:8: archiver.a.path: \"/raw/t\" is the folder of [archiver.a] (0.toml:12) too: \
             each archive and table needs a folder for it alone",
            "1.toml:17:8: aggregator.g.path: \"/tables/t\" is the folder of [aggregator.g] (0.toml:15) too: \
             each archive and table needs a folder for it alone",
        ],
    );
}

#[test]
fn a_topic_of_a_shared_bus_is_declared_alike() {
    let other = second().replace("[topics.t]", "[topics.t]\npartitions = 2");
    let otherwise = "1.toml:5:9: topics.t: the same topic of the same bus is declared otherwise at 0.toml:5";
    check(&[SMALL, &other], &[otherwise]);
    check(&[SMALL, &other.replace("d/bus", "./d/x/../bus")], &[otherwise]);
    load(&[SMALL, &other.replace("d/bus", "d/bus2")]).unwrap();
}

#[test]
fn folders_of_this_machine_are_apart() {
    let alone = "each bus, store, spool and source needs a folder for it alone";
    let d = std::path::absolute("d").unwrap();
    let path = |part: &str| d.join(part);
    let (bus, store, inner) = (path("bus"), path("store"), path("bus/spool"));
    check(
        &[&small("d/store", "d/bus")],
        &[&format!("0.toml:4:34: store.path: {bus:?} is the bus's folder too (0.toml:3): {alone}")],
    );
    check(
        &[&small("d/spool", "d/bus/./spool")],
        &[&format!(
            "0.toml:8:18: collector.c.spool.path: {inner:?} lies within {bus:?}, the bus's folder (0.toml:3): {alone}"
        )],
    );
    check(
        &[&small("d/store", "d")],
        &[
            &format!("0.toml:4:34: store.path: {bus:?}, the bus's folder (0.toml:3), lies within {d:?}: {alone}"),
            &format!(
                "0.toml:8:18: collector.c.spool.path: {:?} lies within {d:?}, the store's folder (0.toml:4): {alone}",
                path("spool")
            ),
        ],
    );
    let nested = path("store/x");
    check(
        &[SMALL, &second().replace("d/store", "d/store/x")],
        &[&format!(
            "1.toml:4:34: store.path: {nested:?} lies within {store:?}, the store's folder (0.toml:4): {alone}"
        )],
    );
}

#[test]
fn folders_of_the_store_are_apart() {
    let alone = "each archive and table needs a folder for it alone";
    check(
        &[&small("/tables/t", "/raw/t/tables")],
        &[&format!(
            "0.toml:17:8: aggregator.g.path: \"/raw/t/tables\" lies within \"/raw/t\", the folder of [archiver.a] (0.toml:12): {alone}"
        )],
    );
    check(
        &[&small("/raw/t", "/tables/%Y")],
        &[&format!(
            "0.toml:17:8: aggregator.g.path: \"/tables/t\" lies within \"/tables\", the folder of [archiver.a] (0.toml:12): {alone}"
        )],
    );
    check(
        &[&small("/tables/t", "/raw")],
        &[&format!(
            "0.toml:17:8: aggregator.g.path: \"/raw/t\", the folder of [archiver.a] (0.toml:12), lies within \"/raw\": {alone}"
        )],
    );
    load(&[&small("/tables/t", "/raw/t2")]).unwrap();
}

#[test]
fn a_file_given_twice_or_not_there_is_a_complaint() {
    let missing = (PathBuf::from("missing.toml"), Err("cannot be read: gone".to_owned()));
    let file = || (PathBuf::from("p.toml"), Ok(SMALL.as_bytes().to_vec()));
    let complaints = check_files(vec![file(), missing, file()], &env).unwrap_err();
    let complaints: Vec<_> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(complaints, ["p.toml: the file is given twice", "missing.toml: cannot be read: gone"]);
}

#[test]
fn readers_are_told_when_they_must_sum() {
    const SUM: &str =
        "table g may hold up to 3 rows for a window and key, one for each partition of t: readers must sum";
    const ORDER: &str = "topic t has 3 partitions: order is kept within each, not between them";
    let three = |key: &str, columns: &str| {
        let text = small("[topics.t]", "[topics.t]\npartitions = 3");
        let text = text.replace("collector = \"c\"\n", &format!("collector = \"c\"\n{key}\n"));
        text.replace("\"/ts\"\n", &format!("\"/ts\"\nkeys = [{columns}]\n"))
    };
    let notices = |text: &str| load(&[text]).unwrap()[0].notices.clone();
    let (wiki, user) = ("{ name = \"w\", pointer = \"/wiki\" }", "{ name = \"u\", pointer = \"/user\" }");
    assert_eq!(notices(&three("key = \"/wiki\"", wiki)), [ORDER]);
    assert_eq!(notices(&three("key = \"/wiki\"", &format!("{user}, {wiki}"))), [ORDER]);
    let by_wiki = format!("{SUM} (or key the topic by one of its keys: key = \"/wiki\" in the ingester)");
    assert_eq!(notices(&three("key = \"/user\"", wiki)), [ORDER, &by_wiki]);
    assert_eq!(notices(&three("", wiki)), [ORDER, &by_wiki]);
    assert_eq!(notices(&three("key = \"/wiki\"", "")), [ORDER, SUM]);
    // Another pipeline that writes the same topic by another key decides too.
    let other = second().replace("[topics.t]", "[topics.t]\npartitions = 3");
    let both = load(&[&three("key = \"/wiki\"", wiki), &other]).unwrap();
    assert_eq!(both[0].notices, [ORDER, &by_wiki]);
}

#[test]
fn a_retention_shorter_than_what_a_restart_reads_is_noticed() {
    let pipelines = load(&[&small("[topics.t]", "[topics.t]\nretention_age = \"1h\"")]).unwrap();
    let expected = "topic t keeps records for 1h, but after a restart g reads again up to 71m of them";
    assert_eq!(pipelines[0].notices, [expected]);
}

#[test]
fn a_retention_below_what_a_segment_waits_for_is_noticed() {
    let check = |retention: &str, kept: &str| {
        let pipelines = load(&[&small("[topics.t]", &format!("[topics.t]\n{retention}"))]).unwrap();
        let begin = format!("topic t keeps {kept}, and a publishes a segment after ");
        let noticed = pipelines[0].notices.iter().any(|notice| notice.starts_with(&begin));
        assert!(noticed, "{retention}: {:?}", pipelines[0].notices);
    };
    check("retention_age = \"15m\"", "15m");
    check("retention_bytes = \"50MiB\"", "50MiB");
}
