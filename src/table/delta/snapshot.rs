//! A version of the table, as a replay of the log up to it gives it.
//!
//! [`load`](Snapshot::load) begins at the newest checkpoint, [`refresh`](Snapshot::refresh) reads only
//! what is newer, and a version that is not there is taken for the log's end.
//!
//! That is wrong for a reader that slept for longer than the log is kept: versions it wants to read
//! next are cleaned away, and what it finds in their places may be the left-over of a writer that slept
//! as long. So before the first version below `V` goes, a marker `_cleaned/V` is put. It is what
//! [`prove`](Snapshot::prove) asks for *after* the reading: as long as no marker is above the first
//! version that was read, everything from there on stood there and is the log.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    FORMAT, HourFile, LIVE, LOG, LaneId, REBUILT,
    actions::{self, Action, Add, FINGERPRINT, FORMAT_KEY, GENERATION, MetaData, Protocol, Remove, Txn},
    checkpoint, checkpoint_path, checkpoint_version, horizon, version_path,
};
use crate::{
    failpoint::rare,
    fault::{Fault, Kind, Result},
    model::{Millis, Offset},
    store::{Store, StorePath},
    table::{definition::Definition, grid::Hour},
};

/// How often a table is read from its checkpoint again because it was cleaned meanwhile.
const LOADS: u32 = 10;

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
#[derive(Clone, Debug)]
pub struct File {
    /// The hour it holds; `None` if another program wrote it.
    pub hour: Option<Hour>,
    /// As the log has it.
    pub add: Add,
}

/// A version of the table.
#[derive(Clone, Debug)]
pub struct Snapshot {
    table: StorePath,
    version: u64,
    // What was read from here on is not proven yet.
    unproven: u64,
    protocol: Protocol,
    meta: MetaData,
    definition: Definition,
    lanes: BTreeMap<LaneId, Committed>,
    txns: BTreeMap<String, Txn>,
    files: BTreeMap<String, File>,
    // With the version that removed each.
    removed: BTreeMap<String, (u64, Remove)>,
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
        for _ in 0..LOADS {
            let (base, actions) = match newest_checkpoint(store, table).await? {
                Some(version) => {
                    let path = checkpoint_path(table, version);
                    // Gone since it was listed: there is a newer one.
                    let Some(file) = store.read(&path).await? else { continue };
                    (version, checkpoint::decode(file).map_err(|fault| fault.at(&path))?)
                }
                None => match first_version(store, table).await? {
                    Some(actions) => (0, actions),
                    None => return Ok(None),
                },
            };
            let mut snapshot = Self::of(table, base, &actions)?;
            snapshot.refresh(store).await?;
            if snapshot.prove(store).await? {
                return Ok(Some(snapshot));
            }
            rare("table.cleaned_while_loading");
        }
        Err(Fault::external(format!("table {table}: was cleaned {LOADS} times while it was read")))
    }

    /// Reads what is newer, up to what looks like the log's end; see [`prove`](Self::prove).
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

    /// Whether all that was read is the log, and a put that was made on it after the reading would be
    /// its next version. If not, load it anew.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prove(&mut self, store: &dyn Store) -> Result<bool> {
        let proven = horizon(store, &self.table).await? <= self.unproven;
        if proven {
            self.unproven = self.version + 1;
        }
        Ok(proven)
    }

    /// [Refreshes](Self::refresh) and [proves](Self::prove), or loads anew.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Kind::Lost`] if the table is gone.
    pub async fn follow(&mut self, store: &dyn Store) -> Result<()> {
        self.refresh(store).await?;
        if !self.prove(store).await? {
            rare("table.slept_too_long");
            self.reload(store).await?;
        }
        Ok(())
    }

    /// Loads it anew.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub async fn reload(&mut self, store: &dyn Store) -> Result<()> {
        let gone = || Fault::data("its log is gone").kind(Kind::Lost).at(&self.table);
        *self = Self::load(store, &self.table).await?.ok_or_else(gone)?;
        Ok(())
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
        &self.meta.id
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

    /// All hours that begin before this are final on every lane, for ever; `None`: none is.
    pub fn final_until(&self) -> Option<Millis> {
        self.txns.get(&actions::final_id(self.id())).map(|txn| txn.version)
    }

    /// Whether this hour is final on every lane, for ever.
    pub fn is_final(&self, hour: Hour) -> bool {
        self.final_until().is_some_and(|until| hour.start() < until)
    }

    /// Whether everything before this time is final, and where plain readers see it.
    pub fn shows_until(&self, time: Millis) -> bool {
        let in_its_file = |hour: Hour| hour.start() >= time;
        self.final_until() >= Some(time) && self.all_live().filter_map(|(_, file)| file.hour).all(in_its_file)
    }

    /// The least watermark that a lane may have: one under which all hours that are final for the
    /// table are final for the lane.
    pub fn least_watermark(&self) -> Option<Millis> {
        self.final_until().map(|until| self.definition.grid().watermark_of_end(until))
    }

    /// All files, by their paths within the table.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// This lane's live files.
    pub fn live(&self, lane: LaneId) -> impl Iterator<Item = (&str, &File)> {
        self.under(format!("{LIVE}/{lane}-"))
    }

    /// The live files of all lanes.
    pub fn all_live(&self) -> impl Iterator<Item = (&str, &File)> {
        self.under(format!("{LIVE}/"))
    }

    /// The files that plain readers do not see: live ones, and hours that were rebuilt.
    pub fn hidden(&self) -> impl Iterator<Item = (&str, &File)> {
        self.all_live().chain(self.under(format!("{REBUILT}/")))
    }

    /// Those of one hour.
    pub fn hidden_of(&self, hour: Hour) -> BTreeSet<String> {
        let of_hour = self.hidden().filter(|(_, file)| file.hour == Some(hour));
        of_hour.map(|(path, _)| path.to_owned()).collect()
    }

    /// All files of one hour, by their paths.
    ///
    /// # Errors
    /// `User` if another program has put files of its own into the hour's day.
    pub fn files_of(&self, hour: Hour) -> Result<BTreeSet<String>> {
        let mut files = self.hidden_of(hour);
        for (path, file) in self.under(format!("dt={}/", hour.date())) {
            match file.hour {
                Some(other) if other == hour => drop(files.insert(path.to_owned())),
                Some(_) => {}
                None => {
                    let text = "another program has put this file into the table, and which hour it holds is not known";
                    return Err(Fault::user(text).at(self.table.join(path)));
                }
            }
        }
        Ok(files)
    }

    /// The least generation of an hour; see [`HourFile`].
    pub fn generation(&self) -> u64 {
        self.meta.configuration.get(GENERATION).and_then(|generation| generation.parse().ok()).unwrap_or(0)
    }

    /// The largest generation of an hour's files; see [`HourFile`].
    pub fn generation_of(&self, hour: Hour) -> u64 {
        let seen = self.under(format!("dt={}/", hour.date())).filter_map(|(path, _)| HourFile::of_final(path));
        let rebuilt = self.under(format!("{REBUILT}/{}-", hour.date()));
        let files = seen.chain(rebuilt.filter_map(|(path, _)| HourFile::of_rebuilt(path)));
        let largest = files.filter(|file| file.hour == hour).map(|file| file.generation).max();
        largest.unwrap_or(0).max(self.generation())
    }

    /// The generation of all that the table ever had, at most.
    pub fn newest_generation(&self) -> u64 {
        let paths = self.files().map(|(path, _)| path).chain(self.removed().map(|(path, _)| path));
        let files = paths.filter_map(|path| HourFile::of_final(path).or_else(|| HourFile::of_rebuilt(path)));
        files.map(|file| file.generation).max().unwrap_or(0).max(self.generation())
    }

    fn under(&self, prefix: String) -> impl Iterator<Item = (&str, &File)> {
        let from = self.files.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, file)| (path.as_str(), file))
    }

    /// Whether this file is one of the table's.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The files that were taken out of the table and are remembered, with the version that did it.
    pub fn removed(&self) -> impl Iterator<Item = (&str, u64)> {
        self.removed.iter().map(|(path, (version, _))| (path.as_str(), *version))
    }

    /// Whether this file was taken out of the table and is not forgotten.
    pub fn remembers(&self, path: &str) -> bool {
        self.removed.contains_key(path)
    }

    /// Forgets that this file was ever there: nobody can read a version that names it, and it is deleted.
    pub fn forget(&mut self, path: &str) {
        self.removed.remove(path);
    }

    /// The actions of a checkpoint of this version.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        let protocol = Action { protocol: Some(self.protocol), ..Action::default() };
        let meta = Action { meta_data: Some(self.meta.clone()), ..Action::default() };
        let txns = self.txns.values().map(|txn| Action { txn: Some(txn.clone()), ..Action::default() });
        let adds = self.files.values().map(|file| Action { add: Some(file.add.clone()), ..Action::default() });
        let removes = self.removed.values();
        let removes = removes
            .map(|(version, remove)| Action { remove: Some(remove.with_version(*version)), ..Action::default() });
        [protocol, meta].into_iter().chain(txns).chain(adds).chain(removes)
    }

    /// The version with the lane's last commit and that commit's uuid.
    pub(super) fn last_commit(&self, lane: LaneId) -> Option<(u64, Uuid)> {
        let committed = self.lanes.get(&lane)?;
        Some((committed.version, committed.commit?))
    }

    fn of(table: &StorePath, version: u64, actions: &[Action]) -> Result<Self> {
        let missing = |what| move || Fault::data(format!("version {version} has no {what}")).kind(Kind::Lost).at(table);
        let meta = actions.iter().find_map(|action| action.meta_data.clone()).ok_or_else(missing("metadata"))?;
        let protocol = actions.iter().find_map(|action| action.protocol).ok_or_else(missing("protocol"))?;
        readable(table, protocol)?;
        let definition = definition_of(table, &meta)?;
        let mut snapshot = Self {
            table: table.clone(),
            version,
            unproven: version,
            protocol,
            meta,
            definition,
            lanes: BTreeMap::new(),
            txns: BTreeMap::new(),
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
        };
        snapshot.apply(actions);
        Ok(snapshot)
    }

    fn apply(&mut self, actions: &[Action]) {
        let info = actions.iter().find_map(|action| action.commit_info.as_ref());
        let commit = info.and_then(|info| Uuid::try_parse(info.txn_id.as_deref()?).ok());
        for action in actions {
            if let Some(protocol) = action.protocol {
                self.protocol = protocol;
            }
            if let Some(meta) = &action.meta_data {
                if meta.id != self.meta.id {
                    // Another table in the place of this one.
                    self.lanes.clear();
                    self.txns.clear();
                }
                self.meta = meta.clone();
            }
            if let Some(remove) = &action.remove {
                self.files.remove(&remove.path);
                let version = remove.version().unwrap_or(self.version);
                self.removed.insert(remove.path.clone(), (version, remove.clone()));
            }
            if let Some(add) = &action.add {
                self.removed.remove(&add.path);
                self.files.insert(add.path.clone(), File { hour: add.hour(), add: add.clone() });
            }
            if let Some(txn) = &action.txn {
                self.txns.insert(txn.app_id.clone(), txn.clone());
                if let Some((lane, what)) = actions::of_app_id(&self.meta.id, &txn.app_id) {
                    self.store(lane, what, txn.version, commit);
                }
            }
        }
    }

    fn store(&mut self, lane: LaneId, what: &str, stored: i64, commit: Option<Uuid>) {
        let committed = self.lanes.entry(lane).or_default();
        // Offsets and counts are never negative; a watermark before 1970 is.
        let number = u64::try_from(stored).unwrap_or(0);
        match what {
            "seq" => {
                committed.positions.seq = number;
                (committed.version, committed.commit) = (self.version, commit);
            }
            "next" => committed.positions.next = number,
            "rewind" => committed.positions.rewind = number,
            "watermark" => committed.positions.watermark = Some(stored),
            _ => {}
        }
    }
}

/// The newest version with a checkpoint.
async fn newest_checkpoint(store: &dyn Store, table: &StorePath) -> Result<Option<u64>> {
    let list = store.list(&table.join(LOG)).await?;
    Ok(list.iter().filter_map(|entry| checkpoint_version(&entry.name)).max())
}

/// The actions of version 0, if it is there.
async fn first_version(store: &dyn Store, table: &StorePath) -> Result<Option<Vec<Action>>> {
    let path = version_path(table, 0);
    if let Some(file) = store.read(&path).await? {
        return actions::of_lines(&path, &file).map(Some);
    }
    let log = table.join(LOG);
    match store.list(&log).await?.iter().find(|entry| entry.name.ends_with(".json")) {
        // Somebody may just have made it; then it is for the next try to read.
        Some(first) if first.name != path.name() => {
            let text = format!("begins at {}: its first versions are gone, and there is no checkpoint", first.name);
            Err(Fault::data(text).kind(Kind::Lost).at(log))
        }
        _ => Ok(None),
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
