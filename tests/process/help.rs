//! What the binary says of itself, and the demo on something that is no terminal.

use super::harness::{command, finish, repository};

#[test]
fn every_command_shows_an_example_that_begins_with_howdah() {
    let commands: &[&[&str]] = &[
        &["run"],
        &["check"],
        &["archive", "verify"],
        &["table", "show"],
        &["table", "ddl"],
        &["wait"],
        &["completions"],
        &["man"],
        &["dead-letters", "list"],
        &["dead-letters", "show"],
        &["demo"],
        &["serve-events"],
    ];
    for words in commands {
        let (code, out, err) = finish(&mut command(&[words, &["--help"][..]].concat()));
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        let example = out.split("Example:\n").nth(1).unwrap_or_else(|| panic!("{words:?} has no example\n{out}"));
        let line = format!("howdah {} ", words.join(" "));
        assert!(example.lines().next().unwrap().contains(&line), "{words:?}: {example}");
    }
    let (code, out, _) = finish(&mut command(&["--help"]));
    assert_eq!(code, 0);
    for line in ["0   done", "1   complaints", "2   usage", "3   a service, disk or folder", "4   loss found"] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let (code, out, _) = finish(&mut command(&["--version"]));
    assert_eq!((code, out), (0, format!("howdah {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_answered_with_2_and_a_hint() {
    let check = |arguments: &[&str], words: &str| {
        let (code, out, err) = finish(&mut command(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}\n{err}");
        assert!(err.contains(words), "{arguments:?}\n{err}");
    };
    check(&[], "Usage: howdah");
    check(&["rum"], "unrecognized subcommand 'rum'");
    check(&["run"], "<FILE>...");
    check(&["check"], "<FILE>...");
    check(&["check", "--schema", "x.toml"], "cannot be used with");
    check(&["check", "--deeper", "x.toml"], "unexpected argument '--deeper'");
    check(&["archive"], "verify");
    check(&["demo", "--for", "5 parsecs"], "5 parsecs");
    check(&["serve-events", "x", "--listen", "here"], "here");
    check(&["--log", "ruin=[", "check", "x.toml"], "--log");
}

#[test]
fn editors_are_told_of_every_key() {
    let (code, out, err) = finish(&mut command(&["check", "--schema"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let stages = ["aggregator", "archiver", "collector", "ingester", "loader"];
    let mut all = [stages.as_slice(), &["bus", "format", "pipeline", "store", "topics"]].concat();
    all.sort_unstable();
    assert_eq!(keys, all);
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let (code, out, _) = finish(&mut command(&["completions", "bash"]));
    assert!(code == 0 && out.contains("complete -F _howdah") && out.contains("dead-letters"), "{out}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    let (code, ..) = finish(&mut command(&["man", "--dir", path.to_str().unwrap()]));
    assert_eq!(code, 0);
    let page = std::fs::read_to_string(path.join("howdah-archive-verify.1")).unwrap();
    for words in [".TH howdah-archive-verify 1", "Read and compare every byte"] {
        assert!(page.contains(words), "{words} in {page}");
    }
}

#[test]
fn the_statements_name_every_column_and_where_the_table_lies() {
    let pipeline = repository("pipelines/wikimedia.toml");
    let ddl = |program: &str| {
        let arguments = ["table", "ddl", pipeline.to_str().unwrap(), "--for", program, "--store-url", "hdfs://ns1/"];
        let (code, out, err) = finish(&mut command(&arguments));
        assert_eq!((code, err.as_str()), (0, ""));
        out
    };
    let at = "hdfs://ns1/user/bigdata/aggregates/wiki_bytes_minute";
    assert!(ddl("spark").contains(&format!("wiki_bytes_minute USING delta LOCATION '{at}';")));
    let columns = "  `wiki` STRING,\n  `type` STRING,\n  `bot` STRING,\n  `edits` BIGINT,\n  `bytes` DOUBLE\n)";
    let hive = ddl("hive");
    for words in [columns, "PARTITIONED BY (`dt` STRING)", &format!("LOCATION '{at}';"), "`window_end` TIMESTAMP"] {
        assert!(hive.contains(words), "{words} in {hive}");
    }
    assert!(ddl("trino").contains(&format!("table_location => '{at}'")));
}

#[test]
fn who_waits_for_a_table_is_told_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = repository("pipelines/wikimedia.toml");
    let wait = |table: &str, timeout: &str| {
        let file = pipeline.to_str().unwrap();
        let arguments = ["wait", file, "--table", table, "--until", "2015-09-12T15:00:00Z", "--timeout", timeout];
        finish(command(&arguments).env("HOWDAH_DATA", folder.path()).env("HOWDAH_CONTACT", "x@example.org"))
    };
    let (code, out, err) = wait("nowhere", "1s");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no table \"nowhere\"") && err.contains("edits, sizes"), "{err}");
    std::fs::create_dir(folder.path().join("store")).unwrap();
    for table in ["edits", "wiki_edits_minute"] {
        let (code, out, err) = wait(table, "100ms");
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains("not final until 2015-09-12T15:00:00Z yet: there is no table yet"), "{err}");
    }
}

#[test]
fn the_demo_ends_by_itself_with_proof_and_the_top_wikis() {
    let (code, out, err) = finish(command(&["demo", "--for", "5s"]).env("PATH", ""));
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.lines().all(|line| line.ends_with(" segments")), "progress alone: {err}");
    let verdict = out.lines().find(|line| line.starts_with("wikimedia/archive: ")).unwrap_or_else(|| panic!("{out}"));
    assert!(verdict.starts_with("wikimedia/archive: whole: "), "{verdict}");
    let lines = number_before(verdict, " lines");
    assert!(lines >= 100, "5 s at 50 a second: {verdict}");
    assert_eq!(number_before(verdict, " lines compared"), lines, "{verdict}");
    let top = out.split("/user/bigdata/aggregates/wiki_edits_minute: edits by wiki\n").nth(1).unwrap();
    let (top, sizes) =
        top.split_once("/user/bigdata/aggregates/wiki_bytes_minute: edits by wiki, type, bot\n").unwrap();
    let top: Vec<_> = top.lines().collect();
    assert_eq!((top.len(), sizes.lines().count()), (10, 10), "{out}");
    let edits: Vec<u64> =
        top.iter().map(|line| line.split_whitespace().nth(1).unwrap().replace(',', "").parse().unwrap()).collect();
    assert!(edits.is_sorted_by(|a, b| a >= b) && edits[9] > 0, "{out}");
    assert!(!out.contains('\x1b'), "no terminal, no terminal's codes: {out}");
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = &text[..text.find(word).unwrap_or_else(|| panic!("{word} in {text}"))];
    before.rsplit([' ', '(']).next().unwrap().replace(',', "").parse().unwrap()
}
