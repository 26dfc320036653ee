//! The shipped dashboards and alert rules over a running howdah, a real Prometheus and a real InfluxDB: every query
//! of every panel has an answer, and nothing alarms where all is well.

use std::{collections::BTreeSet, fs, path::Path, process::Command, thread};

use howdah::recorded::Options;
use regex::Regex;
use serde_json::Value;

use super::stand::Service;
use crate::{
    process::{
        harness::{Running, Served, command, finish, listener, repository, tempdir, wait_for},
        prometheus::Prometheus,
    },
    servers::Servers,
};

/// A query of a panel.
struct Query {
    /// Board and panel.
    place: String,
    /// `prometheus` or `influxdb`.
    source: String,
    text: String,
}

/// Those of all boards, with what Grafana puts in for its variables.
fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for board in fs::read_dir(repository("deploy/grafana")).unwrap() {
        let path = board.unwrap().path();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            let place = format!("{}: {}", board["title"], panel["title"]);
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{place} asks for nothing");
            for target in targets {
                let source = target["datasource"]["type"].as_str().unwrap();
                let key = if source == "prometheus" { "expr" } else { "query" };
                let mut text = target[key].as_str().unwrap_or_else(|| panic!("{place} has no {key}")).to_owned();
                for (variable, value) in [
                    ("$__rate_interval", "1m"),
                    ("$__range", "1h"),
                    ("$pipeline", ".*"),
                    ("v.defaultBucket", "\"people/raw\""),
                    ("v.timeRangeStart", "-1h"),
                    ("v.timeRangeStop", "now()"),
                    ("v.windowPeriod", "5s"),
                ] {
                    text = text.replace(variable, value);
                }
                assert!(!text.contains('$') && !text.contains("v."), "{place}: {text}");
                found.push(Query { place: place.clone(), source: source.to_owned(), text });
            }
        }
    }
    found
}

/// Rows of a Flux query: the answer is annotated CSV, tables apart from each other by an empty line.
fn rows_of(influx: &Servers, query: &str) -> Result<usize, String> {
    let token = format!("Authorization: Token {}", influx.about("token"));
    let url = format!("{}/api/v2/query", influx.about("url"));
    let headers = ["-H", &token, "-H", "Content-Type: application/vnd.flux", "-H", "Accept: application/csv"];
    let (code, out, err) = finish(Command::new("curl").arg("-s").args(headers).args(["--data-binary", query, &url]));
    let is_csv = out.trim().is_empty() || out.starts_with("#datatype");
    if code != 0 || !is_csv {
        return Err(format!("{out}{err}"));
    }
    let tables = out.split("\r\n\r\n").filter(|table| !table.trim().is_empty());
    // Three lines of annotations, and one of names.
    Ok(tables.map(|table| table.trim().lines().count().saturating_sub(4)).sum())
}

/// How many series have a value, with something to show.
fn series_of(prometheus: &Prometheus, query: &str) -> usize {
    prometheus.query(query, "").iter().filter(|(_, value)| !value.is_nan()).count()
}

#[test]
fn every_query_of_every_dashboard_has_an_answer_and_no_alert_is_raised() {
    let (influx, kafka) = thread::scope(|scope| {
        let kafka = scope.spawn(|| Servers::start(&["kafka"]));
        (Servers::start(&["influx"]), kafka.join().unwrap())
    });
    let folder = tempdir();
    let at = |name: &str| folder.path().join(name);
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let edits = Served::start(&events, Options { speed: 60.0, ..Options::default() });
    let users = Service::start(23);
    let target = listener().local_addr().unwrap().to_string();
    let pipelines = ["wikimedia", "randomuser"].map(|name| repository(&format!("pipelines/{name}.toml")));
    let mut run = command(&["run"]);
    run.args(pipelines).env("HOWDAH_DATA", at("data")).env("HOWDAH_LISTEN", &target);
    run.env("WIKIMEDIA_URL", &edits.url).env("RANDOMUSER_URL", &users.url);
    run.env("KAFKA_BROKERS", kafka.about("brokers"));
    for (variable, key) in [("INFLUX_URL", "url"), ("INFLUX_TOKEN", "token"), ("INFLUX_BUCKET", "bucket")] {
        run.env(variable, influx.about(key));
    }
    let mut howdah = Running::spawn(run, &at("log"));
    howdah.await_line(&["started", &target]);
    let prometheus = Prometheus::configured(folder.path(), &configuration(folder.path(), &target));
    prometheus.awaits("up", "job", &[("howdah", 1.0)]);

    // Archivers publish each ten minutes, or when they are told.
    for archive in ["wikimedia/archive/0", "randomuser/archive/0"] {
        let lag = format!("howdah_lag_records{{stage='archive',pipeline='{}'}} == 0", &archive[..archive.len() - 10]);
        wait_for(&lag, || (series_of(&prometheus, &lag) == 1).then_some(()), || howdah.log());
        let told = finish(&mut command(&["roll", archive, "--node", &format!("http://{target}")]));
        assert_eq!(told.0, 0, "{told:?}");
    }

    let queries = queries();
    for Query { place, source, text } in &queries {
        let answer = || match source.as_str() {
            "prometheus" => (series_of(&prometheus, text) > 0).then_some(()),
            "influxdb" => (rows_of(&influx, text).unwrap_or_else(|why| panic!("{place}: {why}")) > 0).then_some(()),
            other => panic!("{place}: nobody knows {other}"),
        };
        wait_for(&format!("data of {place}: {text}"), answer, || howdah.log());
    }
    println!("{} queries of the dashboards have an answer", queries.len());
    check_alerts(&prometheus, &queries);
    howdah.terminate_in_order();
}

/// The shipped configuration of Prometheus, for this howdah and more often; its rules lie beside it.
fn configuration(folder: &Path, target: &str) -> String {
    fs::copy(repository("deploy/prometheus/rules.yml"), folder.join("rules.yml")).unwrap();
    let mut text = fs::read_to_string(repository("deploy/prometheus/prometheus.yml")).unwrap();
    for (old, new, times) in [("127.0.0.1:7070", target, 1), ("15s", "1s", 2), ("127.0.0.1:9093", "127.0.0.1:9", 1)] {
        assert_eq!(text.matches(old).count(), times, "{old} in prometheus.yml");
        text = text.replace(old, new);
    }
    text
}

/// All rules are evaluated, none fires, and every figure that they or `queries` name is one.
fn check_alerts(prometheus: &Prometheus, queries: &[Query]) {
    let rules = prometheus.get("rules", "type=alert").unwrap();
    let rules: Vec<_> = rules["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(!rules.is_empty());
    for rule in &rules {
        assert!(rule["health"] == "ok" && rule["state"] != "firing", "{rule:#}");
    }
    let names = prometheus.get("label/__name__/values", "limit=0").unwrap();
    let known: BTreeSet<_> = names["data"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let figure = Regex::new(r"\b(?:howdah|process)_[a-z_]+\b").unwrap();
    let queries = queries.iter().map(|query| query.text.as_str());
    for text in queries.chain(rules.iter().map(|rule| rule["query"].as_str().unwrap())) {
        for named in figure.find_iter(text) {
            assert!(known.contains(named.as_str()), "{} in {text}: no such figure", named.as_str());
        }
    }
}
