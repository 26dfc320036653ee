//! What is done to howdah in one run, and to which howdah: a pure function of a seed.
//!
//! A run is one data folder. While a server serves events slowly, the process dies over and over
//! (`deaths`); then the server hands out the rest as fast as it is read, and it dies a few times
//! more, now with a backlog before every stage (`rush`). Each plan has every fail point once.

use std::time::Duration;

use howdah::failpoint::POINTS;

/// Deaths at random moments of the slow part …
const RANDOM: usize = 14;
/// … and amid an ordered end, …
const ENDING: usize = 3;
/// … and of the part at full speed.
const RUSH: usize = 5;

/// The fail points of a howdah without loaders.
pub fn points() -> impl Iterator<Item = &'static str> {
    POINTS.iter().copied().filter(|point| !point.starts_with("load."))
}

/// The howdah of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Of the topic. More than one: keyed by the wiki.
    pub partitions: u32,
    /// Replicas of the archiver.
    pub archivers: u32,
    /// Replicas of the aggregator.
    pub aggregators: u32,
    /// How segments are compressed.
    pub codec: &'static str,
    /// The layouts of the spool, of one life after the other.
    pub layouts: &'static [&'static str],
    /// Whether the server writes as badly as the standard allows.
    pub hostile: bool,
    /// Whether some events have odd types and times, so that some are late.
    pub odd: bool,
    /// Whether a few events are above the size bound.
    pub big: bool,
    /// Whether other programs read the table all the time.
    pub readers: bool,
}

const PLAIN: Setup = Setup {
    partitions: 1,
    archivers: 1,
    aggregators: 1,
    codec: "plain",
    layouts: &["packed"],
    hostile: false,
    odd: false,
    big: false,
    readers: false,
};

const FILES: &[&str] = &["file-per-event"];
const CHANGING: &[&str] = &["packed", "file-per-event"];

/// One run each; neighbours run side by side.
pub const SETUPS: &[Setup] = &[
    PLAIN,
    Setup { partitions: 3, archivers: 2, aggregators: 2, codec: "zstd", layouts: FILES, hostile: true, ..PLAIN },
    Setup { partitions: 4, archivers: 2, aggregators: 2, layouts: CHANGING, readers: true, ..PLAIN },
    Setup { codec: "gzip", hostile: true, ..PLAIN },
    Setup { partitions: 3, aggregators: 2, layouts: FILES, odd: true, ..PLAIN },
    Setup { partitions: 4, archivers: 2, codec: "zstd", layouts: CHANGING, big: true, ..PLAIN },
];

/// How one life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// So long after its start.
    Random(Duration),
    /// It is told to end after the first time, and does not get more than the second for it.
    Ending(Duration, Duration),
    /// At this crossing of a fail point.
    Point(&'static str, u32),
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything else follows from, and what the server and the events are given.
    pub seed: u64,
    /// Events are the recorded ones so many times over.
    pub copies: u32,
    /// … and each time only every so many-th of them, so that hours pass quickly and become final.
    pub every: u32,
    /// Which howdah.
    pub setup: Setup,
    /// While events come slowly.
    pub deaths: Vec<Death>,
    /// While they come as fast as they are taken.
    pub rush: Vec<Death>,
}

impl Plan {
    /// The plan of the run with this number.
    pub fn new(seed: u64, number: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut deaths: Vec<_> = points().map(|point| Death::Point(point, crossing(point, &mut rng))).collect();
        deaths.extend((0..RANDOM).map(|_| Death::Random(moment(&mut rng))));
        deaths.extend((0..ENDING).map(|_| Death::Ending(moment(&mut rng), millis(rng.u64(..120)))));
        rng.shuffle(&mut deaths);
        let rush = (0..RUSH).map(|_| Death::Random(millis(rng.u64(150..800)))).collect();
        Self { seed: rng.u64(..1 << 32), copies: 96, every: 8, setup: SETUPS[number % SETUPS.len()], deaths, rush }
    }

    /// Deaths between the first byte received and the first sync, on a fresh data folder.
    pub fn of_first_bytes(seed: u64) -> Self {
        let deaths = vec![
            Death::Point("collect.received", 1),
            Death::Point("collect.received", 1),
            Death::Point("spool.appended", 1),
            Death::Point("collect.received", 2),
        ];
        Self { seed, copies: 1, every: 1, setup: PLAIN, deaths: Vec::new(), rush: deaths }
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One in four falls into the start, where a recovery is under way.
fn moment(rng: &mut fastrand::Rng) -> Duration {
    millis(if rng.u8(..4) == 0 { rng.u64(..150) } else { rng.u64(150..1_500) })
}

/// Points of a record's way in are crossed many times a second, those of a roll or a commit a few
/// times, others less.
fn crossing(point: &str, rng: &mut fastrand::Rng) -> u32 {
    let most = match point {
        // An hour passes each second or two, and so many commits.
        "table.closed" | "table.final_staged" | "table.final_there" | "table.swapped" => 2,
        "table.checkpointed" | "table.marked" | "table.cleaned" => 1,
        "spool.rolled" | "spool.events_synced" => 3,
        _ if point.starts_with("archive.") || point.starts_with("table.") => 5,
        _ => 12,
    };
    rng.u32(1..=most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_same_for_the_same_seed_and_another_for_another() {
        for number in 0..SETUPS.len() {
            assert_eq!(Plan::new(1, number), Plan::new(1, number));
            assert_ne!(Plan::new(1, number).deaths, Plan::new(2, number).deaths);
            assert_ne!(Plan::new(1, number).deaths, Plan::new(1, number + 1).deaths);
        }
    }

    #[test]
    fn every_plan_visits_every_fail_point() {
        for number in 0..20 {
            let plan = Plan::new(number, 0);
            for point in points() {
                let visits =
                    plan.deaths.iter().filter(|death| matches!(death, Death::Point(name, _) if *name == point));
                assert_eq!(visits.count(), 1, "{point}");
            }
        }
    }

    #[test]
    fn the_setups_cover_what_is_promised() {
        let has = |has: fn(&Setup) -> bool| SETUPS.iter().any(has);
        for partitions in [1, 3, 4] {
            assert!(SETUPS.iter().any(|setup| setup.partitions == partitions), "{partitions} partitions");
        }
        assert!(has(|setup| setup.archivers == 1) && has(|setup| setup.archivers == 2));
        assert!(has(|setup| setup.aggregators == 1) && has(|setup| setup.aggregators == 2));
        for codec in ["plain", "gzip", "zstd"] {
            assert!(SETUPS.iter().any(|setup| setup.codec == codec), "{codec}");
        }
        for layouts in [&["packed"], FILES, CHANGING] {
            assert!(SETUPS.iter().any(|setup| setup.layouts == layouts), "{layouts:?}");
        }
        assert!(has(|setup| setup.hostile) && has(|setup| setup.odd) && has(|setup| setup.big));
        assert!(has(|setup| setup.readers && setup.aggregators == 2));
    }
}
