//! Prometheus itself reads what a running howdah counts: every figure that must say N says N.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use howdah::recorded::Options;
use serde_json::Value;

use super::{
    harness::{Served, finish, listener, make_events, tempdir, wait_for},
    steer::{TOKEN, start},
};

/// A Prometheus that scrapes one address each second, ended with its test.
pub struct Prometheus {
    child: Child,
    url: String,
    folder: std::path::PathBuf,
}

impl Prometheus {
    fn start(folder: &Path, target: &str, token: &str) -> Self {
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n\
             - {{job_name: howdah, authorization: {{credentials_file: {token}}}, static_configs: [{{targets: ['{target}']}}]}}\n"
        );
        Self::configured(folder, &text)
    }

    /// With a configuration, which goes into the folder.
    pub fn configured(folder: &Path, text: &str) -> Self {
        let config = folder.join("prometheus.yml");
        fs::write(&config, text).unwrap();
        let address = listener().local_addr().unwrap().to_string();
        let log = File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed: see tests/tools");
        Self { child, url: format!("http://{address}"), folder: folder.to_owned() }
    }

    /// What an address answers; nothing if it is an error.
    pub fn get(&self, path: &str, query: &str) -> Option<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        let (code, out, _) = finish(Command::new("curl").args(["-sfG", &url, "--data-urlencode", query]));
        (code == 0).then(|| serde_json::from_str(&out).unwrap())
    }

    /// The values of an expression now, by what stands in a label.
    pub fn query(&self, expression: &str, label: &str) -> Vec<(String, f64)> {
        let Some(answer) = self.get("query", &format!("query={expression}")) else { return Vec::new() };
        let value = |found: &Value| {
            let text = found["value"][1].as_str().unwrap();
            (found["metric"][label].as_str().unwrap_or_default().to_owned(), text.parse().unwrap())
        };
        let mut values: Vec<_> = answer["data"]["result"].as_array().unwrap().iter().map(value).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    }

    #[track_caller]
    pub fn awaits(&self, expression: &str, label: &str, expected: &[(&str, f64)]) {
        let log = || fs::read_to_string(self.folder.join("prometheus.log")).unwrap();
        let said = || format!("{:?}\n{}", self.query(expression, label), log());
        let is_so = || {
            let found = self.query(expression, label);
            let found: Vec<_> = found.iter().map(|(label, value)| (label.as_str(), *value)).collect();
            (found == expected).then_some(())
        };
        wait_for(&format!("{expression} to be {expected:?}"), is_so, said);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_reads_as_many_records_as_there_were_at_every_stage_whoever_was_restarted_meanwhile() {
    let folder = tempdir();
    let events = folder.path().join("events.ndjson");
    make_events(&events, "--canary 50 --bare 37 --seed 3");
    let served = Served::start(&events, Options { speed: 300.0, ..Options::default() });
    let node = start(folder.path(), &served.url);
    let target = node.url.strip_prefix("http://").unwrap().to_owned();
    let prometheus = Prometheus::start(folder.path(), &target, &node.token);

    #[allow(clippy::cast_precision_loss)]
    let total = served.total as f64;
    let all = ["archive", "collect", "edits", "ingest", "sizes"];
    let sent = || node.actor("wikimedia/ingest/0")["out"]["records"].as_u64();
    for stage in [all; 5].concat() {
        let before = sent();
        node.says(&["restart", &format!("wikimedia/{stage}/0")]);
        node.awaits("wikimedia/ingest/0", "more of the stream", |actor| actor["out"]["records"].as_u64() > before);
    }
    assert!(sent().unwrap() < served.total, "the stream was over before the restarts");
    // An archiver counts what is published.
    node.awaits("wikimedia/archive/0", "all records", |actor| actor["in"]["records"] == served.total);
    node.says(&["roll", "wikimedia/archive/0"]);
    prometheus.awaits("howdah_records_out_total", "stage", &all.map(|stage| (stage, total)));
    // What a collector had not written when it was restarted its source has sent again.
    prometheus.awaits(
        "howdah_records_in_total{stage!='collect'}",
        "stage",
        &["archive", "edits", "ingest", "sizes"].map(|stage| (stage, total)),
    );
    prometheus.awaits(
        "howdah_lag_records",
        "stage",
        &["archive", "edits", "ingest", "sizes"].map(|stage| (stage, 0.0)),
    );
    prometheus.awaits(
        "sum by (stage) (howdah_lost_records_total)",
        "stage",
        &["archive", "edits", "sizes"].map(|stage| (stage, 0.0)),
    );
    prometheus.awaits("howdah_source_to_bus_seconds_count", "stage", &[("ingest", total)]);
    prometheus.awaits("howdah_bus_to_archive_seconds_count", "stage", &[("archive", total)]);
    prometheus.awaits("howdah_actor_state == 1", "state", &[("running", 1.0); 5]);
    prometheus.awaits("howdah_spool_full_in_seconds > 0", "stage", &[("collect", f64::INFINITY)]);
    // What the filter kept out of the table is counted too, so that the sum is the number of records.
    let parts = ["skipped", "filtered", "late", "future"].map(|part| format!("howdah_{part}_records_total"));
    let sum = format!("howdah_event_to_table_seconds_count + {}", parts.join(" + "));
    prometheus.awaits(&sum, "stage", &[("edits", total), ("sizes", total)]);
    prometheus.awaits("up", "job", &[("howdah", 1.0)]);
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let folder = tempdir();
    let served =
        Served::start(&super::harness::repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let node = start(folder.path(), &served.url);
    let (code, text, err) = finish(Command::new("curl").args([
        "-sf",
        "-H",
        &format!("Authorization: Bearer {TOKEN}"),
        &format!("{}/metrics", node.url),
    ]));
    assert_eq!(code, 0, "{err}");
    let mut checking = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: see tests/tools");
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
