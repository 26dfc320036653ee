//! The world of one history: services, operations under way, weather, time.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use fastrand::Rng;

use super::{
    Counts, ModelBus, ModelStore, Owner, Weather,
    operation::{Answer, Call, Fate, Kind, Op, Services, Typed, chance},
};
use crate::{
    bus::{
        TopicInfo, TopicSpec,
        model::{Payload, Topics},
    },
    fault::{Fault, Result},
    model::{Clock, ManualClock, Offset, Partition, Record, TopicId, TopicName},
    store::model::{Change, Durability, Files},
};

thread_local! {
    // Set by the driver for the one seed that is to be looked at.
    pub(super) static TRACED: Cell<bool> = const { Cell::new(false) };
}

/// A handle to the world of a history: what a test may see and do outside of time and weather.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

/// The world behind its handle.
pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) clock: ManualClock,
    step: u64,
    num_ops: u64,
    ops: Vec<Op>,
    files: Files,
    topics: Topics,
    counts: Counts,
    trace: Option<Vec<String>>,
    printed: bool,
}

/// Something the world can do next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pick {
    /// Apply the operation at this index.
    Land(usize),
    /// Answer it.
    Answer(usize),
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let printed = TRACED.get();
        let topics = Topics::new(rng.fork());
        Self(Arc::new(Mutex::new(State {
            rng,
            weather: Weather::rough(),
            clock: ManualClock::at(1_700_000_000_000),
            step: 0,
            num_ops: 0,
            ops: Vec::new(),
            files: Files::default(),
            topics,
            counts: Counts::default(),
            trace: printed.then(Vec::new),
            printed,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn caller(&self, owner: Option<Owner>) -> Caller {
        Caller { world: self.clone(), owner }
    }

    pub(super) fn sleep(&self, max_steps: u64) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.lock();
        let hold = state.rng.u64(..=max_steps);
        let fate = Fate { applications: 0, answer: Answer::Service(0), hold };
        let slot = Arc::default();
        let action = Typed { apply: |_: &mut Services<'_>| None, result: Some(Ok(())), slot: Arc::clone(&slot) };
        let op = state.submit(None, Kind::Read, fate, String::new(), Box::new(action));
        let call = Call { slot, world: self.clone(), op, done: false };
        async move { drop(call.await) }
    }

    /// Every file with its bytes, as it stands.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        self.lock().files.all()
    }

    /// Of each path that was ever deleted the bytes that were deleted first.
    pub fn deleted(&self) -> BTreeMap<String, Bytes> {
        self.lock().files.deleted().clone()
    }

    /// Every change of a path that readers take for data, in order.
    pub fn visible_changes(&self) -> Vec<Change> {
        self.lock().files.visible_changes().to_vec()
    }

    /// The store without weather: every call is done and durable when first polled.
    pub fn store(&self) -> ModelStore {
        ModelStore::new(self.caller(None))
    }

    /// The bus without weather; a reader at the end of a partition still waits.
    pub fn bus(&self) -> ModelBus {
        ModelBus::new(self.caller(None))
    }

    /// The world's wall clock: it goes on by a millisecond a step, and as it is told.
    pub fn clock(&self) -> ManualClock {
        self.lock().clock.clone()
    }

    /// Sets what a power cut may take from the store.
    pub fn durability(&self, durability: Durability) {
        self.lock().files.durability = durability;
    }

    /// Whether each send leaves the offset of a marker behind its records (it does at first).
    pub fn markers(&self, markers: bool) {
        self.lock().topics.markers = markers;
    }

    /// Creates the topic if it is not there.
    ///
    /// # Panics
    /// If it exists and is different.
    pub fn topic(&self, spec: &TopicSpec) -> TopicInfo {
        let mut state = self.lock();
        let info = state.topics.ensure(0, spec).expect("the topic is as before");
        state.topics.settle_all();
        info
    }

    /// Adds records at a partition's end, durably, without markers; returns their offsets.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn append(&self, topic: &TopicName, partition: Partition, records: Vec<Payload>) -> Vec<Offset> {
        let mut state = self.lock();
        let now = state.clock.now();
        let offsets = records.into_iter().map(|record| state.topics.push(topic, partition, now, record)).collect();
        state.topics.settle_all();
        state.kick();
        offsets
    }

    /// Uses up offsets at a partition's end, as markers and aborted transactions do.
    pub fn skip(&self, topic: &TopicName, partition: Partition, num_offsets: u64) {
        let mut state = self.lock();
        state.topics.skip(topic, partition, num_offsets);
        state.topics.settle_all();
        state.kick();
    }

    /// Moves a partition's low watermark up to `low` (at most to its end): what lies before is gone.
    pub fn retain(&self, topic: &TopicName, partition: Partition, low: Offset) {
        let mut state = self.lock();
        state.topics.retain(topic, partition, low);
        state.kick();
    }

    /// Lets every topic forget by age and size, as its own settings say.
    pub fn retain_all(&self) {
        let mut state = self.lock();
        let now = state.clock.now();
        state.topics.retain_all(now);
        state.kick();
    }

    /// Compacts every compacted topic: of each key the last record stays, and of the others what
    /// chance leaves.
    pub fn compact_all(&self) {
        self.lock().topics.compact_all();
    }

    /// Deletes a topic and creates it anew, empty.
    pub fn recreate(&self, topic: &TopicName) -> TopicInfo {
        let mut state = self.lock();
        let info = state.topics.recreate(topic);
        state.kick();
        info
    }

    /// The records that a reader from the low watermark on would see.
    pub fn records(&self, topic: &TopicName, partition: Partition) -> Vec<Record> {
        self.lock().topics.records(topic, partition)
    }

    /// Every record that ever stood in a partition of this topic and was not taken back by a power
    /// cut: also what retention, compaction or deletion removed.
    pub fn records_ever(&self, topic: TopicId, partition: Partition) -> Vec<Record> {
        self.lock().topics.records_ever(topic, partition)
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Keeps a trace from now on.
    pub fn keep_trace(&self) {
        self.lock().trace.get_or_insert_default();
    }

    /// The lines of the trace.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&self, line: impl FnOnce() -> String) {
        self.lock().note(line);
    }
}

impl State {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let mut line = format!("{:>5} {}", self.step, line());
            if line.len() > 400 {
                let end = (0..=400).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
                line.truncate(end);
                line.push('…');
            }
            if self.printed {
                println!("{line}");
            }
            trace.push(line);
        }
    }

    fn submit(
        &mut self,
        owner: Option<Owner>,
        kind: Kind,
        fate: Fate,
        label: String,
        action: Box<dyn super::operation::Action>,
    ) -> u64 {
        self.num_ops += 1;
        let id = self.num_ops;
        if owner.is_some() {
            self.counts.submitted += 1;
            self.counts.held += u64::from(fate.hold > 0);
            self.note(|| format!("{owner:?} #{id} {label}"));
        }
        self.ops.push(Op {
            id,
            owner,
            kind,
            fate,
            held_until: self.step + fate.hold,
            applied: 0,
            left: fate.applications,
            waits_since: None,
            answered: false,
            label,
            action,
        });
        id
    }

    /// Moves time on by a step and names all that can happen; when nobody else has anything to do
    /// (`idle`), time jumps to where something can.
    pub(super) fn tick(&mut self, idle: bool, mut found: impl FnMut(Pick)) {
        self.step += 1;
        self.clock.advance(1);
        let version = self.topics.version();
        let mut any = !idle;
        let mut next = u64::MAX;
        for (at, op) in self.ops.iter().enumerate() {
            if op.can_land(self.step, version) {
                found(Pick::Land(at));
                any = true;
            }
            if op.can_answer(self.step) {
                found(Pick::Answer(at));
                any = true;
            } else if op.held_until > self.step {
                next = next.min(op.held_until);
            }
        }
        if !any && next != u64::MAX {
            self.step = next - 1;
            self.tick(idle, found);
        }
    }

    pub(super) fn perform(&mut self, pick: Pick) {
        let (at, landed) = match pick {
            Pick::Land(at) => (at, self.land(at)),
            Pick::Answer(at) => {
                self.answer(at);
                (at, false)
            }
        };
        if self.ops[at].is_over() {
            self.ops.swap_remove(at);
        }
        if landed {
            self.kick();
        }
    }

    fn land(&mut self, at: usize) -> bool {
        let Self { ops, files, topics, rng, clock, weather, .. } = self;
        let op = &mut ops[at];
        let mut services = Services {
            files,
            topics,
            rng,
            now: clock.now(),
            op: op.id,
            torn: if op.fate.answer == Answer::TimeOut { weather.torn } else { 0.0 },
            aborted: if op.owner.is_some() { weather.aborted } else { 0.0 },
            short: if op.owner.is_some() { weather.short } else { 0.0 },
        };
        if !op.action.apply(&mut services) {
            op.waits_since = Some(self.topics.version());
            return false;
        }
        op.applied += 1;
        op.left -= 1;
        self.counts.repeated += u64::from(op.applied > 1);
        self.counts.landed_late += u64::from(op.answered);
        if self.trace.is_some() && op.owner.is_some() {
            let (id, outcome) = (op.id, op.action.outcome());
            let how = if op.applied > 1 { " again" } else { "" };
            let late = if op.answered { format!(" (late, {})", op.label) } else { String::new() };
            self.note(|| format!("      #{id} applied{how}{late}: {outcome}"));
        }
        true
    }

    fn answer(&mut self, at: usize) {
        let op = &mut self.ops[at];
        let (id, kind, owner) = (op.id, op.kind, op.owner);
        op.answered = true;
        let fault = match op.fate.answer {
            Answer::Service(_) => None,
            Answer::Refusal => Some(Fault::external("refused by the model")),
            Answer::TimeOut if kind == Kind::Read => Some(Fault::external("timed out in the model")),
            Answer::TimeOut => Some(Fault::external("timed out in the model").unknown_effect()),
        };
        match op.fate.answer {
            Answer::Service(_) => self.counts.answered += 1,
            Answer::Refusal => self.counts.refused += 1,
            Answer::TimeOut => self.counts.timed_out += 1,
        }
        if self.trace.is_some() && owner.is_some() {
            let how = op.fate.answer;
            self.note(|| format!("      #{id} answered by {how:?}"));
        }
        if self.ops[at].action.answer(fault) && kind != Kind::Read {
            self.files.settle(id);
            self.topics.settle(id);
        }
    }

    /// Lets the test's own operations go on that waited for the bus.
    fn kick(&mut self) {
        let version = self.topics.version();
        for at in (0..self.ops.len()).rev() {
            let op = &self.ops[at];
            if op.owner.is_none() && op.can_land(self.step, version) && self.land(at) {
                self.answer(at);
                self.ops.swap_remove(at);
            }
        }
    }

    /// Nobody waits for this operation any more: it may still land, or not.
    pub(super) fn abandon(&mut self, id: u64) {
        let Some(at) = self.ops.iter().position(|op| op.id == id) else { return };
        let never = chance(&mut self.rng, 0.4);
        let op = &mut self.ops[at];
        op.answered = true;
        if never || op.kind == Kind::Read {
            op.left = 0;
        }
        if op.is_over() {
            self.ops.swap_remove(at);
        }
    }

    pub(super) fn power_cut(&mut self) {
        self.counts.power_cuts += 1;
        self.ops.clear();
        self.files.power_cut(&mut self.rng);
        self.topics.power_cut(&mut self.rng);
    }

    pub(super) fn calm(&mut self) {
        self.weather = Weather::calm();
        for op in &mut self.ops {
            op.held_until = op.held_until.min(self.step);
        }
    }
}

/// Makes calls on behalf of an owner.
#[derive(Clone)]
pub struct Caller {
    world: World,
    owner: Option<Owner>,
}

impl Caller {
    /// Submits an operation. `apply` returns `None` if it has to wait for the bus to change.
    pub fn call<T, F>(&self, kind: Kind, label: impl FnOnce() -> String, apply: F) -> Call<T>
    where
        T: Send + Debug + 'static,
        F: FnMut(&mut Services<'_>) -> Option<Result<T>> + Send + 'static,
    {
        let mut guard = self.world.lock();
        let state = &mut *guard;
        let fate = match self.owner {
            Some(_) => Fate::draw(&mut state.rng, &state.weather, kind),
            None => Fate::CLEAN,
        };
        let label = if state.trace.is_some() { label() } else { String::new() };
        let slot = Arc::default();
        let action = Typed { apply, result: None, slot: Arc::clone(&slot) };
        let op = state.submit(self.owner, kind, fate, label, Box::new(action));
        if self.owner.is_none() {
            state.kick();
        }
        Call { slot, world: self.world.clone(), op, done: false }
    }
}
