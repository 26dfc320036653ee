//! A service and sinks behind TLS that want to know who asks: tokens, passwords and API keys from files, which may be
//! wrong at first.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::http::{Http, Reply, Request};
use crate::process::{
    harness::{Running, command, finish, tempdir, wait_for},
    steer::certificate,
};

const USERS: usize = 40;
const PAGE: usize = 5;

/// `howdah:right password`, as RFC 7617 has it.
const PASSWORD: &str = "Basic aG93ZGFoOnJpZ2h0IHBhc3N3b3Jk";
const KEY: &str = "ApiKey a2V5OnNlY3JldA==";
const TOKEN: &str = "Bearer a-token";

const PIPELINE: &str = r#"format = 1
pipeline.name = "p"
bus = { kind = "embedded", path = "FOLDER/bus" }
store = { kind = "local", path = "FOLDER/store" }
[topics.t]
[collector.collect]
spool = { path = "FOLDER/spool" }
[collector.collect.poll]
url = "SERVER/users"
period = "100ms"
max_pause = "1s"
headers = [{ name = "Authorization", file = "FOLDER/token", prefix = "Bearer " }]
[ingester.ingest]
collector = "collect"
topic = "t"
[loader.one]
kind = "elasticsearch"
url = "SERVER/one"
user = "howdah"
password_file = "FOLDER/password"
topic = "t"
explode = "/results"
index = "users"
linger = "100ms"
[loader.other]
kind = "elasticsearch"
url = "SERVER/other"
api_key_file = "FOLDER/key"
topic = "t"
explode = "/results"
index = "users"
linger = "100ms"
"#;

/// The documents of each sink, by id.
#[derive(Default)]
struct Held {
    given: usize,
    one: BTreeSet<String>,
    other: BTreeSet<String>,
}

fn answer(held: &mut Held, request: &Request) -> Reply {
    let who = request.headers.get("authorization").map(String::as_str);
    let (wanted, sink) = match request.target.split('?').next().unwrap() {
        "/users" => (TOKEN, None),
        "/one/_bulk" => (PASSWORD, Some(&mut held.one)),
        "/other/_bulk" => (KEY, Some(&mut held.other)),
        _ => return Reply::plain("404 Not Found", ""),
    };
    if who != Some(wanted) {
        let why =
            json!({ "error": { "type": "security_exception", "reason": "unable to authenticate" }, "status": 401 });
        return Reply::plain("401 Unauthorized", &why.to_string());
    }
    let Some(sink) = sink else {
        let page = held.given;
        held.given = USERS.min(page + PAGE);
        let users: Vec<_> = (page..held.given).map(|n| json!({ "n": n })).collect();
        return Reply::plain("200 OK", &json!({ "results": users }).to_string());
    };
    let actions = std::str::from_utf8(&request.body).unwrap().lines().step_by(2);
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["create"]["_id"].as_str().unwrap().to_owned();
    let items: Vec<_> =
        actions.map(|line| json!({ "create": { "status": if sink.insert(id(line)) { 201 } else { 409 } } })).collect();
    Reply::plain("200 OK", &json!({ "errors": false, "items": items }).to_string())
}

#[test]
fn who_asks_is_told_over_tls_and_a_mended_secret_counts_at_once() {
    let folder = tempdir();
    let at = |name: &str| folder.path().join(name);
    let (chain, key) = certificate(folder.path());
    let held = Arc::new(Mutex::new(Held::default()));
    let holding = held.clone();
    let server = Http::start_tls(&chain, &key, move |request| answer(&mut holding.lock().unwrap(), &request));
    for name in ["token", "password", "key"] {
        fs::write(at(name), "wrong\n").unwrap();
    }
    let text = PIPELINE.replace("FOLDER", folder.path().to_str().unwrap());
    fs::write(at("p.toml"), text.replace("SERVER", &format!("https://{}", server.addr))).unwrap();
    let run = || {
        let mut run = command(&["run", at("p.toml").to_str().unwrap()]);
        run.env("HOWDAH_DATA", folder.path());
        run
    };

    // Nobody vouches for the server: it is told nothing.
    let mut strangers = Running::spawn(run(), &at("strangers"));
    strangers.await_line(&["p/collect/0", "certificate"]);
    strangers.terminate_in_order();
    assert_eq!(held.lock().unwrap().given, 0);

    let doctor = || {
        let mut doctor = command(&["doctor", at("p.toml").to_str().unwrap()]);
        finish(doctor.env("HOWDAH_DATA", folder.path()).env("SSL_CERT_FILE", &chain))
    };
    let (code, out, err) = doctor();
    let wrong = out.lines().filter(|line| line.starts_with("WRONG Elasticsearch") && line.contains("401 Unauthorized"));
    assert!(code == 1 && wrong.count() == 2 && out.contains("unable to authenticate"), "{code}: {out}{err}");

    let mut vouched = run();
    vouched.env("SSL_CERT_FILE", &chain);
    let mut howdah = Running::spawn(vouched, &at("log"));
    for (name, actor, secret) in
        [("token", "collect", "a-token"), ("password", "one", "right password"), ("key", "other", "a2V5OnNlY3JldA==")]
    {
        howdah.await_line(&[&format!("p/{actor}/0"), "401"]);
        fs::write(at(name), format!("{secret}\n")).unwrap();
    }
    let is_whole = || {
        let held = held.lock().unwrap();
        (held.one.len() == USERS && held.other.len() == USERS).then_some(())
    };
    wait_for("every document in both", is_whole, || howdah.log());
    let ended = howdah.terminate_in_order();
    let (code, out, err) = doctor();
    assert!(code == 0 && out.matches("answers, and knows who asks").count() == 2, "{code}: {out}{err}");
    for secret in ["a-token", "right password", "a2V5OnNlY3JldA==", "aG93ZGFoOnJpZ2h0IHBhc3N3b3Jk"] {
        assert!(!ended.log.contains(secret), "{secret} is in the log");
    }
}
