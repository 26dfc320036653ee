//! A version of the table, as a replay of the log up to it gives it.
//!
//! Refreshing reads only what is newer. A version that is not there is taken for the log's end;
//! whoever builds on that puts the next one and then looks whether the one before still stands:
//! old versions may be cleaned away, and a long-frozen writer must not fill such a hole.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    FORMAT, LIVE, LOG, LaneId,
    actions::{self, Action, Add, FINGERPRINT, FORMAT_KEY, MetaData, Protocol},
    version_path,
};
use crate::{
    fault::{Fault, Kind, Result},
    model::{Millis, Offset},
    store::{Store, StorePath},
    table::{definition::Definition, window::Hour},
};

/// What a lane's last commit stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Number of this lane's commits.
    pub seq: u64,
    /// The offset before which all records are in the table.
    pub next: Offset,
    /// The first offset that feeds an hour that is not final.
    pub rewind: Offset,
    /// The watermark, if there is one yet.
    pub watermark: Option<Millis>,
}

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The hour it holds; `None` if another program wrote it.
    pub hour: Option<Hour>,
    /// The day it belongs to, `2015-09-12`.
    pub dt: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its rows, if the log says.
    pub num_rows: Option<u64>,
}

/// A version of the table.
#[derive(Clone, Debug)]
pub struct Snapshot {
    table: StorePath,
    // Of the metadata: the table's own, wherever it lies.
    id: String,
    version: u64,
    definition: Definition,
    lanes: BTreeMap<LaneId, Committed>,
    files: BTreeMap<String, File>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    positions: Positions,
    // The version that stored them, and the commit's uuid if it bears one.
    version: u64,
    commit: Option<Uuid>,
}

impl Snapshot {
    /// The newest version of the table at this path; `None` if there is no table.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`] for a log that cannot be read; `User` for a Delta table
    /// that howdah did not make or that a later howdah made.
    pub async fn load(store: &dyn Store, table: &StorePath) -> Result<Option<Self>> {
        let path = version_path(table, 0);
        let Some(file) = store.read(&path).await? else {
            let log = table.join(LOG);
            return match store.list(&log).await?.iter().find(|entry| entry.name.ends_with(".json")) {
                // Somebody may just have made it; then it is for the next try to read.
                Some(first) if first.name != path.name() => Err(Fault::data(format!(
                    "begins at {}: its first versions are gone, and this howdah reads no checkpoints",
                    first.name
                ))
                .kind(Kind::Lost)
                .at(log)),
                _ => Ok(None),
            };
        };
        let mut snapshot = Self::first(table, actions::of_lines(&path, &file)?)?;
        snapshot.refresh(store).await?;
        Ok(Some(snapshot))
    }

    /// Reads what is newer, up to the log's end.
    ///
    /// # Errors
    /// As [`load`](Self::load). The snapshot is consistent then too, only not the newest.
    pub async fn refresh(&mut self, store: &dyn Store) -> Result<()> {
        loop {
            let path = version_path(&self.table, self.version + 1);
            let Some(file) = store.read(&path).await? else { return Ok(()) };
            let actions = actions::of_lines(&path, &file)?;
            for meta in actions.iter().filter_map(|action| action.meta_data.as_ref()) {
                self.definition = definition_of(&self.table, meta)?;
            }
            for protocol in actions.iter().filter_map(|action| action.protocol) {
                readable(&self.table, protocol)?;
            }
            self.version += 1;
            self.apply(&actions);
        }
    }

    /// Which version this is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The table's folder.
    pub fn table(&self) -> &StorePath {
        &self.table
    }

    /// The table's own id, from its metadata.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the table is a function of.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// What this lane's last commit stored, if it ever made one.
    pub fn positions(&self, lane: LaneId) -> Option<Positions> {
        self.lanes.get(&lane).map(|committed| committed.positions)
    }

    /// All lanes that ever committed, with what they stored last.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, Positions)> {
        self.lanes.iter().map(|(&lane, committed)| (lane, committed.positions))
    }

    /// The idle rule: the largest committed watermark of the topic's other lanes.
    ///
    /// A lane that was read to its end and had nothing for a while takes it over, so that its
    /// hours become final with theirs; when all are idle nothing moves.
    pub fn watermark_of_others(&self, lane: LaneId) -> Option<Millis> {
        let others = self.lanes().filter(|(other, _)| other.topic == lane.topic && *other != lane);
        others.filter_map(|(_, positions)| positions.watermark).max()
    }

    /// All files, by their paths within the table.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// This lane's live files.
    pub fn live(&self, lane: LaneId) -> impl Iterator<Item = (&str, &File)> {
        let prefix = format!("{LIVE}/{lane}-");
        let from = self.files.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, file)| (path.as_str(), file))
    }

    /// Whether this hour is in a file that is not live: final on every lane, and merged.
    pub fn is_merged(&self, hour: Hour) -> bool {
        self.files().any(|(path, file)| file.hour == Some(hour) && LaneId::of_live_path(path).is_none())
    }

    /// The version with the lane's last commit and that commit's uuid.
    pub(super) fn last_commit(&self, lane: LaneId) -> Option<(u64, Uuid)> {
        let committed = self.lanes.get(&lane)?;
        Some((committed.version, committed.commit?))
    }

    fn first(table: &StorePath, actions: Vec<Action>) -> Result<Self> {
        let missing = || Fault::data("version 0 has no metadata").kind(Kind::Lost).at(table);
        let meta = actions.iter().find_map(|action| action.meta_data.as_ref()).ok_or_else(missing)?;
        if let Some(protocol) = actions.iter().find_map(|action| action.protocol) {
            readable(table, protocol)?;
        }
        let definition = definition_of(table, meta)?;
        let mut snapshot = Self {
            table: table.clone(),
            id: meta.id.clone(),
            version: 0,
            definition,
            lanes: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        snapshot.apply(&actions);
        Ok(snapshot)
    }

    fn apply(&mut self, actions: &[Action]) {
        let info = actions.iter().find_map(|action| action.commit_info.as_ref());
        let commit = info.and_then(|info| Uuid::try_parse(info.txn_id.as_deref()?).ok());
        for action in actions {
            if let Some(remove) = &action.remove {
                self.files.remove(&remove.path);
            }
            if let Some(add) = &action.add {
                self.files.insert(add.path.clone(), File::of(add));
            }
            if let Some(txn) = &action.txn
                && let Some((lane, what)) = actions::of_app_id(&self.id, &txn.app_id)
            {
                let committed = self.lanes.entry(lane).or_default();
                // Offsets and counts are never negative; a watermark before 1970 is.
                let number = u64::try_from(txn.version).unwrap_or(0);
                match what {
                    "seq" => {
                        committed.positions.seq = number;
                        (committed.version, committed.commit) = (self.version, commit);
                    }
                    "next" => committed.positions.next = number,
                    "rewind" => committed.positions.rewind = number,
                    "watermark" => committed.positions.watermark = Some(txn.version),
                    _ => {}
                }
            }
        }
    }
}

impl File {
    fn of(add: &Add) -> Self {
        let dt = add.partition_values.get("dt").cloned().flatten().unwrap_or_default();
        Self { hour: add.hour(), dt, size: add.size, num_rows: add.num_rows() }
    }
}

fn readable(table: &StorePath, protocol: Protocol) -> Result<()> {
    let ours = Protocol::OURS;
    if protocol.min_reader_version > ours.min_reader_version || protocol.min_writer_version > ours.min_writer_version {
        return Err(Fault::user(format!(
            "table {table}: another program raised its protocol to reader {}, writer {}; howdah writes 1 and 2",
            protocol.min_reader_version, protocol.min_writer_version
        )));
    }
    Ok(())
}

fn definition_of(table: &StorePath, meta: &MetaData) -> Result<Definition> {
    let Some(text) = meta.configuration.get(FINGERPRINT) else {
        return Err(Fault::user(format!("table {table}: a Delta table that howdah did not make; choose another path")));
    };
    match meta.configuration.get(FORMAT_KEY).map(|format| format.parse::<u32>()) {
        Some(Ok(format)) if format == FORMAT => Definition::parse(text).map_err(|fault| fault.at(table)),
        format => {
            Err(Fault::user(format!("table {table}: layout {format:?} is of another howdah; this one has {FORMAT}")))
        }
    }
}
