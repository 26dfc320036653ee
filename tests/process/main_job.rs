//! The pipeline that ships, as it ships: edits come in, SIGTERM comes, everything is there.

use std::{
    io::{BufRead, BufReader},
    thread,
};

use howdah::recorded::Options;

use super::harness::{
    Running, Served, command, finish, judge_archive, judge_table, listener, make_events, repository, tempdir, url_of,
};

#[test]
fn after_sigterm_archive_and_table_hold_everything_open_windows_included() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    make_events(&events, "--canary 50 --bare 37 --seed 3");
    let served = Served::start(&events, Options { cut_every: Some(700), hostile: true, ..Options::default() });
    let mut howdah =
        Running::start(&repository("pipelines/wikimedia.toml"), &data, &served.url, &folder.path().join("log"));
    howdah.await_records(&data, "wiki_changes", served.total);
    let ended = howdah.terminate_in_order();
    assert!(served.progress().resumes >= 2, "the server has cut connections: {:?}", served.progress());
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}

/// SIGTERM in the middle: what came so far is whole, and the next start takes the rest.
#[test]
fn sigterm_in_midstream_leaves_a_whole_prefix_and_the_next_start_the_rest() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), repository("data/recentchange-2015-09-12.ndjson.gz"));
    let served = Served::start(&events, Options { speed: 800.0, ..Options::default() });
    let log = folder.path().join("log");
    let pipeline = repository("pipelines/wikimedia.toml");
    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_line(&["connected"]);
    super::harness::wait_for("a part", || (served.progress().sent > 500).then_some(()), String::new);
    howdah.terminate_in_order();
    assert!(served.progress().sent < served.total, "in midstream: {:?}", served.progress());
    judge_archive(&events, &data, &["--allow-prefix"]);
    let archive = data.join(super::harness::ARCHIVE);
    judge_table(&events, &data, &["--at-positions", archive.to_str().unwrap()]);

    let mut howdah = Running::start(&pipeline, &data, &served.url, &log);
    howdah.await_records(&data, "wiki_changes", served.total);
    howdah.terminate_in_order();
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}

#[test]
fn without_a_contact_wikimedias_hosts_are_not_asked() {
    let folder = tempdir();
    let pipeline = repository("pipelines/wikimedia.toml");
    for contact in [None, Some(""), Some("   ")] {
        let mut run = command(&["run", pipeline.to_str().unwrap()]);
        run.env_remove("WIKIMEDIA_URL")
            .env("HOWDAH_DATA", folder.path().join("data"))
            .envs(contact.map(|contact| ("HOWDAH_CONTACT", contact)));
        let (code, out, err) = finish(&mut run);
        assert_eq!(code, 1, "{err}");
        assert_eq!(out, "");
        let complaint = "stream.wikimedia.org asks to know whom to reach: set HOWDAH_CONTACT to an e-mail address or \
                         a URL (with contact = \"${HOWDAH_CONTACT}\" here); it is sent in the User-Agent";
        let place = format!("{}:", pipeline.display());
        assert!(err.starts_with(&place) && err.contains(complaint), "{err}");
        assert!(!folder.path().join("data").exists(), "a refused pipeline leaves nothing behind");
        let mut doctor = command(&["doctor", pipeline.to_str().unwrap()]);
        doctor.env_remove("WIKIMEDIA_URL").env("HOWDAH_DATA", folder.path().join("doctor"));
        let (code, out, _) = finish(doctor.envs(contact.map(|contact| ("HOWDAH_CONTACT", contact))));
        let is_told = out.lines().any(|line| line.starts_with("WRONG") && line.contains(complaint));
        assert!(code == 1 && is_told, "{code}: {out}");
    }
}

#[test]
fn the_user_agent_names_howdah_its_version_and_the_contact() {
    let folder = tempdir();
    let listener = listener();
    let mut run = command(&["run", repository("pipelines/wikimedia.toml").to_str().unwrap()]);
    run.env("HOWDAH_DATA", folder.path().join("data"))
        .env("WIKIMEDIA_URL", url_of(listener.local_addr().unwrap()))
        .env("HOWDAH_CONTACT", "ops@example.org");
    let asked = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(stream).lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    });
    let howdah = Running::spawn(run, &folder.path().join("log"));
    let request = asked.join().unwrap();
    drop(howdah);
    let expected = format!("howdah/{} (ops@example.org)", env!("CARGO_PKG_VERSION"));
    let agents: Vec<_> = request
        .iter()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
        .map(|(_, agent)| agent)
        .collect();
    assert_eq!(agents, [expected], "{request:#?}");
    assert!(request[0].starts_with("GET /v2/stream/recentchange"), "{request:#?}");
}
