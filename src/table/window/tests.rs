//! The windows against a straightforward recomputation, over streams cut and broken at random.

use std::collections::BTreeMap;

use super::*;
use crate::table::testing::{edit, record, settings};

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
/// 2015-09-12T10:00:00Z.
const TEN: Millis = 1_442_052_000_000;

fn plan() -> Arc<Plan> {
    Arc::new(Plan::new(&settings()))
}

fn edits(seal: &Seal) -> Vec<(Millis, String, i64)> {
    let rows = seal.hours.iter().flat_map(|hour| &hour.rows);
    rows.map(|row| {
        let Cell::Long(edits) = row.cells[0] else { panic!("{row:?}") };
        (row.window_start, row.keys[0].clone(), edits)
    })
    .collect()
}

#[test]
fn a_restart_at_minute_50_keeps_the_whole_hour() {
    let records: Vec<_> = (0..60).map(|minute| edit(minute, TEN + 60_000 * minute as Millis, "enwiki")).collect();
    let mut windows = Windows::new(plan(), None);
    windows.take(&records[..50]);
    let seal = windows.seal(50, None);
    assert_eq!((seal.rewind, seal.watermark), (0, Some(TEN + 49 * MINUTE - 10 * SECOND)));

    let mut restarted = Windows::new(plan(), seal.watermark);
    restarted.replay(&records[0..50]);
    assert!(restarted.seal(50, None).hours.is_empty(), "replay moves nothing");
    restarted.take(&records[50..]);
    let expected: Vec<_> = (0..60).map(|minute| (TEN + minute * MINUTE, "enwiki".to_owned(), 1)).collect();
    let seal = restarted.seal(60, None);
    assert_eq!(edits(&seal), expected);
    assert!(seal.hours[0].replaces);
}

#[test]
fn the_committed_watermark_judges_and_not_the_moving_one() {
    let mut windows = Windows::new(plan(), None);
    // Two hours pass within one commit; an edit of the first hour after that is not late yet …
    let (counts, _) = windows.take(&[edit(0, TEN + 2 * HOUR, "a"), edit(1, TEN, "a")]);
    assert_eq!(counts, Counts { counted: 2, ..Counts::default() });
    let seal = windows.seal(2, None);
    assert_eq!(seal.rewind, 0, "the last hour is fed by the first record");
    assert_eq!(edits(&seal), [(TEN, "a".into(), 1), (TEN + 2 * HOUR, "a".into(), 1)]);
    // … but it is in the next one.
    let (counts, _) = windows.take(&[edit(2, TEN, "a")]);
    assert_eq!(counts, Counts { late: 1, ..Counts::default() });
    let seal = windows.seal(3, None);
    assert_eq!((seal.hours, seal.rewind), (vec![], 0));
}

#[test]
fn times_of_1970_and_2038_neither_panic_nor_move_what_they_should_not() {
    let mut windows = Windows::new(plan(), None);
    // 1970 is an hour like others while nothing is final …
    let old = |offset| record(offset, TEN, r#"{"wiki":"a","timestamp":0}"#);
    assert_eq!(windows.take(&[old(0), edit(1, TEN, "a")]).0, Counts { counted: 2, ..Counts::default() });
    let seal = windows.seal(2, None);
    let watermark = Some(TEN - 10 * SECOND);
    assert_eq!((edits(&seal).len(), seal.watermark, seal.rewind), (2, watermark, 1));
    // … and has been final for long once time has come.
    assert_eq!(windows.take(&[old(2)]).0, Counts { late: 1, ..Counts::default() });
    // A clock of 2038 speaks in events that reach the bus today: they are counted as future only,
    // and move nothing, filtered or without a key neither.
    let far = |offset| record(offset, TEN, r#"{"wiki":"a","timestamp":2147483648}"#);
    let canary = record(5, TEN, r#"{"meta":{"domain":"canary"},"timestamp":2147483648}"#);
    let keyless = record(6, TEN, r#"{"timestamp":2147483648}"#);
    let null = Record { value: None, ..record(7, TEN, "") };
    let (counts, _) = windows.take(&[far(3), far(4), canary, keyless, null, record(8, TEN, "{")]);
    assert_eq!(counts, Counts { future: 2, filtered: 1, skipped: 3, ..Counts::default() });
    assert_eq!(windows.seal(9, None), Seal { rewind: 1, watermark, hours: vec![] });
}

#[test]
fn an_event_that_is_filtered_still_lets_time_pass() {
    let mut windows = Windows::new(plan(), None);
    let canary = record(0, TEN, r#"{"meta":{"domain":"canary"},"timestamp":1442052000}"#);
    windows.take(&[canary]);
    assert_eq!(windows.seal(1, None).watermark, Some(TEN - 10 * SECOND));
}

#[test]
fn a_watermark_taken_over_closes_hours_and_never_goes_back() {
    let mut windows = Windows::new(plan(), None);
    windows.take(&[edit(0, TEN, "a"), edit(1, TEN + HOUR, "a")]);
    assert_eq!(windows.seal(2, None).rewind, 0);
    // Nothing new, only time: twice in a row, each a commit of its own with the same `next`.
    let seal = windows.seal(2, Some(TEN + HOUR + 10 * MINUTE));
    assert_eq!((seal.watermark, seal.rewind, seal.hours), (Some(TEN + HOUR + 10 * MINUTE), 1, vec![]));
    let seal = windows.seal(2, Some(TEN + 2 * HOUR + 10 * MINUTE));
    assert_eq!((seal.watermark, seal.rewind, seal.hours), (Some(TEN + 2 * HOUR + 10 * MINUTE), 2, vec![]));
    let seal = windows.seal(2, Some(TEN));
    assert_eq!(seal.watermark, Some(TEN + 2 * HOUR + 10 * MINUTE));
    assert_eq!(windows.take(&[edit(2, TEN + HOUR, "a")]).0.late, 1);
}

#[test]
fn an_hour_that_becomes_final_in_its_own_commit_is_written_before_it_is_forgotten() {
    let mut windows = Windows::new(plan(), None);
    windows.take(&[edit(0, TEN, "a"), edit(1, TEN + 3 * HOUR, "a")]);
    let seal = windows.seal(2, None);
    assert_eq!(edits(&seal).len(), 2);
    assert_eq!(seal.rewind, 1);
}

// One event of a random stream, and what a reader of the promise makes of it.
struct Event {
    record: Record,
    // (time, wiki, len) if it can be counted at all.
    usable: Option<(Millis, String, Millis)>,
    // The time by which it moves the watermark.
    moves: Option<Millis>,
}

fn stream(random: &mut fastrand::Rng, num_events: usize, late: bool) -> Vec<Event> {
    let mut now = TEN + random.i64(0..HOUR);
    let mut offset = random.u64(0..5);
    let mut events = Vec::new();
    for _ in 0..num_events {
        now += random.i64(0..3 * MINUTE);
        offset += if random.u8(0..8) == 0 { random.u64(1..5) } else { 1 };
        let back = if late && random.u8(0..4) == 0 { random.i64(0..5 * HOUR) } else { random.i64(0..8 * MINUTE) };
        let time = (now - back).div_euclid(SECOND) * SECOND;
        let wiki = ["enwiki", "dewiki", "frwiki"][random.usize(0..3)];
        let len = random.i64(0..100);
        let good = format!(r#"{{"timestamp":{},"wiki":"{wiki}","len":{len}}}"#, time / SECOND);
        let (text, usable, moves) = match random.u8(0..12) {
            0 => ("{\"timestamp\":".to_owned(), None, None),
            1 => (format!(r#"{{"timestamp":{},"wiki":null}}"#, time / SECOND), None, Some(time)),
            2 => (format!(r#"{{"timestamp":{},"wiki":"x"}}"#, 2_147_483_648_i64), None, None),
            3 => (good.replace("\"wiki\":", "\"meta\":{\"domain\":\"canary\"},\"wiki\":"), None, Some(time)),
            _ => (good, Some((time, wiki.to_owned(), len)), Some(time)),
        };
        events.push(Event { record: record(offset, now, &text), usable, moves });
    }
    events
}

type Table = BTreeMap<(Millis, String), (i64, f64, i64)>;

/// The rule, written out: each commit's records are judged by the watermark before it.
fn recompute(commits: &[(&[Event], Option<Millis>)]) -> (Table, Option<Millis>) {
    let mut table = Table::new();
    let mut watermark: Option<Millis> = None;
    for (events, follow) in commits {
        for (time, wiki, len) in events.iter().filter_map(|event| event.usable.as_ref()) {
            let hour_end = time - time % HOUR + HOUR;
            if watermark.is_none_or(|watermark| watermark < hour_end + 10 * MINUTE) {
                let row = table.entry((time - time % MINUTE, wiki.clone())).or_default();
                *row = (row.0 + 1, row.1 + *len as f64, row.2 + 1);
            }
        }
        let newest = events.iter().filter_map(|event| event.moves).max().map(|time| time - 10 * SECOND);
        watermark = [watermark, newest, *follow].into_iter().flatten().max();
    }
    (table, watermark)
}

/// Runs the stream with commits at these cuts and crashes at random; returns the table as its
/// files would hold it.
fn run(
    random: &mut fastrand::Rng,
    events: &[Event],
    commits: &[(&[Event], Option<Millis>)],
) -> (Table, Option<Millis>) {
    let plan = plan();
    let mut files: BTreeMap<Hour, Vec<Row>> = BTreeMap::new();
    let (mut next, mut rewind, mut watermark) = (0, 0, None);
    let mut windows = Windows::new(Arc::clone(&plan), None);
    for (events_of_commit, follow) in commits {
        loop {
            let records: Vec<_> = events_of_commit.iter().map(|event| event.record.clone()).collect();
            let taken = if random.u8(0..5) == 0 { random.usize(0..=records.len()) } else { records.len() };
            let mut rest = &records[..taken];
            while !rest.is_empty() {
                let (batch, more) = rest.split_at(random.usize(1..=rest.len()));
                assert_eq!(windows.take(batch).0.total(), batch.len() as u64);
                rest = more;
            }
            if taken == records.len() {
                break;
            }
            // A crash: state is gone, but for what the last commit stored.
            windows = Windows::new(Arc::clone(&plan), watermark);
            let again = |event: &&Event| (rewind..next).contains(&event.record.offset);
            let replayed: Vec<_> = events.iter().filter(again).map(|event| event.record.clone()).collect();
            windows.replay(&replayed);
        }
        let at = events_of_commit.last().map_or(next, |event| event.record.offset + 1);
        let seal = windows.seal(at, *follow);
        (next, rewind, watermark) = (at, seal.rewind, seal.watermark);
        for HourRows { hour, rows, replaces } in seal.hours {
            assert_eq!(files.insert(hour, rows).is_some(), replaces, "{hour}");
        }
    }
    let mut table = Table::new();
    for row in files.into_values().flatten() {
        let [Cell::Long(edits), Cell::Double(sum), Cell::Long(count)] = row.cells[..] else { panic!("{row:?}") };
        assert!(table.insert((row.window_start, row.keys[0].clone()), (edits, sum, count)).is_none());
    }
    (table, watermark)
}

fn cut<'e>(random: &mut fastrand::Rng, events: &'e [Event], idle: bool) -> Vec<(&'e [Event], Option<Millis>)> {
    let mut commits = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let (commit, more) = rest.split_at(random.usize(0..=rest.len().min(20)));
        let at = commit.last().map_or(TEN, |event| event.record.time);
        commits.push((commit, (idle && random.u8(0..6) == 0).then_some(at)));
        rest = more;
    }
    commits
}

#[test]
fn any_cut_and_any_crash_give_the_rows_that_the_rule_gives() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let events = stream(&mut random, 120, true);
        let commits = cut(&mut random, &events, true);
        assert_eq!(run(&mut random, &events, &commits), recompute(&commits), "seed {seed}");
    }
}

#[test]
fn where_nothing_is_late_every_cut_gives_the_same_table() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let events = stream(&mut random, 120, false);
        let whole = recompute(&[(&events, None)]);
        for _ in 0..4 {
            let commits = cut(&mut random, &events, false);
            assert_eq!(run(&mut random, &events, &commits), whole, "seed {seed}");
        }
    }
}

#[test]
fn rows_taken_back_from_a_commit_are_as_good_as_a_replay() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let events = stream(&mut random, 80, true);
        let records: Vec<_> = events.iter().map(|event| event.record.clone()).collect();
        let next = records[40].offset;
        let mut windows = Windows::new(plan(), None);
        windows.take(&records[..40]);
        let seal = windows.seal(next, None);

        let mut replayed = Windows::new(plan(), seal.watermark);
        let again: Vec<_> = records[..40].iter().filter(|record| record.offset >= seal.rewind).cloned().collect();
        replayed.replay(&again);
        let mut restored = Windows::new(plan(), seal.watermark);
        for hour in seal.hours.iter().filter(|hour| !windows.is_final(hour.hour)) {
            restored.restore(hour.hour, hour.rows.clone(), seal.rewind);
        }
        let of = |windows: &mut Windows| {
            let (counts, _) = windows.take(&records[40..]);
            (counts, windows.seal(records[79].offset + 1, None).hours)
        };
        let expected = of(&mut windows);
        assert_eq!(of(&mut replayed), expected, "seed {seed}");
        assert_eq!(of(&mut restored), expected, "seed {seed}");
    }
}

#[test]
fn no_more_rows_are_kept_than_fit_but_for_the_first_hour() {
    let check = |max_rows: usize, until: Millis, rows: usize| {
        let mut windows = Windows::new(plan(), None);
        let records: Vec<_> = (0..180).map(|minute| edit(minute, TEN + 60_000 * minute as Millis, "enwiki")).collect();
        windows.take(&records);
        assert_eq!(windows.keep_only(&(TEN..TEN + 3 * HOUR), max_rows), until, "{max_rows}");
        assert_eq!(edits(&windows.seal(180, None)).len(), rows, "{max_rows}");
    };
    check(180, TEN + 3 * HOUR, 180);
    check(179, TEN + 2 * HOUR, 120);
    check(119, TEN + HOUR, 60);
    check(1, TEN + HOUR, 60);
    let mut windows = Windows::new(plan(), None);
    windows.take(&[edit(0, TEN - 1, "a"), edit(1, TEN, "b"), edit(2, TEN + HOUR, "c")]);
    windows.keep_only(&(TEN..TEN + HOUR), 10);
    assert_eq!(edits(&windows.seal(3, None)), [(TEN, "b".to_owned(), 1)]);
}
