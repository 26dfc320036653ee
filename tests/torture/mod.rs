//! Torture of the real process: killed at random moments and at every fail point, hundreds of
//! times, with records in every file, mailbox and transaction; and in the end every event is there
//! once, in the archive and in the table.
//!
//! Everything that is left to chance follows from a seed, which is printed; when which bytes flow
//! is still up to the machine. To look closer:
//!
//! - `HOWDAH_TORTURE_SEED=7` takes that seed, `7/2` also only the run with the number 2;
//! - `HOWDAH_TORTURE_ROUNDS=10` makes ten times as many runs, each other than the ones before.

pub mod judge;
mod plan;
pub mod process;
mod run;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use self::{
    plan::{Plan, SETUPS, points},
    run::{Tally, run},
};

/// Runs side by side: as many as a small machine of a CI bears.
const LANES: usize = 2;

/// Without another one in the environment.
const SEED: u64 = 2015;

const MIN_KILLS: u32 = 200;
const MIN_HITS: u32 = 3;

#[allow(clippy::disallowed_methods, reason = "a test's own switches, which no configuration has")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number"))
}

/// The seed, and the only run that is wanted.
fn seed() -> (u64, Option<usize>) {
    const NAME: &str = "HOWDAH_TORTURE_SEED";
    let Some(text) = environment(NAME) else { return (SEED, None) };
    match text.split_once('/') {
        Some((seed, only)) => (number(NAME, seed), Some(number(NAME, only))),
        None => (number(NAME, &text), None),
    }
}

fn rounds() -> usize {
    const NAME: &str = "HOWDAH_TORTURE_ROUNDS";
    environment(NAME).map_or(1, |text| number(NAME, &text))
}

/// Says something that is seen although the test passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn table_of_hits(hits: &BTreeMap<&str, u32>) -> String {
    let line = |point: &&str| format!("{:6}  {point}\n", hits.get(point).unwrap_or(&0));
    points().map(|point| line(&point)).collect()
}

#[test]
fn two_hundred_kills_lose_nothing_and_repeat_nothing() {
    let (seed, only) = seed();
    let numbers = only.map_or(0..SETUPS.len() * rounds(), |only| only..only + 1);
    let (next, done) = (AtomicUsize::new(numbers.start), Mutex::new(Vec::<Tally>::new()));
    let lane = || loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if number >= numbers.end {
            return;
        }
        let name = format!("torture, seed {seed}/{number}");
        say(&format!("{name}: begins"));
        let tally = run(&name, &Plan::new(seed, number));
        say(&tally.summary);
        done.lock().unwrap().push(tally);
    };
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(lane);
        }
    });

    let done = done.into_inner().unwrap();
    let kills: u32 = done.iter().map(|tally| tally.kills).sum();
    let mut hits = BTreeMap::new();
    for (&point, &times) in done.iter().flat_map(|tally| &tally.hits) {
        *hits.entry(point).or_default() += times;
    }
    say(&format!("torture, seed {seed}: {kills} kills, of them at fail points\n{}", table_of_hits(&hits)));
    if only.is_none() {
        assert!(kills >= MIN_KILLS, "only {kills} kills");
        for point in points() {
            let times = hits.get(point).copied().unwrap_or(0);
            assert!(times >= MIN_HITS, "{point} was hit {times} times, {MIN_HITS} are wanted");
        }
    }
}

#[test]
fn killed_between_the_first_byte_and_the_first_sync_nothing_is_lost() {
    let plan = Plan::of_first_bytes(SEED);
    let tally = run("torture, the first bytes", &plan);
    say(&tally.summary);
    assert_eq!(tally.hits.values().sum::<u32>(), 4, "not all deaths were at their fail points: {:?}", tally.hits);
}
