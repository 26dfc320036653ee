//! Bad files, and word for word what is said about them.

use super::{check_text, small};

/// Replaces one text of the small file; all complaints are expected in their order, without the
/// file's name.
#[track_caller]
pub(super) fn check(from: &str, to: &str, expected: &[&str]) {
    check_whole(&small(from, to), expected);
}

#[track_caller]
pub(super) fn check_whole(text: &str, expected: &[&str]) {
    let complaints = check_text(text).map(|pipeline| format!("{pipeline:?}")).unwrap_err();
    let complaints: Vec<_> = complaints.iter().map(|line| line.strip_prefix("p.toml:").unwrap()).collect();
    assert_eq!(complaints, expected, "{text}");
}

const SIZE: &str = "a size: a whole number and B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB \
                    (powers of 1024), like \"128MiB\"";
const DURATION: &str = "a duration: a whole number and ms, s, m, h or d, like \"10s\"";

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_lines() {
    let text = r#"format = 1
colour = "red"
[pipeline]
name = "Wiki Media"
strategy = "one_for_two"
intensity = { restarts = -1, within = "1 minute", x = 1 }
[bus]
kind = "embedded"
path = "${NOT_SET}/bus"
[store]
kind = "s3"
brokers = "not looked at"
[topics.t]
partition = 3
retention_age = "5s"
[archiver.a]
topic = "tt"
roll_bytes = 5
  roll_age  =  "10min"
codec = "xz"
path = "/raw/%Y/%q"
[aggregator.a]
topic = "t"
window = "7m"
"#;
    let expected = [
        "2:1: colour: unknown key; allowed: \"format\", \"pipeline\", \"bus\", \"store\", \"topics\", \"collector\", \
         \"ingester\", \"archiver\", \"aggregator\", \"loader\"",
        "4:8: pipeline.name: \"Wiki Media\" is not a name: 1 to 100 of the characters a-z, 0-9, \"_\" and \"-\"",
        "5:12: pipeline.strategy: \"one_for_two\" is unknown; did you mean \"one_for_one\"? \
         allowed: \"one_for_one\", \"one_for_all\", \"rest_for_one\"",
        "6:26: pipeline.intensity.restarts: allowed: a whole number from 0 to 10000",
        &format!("6:39: pipeline.intensity.within: \"1 minute\" is not {DURATION}"),
        "6:51: pipeline.intensity.x: unknown key; allowed: \"restarts\", \"within\"",
        "9:8: bus.path: the variable NOT_SET is not set: set it, or give a default: \"${NOT_SET:-default}\"",
        "11:8: store.kind: \"s3\" is unknown; allowed: \"local\", \"hdfs\", \"auto\"",
        "14:1: topics.t.partition: unknown key; did you mean \"partitions\"? \
         allowed: \"partitions\", \"retention_age\", \"retention_bytes\"",
        "15:17: topics.t.retention_age: \"5s\" is out of bounds, allowed: from \"1m\" to \"3650d\", or \"unlimited\"",
        "17:9: archiver.a.topic: topic \"tt\" is not declared; did you mean \"t\"? allowed: \"t\", \
         or declare it: [topics.<name>]",
        &format!("18:14: archiver.a.roll_bytes: found an integer, allowed: {SIZE}"),
        &format!("19:16: archiver.a.roll_age: \"10min\" is not {DURATION}"),
        "20:9: archiver.a.codec: \"xz\" is unknown; allowed: \"plain\", \"gzip\", \"zstd\"",
        "21:8: archiver.a.path: \"%q\" is unknown, allowed: %Y, %m, %d, %H, %M",
        "22:13: aggregator.a.path: missing: the table's folder",
        "22:13: aggregator.a.time: missing: where the event's time stands",
        "22:13: aggregator.a.time_unit: missing: what the event's time is: \"seconds\", \"millis\" or \"rfc3339\"",
        "22:13: aggregator.a.measures: missing: what is measured: [{ name = \"…\", kind = \"count\" }]",
        "22:13: aggregator.a: there is a stage of this name already: [archiver.a] (p.toml:16)",
        "24:10: aggregator.a.window: \"7m\" is no window, allowed: what divides an hour, like \"10s\", \"1m\" or \
         \"15m\", or whole hours",
    ];
    check_whole(text, &expected);
}

#[test]
fn within_a_line_complaints_come_by_column() {
    let intensity = "pipeline.name = \"p\"\npipeline.intensity = { within = 1, restarts = 1.5 }";
    check(
        "pipeline.name = \"p\"",
        intensity,
        &[
            &format!("3:33: pipeline.intensity.within: found an integer, allowed: {DURATION}"),
            "3:47: pipeline.intensity.restarts: found a float, allowed: a whole number from 0 to 10000",
        ],
    );
}

#[test]
fn mistakes_of_grammar_are_named_with_their_place() {
    check("[topics.t]", "[topics.t", &["5:10: not TOML: unclosed table, expected `]`"]);
    let quotes = "(texts, sizes and durations stand in quotes)";
    check("\"/ts\"", "ts", &[&format!("19:8: not TOML: invalid boolean, expected `true` {quotes}")]);
    check(
        "\"1m\"",
        "1m",
        &[&format!("18:10: not TOML: string values must be quoted, expected literal string {quotes}")],
    );
    check("time = ", "window = \"1m\"\ntime = ", &["19:1: not TOML: duplicate key"]);
}

#[test]
fn lines_and_columns_are_counted_in_characters() {
    check(
        "[topics.t]",
        "[topics.t] # é\r\nx.y = 1 # é",
        &["6:1: topics.t.x: unknown key; allowed: \"partitions\", \"retention_age\", \"retention_bytes\""],
    );
    check(
        "\"embedded\", path",
        "\"é\", path",
        &["3:16: bus.kind: \"é\" is unknown; allowed: \"embedded\", \"kafka\", \"auto\""],
    );
    check(
        "\"embedded\", path = \"d/bus\"",
        "\"embedded\", path = \"é\", \"é\" = 1",
        &["3:40: bus.\"é\": unknown key; allowed: \"kind\", \"path\""],
    );
}

#[test]
fn an_empty_file_lacks_what_every_file_must_have() {
    check_whole(
        "",
        &[
            "1:1: format: missing: format = 1, the format of this file",
            "1:1: pipeline: missing: the section [pipeline] with the pipeline's name",
            "1:1: bus: missing: the section [bus]: what carries the records",
            "1:1: store: missing: the section [store]: where archives and tables lie",
            "1:1: the pipeline has no stage, allowed: at least one [collector.<name>], [ingester.<name>], \
         [archiver.<name>], \
             [aggregator.<name>] or [loader.<name>]",
        ],
    );
    check("format = 1", "format = 2", &["1:10: format: format 2 is unknown to this howdah, allowed: 1"]);
    check("format = 1", "format = \"1\"", &["1:10: format: found a string, allowed: 1"]);
}

#[test]
fn values_of_another_type_are_refused() {
    let all = "topics.t.partitions: allowed: a whole number from 1 to 1000";
    for bad in ["0", "1001", "-1", "99999999999999999999999"] {
        check("[topics.t]", &format!("[topics.t]\npartitions = {bad}"), &[&format!("6:14: {all}")]);
    }
    for (bad, what) in [
        ("1.0", "a float"),
        ("true", "a boolean"),
        ("1979-05-27", "a date or time"),
        ("[1]", "an array"),
        ("{ a = 1 }", "a table"),
        ("\"1\"", "a string"),
    ] {
        let found = format!("6:14: topics.t.partitions: found {what}, allowed: a whole number from 1 to 1000");
        check("[topics.t]", &format!("[topics.t]\npartitions = {bad}"), &[&found]);
    }
    check(
        "[topics.t]",
        "[topics.t]\nretention_bytes = 5",
        &[&format!("6:19: topics.t.retention_bytes: found an integer, allowed: {SIZE}, or \"unlimited\"")],
    );
    check(
        "sse = { url = \"http://localhost:1/s\" }",
        "sse = 1",
        &["7:7: collector.c.sse: found an integer, allowed: a table"],
    );
    check(
        "[topics.t]",
        "[topics]\nu = 3\n[topics.t]",
        &["6:1: topics.u: found an integer, allowed: tables [topics.<name>]"],
    );
    // What dotted keys make is a table too, and stands where the first of them does.
    check(
        "[topics.t]",
        "[topics.t]\npartitions.a = 1\npartitions.b = 2",
        &["6:1: topics.t.partitions: found a table, allowed: a whole number from 1 to 1000"],
    );
    let undeclared = "topic \"t\" is not declared; allowed: none, or declare it: [topics.<name>]";
    check_whole(
        &small("[topics.t]", "").replace("format = 1", "format = 1\ntopics = 1"),
        &[
            "2:10: topics: found an integer, allowed: tables [topics.<name>]",
            &format!("12:9: ingester.i.topic: {undeclared}"),
            &format!("14:9: archiver.a.topic: {undeclared}"),
            &format!("17:9: aggregator.g.topic: {undeclared}"),
        ],
    );
}

#[test]
fn variables_that_cannot_be_filled_are_named() {
    check(
        "\"/ts\"",
        "\"${A}${B}\"",
        &[
            "19:8: aggregator.g.time: the variable A is not set: set it, or give a default: \"${A:-default}\"",
            "19:8: aggregator.g.time: the variable B is not set: set it, or give a default: \"${B:-default}\"",
        ],
    );
    check(
        "\"/ts\"",
        "\"${A:-${B}}\"",
        &["19:8: aggregator.g.time: \"${A:-${B}\": a variable may not stand within another; a default is plain text"],
    );
    check(
        "\"/ts\"",
        "\"/$schema\"",
        &["19:8: aggregator.g.time: a \"$\" stands alone: write \"${NAME}\" or \"${NAME:-default}\" for a variable, \
         and \"$$\" for a dollar"],
    );
}

#[test]
fn topics_have_names_that_are_free() {
    let declared = "topic \"t\" is not declared; allowed: ";
    let unknown = |line: u32, stage: &str, other: &str| {
        format!("{line}:9: {stage}.topic: {declared}\"{other}\", or declare it: [topics.<name>]")
    };
    for (name, wrong) in [
        ("howdah_positions", "\"howdah_positions\": names that begin with \"howdah_\" are howdah's own"),
        ("\"t.dead_letters\"", "\"t.dead_letters\" is made by howdah and never declared"),
        ("Wiki", "\"Wiki\" is not a name: 1 to 100 of the characters a-z, 0-9, \"_\" and \"-\""),
        ("\"\"", "\"\" is not a name: 1 to 100 of the characters a-z, 0-9, \"_\" and \"-\""),
    ] {
        let bare = name.trim_matches('"');
        check(
            "[topics.t]",
            &format!("[topics.{name}]"),
            &[
                &format!("5:9: topics.{name}: {wrong}"),
                &unknown(11, "ingester.i", bare),
                &unknown(13, "archiver.a", bare),
                &unknown(16, "aggregator.g", bare),
            ],
        );
    }
}

#[test]
fn replicas_beyond_the_partitions_are_refused() {
    let wrong = "topic \"t\" has 1 partition: more actors would be idle, allowed: 1 to 1";
    check("path = \"/raw/t\"", "path = \"/raw/t\"\nreplicas = 2", &[&format!("15:12: archiver.a.replicas: {wrong}")]);
    check("window = \"1m\"", "window = \"1m\"\nreplicas = 2", &[&format!("19:12: aggregator.g.replicas: {wrong}")]);
    check(
        "collector = \"c\"",
        "collector = \"c\"\nreplicas = 2",
        &["11:12: ingester.i.replicas: a stage of kind ingester has one actor, allowed: 1"],
    );
    check(
        "[collector.c]",
        "[collector.c]\nreplicas = 3",
        &["7:12: collector.c.replicas: a stage of kind collector has one actor, allowed: 1"],
    );
}

#[test]
fn collectors_and_ingesters_come_in_pairs() {
    check(
        "collector = \"c\"",
        "collector = \"cc\"",
        &["10:13: ingester.i.collector: there is no [collector] \"cc\"; did you mean \"c\"? allowed: \"c\""],
    );
    check(
        "[ingester.i]\ncollector = \"c\"\ntopic = \"t\"\n",
        "",
        &["6:12: collector.c: no ingester empties its spool, allowed: one [ingester.<name>] with collector = \"c\""],
    );
    check(
        "[archiver.a]",
        "[ingester.j]\ncollector = \"c\"\ntopic = \"t\"\n[archiver.a]",
        &[
            "13:13: ingester.j.collector: [ingester.i] (p.toml:9) empties this collector's spool already, allowed: one ingester",
        ],
    );
}

#[test]
fn names_of_stages_are_names_and_stand_once() {
    check(
        "[archiver.a]",
        "[archiver.c]",
        &["12:11: archiver.c: there is a stage of this name already: [collector.c] (p.toml:6)"],
    );
    check(
        "[archiver.a]",
        "[archiver.\"a b\"]",
        &["12:11: archiver.\"a b\": \"a b\" is not a name: 1 to 100 of the characters a-z, 0-9, \"_\" and \"-\""],
    );
}

#[test]
fn a_source_is_an_address_and_wikimedia_wants_a_contact() {
    let url = "\"http://localhost:1/s\"";
    let reach = "asks to know whom to reach: set HOWDAH_CONTACT to an e-mail address or a URL \
                 (with contact = \"${HOWDAH_CONTACT}\" here); it is sent in the User-Agent";
    check(
        url,
        "\"https://stream.wikimedia.org/x\"",
        &[&format!("7:1: collector.c.sse.contact: stream.wikimedia.org {reach}")],
    );
    check(
        url,
        "\"https://stream.wikimedia.org/x\", contact = \" \"",
        &[&format!("7:59: collector.c.sse.contact: stream.wikimedia.org {reach}")],
    );
    check(
        url,
        "\"http://a/\", contact = \"a\\nb\"",
        &[
            "7:38: collector.c.sse.contact: \"a\\nb\" cannot be sent in a User-Agent, allowed: an e-mail address or a URL of \
         at most 200 ASCII characters, without parentheses, backslashes and control characters",
        ],
    );
    check(
        url,
        "\"ftp://a/b\"",
        &["7:15: collector.c.sse.url: the scheme \"ftp\" is unknown, allowed: \"http\" and \"https\""],
    );
    check(
        url,
        "\"localhost\"",
        &[
            "7:15: collector.c.sse.url: no address (relative URL without a base), allowed: an address like \"https://host/path\"",
        ],
    );
}

#[test]
fn an_archive_has_a_path_and_a_bucket_that_agree() {
    let path = |line: &str| format!("14:8: archiver.a.path: {line}");
    check(
        "/raw/t",
        "raw/t",
        &[&path("\"raw/t\" is not a path within the store that begins with a slash, like \"/user/bigdata/raw\"")],
    );
    check("/raw/t", "/raw/%S", &[&path("\"%S\" is unknown, allowed: %Y, %m, %d, %H, %M")]);
    check("/raw/t", "/raw/_t", &[&path("\"/raw/_t\": readers pass over folders that begin with \"_\" or \".\"")]);
    check("/raw/t", "/raw/../t", &[&path("path \"/raw/../t\": a part may not be \"..\"")]);
    check("/raw/t", "/%Y", &[&path("\"/%Y\": a field may not stand in the first folder")]);
    check("/raw/t", "/", &[&path("the root of the store is no place for data, allowed: a folder below it")]);
    check(
        "/raw/t\"",
        "/raw/%H\"\nbucket = \"10m\"",
        &[
            "15:10: archiver.a.bucket: the path's finest field tells no two buckets of 10m apart, allowed: at least \"1h\"",
        ],
    );
    check(
        "/raw/t\"",
        "/raw/t\"\nbucket = \"10m\"",
        &["15:10: archiver.a.bucket: the path has no fields, so there are no buckets"],
    );
    check(
        "/raw/t\"",
        "/raw/%M\"\nbucket = \"7m\"",
        &[
            "15:10: archiver.a.bucket: \"7m\" is no bucket, allowed: whole minutes that divide a day, like \"10m\", \"1h\" or \"1d\"",
        ],
    );
    check(
        "/raw/t\"",
        "/raw/t\"\nprefix = \"_x\"",
        &[
            "15:10: archiver.a.prefix: \"_x\" is no prefix: at most 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"; \
         readers pass over files that begin with \"_\" or \".\"",
        ],
    );
    check(
        "/raw/t\"",
        "/raw/t\"\nroll_bytes = \"100B\"\nroll_age = \"10ms\"",
        &[
            "15:14: archiver.a.roll_bytes: \"100B\" is out of bounds, allowed: from \"1KiB\" to \"64GiB\"",
            "16:12: archiver.a.roll_age: \"10ms\" is out of bounds, allowed: from \"100ms\" to \"7d\"",
        ],
    );
}

#[test]
fn a_table_has_columns_that_are_told_apart() {
    let measures = "measures = [{ name = \"n\", kind = \"count\" }]";
    check(
        measures,
        "measures = []",
        &["21:12: aggregator.g.measures: a table without measures says nothing, allowed: at least one"],
    );
    let with = |line: &str, expected: &[&str]| check(measures, &format!("{measures}\n{line}"), expected);
    with(
        "keys = [{ name = \"N\", pointer = \"/n\" }]",
        &[
            // Keys are read first, wherever they stand.
            "21:22: aggregator.g.measures[0].name: the column \"n\" is there already (aggregator.g.keys[0].name)",
        ],
    );
    with(
        "keys = [{ name = \"a\", pointer = \"/n\" }, { name = \"Window_Start\", pointer = \"n\" }, { name = \"a\" }]",
        &[
            "22:50: aggregator.g.keys[1].name: every table has a column \"Window_Start\" of its own",
            "22:76: aggregator.g.keys[1].pointer: \"n\" is no JSON pointer: it begins with a slash, like \"/meta/id\"",
            "22:83: aggregator.g.keys[2].pointer: missing: where the key stands in the event",
            "22:92: aggregator.g.keys[2].name: the column \"a\" is there already (aggregator.g.keys[0].name)",
        ],
    );
    with(
        "keys = [\"wiki\"]",
        &["22:9: aggregator.g.keys[0]: found a string, allowed: an array of tables: [{ … }, { … }]"],
    );
    let measure = |text: &str, expected: &[&str]| check(measures, &format!("measures = [{text}]"), expected);
    measure(
        "{ name = \"dt\", kind = \"count\" }, { name = \"1x\", kind = \"mean\" }",
        &[
            "21:22: aggregator.g.measures[0].name: every table has a column \"dt\" of its own",
            "21:55: aggregator.g.measures[1].name: \"1x\" is no column's name: 1 to 100 of the characters a-z, A-Z, 0-9 and \
         \"_\", no digit first",
            "21:68: aggregator.g.measures[1].kind: \"mean\" is unknown; \
         allowed: \"count\", \"sum\", \"min\", \"max\", \"avg\"",
        ],
    );
    measure(
        "{ name = \"a\", kind = \"sum\" }, { name = \"b\", kind = \"count\", pointer = \"/x\" }",
        &[
            "21:13: aggregator.g.measures[0].pointer: missing: where the number stands in the event",
            "21:83: aggregator.g.measures[1].pointer: \"count\" counts events and takes no pointer",
        ],
    );
    measure(
        "{ name = \"a_sum\", kind = \"count\" }, { name = \"a\", kind = \"avg\", pointer = \"/x\" }",
        &[
            "21:58: aggregator.g.measures[1].name: the column \"a_sum\" is there already (aggregator.g.measures[0].name)",
        ],
    );
}

#[test]
fn a_filter_says_one_thing() {
    let filter = |text: &str, expected: &str| {
        check("\"/ts\"", &format!("\"/ts\"\nfilters = [{{ pointer = \"/d\"{text} }}]"), &[expected]);
    };
    let either = "20:12: aggregator.g.filters[0]: a filter has either include = [\"…\"] or exclude = [\"…\"]";
    filter("", either);
    filter(", include = [\"a\"], exclude = [\"b\"]", either);
    filter(", include = []", "20:40: aggregator.g.filters[0].include: an empty list, allowed: at least one text");
    let texts = "an array of strings: [\"…\", \"…\"]";
    let item = |place: &str, index: u32| {
        format!("{place}: aggregator.g.filters[0].exclude[{index}]: found an integer, allowed: {texts}")
    };
    check(
        "\"/ts\"",
        "\"/ts\"\nfilters = [{ pointer = \"/d\", exclude = [1, \"a\", 2] }]",
        &[&item("20:41", 0), &item("20:49", 2)],
    );
}

#[test]
fn a_back_off_does_not_begin_above_its_cap() {
    let backoff = "pipeline.name = \"p\"\npipeline.backoff = { base = \"1m\" }";
    check(
        "pipeline.name = \"p\"",
        backoff,
        &["3:10: pipeline.backoff: the first pause (base) is longer than the longest (cap)"],
    );
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_place() {
    let file = (std::path::PathBuf::from("p.toml"), Ok(b"format = 1\n# \xc3\xa9 \xff".to_vec()));
    let complaints = super::super::check(vec![file], &super::env).unwrap_err();
    assert_eq!(complaints[0].to_string(), "p.toml:2:5: the file is not UTF-8 from here on");
}
