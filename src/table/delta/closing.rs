//! The two commits that make an hour final for the table.
//!
//! [`Close`] says that all hours before a time are final on every partition that the bus reports; from
//! then on no lane, not even one of a partition that is added later, writes to them. [`Swap`] puts one
//! merged file in the place of such an hour's live files. Between the two the merged file is brought to
//! its name, where plain readers see it at once: an hour must be closed in the log before that, or a
//! sleeper could show an hour to which a new partition still adds.
//!
//! Both may be tried by any number of writers at once: who comes later finds it done.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    LaneId, Snapshot,
    actions::{self, Action, Add, FileFacts, Remove, Txn},
    commit::{Change, Verdict},
};
use crate::{
    failpoint::rare,
    fault::{Fault, Result},
    model::{Millis, TopicId},
    table::grid::Hour,
};

/// All hours before a time are final.
#[derive(Clone, Debug)]
pub struct Close {
    /// The commit's own uuid.
    pub commit: Uuid,
    /// The topic as it is now; partitions of its earlier identities add nothing any more.
    pub topic: TopicId,
    /// How many partitions it has.
    pub num_partitions: u32,
    /// The time; the beginning of an hour.
    pub until: Millis,
}

impl Close {
    /// The time before which all hours are final on every partition under this version, if that is more
    /// than what it says itself.
    pub fn possible(snapshot: &Snapshot, topic: TopicId, num_partitions: u32) -> Option<Millis> {
        let lane = |partition| snapshot.positions(LaneId { topic, partition });
        // Partitions that the bus reported later than this caller asked it are lanes already.
        let known = snapshot.lanes().filter(|(lane, _)| lane.topic == topic && lane.partition >= num_partitions);
        let watermarks = (0..num_partitions).map(lane).chain(known.map(|(_, positions)| Some(positions)));
        // A partition without a commit, or with none that counted, stands before all time.
        let least = watermarks.map(|positions| positions.and_then(|p| p.watermark)).min()??;
        let until = snapshot.definition().grid().final_until(least);
        (snapshot.final_until() < Some(until)).then_some(until)
    }
}

impl Change for Close {
    fn commit(&self) -> Uuid {
        self.commit
    }

    fn operation(&self) -> &'static str {
        "CLOSE HOURS"
    }

    fn lanes(&self) -> Vec<LaneId> {
        Vec::new()
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict> {
        if snapshot.final_until() >= Some(self.until) {
            return Ok(Verdict::Landed(snapshot.version()));
        }
        let possible = Self::possible(snapshot, self.topic, self.num_partitions);
        if possible < Some(self.until) {
            rare("table.not_final_after_all");
            return Ok(Verdict::Superseded(Vec::new()));
        }
        Ok(Verdict::Fits)
    }

    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action> {
        let app_id = actions::final_id(snapshot.id());
        let txn = Txn { app_id, version: self.until, last_updated: Some(now) };
        vec![Action { txn: Some(txn), ..Action::default() }]
    }
}

/// One file takes the place of an hour's live files; no row changes.
#[derive(Clone, Debug)]
pub struct Swap {
    /// The commit's own uuid.
    pub commit: Uuid,
    /// The hour.
    pub hour: Hour,
    /// The files whose rows it holds, by their paths: all that the hour has where plain readers do not see.
    pub merges: BTreeSet<String>,
    /// The merged file's path within the table.
    pub path: String,
    /// What it holds.
    pub facts: FileFacts,
}

impl Change for Swap {
    fn commit(&self) -> Uuid {
        self.commit
    }

    fn operation(&self) -> &'static str {
        "OPTIMIZE"
    }

    fn lanes(&self) -> Vec<LaneId> {
        Vec::new()
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict> {
        if snapshot.has(&self.path) {
            rare("table.swapped_by_another");
            return Ok(Verdict::Landed(snapshot.version()));
        }
        if !snapshot.is_final(self.hour) {
            let at = format!("table {}, hour {}", snapshot.table(), self.hour);
            return Err(Fault::internal("an hour that is not final was about to be swapped").at(at));
        }
        if snapshot.hidden_of(self.hour) != self.merges {
            rare("table.merged_others");
            return Ok(Verdict::Superseded(Vec::new()));
        }
        Ok(Verdict::Fits)
    }

    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action> {
        let merged = snapshot.hidden().filter(|(path, _)| self.merges.contains(*path));
        let removes = merged.map(|(_, file)| Remove { data_change: false, ..Remove::new(&file.add, now) });
        let mut actions: Vec<_> = removes.map(|remove| Action { remove: Some(remove), ..Action::default() }).collect();
        let add = Add { data_change: false, ..Add::new(&self.path, &self.facts, now) };
        actions.push(Action { add: Some(add), ..Action::default() });
        actions
    }
}
