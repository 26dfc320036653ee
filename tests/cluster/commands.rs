//! Commands that people type on a cluster, and what other programs say of what lies there.

use std::process::Command;

use super::stand::{Case, Clusters};
use crate::process::harness::{finish, read_on_hdfs};

#[test]
fn people_and_other_programs_find_their_way() {
    let clusters = Clusters::start();
    let case = Case::new(&clusters, "commands", 3, 0.0);
    topics_and_doctor(&case);
    let mut howdah = case.start();
    case.await_records(&mut howdah, case.served.total);
    howdah.terminate_in_order();
    let edits = case.judge();
    other_programs(&case, edits);
}

fn said(case: &Case<'_>, arguments: &[&str], expected: i32) -> String {
    let all = [arguments, &[case.pipeline.to_str().unwrap()]].concat();
    let (code, out, err) = finish(&mut case.howdah(&all, "data"));
    assert_eq!(code, expected, "{arguments:?}: {out}{err}");
    out
}

fn topics_and_doctor(case: &Case<'_>) {
    let missing = said(case, &["topics", "check"], 1);
    assert!(missing.contains("WRONG topic commands: is not there: `howdah topics create FILE`"), "{missing}");
    let made = said(case, &["topics", "create"], 0);
    assert!(made.contains("commands: 1 partitions, identity "), "{made}");
    assert_eq!(said(case, &["topics", "create"], 0), made, "what is there is left as it is");
    let there = said(case, &["topics", "check"], 0);
    assert!(there.contains("NOTE  topic commands: has 1 copies, 3 are safe"), "{there}");
    let configs = ["--alter", "--entity-type", "topics", "--entity-name", "commands", "--add-config"];
    let kafka = &case.clusters.kafka;
    for (setting, word) in
        [("message.timestamp.type=CreateTime", "from their senders"), ("retention.ms=5", "keeps records for 5 ms")]
    {
        let changed = kafka.tool("configs", &[&configs[..], &[setting]].concat(), "");
        assert!(changed.ok, "{}", changed.errors);
        let told = said(case, &["topics", "check"], 0);
        assert!(told.contains(word) && told.contains("kafka-configs.sh --alter"), "{told}");
    }
    let mended = kafka.tool(
        "configs",
        &[&configs[..], &["message.timestamp.type=LogAppendTime,retention.ms=604800000"]].concat(),
        "",
    );
    assert!(mended.ok, "{}", mended.errors);

    let healthy = said(case, &["doctor"], 0);
    for line in
        ["ok    kafka 127.0.0.1", "ok    clock of the brokers", "ok    store hdfs://", "may be written: made, renamed"]
    {
        assert!(healthy.contains(line), "{line}: {healthy}");
    }
    let json = said(case, &["doctor", "--json"], 0);
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["verdict"] != "wrong"), "{json}");

    let sick = |name: &str, value: &str| {
        let mut doctor = case.howdah(&["doctor", case.pipeline.to_str().unwrap()], "data");
        let (code, out, err) = finish(doctor.env(name, value));
        assert_eq!(code, 1, "{out}{err}");
        out.lines().filter(|line| line.starts_with("WRONG")).map(str::to_owned).collect::<Vec<_>>()
    };
    let [kafka] = &sick("KAFKA_BROKERS", "127.0.0.1:9")[..] else { panic!("one thing is wrong") };
    assert!(kafka.starts_with("WRONG kafka 127.0.0.1:9: ") && kafka.contains("is it running"), "{kafka}");
    let [hdfs] = &sick("HDFS_URL", "hdfs://127.0.0.1:9")[..] else { panic!("one thing is wrong") };
    assert!(hdfs.starts_with("WRONG store: store hdfs://127.0.0.1:9: "), "{hdfs}");
    let folders = sick("HADOOP_USER_NAME", "bob");
    assert_eq!(folders.len(), 3, "{folders:?}");
    assert!(folders.iter().all(|line| line.contains("Permission denied: user=bob, access=WRITE")), "{folders:?}");
}

/// The archive as Hadoop reads it, the topic as Kafka's own consumer does, the group as its tool shows it.
fn other_programs(case: &Case<'_>, edits: u64) {
    let hdfs = &case.clusters.hdfs;
    let total = usize::try_from(case.served.total).unwrap();
    for command in ["-cat", "-text"] {
        let read = hdfs.tool("fs", &[command, &format!("{}/events-*", case.archive())], "");
        assert!(read.ok, "{}", read.errors);
        assert_eq!(read.output.lines().count(), total, "hdfs dfs {command}");
    }
    let table = format!("{}/wiki_edits_minute", case.aggregates());
    let seen = read_on_hdfs(hdfs.about("url"), hdfs.about("conf"), &case.archive(), &table);
    println!("read on HDFS by Spark and deltalake: {seen}");
    assert_eq!(seen["spark"]["lines"], case.served.total, "{seen}");
    assert_eq!((&seen["spark"]["edits"], &seen["deltalake"]["edits"]), (&edits.into(), &edits.into()), "{seen}");
    let plain = seen["spark"]["plain"].as_u64().unwrap();
    assert!(plain > 0 && plain < edits, "plain readers see the final hours: {seen}");

    let kafka = &case.clusters.kafka;
    let kcat = ["-q", "-C", "-e", "-t", case.name, "-X", "isolation.level=read_committed", "-f", "%o\n"];
    let (code, out, err) = finish(Command::new("kcat").args(["-b", kafka.about("brokers")]).args(kcat));
    assert!(code == 0 && out.lines().count() == total, "kcat: {err}");
    let count = case.served.total.to_string();
    let consumer = ["--topic", case.name, "--from-beginning", "--isolation-level", "read_committed"];
    let read = kafka.tool("consumer", &[&consumer[..], &["--max-messages", &count]].concat(), "");
    assert!(read.ok && read.output.lines().count() == total, "{}", read.errors);
    let group = format!("{}/archive", case.name);
    let shown = kafka.tool("groups", &["--describe", "--group", &group], "");
    let row = shown.output.lines().find(|line| line.contains(case.name) && line.starts_with(&group));
    let row: Vec<&str> = row.unwrap_or_else(|| panic!("{}{}", shown.output, shown.errors)).split_whitespace().collect();
    assert_eq!(row[5], "0", "the lag of a drained pipeline: {row:?}");
}
