//! The schema for editors, judged by a validator that is not ours: beside each file that the other
//! tests read stands what the schema says of it.

use std::sync::LazyLock;

use boon::{Compiler, ErrorKind, InstanceToken, SchemaIndex, Schemas, ValidationError};
use serde_json::{Value, json};

use super::{env, shipped, small};
use crate::{
    collect::spool::naming::Template,
    config::{
        Complaint,
        complaint::{Place, Sink, join},
        form::Text,
        quantity, schema,
        section::{ReadKind, Section},
        values, variables,
    },
};

/// What a schema does not say and is left to `howdah check`, by words of the complaint.
const BEYOND: &[&str] = &[
    // Bounds of what has a unit, and what divides what.
    "is out of bounds",
    "is no window",
    "is no bucket",
    // The order of fields, and what stands around them.
    "does not belong there",
    "must say the day",
    "stands behind the last field",
    "readers pass over names",
    "no name of a file",
    // Two values or sections.
    "is longer than the longest",
    "must be at least twice",
    "is only for layout",
    "an event has no file",
    "are howdah's own",
    "is only for next",
    "is only for file",
    "is only for time",
    "is only for record",
    "is only for done",
    "wants to know where to",
    "is no regular expression",
    "after a restart a folder repeats",
    "wants to know what it is",
    "names no bucket",
    "says it already",
    "either user with password",
    "is known within each only",
    "InfluxDB's own name",
    "a GET has no body",
    "begin in a later slot",
    "is written by howdah itself",
    "than the whole spool",
    "tells no two buckets",
    "the path has no fields",
    "asks to know whom to reach",
    "belong together",
    "shows the password",
    "both say as whom",
    "is there already",
    "there is a stage of this name already",
    "there is a pipeline",
    "there is no [collector]",
    "empties this collector's spool already",
    "no ingester empties its spool",
    "is not declared",
    "is declared otherwise",
    "has one actor",
    "would be idle",
    "a folder for it alone",
    "the pipeline has no stage",
    // Names that are taken.
    "names that begin with \"howdah_\"",
    "of its own",
    // The environment.
    "is not set",
    "no UTF-8",
];

struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    /// Refuses what is no schema.
    fn new(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    fn takes(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }

    /// The keys that are refused, as a complaint names them.
    fn refused(&self, value: &Value) -> Vec<String> {
        let mut keys = Vec::new();
        if let Err(error) = self.schemas.validate(value, self.index) {
            collect(&error, &mut keys);
        }
        keys
    }
}

/// Where an error is, in the words of complaints; of one with several ways out only where they begin.
fn collect(error: &ValidationError<'_, '_>, keys: &mut Vec<String>) {
    let at = error.instance_location.tokens.iter().fold(String::new(), |at, token| match token {
        InstanceToken::Prop(key) => join(&at, key),
        InstanceToken::Item(index) => format!("{at}[{index}]"),
    });
    match &error.kind {
        ErrorKind::Required { want } => keys.extend(want.iter().map(|key| join(&at, key))),
        ErrorKind::AdditionalProperties { got } => keys.extend(got.iter().map(|key| join(&at, key))),
        ErrorKind::AnyOf | ErrorKind::OneOf(_) => keys.push(at),
        _ if error.causes.is_empty() => keys.push(at),
        _ => error.causes.iter().for_each(|cause| collect(cause, keys)),
    }
}

static PIPELINE: LazyLock<Validator> = LazyLock::new(|| Validator::new(schema()));

/// The same text as an editor sees it: without its variables filled in. `None` where it is no TOML.
fn as_written(text: &str) -> Option<Value> {
    toml::from_str(text).ok()
}

/// Whether the key `inner` is `outer` or lies within it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The schema refuses nothing that was not complained about.
#[track_caller]
pub fn refuses_only(text: &str, complaints: &[Complaint]) {
    let Some(value) = as_written(text) else { return };
    for refused in PIPELINE.refused(&value) {
        let is_said = complaints.iter().any(|complaint| {
            // Of a table of an unknown kind, or a file of an unknown format, nothing more is said.
            let unsaid = complaint.key.strip_suffix(".kind").or_else(|| complaint.key.strip_suffix("format"));
            is_within(&complaint.key, &refused) || unsaid.is_some_and(|table| is_within(&refused, table))
        });
        assert!(is_said, "the schema refuses {refused:?}, of which is said: {complaints:?}\n{text}");
    }
}

/// Besides, the schema refuses all that was complained about and that a schema can say.
#[track_caller]
pub fn agrees(text: &str, complaints: &[Complaint]) {
    refuses_only(text, complaints);
    let Some(value) = as_written(text) else { return };
    let refused = PIPELINE.refused(&value);
    for complaint in complaints {
        let is_beyond = BEYOND.iter().any(|words| complaint.message.contains(words))
            // To JSON 1.0 is a whole number.
            || (complaint.message.contains("found a float") && text.contains("= 1.0\n"));
        let is_refused = refused.iter().any(|refused| is_within(&complaint.key, refused));
        assert!(
            is_beyond || is_refused,
            "the schema takes what is refused: {complaint}; it refuses {refused:?}\n{text}"
        );
    }
}

#[test]
fn the_shipped_files_fit_the_schema() {
    for path in shipped() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(PIPELINE.refused(&as_written(&text).unwrap()), [""; 0], "{}", path.display());
    }
}

#[test]
fn what_is_wrong_in_form_is_refused_at_its_key() {
    let check = |from: &str, to: &str, expected: &[&str]| {
        assert_eq!(PIPELINE.refused(&as_written(&small(from, to)).unwrap()), expected, "{to}");
    };
    check("d/bus", "d/bus", &[]);
    check("window = \"1m\"", "windows = \"1m\"", &["aggregator.g.window", "aggregator.g.windows"]);
    check("\"1m\"", "\"1min\"", &["aggregator.g.window"]);
    check("\"1m\"", "\"${WINDOW}\"", &[]);
    check("\"1m\"", "\"${WINDOW\"", &["aggregator.g.window"]);
    check("window = \"1m\"\n", "", &["aggregator.g.window"]);
    check("\"millis\"", "\"minutes\"", &["aggregator.g.time_unit"]);
    check("\"millis\"", "\"${UNIT:-millis}\"", &[]);
    check("\"embedded\"", "\"nats\"", &["bus.kind", "bus"]);
    check("\"local\", path = \"d/store\"", "\"hdfs\", url = \"s3://x\"", &["store"]);
    check("[topics.t]", "[topics.t]\npartitions = \"${ONE}\"", &["topics.t.partitions"]);
    check("[topics.t]", "[topics.t]\npartitions = 0", &["topics.t.partitions"]);
    check("[topics.t]", "[topics.t]\n[topics.T]", &["topics.T"]);
    check("[archiver.a]", "[archiver.b]\n[archiver.a]", &["archiver.b.topic", "archiver.b.path"]);
    let n = "{ name = \"n\", kind = \"count\" }";
    check(n, "{ name = \"n\", kind = \"count\", pointer = \"/x\" }", &["aggregator.g.measures[0]"]);
    check(n, "{ name = \"n\", kind = \"sum\" }", &["aggregator.g.measures[0]"]);
    check(
        n,
        "{ name = \"n\", kind = \"sum\", pointr = \"/x\" }",
        &["aggregator.g.measures[0].pointr", "aggregator.g.measures[0]"],
    );
    check(n, "{ name = \"n\", kind = \"sum\", pointer = \"/x\", minus = \"/y\" }", &[]);
    check(n, "", &["aggregator.g.measures"]);
}

#[test]
fn a_key_is_described_by_its_meaning_form_and_default() {
    let schema = schema();
    let key = |path: &str| {
        let path = path.replace("<name>", "patternProperties/^(?:[a-z0-9_-]{1,100})$");
        schema.pointer(&path).unwrap_or_else(|| panic!("{path} in {schema:#}")).clone()
    };
    let roll_age = key("/properties/archiver/<name>/properties/roll_age");
    assert_eq!(
        (&roll_age["description"], &roll_age["default"]),
        (
            &json!(
                "a file this old is published\n\na duration: a whole number and ms, s, m, h or d, like \"10s\"; \
                 from \"100ms\" to \"7d\"; by default \"10m\""
            ),
            &json!("10m")
        )
    );
    let partitions = key("/properties/topics/<name>/properties/partitions");
    assert_eq!((&partitions["minimum"], &partitions["maximum"]), (&json!(1), &json!(1_000)));
    let codec = key("/properties/archiver/<name>/properties/codec");
    assert_eq!((&codec["anyOf"][0]["enum"], &codec["default"]), (&json!(["plain", "gzip", "zstd"]), &json!("plain")));
    let age = key("/properties/topics/<name>/properties/retention_bytes/default");
    assert_eq!(age, json!("unlimited"));
    assert_eq!(key("/required"), json!(["format", "pipeline", "bus", "store"]));
    assert_eq!(key("/properties/aggregator/<name>/description"), json!("stages that keep a live table of a topic"));
}

#[test]
fn kinds_of_a_table_have_keys_of_their_own() {
    let sink = Sink::default();
    let place = Place::whole(&std::path::Path::new("").into());
    let mut section = Section::described(place, &sink);
    let kinds: [(_, ReadKind<'_, ()>); 3] = [
        ("local", |section| {
            drop(section.key("path", "a folder").parse(values::LOCAL_PATH, values::local_path).required())
        }),
        ("far", |section| {
            drop(section.key("path", "a path").parse(values::STORE_PATH, values::store_path).required());
            drop(section.key("host", "where").parse(values::NAME, |text| values::name(text).map(drop)).required());
        }),
        ("near", |section| {
            drop(section.key("path", "a folder").parse(values::LOCAL_PATH, values::local_path).required())
        }),
    ];
    section.kind("kind", "which", &kinds);
    let validator = Validator::new(schema::table(&section.outline()));
    for (value, expected) in [
        (json!({ "kind": "local", "path": "data" }), true),
        (json!({ "kind": "near", "path": "data" }), true),
        (json!({ "kind": "far", "path": "/data", "host": "h" }), true),
        (json!({ "kind": "${K}", "path": "/data", "host": "h" }), true),
        (json!({ "kind": "far", "path": "/data" }), false),
        (json!({ "kind": "far", "path": "data", "host": "h" }), false),
        (json!({ "kind": "local", "path": "data", "host": "h" }), false),
        (json!({ "kind": "local" }), false),
        (json!({ "path": "data" }), false),
        (json!({ "kind": "other", "path": "data" }), false),
    ] {
        assert_eq!(validator.takes(&value), expected, "{value}");
    }
}

/// Whether a text's reader takes it.
type Reads = fn(&str) -> bool;

/// Each way of writing a text with its reader, and whether its pattern says all that the reader does.
const TEXTS: [(Text, Reads, bool); 13] = [
    (quantity::SIZE, |text| quantity::parse_size(text).is_ok(), true),
    (quantity::DURATION, |text| quantity::parse_duration(text).is_ok(), true),
    (values::NAME, |text| values::name(text).is_ok(), true),
    (values::NAME, |text| values::topic(text).is_ok(), false),
    (values::POINTER, |text| values::pointer(text).is_ok(), true),
    (values::COLUMN, |text| values::column(text).is_ok(), true),
    (values::PREFIX, |text| values::prefix(text).is_ok(), true),
    (values::CONTACT, |text| values::contact(text).is_ok(), true),
    (values::LOCAL_PATH, |text| values::local_path(text).is_ok(), true),
    (values::STORE_PATH, |text| values::store_path(text).is_ok(), false),
    (values::TEMPLATE, |text| values::template(text).is_ok(), false),
    (values::URL, |text| values::url(text).is_ok(), false),
    (values::FILE_NAME, |text| Template::parse(text).is_ok(), false),
];

#[test]
fn a_pattern_takes_what_the_reader_takes() {
    let pieces = [
        "0",
        "10",
        "7",
        "B",
        "KB",
        "MiB",
        "TiB",
        "Mib",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "min",
        "/",
        "//",
        "a",
        "Z",
        "_",
        "-",
        ".",
        "..",
        "~",
        "~0",
        "~1",
        "%Y",
        "%m",
        "%S",
        "%Y%m%d",
        "%",
        " ",
        "(",
        "\\",
        ":",
        "http",
        "HTTPS:",
        "://",
        "é",
        "\n",
        "\t",
        "\u{7f}",
        "\u{85}",
        "\u{2003}",
        "$$",
        "${ONE}",
        "${X:-a$$b}",
        "howdah_",
        "@",
        "?",
        "#",
    ];
    let mut random = fastrand::Rng::with_seed(11);
    for (text, reads, is_exact) in TEXTS {
        let validator = Validator::new(schema::text(text.pattern));
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let written: String = (0..random.usize(0..5)).map(|_| *random.choice(&pieces).unwrap()).collect();
            let meant = variables::fill(&written, &env).unwrap();
            let matches = validator.takes(&json!(written));
            if reads(&meant) {
                taken += 1;
                assert!(matches, "{} refuses {written:?}", text.pattern);
            } else if !written.contains("${") {
                refused += usize::from(!matches);
                assert!(!is_exact || !matches, "{} takes {written:?}", text.pattern);
            }
        }
        assert!(taken > 20 && refused > 20, "{}: {taken} taken, {refused} refused", text.pattern);
    }
}
