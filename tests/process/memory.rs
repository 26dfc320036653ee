//! Memory stays flat, however much comes at once.

use std::fs;

use howdah::recorded::Options;

use super::harness::{Running, Served, TOPIC, judge_archive, judge_table, make_events, repository, tempdir};

/// Of the build with debug assertions.
const PEAK_KIB: u64 = 150 * 1024;

/// What a process had in memory at most, in KiB.
pub fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn sixty_thousand_events_at_once_leave_memory_flat() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    make_events(&events, "--copies 26 --seed 2");
    let served = Served::start(&events, Options::default());
    assert!(served.total >= 60_000);
    let mut howdah =
        Running::start(&repository("pipelines/wikimedia.toml"), &data, &served.url, &folder.path().join("log"));
    howdah.await_records(&data, TOPIC, served.total);
    let peak = peak(howdah.id());
    howdah.terminate_in_order();
    assert!(peak < PEAK_KIB, "{peak} KiB at most, {PEAK_KIB} are allowed");
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &["--at-positions", data.join(super::harness::ARCHIVE).to_str().unwrap()]);
}
