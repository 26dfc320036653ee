//! Killed again and again, on a real Kafka and a real HDFS.

use std::time::Duration;

use howdah::failpoint::POINTS;

use super::stand::{Case, Clusters};
use crate::torture::process::{Process, is_killed};

/// At random moments, beside one death at each fail point.
const RANDOM: usize = 34;

/// A fail point that is not crossed within this time is given up, and the process killed anyhow.
const PATIENCE: Duration = Duration::from_secs(8);

const SEED: u64 = 50;

/// Where a table's clean-up crosses points, which a table of a few minutes has no need of.
const RARELY: [&str; 4] = ["table.cleaned", "table.marked", "table.checkpointed", "spool.events_synced"];

#[test]
fn fifty_kills_on_kafka_and_hdfs_lose_nothing_and_repeat_nothing() {
    let clusters = Clusters::start();
    let case = Case::new(&clusters, "kills", 8, 150.0);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut fails: Vec<Option<String>> = POINTS
        .iter()
        .filter(|point| !RARELY.contains(point) && !point.starts_with("load."))
        .map(|point| Some(format!("{point}={}", rng.u32(1..=3))))
        .collect();
    fails.resize(fails.len() + RANDOM, None);
    rng.shuffle(&mut fails);
    let (mut kills, mut hits) = (0, 0);
    for fail in fails {
        let mut howdah = Process::start(&mut case.run(fail.as_deref()), &case.log());
        let life = if fail.is_some() { PATIENCE } else { Duration::from_millis(rng.u64(200..3_500)) };
        match howdah.ended_within(life) {
            None => kills += u32::from(howdah.kill()),
            Some(status) => {
                assert!(is_killed(status) && fail.is_some(), "ended by itself with {status} ({fail:?})");
                (kills, hits) = (kills + 1, hits + 1);
            }
        }
    }
    println!("seed {SEED}: {kills} kills, {hits} of them at fail points");
    assert!(kills >= 50 && hits >= 10, "{kills} kills, {hits} at fail points");
    let mut howdah = case.start();
    case.await_records(&mut howdah, case.served.total);
    howdah.terminate_in_order();
    case.judge();
}
