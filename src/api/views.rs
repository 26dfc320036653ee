//! What the API tells, as it stands in its answers. Times are RFC 3339 in UTC, with milliseconds.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    bus::letters::Letter,
    model::{Millis, NodeId, Offset, Partition},
    vitals::{Death, Hold, Loss, Reason, State, Vitals, Wish},
};

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// The version of the program.
    pub version: String,
    /// How many pipelines it runs.
    pub pipelines: usize,
    /// How many actors it runs.
    pub actors: usize,
    /// Whether every actor has had its first success, or is idle with a reason.
    pub ready: bool,
}

/// A pipeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PipelineView {
    /// Its name.
    pub id: String,
    /// The file that it comes from.
    pub file: String,
    /// The bus that carries its records.
    pub bus: String,
    /// Where its archives and tables lie.
    pub store: String,
    /// Its stages, in the order of the file.
    pub stages: Vec<StageView>,
}

/// A stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageView {
    /// Its name.
    pub id: String,
    /// `collector`, `ingester`, `archiver` or `aggregator`.
    pub kind: String,
    /// How many actors share its work.
    pub replicas: u32,
    /// What it reads: an address, a stage or a topic.
    pub reads: String,
    /// What it writes: a spool, a topic, a folder.
    pub writes: String,
}

/// An actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorView {
    /// Which actor, as `wikimedia/archive/0`.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its stage.
    pub stage: String,
    /// Which of the stage's actors, from 0.
    pub replica: u32,
    /// What it is.
    pub kind: String,
    /// `starting`, `running`, `waiting`, `restarting`, `stopped` or `gave_up`.
    pub state: String,
    /// Whom or what it waits for.
    pub waiting_on: Option<String>,
    /// Since when it is in this state.
    pub since: Option<String>,
    /// Which of its lives this is, from 1; 0 before the first.
    pub incarnation: u64,
    /// Restarts by how the life before ended.
    pub restarts: BTreeMap<Death, u64>,
    /// The last thing that went wrong.
    pub last_error: Option<ErrorView>,
    /// What a person wants of it, unless that it runs.
    pub wish: Option<WishView>,
    /// Its mailbox.
    pub mailbox: MailboxView,
    /// What it took in.
    #[serde(rename = "in")]
    pub taken: AmountView,
    /// What it handed on durably.
    pub out: AmountView,
    /// Records kept as dead letters.
    pub dead_letters: u64,
    /// What was lost for good and nobody has acknowledged.
    pub losses: Vec<LossView>,
    /// How far it is behind.
    pub lag: LagView,
    /// How far it is with each partition.
    pub offsets: BTreeMap<Partition, OffsetsView>,
    /// Windows of its table that are not final, those of each partition by themselves.
    pub open_windows: i64,
    /// The smallest committed watermark of its partitions.
    pub watermark: Option<String>,
    /// When its last durable step was done.
    pub last_success: Option<String>,
}

/// An error with its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorView {
    /// When it was met.
    pub time: Option<String>,
    /// What it was.
    pub text: String,
}

/// What a person wants of an actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WishView {
    /// Stopped or paused.
    pub hold: Hold,
    /// Who wants it.
    pub by: String,
    /// Since when.
    pub since: Option<String>,
}

/// What was lost for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LossView {
    /// Why.
    pub reason: Reason,
    /// How many records; of those that are missing, how many times some were.
    pub number: u64,
    /// When that was first noticed.
    pub since: Option<String>,
    /// When last.
    pub last: Option<String>,
    /// The same, for people.
    pub text: String,
}

impl LossView {
    fn of(loss: &Loss) -> Self {
        let Loss { reason, number, since, last } = *loss;
        Self { reason, number, since: time(since), last: time(last), text: loss.to_string() }
    }
}

/// A dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LetterView {
    /// When it was written to the bus.
    pub time: Option<String>,
    /// The topic for which it was meant.
    pub topic: String,
    /// Where it came from.
    pub coordinate: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Who found it.
    pub actor: String,
    /// Bytes of its payload, unless a file keeps it.
    pub bytes: usize,
    /// The file that keeps its payload.
    pub file: Option<String>,
}

impl LetterView {
    /// A letter without its payload.
    pub fn of(letter: &Letter) -> Self {
        Self {
            time: time(letter.record.time),
            topic: letter.topic.to_string(),
            coordinate: letter.coordinate.clone(),
            reason: letter.reason.clone(),
            detail: letter.detail.clone(),
            actor: letter.actor.clone(),
            bytes: letter.record.value.as_ref().map_or(0, Bytes::len),
            file: letter.file.clone(),
        }
    }
}

/// A mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailboxView {
    /// Messages in it.
    pub depth: i64,
    /// Messages it holds at most.
    pub capacity: i64,
    /// How long senders have waited for room, in milliseconds.
    pub waited_ms: u64,
}

/// Records and their bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AmountView {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How far an actor is behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LagView {
    /// Records that it has not taken yet.
    pub records: i64,
    /// How old the last record is that it took, in seconds, if there are more; else 0.
    pub seconds: f64,
}

/// How far an actor is with a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OffsetsView {
    /// The offset of the next record that it reads.
    pub next: Offset,
    /// Where the partition ended when that was last looked at.
    pub end: Offset,
}

impl NodeView {
    /// The node as it is now.
    pub fn of(node: &NodeId, pipelines: &[PipelineView], actors: &[Arc<Vitals>]) -> Self {
        Self {
            node: node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipelines: pipelines.len(),
            actors: actors.len(),
            ready: unready(actors).is_empty(),
        }
    }
}

/// The actors that are not ready, each with why: one is ready when it has had its first success, or waits for
/// something that it names, or is held by a person.
pub fn unready(actors: &[Arc<Vitals>]) -> Vec<String> {
    let why = |vitals: &Arc<Vitals>| {
        let life = vitals.life();
        let is_idle = matches!(life.state, State::Waiting(_)) || life.wish.is_some();
        let has_run = vitals.last_success.get() > 0 || (life.state == State::Running && vitals.lag.get() == 0);
        match life.state {
            State::GaveUp => Some(format!("{}: gave up", vitals.id)),
            _ if is_idle || has_run => None,
            state => Some(format!("{}: {}", vitals.id, word(&state))),
        }
    };
    actors.iter().filter_map(why).collect()
}

impl ActorView {
    /// An actor as it is at `now`.
    pub fn of(vitals: &Vitals, now: Millis) -> Self {
        let life = vitals.life();
        let waiting_on = match &life.state {
            State::Waiting(on) => Some(on.clone()),
            _ => None,
        };
        let wish = |Wish { hold, by, since }| WishView { hold, by, since: time(since) };
        let offsets = vitals.lanes().into_iter();
        Self {
            id: vitals.id.to_string(),
            pipeline: vitals.id.pipeline.to_string(),
            stage: vitals.id.stage.to_string(),
            replica: vitals.id.replica,
            kind: vitals.kind.word().to_owned(),
            state: word(&life.state).to_owned(),
            waiting_on,
            since: time(life.since),
            incarnation: life.incarnation.0,
            restarts: life.restarts,
            last_error: life.last_error.map(|(at, text)| ErrorView { time: time(at), text }),
            wish: life.wish.map(wish),
            mailbox: MailboxView {
                depth: vitals.mailbox_depth.get(),
                capacity: vitals.mailbox_capacity.get(),
                waited_ms: vitals.mailbox_waited_ms.get(),
            },
            taken: AmountView { records: vitals.records_in.get(), bytes: vitals.bytes_in.get() },
            out: AmountView { records: vitals.records_out.get(), bytes: vitals.bytes_out.get() },
            dead_letters: vitals.dead_letters.get(),
            losses: life.losses.iter().map(LossView::of).collect(),
            lag: LagView { records: vitals.lag.get(), seconds: lag_seconds(vitals, now) },
            offsets: offsets.map(|(p, lane)| (p, OffsetsView { next: lane.next, end: lane.end })).collect(),
            open_windows: vitals.open_windows.get(),
            watermark: time(vitals.watermark.get()),
            last_success: time(vitals.last_success.get()),
        }
    }
}

/// How old the last record is that an actor has read of the partition with which it is behind the most, in
/// seconds; 0 where it is behind with none.
#[allow(clippy::cast_precision_loss, reason = "an age, for people")]
pub fn lag_seconds(vitals: &Vitals, now: Millis) -> f64 {
    let behind = vitals.lanes().into_values().filter(|lane| lane.lag() > 0 && lane.time > 0);
    behind.map(|lane| (now - lane.time).max(0) as f64 / 1000.0).fold(0.0, f64::max)
}

/// The word for a state.
pub fn word(state: &State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Running => "running",
        State::Waiting(_) => "waiting",
        State::Restarting => "restarting",
        State::Stopped => "stopped",
        State::GaveUp => "gave_up",
    }
}

/// A time as text; none for 0, which stands for never.
fn time(at: Millis) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(at).ok().filter(|_| at != 0)?;
    Some(format!("{time:.3}"))
}
