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

fn of_page(page: &str, stage: &str, figure: &str) -> u64 {
    let start = format!("howdah_{figure}{{pipeline=\"randomuser\",stage=\"{stage}\",replica=\"0\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
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
    let of = |stage: &str, figure: &str| of_page(&page(), stage, figure);
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
    // Nothing more is asked for. What was under way settles, and then both say the same.
    order("pause", "collect");
    let figures = ["records_in_total", "records_out_total", "duplicates_total", "bus_to_sink_seconds_count"];
    let counted = || {
        let page = page();
        (figures.map(|figure| of_page(&page, "users", figure)), of_page(&page, "ingest", "records_out_total"))
    };
    let archived = || {
        order("roll", "archive");
        let answers = answers(&at("data/store-randomuser/final_project"));
        let users = answers.iter().flat_map(|answer| answer["results"].as_array().unwrap());
        let emails: Vec<_> = users.map(|user| user["email"].as_str().unwrap()).collect();
        let known = emails.iter().collect::<BTreeSet<_>>().len() as u64;
        let records = answers.len() as u64;
        ([records, known, emails.len() as u64 - known, records], records)
    };
    let is_so = || Some(archived()).filter(|archived| *archived == counted());
    let what = format!("{figures:?} to be as the archive has them");
    let ([records, known, repeated, _], _) =
        wait_for(&what, is_so, || format!("{:?}, {:?}\n{}", archived(), counted(), howdah.log()));
    assert!(records > 20 && repeated > 0, "{records} answers, {known} addresses, {repeated} again");
    howdah.terminate_in_order();
}
