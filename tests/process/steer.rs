//! A person elsewhere: looks at the running process by its API, restarts, stops, pauses and rolls its actors; and
//! what was collected meanwhile is there once in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use howdah::recorded::Options;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::harness::{
    Running, Served, command, finish, judge_archive, judge_table, listener, repository, tempdir, wait_for,
};

pub const TOKEN: &str = "a-token-of-this-test";
const ARCHIVE: &str = "wikimedia/archive/0";

/// A node with a token, and how it is asked.
pub struct Node {
    pub url: String,
    pub token: String,
    pub running: Running,
}

pub fn start(folder: &Path, source: &str) -> Node {
    start_with(folder, source, "http", &[])
}

pub fn start_with(folder: &Path, source: &str, scheme: &str, variables: &[(&str, &Path)]) -> Node {
    let port = listener().local_addr().unwrap().port();
    let token = folder.join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let mut run = command(&["run", repository("pipelines/wikimedia.toml").to_str().unwrap()]);
    run.env("HOWDAH_DATA", folder.join("data"))
        .env("WIKIMEDIA_URL", source)
        .env("HOWDAH_LISTEN", format!("127.0.0.1:{port}"))
        .env("HOWDAH_TOKEN_FILE", &token)
        .envs(variables.iter().copied());
    let mut running = Running::spawn(run, &folder.join("log"));
    let url = format!("{scheme}://127.0.0.1:{port}");
    running.await_line(&["started", &url]);
    Node { url, token: token.to_str().unwrap().to_owned(), running }
}

impl Node {
    fn asking(&self, arguments: &[&str]) -> Command {
        let mut asking = command(arguments);
        asking.args(["--node", &self.url, "--token-file", &self.token]).env("USER", "anna");
        asking
    }

    /// What a command prints; it has to go well.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        let (code, out, err) = finish(&mut self.asking(arguments));
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }

    #[track_caller]
    pub fn actor(&self, id: &str) -> Value {
        let all: Value = serde_json::from_str(&self.says(&["actors", "--json"])).unwrap();
        all["actors"].as_array().unwrap().iter().find(|actor| actor["id"] == id).unwrap().clone()
    }

    /// What an address answers.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let header = format!("Authorization: Bearer {TOKEN}");
        let (code, out, err) =
            finish(Command::new("curl").args(["-sf", "-H", &header, &format!("{}{path}", self.url)]));
        assert_eq!(code, 0, "{path}: {out}{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn incarnation(&self, id: &str) -> u64 {
        self.actor(id)["incarnation"].as_u64().unwrap()
    }

    #[track_caller]
    pub fn awaits(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        wait_for(
            what,
            || is_so(&self.actor(id)).then_some(()),
            || format!("{:#}\n{}", self.actor(id), self.running.log()),
        );
    }
}

#[test]
fn orders_from_elsewhere_take_effect_and_nothing_is_lost_by_them() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), repository("data/recentchange-2015-09-12.ndjson.gz"));
    let served = Served::start(&events, Options { speed: 300.0, ..Options::default() });
    let node = start(folder.path(), &served.url);

    for actor in ["collect", "ingest", "archive", "edits", "sizes"].map(|stage| format!("wikimedia/{stage}/0")) {
        let before = node.incarnation(&actor);
        let said = node.says(&["restart", &actor]);
        let after = node.incarnation(&actor);
        assert!(after > before, "{actor}: {before}, {after}");
        assert_eq!(
            said,
            format!("restart {actor}: a new life has begun, the one before was {before} (life {after})\n")
        );
    }

    node.awaits(ARCHIVE, "records of the archiver", |actor| actor["in"]["records"].as_u64() > Some(0));
    node.says(&["roll", ARCHIVE]);
    assert!(node.actor(ARCHIVE)["out"]["records"].as_u64() > Some(0), "what was open is published");

    // Paused, it stands still while the topic goes on; the reason is said.
    node.says(&["pause", ARCHIVE]);
    let paused = node.actor(ARCHIVE);
    assert_eq!((&paused["wish"]["hold"], &paused["wish"]["by"]), (&"paused".into(), &"anna from 127.0.0.1".into()));
    let taken = paused["in"]["records"].as_u64();
    node.awaits("wikimedia/edits/0", "more records of the other", |actor| actor["in"]["records"].as_u64() > taken);
    let later = node.actor(ARCHIVE);
    assert_eq!((later["in"]["records"].as_u64(), &later["state"]), (taken, &"waiting".into()), "{later:#}");
    let why = node.says(&["why", "wikimedia"]);
    assert!(why.contains(ARCHIVE) && why.contains("held by anna from 127.0.0.1"), "{why}");
    node.says(&["resume", ARCHIVE]);
    node.awaits(ARCHIVE, "more records of the archiver", |actor| actor["in"]["records"].as_u64() > taken);

    // Stopped, it stays stopped over the death of the process.
    node.says(&["stop", ARCHIVE]);
    node.says(&["pause", "wikimedia/sizes/0"]);
    let Node { running, .. } = node;
    let first = running.log();
    kill_process(Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
    drop(running);
    let node = start(folder.path(), &served.url);
    let (code, out, _) = finish(&mut node.asking(&["status"]));
    assert_eq!(code, 1, "{out}");
    for said in ["wikimedia/archive/0 is stopped by anna from 127.0.0.1", "wikimedia/sizes/0 is paused by anna"] {
        assert!(out.contains(said), "{out}");
    }
    assert_eq!(node.actor(ARCHIVE)["state"], "stopped");
    node.says(&["start", ARCHIVE]);
    node.says(&["resume", "wikimedia/sizes/0"]);

    let Node { mut running, .. } = node;
    running.await_records(&data, "wiki_changes", served.total);
    let ended = running.terminate_in_order();
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
    for (order, log) in [("stop", &first), ("pause", &first), ("start", &ended.log), ("resume", &ended.log)] {
        let words = [format!("order={order}"), "by=\"anna\"".to_owned(), "from=\"127.0.0.1\"".to_owned()];
        assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{words:?} in {log}");
    }
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}

/// What an earlier process has lost is shown until somebody knows of it.
#[test]
fn a_loss_is_shown_until_it_is_acknowledged() {
    let folder = tempdir();
    let kept = folder.path().join("data/node/losses.json");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let losses = r#"[{"reason":"retention","number":7,"since":1442052000000,"last":1442052000000}]"#;
    fs::write(&kept, format!(r#"{{"format":1,"actors":{{"{ARCHIVE}":{losses}}}}}"#)).unwrap();
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let node = start(folder.path(), &served.url);
    let (code, out, _) = finish(&mut node.asking(&["status"]));
    assert!(code == 4 && out.contains("has lost 7 records that the bus had deleted"), "{code} {out}");
    assert_eq!(node.actor(ARCHIVE)["losses"][0]["since"], "2015-09-12T10:00:00.000Z");
    let said = node.says(&["acknowledge", ARCHIVE]);
    assert!(said.contains("acknowledged: 7 records that the bus had deleted"), "{said}");
    assert_eq!(node.actor(ARCHIVE)["losses"], serde_json::json!([]));
    assert!(!fs::read_to_string(&kept).unwrap().contains("retention"));
    let (code, _, err) = finish(&mut node.asking(&["acknowledge", ARCHIVE]));
    assert!(code == 1 && err.contains("has no loss to acknowledge"), "{code} {err}");
}

/// A collector that waits for an ingester has nothing in its hands.
#[test]
fn a_node_whose_ingester_was_stopped_ends_in_order() {
    let folder = tempdir();
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let node = start(folder.path(), &served.url);
    node.says(&["stop", "wikimedia/ingest/0"]);
    node.says(&["restart", "wikimedia/collect/0"]);
    node.awaits("wikimedia/collect/0", "its wait", |actor| {
        actor["waiting_on"].to_string().contains("the ingester to own the source")
    });
    node.running.terminate_in_order();
}

#[test]
fn who_may_not_or_asks_for_what_is_not_there_is_told() {
    let folder = tempdir();
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let node = start(folder.path(), &served.url);
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "another-token-than-that").unwrap();
    let mut asking = command(&["restart", ARCHIVE, "--node", &node.url, "--token-file", wrong.to_str().unwrap()]);
    let (code, _, err) = finish(&mut asking);
    assert!(code == 1 && err.contains("the token is missing or not the right one"), "{code} {err}");
    let mut asking = command(&["status", "--node", &node.url]);
    let (code, out, _) = finish(asking.env("HOWDAH_TOKEN", TOKEN));
    assert!(code < 2 && out.contains("5 actors"), "{code} {out}");
    let before = node.incarnation(ARCHIVE);
    for (arguments, said) in [
        (["restart", "wikimedia/archiv/0"], "did you mean wikimedia/archive/0?"),
        (["roll", "wikimedia/collect/0"], "only archivers and aggregators have something to roll"),
        (["resume", ARCHIVE], "is not paused"),
        (["restart", "archive"], "write pipeline/stage/replica"),
    ] {
        let (code, _, err) = finish(&mut node.asking(&arguments));
        assert!(code == 1 && err.contains(said), "{arguments:?}: {code} {err}");
    }
    assert_eq!(node.incarnation(ARCHIVE), before);
    let (code, _, err) = finish(&mut command(&["status", "--node", "http://127.0.0.1:9"]));
    assert!(code == 3 && err.contains("is a howdah running there"), "{code} {err}");
}

/// A certificate of this machine's, and its key, in a folder.
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let mut making = Command::new("openssl");
    making
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=worker7", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&chain);
    let (code, _, err) = finish(&mut making);
    assert_eq!(code, 0, "{err}");
    (chain, key)
}

#[test]
fn over_tls_only_a_node_that_somebody_vouches_for_is_asked() {
    let folder = tempdir();
    let (chain, key) = certificate(folder.path());
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let tls = [("HOWDAH_TLS_CERT", &*chain), ("HOWDAH_TLS_KEY", &*key)];
    let node = start_with(folder.path(), &served.url, "https", &tls);
    let (code, _, err) = finish(&mut node.asking(&["actors"]));
    assert!(code == 3 && err.contains("certificate"), "{code} {err}");
    let said = node.says(&["restart", ARCHIVE, "--ca", chain.to_str().unwrap()]);
    assert!(said.contains("a new life has begun"), "{said}");
    // Who speaks plainly to it gets nothing.
    let plain = node.url.replace("https", "http");
    let (code, _, err) = finish(command(&["actors"]).args(["--node", &plain, "--token-file", &node.token]));
    assert_eq!(code, 3, "{err}");
}

#[test]
fn an_address_that_others_reach_wants_a_token() {
    let folder = tempdir();
    let pipeline = repository("pipelines/wikimedia.toml");
    for (variables, code, said) in [
        (&[("HOWDAH_LISTEN", "0.0.0.0:20001")][..], 1, "an address that others reach wants a token"),
        (&[("HOWDAH_LISTEN", "nowhere")], 1, "HOWDAH_LISTEN=\"nowhere\""),
        (&[("HOWDAH_LISTEN", "127.0.0.1:0"), ("HOWDAH_TOKEN_FILE", "/nothing/there")], 1, "/nothing/there"),
    ] {
        let mut run = command(&["run", pipeline.to_str().unwrap()]);
        run.env("HOWDAH_DATA", folder.path().join("data")).envs(variables.iter().copied());
        let (ended, _, err) = finish(&mut run);
        assert!(ended == code && err.contains(said), "{variables:?}: {ended} {err}");
    }
    let taken = listener();
    let address = taken.local_addr().unwrap().to_string();
    let mut run = command(&["run", pipeline.to_str().unwrap()]);
    run.env("HOWDAH_DATA", folder.path().join("data")).env("HOWDAH_LISTEN", &address);
    let (ended, _, err) = finish(&mut run);
    assert!(ended == 3 && err.contains("name another address in HOWDAH_LISTEN"), "{ended} {err}");
}
