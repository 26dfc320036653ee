//! Killed again and again, before InfluxDB and OpenSearch, on the embedded bus and on Kafka.

use std::{thread, time::Duration};

use howdah::failpoint::POINTS;

use super::stand::{Case, Sinks, says};
use crate::{
    process::harness::wait_for,
    servers::Servers,
    torture::process::{Process, is_killed},
};

/// Kills in all, at fail points and at random moments.
const KILLS: usize = 50;

/// A fail point that is not crossed within this time is given up, and the process killed anyhow.
const PATIENCE: Duration = Duration::from_secs(8);

/// Answers of the last life, after the last kill.
const LAST: usize = 30;

/// What an ordered end may take.
const END: Duration = Duration::from_secs(30);

/// The points that this pipeline crosses all the time; those of loads three times.
fn points() -> impl Iterator<Item = &'static str> {
    let rarely = ["spool.events_synced", "spool.rolled", "archive.letters_sent"];
    let own = POINTS.iter().copied().filter(move |point| !point.starts_with("table.") && !rarely.contains(point));
    own.clone()
        .chain(own.clone().filter(|point| point.starts_with("load.")))
        .chain(own.filter(|point| point.starts_with("load.")))
}

fn kill_again_and_again(case: &Case<'_>, seed: u64, slow: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut fails: Vec<Option<String>> = points().map(|point| Some(format!("{point}={}", rng.u32(1..=3)))).collect();
    fails.resize(KILLS, None);
    rng.shuffle(&mut fails);
    let (mut kills, mut hits) = (0, 0);
    for fail in fails {
        let mut howdah = Process::start(&mut case.run(fail.as_deref()), &case.log());
        let life = if fail.is_some() { PATIENCE } else { Duration::from_millis(rng.u64(200..slow)) };
        match howdah.ended_within(life) {
            None => kills += u32::from(howdah.kill()),
            Some(status) => {
                assert!(is_killed(status) && fail.is_some(), "{}: ended by itself with {status} ({fail:?})", case.name);
                (kills, hits) = (kills + 1, hits + 1);
            }
        }
    }
    assert!(kills as usize >= KILLS && hits >= 15, "{}: {kills} kills, {hits} at fail points", case.name);
    let given = case.service.given();
    let mut howdah = Process::start(&mut case.run(None), &case.log());
    wait_for("the last answers", || (case.service.given() >= given + LAST).then_some(()), || case.name.to_owned());
    howdah.terminate();
    let status = howdah.ended_within(END).unwrap_or_else(|| panic!("{}: told to end, it still runs", case.name));
    assert!(status.success() && says(&case.log(), "end=Drained"), "{}: {status}", case.name);
    println!("{}, seed {seed}: {kills} kills, {hits} of them at fail points: {}", case.name, case.judge());
    case.assert_no_letters();
    case.assert_doctor_knows_the_sinks();
}

#[test]
fn fifty_kills_leave_every_user_once_in_influxdb_and_opensearch() {
    let (sinks, kafka) = thread::scope(|scope| {
        let kafka = scope.spawn(|| Servers::start(&["kafka"]));
        (Sinks::start(), kafka.join().unwrap())
    });
    let embedded = Case::new(&sinks, "embedded", None);
    let on_kafka = Case::new(&sinks, "kafka", Some(&kafka));
    thread::scope(|scope| {
        scope.spawn(|| kill_again_and_again(&embedded, 7, 1_500));
        kill_again_and_again(&on_kafka, 8, 3_000);
    });
}
