//! What must hold at the end of a history; log and records are read without the table's code.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;

use super::{HOUR, MINUTE, settings};
use crate::{
    bus::TopicInfo,
    model::{Millis, Offset, Partition},
    sim::Sim,
    store::model::What,
    table::{Columns, Definition, Snapshot, grid::rfc3339, parquet, window::Cell as Number},
};

type Rows = BTreeMap<(Millis, String), i64>;

/// What one commit stored for a partition.
#[derive(Clone, Copy)]
struct Cut {
    next: Offset,
    watermark: Option<Millis>,
}

/// Everything that must hold at the end of a history.
pub fn check(sim: &Sim, topic: &TopicInfo, ends: [Offset; 3]) -> Result<(), String> {
    let files = sim.world().files();
    // What was deleted first is what stood there while it counted.
    let ever: BTreeMap<_, _> = files.clone().into_iter().chain(sim.world().deleted()).collect();
    let folder = format!("{}/", settings().path);
    let log = format!("{folder}_delta_log/");
    let mut state = State::default();
    let versions = ever.range(log.clone()..).take_while(|(path, _)| path.starts_with(&log));
    let versions: Vec<_> = versions.filter(|(path, _)| path.ends_with(".json") && !path.contains("/.")).collect();
    let last = versions.len().saturating_sub(1);
    let chosen = sim.below(versions.len().max(1));
    let horizon = files.keys().filter_map(|path| path.strip_prefix(&format!("{folder}_cleaned/"))?.parse().ok());
    let horizon = horizon.max().unwrap_or(0);
    for (number, (path, text)) in versions.iter().enumerate() {
        if **path != format!("{log}{number:020}.json") {
            return Err(format!("{path} stands where version {number} is wanted"));
        }
        state.apply(text).map_err(|what| format!("{path}: {what}"))?;
        let is_gone = |path: &&String| !files.contains_key(&format!("{folder}{path}"));
        if let Some(gone) = state.live.keys().find(is_gone).filter(|_| number >= horizon) {
            return Err(format!("{gone} is deleted, and version {number} names it (the horizon is {horizon})"));
        }
        if number == last || number == chosen {
            let found = rows(&ever, &folder, state.live.keys())?;
            let expected = recompute(sim, topic, &state)?;
            if found != expected {
                return Err(format!("version {number} holds {found:?} instead of {expected:?}"));
            }
        }
    }
    for (partition, cuts) in &state.cuts {
        let end = cuts.last().map_or(0, |cut| cut.next);
        if end != ends[*partition as usize] {
            return Err(format!("partition {partition} is committed to {end} of {}", ends[*partition as usize]));
        }
    }
    let is_missing = |partition: &u32| ends[*partition as usize] > 0 && !state.cuts.contains_key(partition);
    if let Some(partition) = (0..topic.num_partitions).find(is_missing) {
        return Err(format!("partition {partition} was never committed"));
    }
    check_final(&files, &folder, &state, &recompute(sim, topic, &state)?)?;
    check_changes(sim, &folder)?;
    check_load(sim, &state)
}

/// Plain readers see the final hours, each in one file, and nothing else; one that was rebuilt in its file of
/// before until the new one is there.
fn check_final(files: &BTreeMap<String, Bytes>, folder: &str, state: &State, expected: &Rows) -> Result<(), String> {
    let until = state.until.unwrap_or(Millis::MIN);
    let mut final_rows: BTreeMap<String, Rows> = BTreeMap::new();
    for ((start, wiki), edits) in expected.iter().filter(|((start, _), _)| *start < until) {
        let hour = rfc3339(start.div_euclid(HOUR) * HOUR);
        final_rows.entry(hour).or_default().insert((*start, wiki.clone()), *edits);
    }
    let plain = files.keys().filter_map(|path| path.strip_prefix(folder)).filter(|path| path.starts_with("dt="));
    let plain: Vec<_> = plain.map(str::to_owned).collect();
    if !plain.iter().eq(state.shown.values()) || !state.shown.keys().eq(final_rows.keys()) {
        return Err(format!("plain readers see {plain:?} instead of {:?} of {:?}", state.shown, final_rows.keys()));
    }
    for (hour, expected) in &final_rows {
        let path = &state.shown[hour];
        let found = rows(files, folder, std::iter::once(path))?;
        if state.live.contains_key(path) && found != *expected {
            return Err(format!("{path} holds {found:?} instead of {expected:?}"));
        }
    }
    Ok(())
}

/// No plain reader ever saw two files of an hour, nor one change, nor one go but for a newer one.
fn check_changes(sim: &Sim, folder: &str) -> Result<(), String> {
    let mut seen: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for change in sim.world().visible_changes() {
        let Some(path) = change.path.strip_prefix(folder).filter(|path| path.starts_with("dt=")) else { continue };
        let hour = path["dt=".len()..].split(['-', '.']).take(3).collect::<Vec<_>>().join("-");
        let files = seen.entry(hour).or_default();
        match change.what {
            What::Appeared => drop(files.insert(path.to_owned(), true)),
            What::Vanished | What::Lost => drop(files.insert(path.to_owned(), false)),
            What::Changed | What::Torn => return Err(format!("a plain reader saw {change:?}")),
        }
        if files.values().filter(|seen| **seen).count() > 1 {
            return Err(format!("a plain reader saw {change:?} beside another file: {files:?}"));
        }
    }
    match seen.iter().find(|(_, files)| files.values().all(|seen| !seen)) {
        Some((hour, files)) => Err(format!("hour {hour} is gone for plain readers: {files:?}")),
        None => Ok(()),
    }
}

/// Who opens the table now, from its checkpoint, finds what the whole log says.
fn check_load(sim: &Sim, state: &State) -> Result<(), String> {
    let store = sim.world().store();
    let loaded = Snapshot::load(&store, &settings().path).now_or_never().ok_or("a load without weather waits")?;
    let loaded = loaded.map_err(|fault| fault.to_string())?.ok_or("there is no table")?;
    let found: Vec<_> = loaded.files().map(|(path, _)| path.to_owned()).collect();
    if !found.iter().eq(state.live.keys()) {
        return Err(format!("loaded, it has {found:?} instead of {:?}", state.live.keys()));
    }
    let found: Vec<_> = loaded.lanes().map(|(lane, at)| (lane.partition, at.seq, at.next, at.watermark)).collect();
    let cut = |cuts: &Vec<Cut>| cuts.last().map(|cut| (cuts.len() as u64, cut.next, cut.watermark));
    let expected = state.cuts.iter().filter_map(|(partition, cuts)| Some((*partition, cut(cuts)?)));
    let expected: Vec<_> = expected.map(|(partition, (seq, next, mark))| (partition, seq, next, mark)).collect();
    if found != expected || loaded.final_until() != state.until {
        return Err(format!("loaded, it stands at {found:?} instead of {expected:?}"));
    }
    Ok(())
}

/// What the log says up to some version.
#[derive(Default)]
struct State {
    live: BTreeMap<String, ()>,
    cuts: BTreeMap<Partition, Vec<Cut>>,
    until: Option<Millis>,
    /// Of each hour the file that plain readers saw last.
    shown: BTreeMap<String, String>,
    /// Of each hour that was rebuilt, up to where its records were counted.
    rebuilt: BTreeMap<String, BTreeMap<Partition, Offset>>,
}

impl State {
    /// Takes one version's actions, as the Delta protocol reads them.
    fn apply(&mut self, text: &[u8]) -> Result<(), String> {
        let Self { live, cuts, shown, rebuilt, .. } = self;
        let mut stored: BTreeMap<Partition, BTreeMap<String, i64>> = BTreeMap::new();
        let mut closed = None;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(path) = action["add"]["path"].as_str() {
                if live.insert(path.to_owned(), ()).is_some() {
                    return Err(format!("{path} is added twice"));
                }
                let hour = action["add"]["tags"]["howdah.hour"].as_str().ok_or("an hour")?;
                if path.starts_with("dt=") {
                    shown.insert(hour.to_owned(), path.to_owned());
                }
            } else if action["commitInfo"]["operation"] == "REBUILD HOUR" {
                let told =
                    |name: &str| action["commitInfo"]["operationParameters"][name].as_str().ok_or(name.to_owned());
                let lane = |text: &str| {
                    let (lane, next) = text.split_once('@')?;
                    Some((lane.rsplit('-').next()?.parse().ok()?, next.parse().ok()?))
                };
                let counted: Option<_> = told("counted")?.split(' ').map(lane).collect();
                rebuilt.insert(told("hour")?.to_owned(), counted.ok_or("what was counted")?);
            } else if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path).ok_or(format!("{path} is removed and was not there"))?;
            } else if let Some(app) = action["txn"]["appId"].as_str() {
                let mut parts = app.rsplit('/');
                let what = parts.next().ok_or("txn")?.to_owned();
                if what == "final" {
                    closed = Some(action["txn"]["version"].as_i64().ok_or("txn version")?);
                    continue;
                }
                let partition = parts.next().and_then(|number| number.parse().ok()).ok_or(format!("txn {app}"))?;
                let version = action["txn"]["version"].as_i64().ok_or("txn version")?;
                stored.entry(partition).or_default().insert(what, version);
            }
        }
        for (partition, stored) in stored {
            let cuts = cuts.entry(partition).or_default();
            if stored.get("seq") != Some(&(cuts.len() as i64 + 1)) {
                return Err(format!("partition {partition} stores {stored:?} as commit {}", cuts.len() + 1));
            }
            let next = stored["next"].cast_unsigned();
            let before = cuts.last().copied();
            let watermark = stored.get("watermark").copied().or(before.and_then(|cut| cut.watermark));
            if before.is_some_and(|before| before.next > next || before.watermark > watermark) {
                return Err(format!("partition {partition} goes back: {stored:?}"));
            }
            cuts.push(Cut { next, watermark });
        }
        if let Some(until) = closed {
            if self.until >= Some(until) {
                return Err(format!("closed up to {until} after {:?}", self.until));
            }
            self.until = Some(until);
        }
        // From the closing on, for every partition that is there or comes.
        let passed =
            |cuts: &Vec<Cut>| cuts.last().and_then(|cut| cut.watermark) >= self.until.map(|until| until + 600_000);
        if let Some((partition, _)) = self.cuts.iter().find(|(_, cuts)| !passed(cuts)) {
            return Err(format!("partition {partition} has not passed {:?}", self.until));
        }
        Ok(())
    }
}

fn rows<'p>(
    files: &BTreeMap<String, Bytes>,
    folder: &str,
    live: impl Iterator<Item = &'p String>,
) -> Result<Rows, String> {
    let columns: Columns = Definition::of(&settings()).columns();
    let mut rows = Rows::new();
    for path in live {
        let bytes = files.get(&format!("{folder}{path}")).ok_or(format!("{path} is not there"))?;
        for row in parquet::read(&columns, bytes.clone()).map_err(|fault| fault.message)? {
            let Number::Long(edits) = row.cells[0] else { return Err(format!("{path}: {:?}", row.cells)) };
            *rows.entry((row.window_start, row.keys[0].clone())).or_default() += edits;
        }
    }
    Ok(rows)
}

/// The rule, written once more: what lies between two commits is judged by the watermark of the
/// first. An hour that was rebuilt has all there was at that time.
fn recompute(sim: &Sim, topic: &TopicInfo, state: &State) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for (&partition, cuts) in &state.cuts {
        let records = sim.world().records_ever(topic.id, partition);
        let (mut from, mut judge, mut newest) = (0, None, None);
        for cut in cuts {
            for record in records.iter().filter(|record| (from..cut.next).contains(&record.offset)) {
                let Some(value) = &record.value else { continue };
                let event: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
                let time = event["timestamp"].as_i64().ok_or("timestamp")? * 1000;
                if time > record.time + 300_000 {
                    continue;
                }
                newest = newest.max(Some(time));
                let end = time.div_euclid(HOUR) * HOUR + HOUR;
                let late = match state.rebuilt.get(&rfc3339(end - HOUR)) {
                    Some(counted) => counted.get(&partition).is_none_or(|next| record.offset >= *next),
                    None => judge.is_some_and(|judge: Millis| judge >= end + 600_000),
                };
                let canary = event["meta"]["domain"] == "canary";
                if let (Some(wiki), false, false) = (event["wiki"].as_str(), late, canary) {
                    *rows.entry((time.div_euclid(MINUTE) * MINUTE, wiki.to_owned())).or_default() += 1;
                }
            }
            let seen = judge.max(newest.map(|newest: Millis| newest - 10_000));
            if cut.watermark < seen {
                return Err(format!("partition {partition}: watermark {:?} where {seen:?} was seen", cut.watermark));
            }
            (from, judge) = (cut.next, cut.watermark);
        }
    }
    Ok(rows)
}
