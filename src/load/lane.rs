//! One partition on its way into a sink.
//!
//! Batches are taken as long as there is room ([`Lane::take`]); what they gave is one *load*, which is brought
//! into the sink ([`Lane::deliver`]) and then onto the bus ([`Lane::store`]). After any fault of the bus the lane
//! is of no more use: open it anew, and what the sink may have is sent again.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Settings, Witness,
    buried::{Buried, REFUSED, UNUSABLE},
    deliver::{Refused, deliver},
    keys::{Horizon, Keys, Verdict, Winner},
    sink::{Around, Place, Sink, Written},
    state::{self, FORMAT, Owner, Position, Restored},
    transform::{Made, Row, Transform},
};
use crate::{
    bus::{Producer, SharedBus, TopicInfo, letters},
    failpoint::cross,
    fault::{Fault, Kind, Result},
    model::{ActorId, Batch, Clock, Fingerprint, Hole, Millis, Offset, Partition, Record, Why},
    vitals::Moments,
};

/// Records may hold so many times the bytes of a request: rows are often a small part of them.
const HELD: usize = 8;

/// What a lane is made of.
#[derive(Clone)]
pub struct Parts {
    /// Whose it is.
    pub actor: ActorId,
    /// What the loader was told.
    pub settings: Arc<Settings>,
    /// Where records come from, and where the lane keeps where it stands.
    pub bus: SharedBus,
    /// Where rows go.
    pub sink: Arc<dyn Sink>,
    /// A row that the sink has taken.
    pub witness: Witness,
    /// Wall time, to tell what is gone from the bus.
    pub clock: Arc<dyn Clock>,
    /// Told of each step of what may take long.
    pub progress: Arc<dyn Fn() + Send + Sync>,
}

/// What a load brought.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Records that it is of.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// When they were written to the bus.
    pub moments: Moments,
    /// Rows that the sink has taken.
    pub rows: u64,
    /// Bytes of these.
    pub row_bytes: u64,
    /// Elements that a filter kept out.
    pub filtered: u64,
    /// Elements whose key an earlier one had won.
    pub repeated: u64,
    /// Records that are dead letters now, whole or because of elements.
    pub letters: u64,
    /// Records that the bus had deleted before they were read.
    pub lost: u64,
}

/// A row, with what a dead letter about it would say.
struct Candidate {
    written: Written,
    key: Option<Bytes>,
    source: Record,
    element: u32,
}

impl Candidate {
    fn place(&self) -> Winner {
        Winner { offset: self.source.offset, element: self.element, time: self.source.time }
    }
}

/// See the module's text.
pub struct Lane {
    parts: Parts,
    owner: Owner,
    transform: Arc<Transform>,
    producer: Box<dyn Producer>,

    /// Where the load begins.
    from: Offset,
    next: Offset,
    /// The bus time of the last record that was taken, if one was.
    time: Option<Millis>,
    keys: Option<Keys>,
    /// Old keys are gone: do they count for the first record that is taken?
    unsure: Option<Horizon>,
    loaded: Loaded,
    rows: Vec<Candidate>,
    row_bytes: usize,
    /// Bytes of the records that these rows and letters hold on to.
    held: usize,
    won: Vec<(Bytes, Winner)>,
    buried: Buried,
    since: Option<Instant>,
    /// The identities of the rows of one millisecond: no other could be the same.
    alike: (Millis, HashSet<Fingerprint>),
}

impl Lane {
    /// Opens the lane of a partition where it stood: whoever had it before is fenced.
    ///
    /// # Errors
    /// [`Kind::Lost`] where the bus ends before the lane's position; those of [`Owner::position`] and the bus.
    pub async fn open(parts: Parts, topic: TopicInfo, partition: Partition) -> Result<Self> {
        let bus = &*parts.bus;
        let owner = Owner { actor: parts.actor.clone(), topic, partition };
        let producer = bus.producer(&owner.producer()).await?;
        let position = owner.position(bus, parts.settings.follows_recreated).await?;
        let mut next = match &position {
            Some(position) => position.next,
            None => parts.settings.start.resolve(bus, &owner.topic, partition).await?,
        };
        let high = bus.watermarks(&owner.topic, partition).await?.high;
        if next > high {
            let (actor, name) = (&parts.actor, &owner.topic.name);
            let text = format!("{actor} stands at {name}-{partition}@{next}, and the bus ends at {high}");
            return Err(Fault::data(format!("{text}: the bus has lost records or was replaced")).kind(Kind::Lost));
        }
        let (is_new, time) = (position.is_none(), position.as_ref().and_then(|position| position.time));
        if let Some(Position { letter: Some(letter), from, .. }) = &position
            && !owner.has_letter(bus, letter).await?
        {
            next = *from;
        }
        let mut unsure = None;
        let keys = match parts.settings.horizon {
            None => None,
            Some(horizon) => {
                let Restored { keys, is_whole, has_forgotten } =
                    owner.keys(bus, horizon, position.as_ref(), &*parts.progress).await?;
                unsure = Some(horizon).filter(|_| has_forgotten);
                if let Some(position) = position.filter(|_| !is_whole) {
                    next = next.min(position.from);
                }
                Some(keys)
            }
        };
        let mut lane = Self {
            transform: Arc::new(Transform::new(&parts.settings.transform)),
            parts,
            owner,
            producer,
            from: next,
            next,
            time,
            keys,
            unsure,
            loaded: Loaded::default(),
            rows: Vec::new(),
            row_bytes: 0,
            held: 0,
            won: Vec::new(),
            buried: Buried::default(),
            since: None,
            alike: (Millis::MIN, HashSet::new()),
        };
        if is_new {
            // Where it begins is decided once.
            lane.store().await?;
        }
        Ok(lane)
    }

    /// The first offset that it has not taken.
    pub fn position(&self) -> Offset {
        self.next
    }

    /// The first offset that it has not loaded.
    pub fn loaded(&self) -> Offset {
        self.from
    }

    /// Whether it takes nothing more before it has loaded what it has.
    pub fn is_full(&self) -> bool {
        let Settings { batch_rows, batch_bytes, .. } = &*self.parts.settings;
        self.rows.len() >= *batch_rows || self.row_bytes >= *batch_bytes || self.held >= HELD * batch_bytes
    }

    /// When it should load what it has; `None` while it has nothing.
    pub fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.is_full() { since } else { since + self.parts.settings.linger })
    }

    /// Takes a batch, whose records a life died of are at `poison`; false if it does not begin where the lane
    /// stands.
    pub fn take(&mut self, batch: &Batch, poison: impl Fn(Offset) -> bool, now: Instant) -> bool {
        if batch.from != self.next {
            return false;
        }
        for Hole { from, to, why } in batch.holes() {
            if why == Why::Retention {
                self.loaded.lost += to - from;
            }
        }
        for record in &batch.records {
            if let Some(horizon) = self.unsure.take() {
                self.say_if_late(record.time, horizon);
            }
            self.time = Some(record.time);
            self.loaded.records += 1;
            self.loaded.moments.push(record.time);
            let Some(value) = &record.value else { continue };
            self.loaded.bytes += value.len() as u64;
            self.held += value.len();
            if poison(record.offset) {
                let why = format!("{} died of it again and again", self.parts.actor);
                self.buried.push(record, None, letters::POISON, why);
                continue;
            }
            #[cfg(test)]
            crate::failpoint::tests_only::look(value);
            let transform = Arc::clone(&self.transform);
            match transform.rows(value) {
                Ok(made) => (0..).zip(made).for_each(|(element, made)| self.made(record, element, made)),
                Err(why) => self.buried.push(record, None, UNUSABLE, why),
            }
        }
        if batch.to > self.next {
            self.since.get_or_insert(now);
        }
        self.next = batch.to;
        true
    }

    fn say_if_late(&self, at: Millis, horizon: Horizon) {
        let Parts { actor, settings, clock, .. } = &self.parts;
        if let Some(late_ms) = settings.keys_kept.and_then(|kept| state::late(at, horizon, kept, clock.now())) {
            tracing::error!(
                %actor, partition = self.owner.partition, late_ms,
                "this loader is further behind than its topic keeps records, and keys that count are gone: rows whose keys \
                 were won then may be loaded once more"
            );
        }
    }

    fn made(&mut self, record: &Record, element: u32, made: Made<'_>) {
        let written = match made {
            Made::Row(row) => self.write(record, element, &row).map(|written| (written, row.key)),
            Made::Filtered => {
                self.loaded.filtered += 1;
                return;
            }
            Made::Unusable(why) => Err(why),
        };
        match written {
            Ok((written, key)) => {
                self.row_bytes += written.text.len();
                self.rows.push(Candidate { written, key, source: record.clone(), element });
            }
            Err(why) => self.buried.push(record, self.named(element), UNUSABLE, why),
        }
    }

    /// The element, if records have several.
    fn named(&self, element: u32) -> Option<u32> {
        self.parts.settings.transform.explode.is_some().then_some(element)
    }

    fn write(&self, record: &Record, element: u32, row: &Row<'_>) -> std::result::Result<Written, String> {
        let place = Place {
            topic: self.owner.topic.id,
            partition: self.owner.partition,
            has_others: self.owner.topic.num_partitions > 1,
            offset: record.offset,
            element,
            is_exploded: self.parts.settings.transform.explode.is_some(),
            time: record.time,
        };
        self.parts.sink.write(row, &place)
    }

    /// Brings what was taken into the sink; what that came to has to be [stored](Self::store) then.
    ///
    /// A row that the sink refuses has not won its key: the next one that has it is sent, if there is one.
    pub async fn deliver(&mut self, around: &dyn Around) -> Loaded {
        let mut loaded = std::mem::take(&mut self.loaded);
        let mut rest = std::mem::take(&mut self.rows);
        (self.row_bytes, self.held, self.since) = (0, 0, None);
        loop {
            let (rows, repeated, mut has_buried) = self.judge(rest);
            // Several requests, where the last batch brought more than one takes.
            for rows in self.requests(&rows) {
                let texts: Vec<Bytes> = rows.iter().map(|row| row.written.text.clone()).collect();
                cross("load.before_sink");
                let refused = deliver(&*self.parts.sink, &texts, around, &self.parts.witness).await;
                cross("load.after_sink");
                loaded.rows += (rows.len() - refused.len()) as u64;
                loaded.row_bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>();
                has_buried |= !refused.is_empty();
                self.give_back(refused.iter().map(|Refused { row, .. }| &rows[*row]));
                for Refused { row, words } in refused {
                    let row = &rows[row];
                    loaded.row_bytes -= row.written.text.len() as u64;
                    self.buried.push(&row.source, self.named(row.element), REFUSED, words);
                }
            }
            if !has_buried || repeated.is_empty() {
                loaded.repeated += repeated.len() as u64;
                loaded.letters = self.buried.len() as u64;
                return loaded;
            }
            rest = repeated;
        }
    }

    /// Those that are to be sent, those whose key another one has, and whether one was buried.
    fn judge(&mut self, rows: Vec<Candidate>) -> (Vec<Candidate>, Vec<Candidate>, bool) {
        let (mut sent, mut repeated, mut has_buried) = (Vec::with_capacity(rows.len()), Vec::new(), false);
        for row in rows {
            if let (Some(keys), Some(key)) = (&mut self.keys, &row.key) {
                match keys.judge(key, row.place()) {
                    Verdict::Repeated => {
                        repeated.push(row);
                        continue;
                    }
                    Verdict::Won => self.won.push((key.clone(), row.place())),
                    Verdict::Known => {}
                }
            }
            if self.is_alike(&row) {
                let why = "another row of this millisecond has the same tags and time, and would be overwritten";
                self.buried.push(&row.source, self.named(row.element), UNUSABLE, why.to_owned());
                self.give_back(std::iter::once(&row));
                has_buried = true;
                continue;
            }
            sent.push(row);
        }
        (sent, repeated, has_buried)
    }

    fn is_alike(&mut self, row: &Candidate) -> bool {
        let Some(identity) = &row.written.identity else { return false };
        if self.alike.0 != row.source.time {
            self.alike = (row.source.time, HashSet::new());
        }
        !self.alike.1.insert(Fingerprint::of(identity))
    }

    /// The keys of these rows are free again.
    fn give_back<'r>(&mut self, rows: impl Iterator<Item = &'r Candidate>) {
        let Some(keys) = &mut self.keys else { return };
        let mut places = HashSet::new();
        for row in rows {
            if let Some(key) = &row.key {
                keys.give_back(key, row.place());
                places.insert((row.place().offset, row.element));
            }
        }
        if !places.is_empty() {
            self.won.retain(|(_, winner)| !places.contains(&(winner.offset, winner.element)));
        }
    }

    fn requests<'r>(&self, rows: &'r [Candidate]) -> Vec<&'r [Candidate]> {
        let settings = &self.parts.settings;
        let (mut requests, mut rest) = (Vec::new(), rows);
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |row: &&Candidate| {
                bytes += row.written.text.len();
                bytes <= settings.batch_bytes
            };
            let number = rest.iter().take(settings.batch_rows).take_while(fits).count().max(1);
            let (request, behind) = rest.split_at(number);
            requests.push(request);
            rest = behind;
        }
        requests
    }

    /// Puts onto the bus what a delivery came to, in one transaction: dead letters, won keys, the position.
    ///
    /// # Errors
    /// Those of the bus: open the lane anew.
    pub async fn store(&mut self) -> Result<()> {
        let last = self.won.last().map(|(_, winner)| (winner.offset, winner.element));
        let letters = self.buried.letters(&self.owner);
        let letter = letters.last().map(|letter| letter.coordinate.clone());
        let position =
            Position { format: FORMAT, next: self.next, from: self.from, won: last, letter, time: self.time };
        let Owner { topic, partition, actor } = &self.owner;
        let letters = letters.into_iter().map(|letter| letter.outgoing(&topic.name, actor));
        let won = self.won.drain(..).map(|(key, winner)| self.owner.store_key(&key, winner));
        let mut records: Vec<_> = letters.chain(won).collect();
        records.push(self.owner.store(&position)?);
        self.producer.send(records).await?;
        cross("load.stored");
        self.from = self.next;
        // For lag tools only: nothing here depends on it.
        let group = format!("{}/{}", actor.pipeline, actor.stage);
        match self.parts.bus.commit_offset(&group, topic, *partition, self.next).await {
            Err(fault) if fault.kind == Kind::Recreated => return Err(fault),
            Err(fault) => tracing::warn!(%actor, error = %fault, "the group's offset was not committed"),
            Ok(()) => {}
        }
        Ok(())
    }
}
