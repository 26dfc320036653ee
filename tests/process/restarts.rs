//! A person restarts actors again and again while a stream runs: nothing leaks, and nothing is lost.

use std::fs;

use howdah::recorded::Options;

use super::{
    harness::{Served, judge_archive, judge_table, make_events, tempdir, wait_for},
    steer::start,
};

const ACTORS: [&str; 5] = ["collect", "ingest", "archive", "edits", "sizes"];

/// What a process holds, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident_kb: usize,
    threads: usize,
    files: usize,
}

impl Held {
    fn by(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        Self { resident_kb: number("VmRSS:"), threads: number("Threads:"), files }
    }
}

#[test]
fn restarts_by_the_hundred_leak_nothing_and_lose_nothing() {
    // 1,000 where time is no matter: see tests/full.
    let rounds = if std::env::var_os("HOWDAH_FULL_TIMES").is_some() { 200 } else { 60 };
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    make_events(&events, &format!("--copies {} --seed 6", rounds * 3 / 10));
    let served = Served::start(&events, Options { speed: 400.0 * 60.0, cut_every: Some(20_000), ..Options::default() });
    let node = start(folder.path(), &served.url);
    let process = node.running.id();
    let mut before = None;
    let sent = |node: &super::steer::Node| node.actor("wikimedia/ingest/0")["out"]["records"].as_u64().unwrap();
    for round in 0..rounds {
        for stage in ACTORS {
            let actor = format!("wikimedia/{stage}/0");
            let said = node.says(&["restart", &actor]);
            assert!(said.ends_with(&format!("(life {})\n", round + 2)), "{said}");
        }
        if round == rounds / 2 {
            // By then the allocator has what it wants for each thread.
            before = Some(Held::by(process));
            assert!(sent(&node) < served.total, "the stream was over before the restarts");
        }
    }
    let (before, after) = (before.unwrap(), Held::by(process));
    println!("{} restarts: {before:?}, {after:?}, {} of {} events sent", rounds * 5, sent(&node), served.total);
    assert!(after.resident_kb <= before.resident_kb + 32 * 1024, "{before:?}, {after:?}");

    let mut running = node.running;
    running.await_records(&data, "wiki_changes", served.total);
    // The threads of the file pool end when they have had nothing to do for a while; files of bus and spool come and
    // go, far fewer than one for each restart.
    let is_back = |held: Held| held.threads <= before.threads && held.files <= before.files + 10;
    let held = || format!("{before:?}, {:?}", Held::by(process));
    wait_for("threads and files to be given back", || is_back(Held::by(process)).then_some(()), held);
    running.terminate_in_order();
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}
