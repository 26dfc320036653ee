//! Loaders as they are written, and what is wrong with one.

use super::{complaints::check_whole, *};
use crate::{
    load::{
        Settings, SinkSettings, elastic,
        keys::Horizon,
        transform::{Column, From, Kind, Template, TimeUnit},
    },
    web::{Header, Secret},
};

const END: &str = "measures = [{ name = \"n\", kind = \"count\" }]";

/// The small file with a loader at its end, from line 21 on.
fn with(loader: &str) -> String {
    small(END, &format!("{END}\n[loader.l]\n{loader}"))
}

fn read(loader: &str) -> Settings {
    let pipeline = check_text(&with(loader)).unwrap();
    let Some(StageKind::Loader(settings)) = pipeline.stages.last().map(|stage| &stage.kind) else { panic!() };
    (**settings).clone()
}

const INFLUX: &str = r#"kind = "influxdb"
url = "http://h:8086"
bucket = "b"
topic = "t"
measurement = "m"
fields = [{ name = "f", pointer = "/f" }]
"#;

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

fn column(name: &str, from: From, kind: Kind, required: bool) -> Column {
    Column { name: name.to_owned(), from, kind, required }
}

#[test]
fn an_influxdb_loader_is_told_what_is_written() {
    let plain = read(INFLUX);
    assert_eq!((plain.topic.as_str(), plain.horizon, plain.start.to_string()), ("t", None, "earliest".to_owned()));
    assert_eq!((plain.batch_rows, plain.batch_bytes, plain.linger.as_millis()), (5_000, 5 << 20, 1_000));
    assert_eq!(plain.transform.columns, [column("f", From::Element(pointer("/f")), Kind::Text, false)]);
    assert_eq!(
        (plain.transform.explode, plain.transform.key, plain.transform.time, plain.follows_recreated),
        (None, None, None, false)
    );
    let SinkSettings::Influx(influx) = plain.sink else { panic!("{:?}", plain.sink) };
    assert_eq!((influx.url.as_str(), influx.org.as_str(), influx.bucket.as_str()), ("http://h:8086", "", "b"));
    assert_eq!((influx.token, influx.headers, influx.gzip, influx.timeout.as_secs()), (None, vec![], true, 30));

    let full = read(
        r#"kind = "influxdb"
url = "https://h"
org = "o"
bucket = "b/r"
token_file = "/token"
headers = [{ name = "X-A", value = "one" }]
topic = "t"
explode = "/r"
filters = [{ pointer = "/n", include = ["x"] }]
key = "/e"
key_horizon = "2d"
key_most = 7
time = "/t"
time_unit = "micros"
measurement = "my users"
tags = [{ name = "t", record = "/s", required = true }]
fields = [{ name = "f", template = "{/a} {/b}" }, { name = "c", value = "5", type = "integer" }]
batch_rows = 17
batch_bytes = "1MiB"
linger = "2s"
gzip = false
timeout = "5s"
start = "latest"
recreated = "begin-anew"
"#,
    );
    let template = From::Template(Template::parse("{/a} {/b}").unwrap());
    let columns = [
        column("t", From::Record(pointer("/s")), Kind::Text, true),
        column("f", template, Kind::Text, false),
        column("c", From::Constant("5".to_owned()), Kind::Integer, false),
    ];
    assert_eq!(full.transform.columns, columns);
    assert_eq!((full.transform.explode, full.transform.key), (Some(pointer("/r")), Some(pointer("/e"))));
    assert_eq!(full.transform.time, Some((pointer("/t"), TimeUnit::Micros)));
    assert_eq!(
        full.transform.filters,
        [Filter { pointer: pointer("/n"), include: true, values: vec!["x".to_owned()] }]
    );
    assert_eq!(full.horizon, Some(Horizon { age: Duration::from_secs(172_800), most: 7 }));
    assert_eq!(
        (full.batch_rows, full.batch_bytes, full.linger.as_millis(), full.follows_recreated),
        (17, 1 << 20, 2_000, true)
    );
    assert_eq!(full.start.to_string(), "latest");
    let SinkSettings::Influx(sink) = full.sink else { panic!("{:?}", full.sink) };
    let token = Secret::File { path: "/token".into(), prefix: String::new() };
    assert_eq!((sink.org.as_str(), sink.token, sink.gzip, sink.timeout.as_secs()), ("o", Some(token), false, 5));
    let header = Header { name: "X-A".to_owned(), value: Secret::Text("one".to_owned()) };
    assert_eq!((sink.headers, sink.measurement.as_str()), (vec![header], "my users"));
    assert_eq!((sink.tags, sink.fields), (vec!["t".to_owned()], vec!["f".to_owned(), "c".to_owned()]));
}

#[test]
fn an_elasticsearch_loader_is_told_what_is_written() {
    let elastic = |more: &str| {
        let settings =
            read(&format!("kind = \"elasticsearch\"\nurl = \"http://h\"\ntopic = \"t\"\nindex = \"u-%Y.%m\"\n{more}"));
        let SinkSettings::Elastic(sink) = settings.sink else { panic!("{:?}", settings.sink) };
        (sink, settings.transform.columns)
    };
    let (plain, columns) = elastic("");
    assert!(matches!(plain.access, elastic::Access::Open));
    assert_eq!((plain.index.as_str(), plain.fields, plain.time_field, columns), ("u-%Y.%m", vec![], None, vec![]));
    let (full, columns) = elastic(
        "user = \"u\"\npassword = \"p\"\ntime_field = \"@timestamp\"\nfields = [{ name = \"a.b\", pointer = \"/a\", type = \"float\" }]\n",
    );
    assert!(
        matches!(full.access, elastic::Access::Password(user, Secret::Text(password)) if user == "u" && password == "p")
    );
    assert_eq!((full.fields, full.time_field.as_deref()), (vec!["a.b".to_owned()], Some("@timestamp")));
    assert_eq!(columns, [column("a.b", From::Element(pointer("/a")), Kind::Float, false)]);
    let (key, _) = elastic("api_key_file = \"/key\"\n");
    assert!(matches!(key.access, elastic::Access::Key(Secret::File { .. })));
}

#[test]
fn a_loader_without_an_address_is_off_and_says_so() {
    let off = INFLUX.replace("http://h:8086", "${NOT_SET:-}").replace("bucket = \"b\"", "bucket = \"\"");
    let pipeline = check_text(&with(&off)).unwrap();
    assert!(pipeline.stages.iter().all(|stage| !matches!(stage.kind, StageKind::Loader(_))));
    assert_eq!(pipeline.notices, ["loader l is off: its url says nothing"]);
    assert!(pipeline.topics.iter().all(|spec| spec.name.as_str() != "howdah_loads"));
    let wrong = with(&INFLUX.replace("bucket = \"b\"", "bucket = \"\""));
    check_whole(&wrong, &["25:10: loader.l.bucket: \"\" names no bucket, and the loader has an address to load to"]);
}

#[test]
fn a_loader_has_topics_of_its_own() {
    let names = |loader: &str| -> Vec<String> {
        let pipeline = check_text(&with(loader)).unwrap();
        pipeline.topics.iter().map(|spec| spec.name.to_string()).filter(|name| name.starts_with("howdah_")).collect()
    };
    assert_eq!(names(INFLUX), ["howdah_positions", "howdah_loads"]);
    let keyed = format!("{INFLUX}key = \"/e\"\nkey_horizon = \"2h\"\n");
    assert_eq!(names(&keyed), ["howdah_positions", "howdah_keys.p.l", "howdah_loads"]);
    // As long as the topic keeps a record, the horizon and a day.
    let pipeline = check_text(&with(&keyed)).unwrap();
    let kept = (7 * 24 + 2 + 24) * 3_600_000;
    let keys = pipeline.topics.iter().find(|spec| spec.name.as_str() == "howdah_keys.p.l").unwrap();
    assert_eq!((keys.cleanup.age(), read(&keyed).keys_kept), (Some(kept), Some(kept)));
}

#[test]
fn what_is_wrong_with_a_loader_is_said_at_its_key() {
    // The complaint stands where `mark` first does behind the loader's header.
    let check = |from: &str, to: &str, mark: &str, said: &str| {
        let text = with(&INFLUX.replace(from, to));
        let begin = text.find("[loader.l]").unwrap();
        let at = begin + text[begin..].find(mark).unwrap();
        let (line, column) = (text[..at].matches('\n').count() + 1, at - text[..at].rfind('\n').unwrap());
        check_whole(&text, &[&format!("{line}:{column}: loader.l{said}")]);
    };
    let kind = ".kind: \"influx\" is unknown; did you mean \"influxdb\"? allowed: \"influxdb\", \"elasticsearch\"";
    check("\"influxdb\"", "\"influx\"", "\"influx", kind);
    let name = "a name without control characters and backslashes, which does not begin with \"_\" or \"#\"";
    check("\"m\"", "\"_m\"", "\"_m", &format!(".measurement: \"_m\" is not {name}"));
    check("\"f\", p", "\"a\\\\b\", p", "\"a\\", &format!(".fields[0].name: \"a\\\\b\" is not {name}"));
    let time = ".fields[0].name: \"time\" is InfluxDB's own name for the time of a point";
    check("\"f\", p", "\"time\", p", "\"time", time);
    let none = ".fields: a point without fields says nothing, allowed: at least one";
    check("[{ name = \"f\", pointer = \"/f\" }]", "[]", "[]", none);
    let either = ".fields[0]: a column has either pointer = \"/…\", record = \"/…\", template = \"…\" or value = \"…\"";
    check("pointer = \"/f\"", "value = \"x\", pointer = \"/f\"", "{ name", either);
    let template = ".fields[0].template: \"{f}\": \"f\" is no JSON pointer, allowed: like {/name/first}";
    check("pointer = \"/f\"", "template = \"{f}\"", "\"{f", template);
    let twice = ".fields[1].name: the name \"f\" is there already (loader.l.fields[0].name)";
    check(
        "{ name = \"f\", pointer = \"/f\" }",
        "{name=\"f\",value=\"x\"}, {name=  \"f\",value=\"\"}",
        "\"f\",value=\"\"",
        twice,
    );
    check(
        "topic = \"t\"",
        "topic = \"t\"\ntime = \"/t\"",
        "\"/t",
        ".time: wants to know what it is: time_unit = \"…\"",
    );
    let only = ".time_unit: is only for time = \"/…\": it says what stands there";
    check("topic = \"t\"", "topic = \"t\"\ntime_unit = \"nanos\"", "\"nanos", only);
    let token = ".token_file: token says it already";
    check("topic = \"t\"", "topic = \"t\"\ntoken = \"x\"\ntoken_file = \"/x\"", "\"/x", token);
    let undeclared = ".topic: topic \"x\" is not declared; allowed: \"t\", or declare it: [topics.<name>]";
    check("topic = \"t\"", "topic = \"x\"", "\"x", undeclared);

    let elastic = |more: &str| with(&format!("kind = \"elasticsearch\"\nurl = \"http://h\"\ntopic = \"t\"\n{more}"));
    let either =
        "22:9: loader.l: either user with password or password_file, or api_key or api_key_file alone, or none of them";
    check_whole(&elastic("index = \"u\"\nuser = \"u\"\n"), &[either]);
    let said = check_text(&elastic("index = \"U\"\n")).map(|_| ()).unwrap_err();
    assert!(said[0].starts_with("p.toml:26:9: loader.l.index: \"U\" is not an index's name"), "{said:?}");
}

#[test]
fn which_element_is_the_first_is_known_within_a_partition_only() {
    let keyed = |loader: &str, ingester: &str| {
        with(&format!("{INFLUX}key = \"/e\"\n{loader}"))
            .replace("[topics.t]", "[topics.t]\npartitions = 3")
            .replace("collector = \"c\"\n", &format!("collector = \"c\"\n{ingester}"))
    };
    let said = "topic \"t\" has 3 partitions, and which element is the first is known within each only: let it have one, or be \
                keyed by it (key = \"/e\" in its ingester, without explode here)";
    check_whole(&keyed("", ""), &[&format!("30:7: loader.l.key: {said}")]);
    check_whole(&keyed("", "key = \"/x\"\n"), &[&format!("31:7: loader.l.key: {said}")]);
    check_whole(&keyed("explode = \"/r\"\n", "key = \"/e\"\n"), &[&format!("31:7: loader.l.key: {said}")]);
    assert!(check_text(&keyed("", "key = \"/e\"\n")).is_ok());
}
