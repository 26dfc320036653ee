//! A fuzzer that knows the API's document sends it what fits and what does not: no answer is a server's error, all
//! are as the document has them, and nothing dies of it.

use std::process::Command;

use howdah::recorded::Options;

use super::{
    harness::{PYTHON, Served, finish, repository, tempdir},
    steer::{TOKEN, start},
};

#[test]
fn whatever_is_asked_of_the_api_is_answered_as_its_document_says() {
    let folder = tempdir();
    let served = Served::start(
        &repository("data/recentchange-2015-09-12.ndjson.gz"),
        Options { speed: 300.0, ..Options::default() },
    );
    let node = start(folder.path(), &served.url);
    let mut fuzzer = Command::new(PYTHON.with_file_name("schemathesis"));
    fuzzer
        .current_dir(folder.path())
        .args(["run", &format!("{}/api/v1/openapi.json", node.url), "--no-color", "--seed", "6"])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--max-examples", "100"])
        // What never ends is no answer that could be compared.
        .args(["--exclude-path", "/api/v1/changes"]);
    let (code, out, err) = finish(&mut fuzzer);
    assert!(code == 0 && out.contains("No issues found"), "{code}\n{out}{err}");
    println!("{}", out.lines().filter(|line| line.contains("generated")).collect::<String>());
    // It found the actors: their document has examples.
    let life = node.actor("wikimedia/archive/0")["incarnation"].as_u64();
    assert!(life > Some(1), "no order reached an actor: {life:?}");
    let log = node.running.terminate_in_order().log;
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}
