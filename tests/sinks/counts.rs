//! What a loader counts is what there was, whoever was restarted meanwhile: the archive says what.

use std::{collections::BTreeSet, fs, io::Read, path::Path, process::Command};

use serde_json::Value;

use super::stand::{ANSWERS, Service};
use crate::{
    process::harness::{Running, command, finish, listener, repository, tempdir, wait_for},
    servers::Servers,
};

/// The archived answers.
fn answers(archive: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir(archive).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() && !name.starts_with('_') {
            found.extend(answers(&entry.path()));
        } else if name.ends_with(".jsonl") {
            let text = fs::read_to_string(entry.path()).unwrap();
            found.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    found
}

#[test]
fn a_loader_counts_each_record_and_row_once_over_restarts_of_every_stage() {
    let influx = Servers::start(&["influx"]);
    let folder = tempdir();
    let at = |name: &str| folder.path().join(name);
    let text = fs::read_to_string(repository("pipelines/randomuser.toml")).unwrap();
    let text = text.replace("period = \"1s\"", "period = \"100ms\"");
    fs::write(at("pipeline.toml"), text.replace("key_horizon", "linger = \"50ms\"\nkey_horizon")).unwrap();
    // So few that users come again.
    let mut recorded = String::new();
    let file = fs::File::open(repository(ANSWERS)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut recorded).unwrap();
    fs::write(at("answers.ndjson"), recorded.lines().take(10).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let service = Service::of(&at("answers.ndjson"), 23);
    let api = listener().local_addr().unwrap().to_string();
    let mut run = command(&["run", at("pipeline.toml").to_str().unwrap()]);
    run.env("HOWDAH_DATA", at("data")).env("HOWDAH_LISTEN", &api).env("RANDOMUSER_URL", &service.url);
    for (variable, key) in [("INFLUX_URL", "url"), ("INFLUX_TOKEN", "token"), ("INFLUX_BUCKET", "bucket")] {
        run.env(variable, influx.about(key));
    }
    let mut howdah = Running::spawn(run, &at("log"));
    howdah.await_line(&["started", &api]);
    let page = || {
        let (code, out, err) = finish(Command::new("curl").args(["-sf", &format!("http://{api}/metrics")]));
        assert_eq!(code, 0, "{err}");
        out
    };
    let of = |stage: &str, figure: &str| -> u64 {
        let start = format!("howdah_{figure}{{pipeline=\"randomuser\",stage=\"{stage}\",replica=\"0\"}} ");
        page().lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    };
    let order = |word: &str, stage: &str| {
        let actor = format!("randomuser/{stage}/0");
        let told = finish(&mut command(&[word, &actor, "--node", &format!("http://{api}")]));
        assert_eq!(told.0, 0, "{word} {actor}: {told:?}");
    };
    for stage in ["users", "ingest", "users", "collect", "users", "archive", "users", "users"] {
        let before = of("users", "records_in_total");
        order("restart", stage);
        let more = || (of("users", "records_in_total") > before + 3).then_some(());
        wait_for("more records of the loader", more, || howdah.log());
    }
    // Nothing more comes; what has come is loaded and archived.
    order("pause", "collect");
    let collected = || of("collect", "records_out_total");
    let is_through =
        || (of("users", "records_in_total") == collected() && of("users", "lag_records") == 0).then_some(());
    wait_for("the end of what was collected", is_through, || howdah.log());
    order("roll", "archive");
    let figures = ["records_in_total", "records_out_total", "duplicates_total", "bus_to_sink_seconds_count"];
    let counted = figures.map(|figure| of("users", figure));
    let ingested = of("ingest", "records_out_total");
    howdah.terminate_in_order();

    let answers = answers(&at("data/store-randomuser/final_project"));
    let users = answers.iter().flat_map(|answer| answer["results"].as_array().unwrap());
    let emails: Vec<_> = users.map(|user| user["email"].as_str().unwrap()).collect();
    let (users, known) = (emails.len() as u64, emails.iter().collect::<BTreeSet<_>>().len() as u64);
    let records = answers.len() as u64;
    assert!(records > 20 && known < users, "{records} answers, {users} users, {known} addresses");
    assert_eq!(ingested, records);
    assert_eq!(counted, [records, known, users - known, records], "{figures:?}");
}
