//! The collector: events from a source come in, durable entries of a spool go out.
//!
//! It owns the spool's writer and the window of known ids. A restart opens the spool anew (a new
//! file, which fences the old writer), rebuilds the window from the spool and the topic's tail, and
//! resumes the source after the last event that is on disk. Lost is what was received and not yet
//! synced: the source sends it again. Invariant: an event is appended only if its id is unknown.

mod durable;
mod large;
mod opening;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use self::{
    durable::Durable,
    opening::{known_to_spool, open_spool},
};
use super::{
    blocking,
    ledger::Ledger,
    link::{Link, Owned},
    oversized::Oversized,
};
use crate::{
    collect::{
        Settings,
        seen::Seen,
        source::{self, RawEvent, Received, Resume, Source},
        spool::{
            self, Entry, Recovered, Writer,
            filling::{Filling, time_to_full},
        },
        sse::Overlap,
    },
    failpoint::cross,
    fault::{Domain, Fault, Kind, Result, Retry},
    model::{Clock, Doubling, Extractor, Fingerprint, NodeId, Pause, Scalar},
    supervise::{Delivery, Life},
    trace::{Span, Tracer, fact},
};

/// The folder, in the spool's, of payloads above the size bound.
const OVERSIZED: &str = "oversized";

/// How often it is looked at how full the spool is.
const LOOK: Duration = Duration::from_secs(5);

/// Why a gap is possible after most resumes that look like one.
const UNPROVEN: &str = "the source resumed without repeating a known event";

/// What a collector is made of.
#[derive(Clone)]
pub struct CollectorParts {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// The source: `wikimedia/collect`.
    pub source: String,
    /// Where it runs.
    pub node: NodeId,
    /// What it shares with its ingester.
    pub link: Link,
    /// What its lives have under way.
    pub ledger: Ledger<Spooling>,
    /// Begins traces.
    pub tracer: Tracer,
    /// Wall time, for spool entries and figures.
    pub clock: Arc<dyn Clock>,
}

/// An entry on its way into the spool: what counts once it is durable.
#[derive(Debug)]
pub struct Spooling {
    bytes: u64,
    is_letter: bool,
}

/// See the module's text.
pub struct Collector {
    pub(super) life: Life<Self>,
    parts: CollectorParts,

    /// Absent while a write runs.
    writer: Option<Writer>,
    seen: Seen,
    id: Option<Extractor>,
    overlap: Overlap,
    oversized: Option<Oversized>,
    sync_planned: bool,
    /// Sampled batches that are appended and not durable, each with its number of events.
    spans: Vec<(u64, Span)>,
    durable: Durable,
    filling: Filling,
    stream: Option<SpawnHandle>,
    ending: Option<oneshot::Sender<()>>,
    /// It was told to end: the source is opened no more.
    is_over: bool,
    failures: u32,
}

/// Something came from the source, or it is over for good.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeReceived(Result<Received>);

/// Stop reading the source, make durable what was received, and say so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndCollecting {
    /// Told once it is done; dropped if the actor dies before.
    pub done: oneshot::Sender<()>,
}

impl Collector {
    /// A fresh life of a collector.
    pub fn new(life: Life<Self>, parts: CollectorParts) -> Self {
        let settings = &parts.settings;
        Self {
            seen: Seen::new(settings.dedupe_window, settings.dedupe_ids),
            id: settings.id.as_ref().map(|id| Extractor::new([id])),
            life,
            parts,
            writer: None,
            overlap: Overlap::default(),
            oversized: None,
            sync_planned: false,
            spans: Vec::new(),
            durable: Durable::default(),
            filling: Filling::default(),
            stream: None,
            ending: None,
            is_over: false,
            failures: 0,
        }
    }

    /// Opens the spool (again) and the source behind it.
    fn open(&mut self, ctx: &mut Context<Self>) {
        self.writer = None;
        self.oversized = None;
        self.spans.clear();
        if let Some(stream) = self.stream.take() {
            ctx.cancel_future(stream);
        }
        let (life, parts, failures) = (self.life.clone(), self.parts.clone(), self.failures);
        let opening = async move {
            if failures > 0 {
                let _waiting = life.waiting(format!("a back-off after {failures} failures"));
                Doubling::default().pause(failures).await;
            }
            let opened = {
                let _attempt = life.attempt("open spool");
                open_spool(&parts, life.incarnation).await?
            };
            let (mut writer, recovered) = opened;
            let spooled = known_to_spool(&parts).await?;
            // After the spool's: what leaves it in between is on the bus by then.
            let owned = {
                let _waiting = life.waiting("the ingester to own the source");
                parts.link.ask(recovered.spool).await
            };
            let _attempt = life.attempt("go on in the spool");
            let mut seen = Seen::new(parts.settings.dedupe_window, parts.settings.dedupe_ids);
            for &(id, time) in owned.ids.iter().chain(&spooled) {
                seen.insert(id, time);
            }
            let next = owned.next;
            let writer = blocking(move || writer.skip_to(next).map(|()| writer)).await?;
            Ok(((writer, recovered), owned, seen))
        };
        ctx.spawn(opening.into_actor(self).map(|opened: Result<_>, collector, ctx| match opened {
            Ok(((writer, recovered), owned, seen)) => collector.opened(writer, &recovered, owned, seen, ctx),
            Err(fault) => collector.failed(&fault, ctx),
        }));
    }

    fn opened(&mut self, writer: Writer, recovered: &Recovered, owned: Owned, seen: Seen, ctx: &mut Context<Self>) {
        if writer.next() > recovered.next {
            self.possible_gap("the spool has lost its end, going on behind what the bus has of it");
        }
        if recovered.foreign.count > 0 {
            let spool::Foreign { count, some } = &recovered.foreign;
            tracing::warn!(actor = %self.life.id, count, ?some, "files that are no events of the spool are left alone");
        }
        self.count(self.parts.ledger.found(self.life.incarnation, recovered.next));
        self.parts.link.traced.cut(recovered.next);
        self.writer = Some(writer);
        self.seen = seen;
        // The spool knows better than the bus how far the source was read; without either, the
        // source is asked for everything since it was begun.
        let token =
            if recovered.token.is_empty() { owned.token.map(Bytes::from) } else { Some(recovered.token.clone()) };
        let resume = Resume {
            token: token.unwrap_or_default(),
            since: Some(owned.since.min(recovered.created)),
            // Half of them, for those that count twice because they came twice.
            known_for: self.parts.settings.dedupe_ids as u64 / 2,
        };
        if self.is_over {
            return;
        }
        self.durable = Durable::default();
        let around = source::Around { clock: self.parts.clock.clone(), durable: self.durable.subscribe() };
        match source::open(&self.parts.settings, resume, around) {
            Ok(source) => self.stream = Some(ctx.spawn(listen(self.life.clone(), source).into_actor(self))),
            Err(fault) => self.failed(&fault, ctx),
        }
    }

    fn failed(&mut self, fault: &Fault, ctx: &mut Context<Self>) {
        if fault.retry == Retry::Never {
            return self.life.fail(ctx, fault.clone());
        }
        tracing::warn!(actor = %self.life.id, error = %fault, "a step of the spool failed, opening it anew");
        super::note(&self.life.vitals, &*self.parts.clock, fault);
        self.failures += 1;
        self.open(ctx);
    }

    fn take(&mut self, events: Vec<RawEvent>, ctx: &mut Context<Self>) {
        cross("collect.received");
        let now = self.parts.clock.now();
        let vitals = &self.life.vitals;
        vitals.records_in.add(events.len() as u64);
        self.durable.take(events.len());
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            vitals.bytes_in.add(event.data.len() as u64);
            let id = self.id_of(&event);
            let new = self.seen.insert(Fingerprint::of(&id), now);
            if self.overlap.observe(!new) {
                self.possible_gap(UNPROVEN);
            }
            if new {
                entries.push(Entry {
                    kind: spool::Kind::Event,
                    received: now,
                    token: event.token,
                    id,
                    payload: event.data,
                });
            } else {
                vitals.duplicates.add(1);
            }
        }
        self.append(entries, ctx);
    }

    /// The event's own id: what stands at the pointer; without a pointer, the source's event id and the
    /// text; where nothing stands there, the text.
    fn id_of(&self, event: &RawEvent) -> Bytes {
        let Some(extractor) = &self.id else {
            // The id alone is not enough: an event without one has that of the event before it.
            return [&event.token[..], b"\0", &event.data].concat().into();
        };
        let mut found = Vec::with_capacity(1);
        match extractor.extract(&event.data, &mut found).ok().and_then(|()| found.pop()?) {
            Some(Scalar::Text(text)) if !text.is_empty() => Bytes::copy_from_slice(text.as_bytes()),
            Some(Scalar::Int(number)) => number.to_string().into(),
            // Without an id of its own the text is what a repetition has in common with it.
            _ => event.data.clone(),
        }
    }

    fn possible_gap(&self, why: &str) {
        self.life.vitals.possible_gaps.add(1);
        tracing::error!(actor = %self.life.id, why, "possible gap");
    }

    /// Appends entries, waiting for room as long as it takes, and plans the sync.
    fn append(&mut self, entries: Vec<Entry>, ctx: &mut Context<Self>) {
        if entries.is_empty() {
            // All of them were known. What of it is not durable yet waits for its sync.
            if !self.sync_planned {
                self.durable.tell();
            }
            return;
        }
        let Some(mut writer) = self.writer.take() else { return };
        let spooling = |entry: &Entry| Spooling {
            bytes: entry.payload.len() as u64,
            is_letter: entry.kind == spool::Kind::Letter,
        };
        self.parts.ledger.begin(self.life.incarnation, (writer.next() + 1..).zip(entries.iter().map(spooling)));
        if let Some(span) = self.parts.tracer.begin("collect", &self.life.id, entries[0].received) {
            let end = writer.next() + entries.len() as u64;
            self.parts.link.traced.put(writer.next()..end, span.context());
            self.spans.push((entries.len() as u64, span));
        }
        let life = self.life.clone();
        let appending = async move {
            let entries = Arc::new(entries);
            loop {
                let ours = entries.clone();
                let (back, appended) = {
                    let _attempt = life.attempt("append to spool");
                    blocking(move || {
                        let appended = writer.append(&ours);
                        Ok((writer, appended))
                    })
                    .await?
                };
                writer = back;
                match appended {
                    Ok(_) => return Ok(writer),
                    Err(fault) if fault.kind == Kind::Full => {
                        tracing::warn!(actor = %life.id, error = %fault, "the source waits for room in the spool");
                        let _waiting = life.waiting(format!("room in the spool: {fault}"));
                        life.vitals.spool_full_in.set(Some(Duration::ZERO));
                        // What was appended before has to become durable, or nobody makes room.
                        let (back, synced) = blocking(move || {
                            let synced = writer.sync();
                            Ok((writer, synced))
                        })
                        .await?;
                        writer = back;
                        synced?;
                        writer.room().await;
                    }
                    Err(fault) => return Err(fault),
                }
            }
        };
        ctx.wait(appending.into_actor(self).map(|appended: Result<_>, collector, ctx| match appended {
            Ok(writer) => {
                cross("spool.appended");
                collector.writer = Some(writer);
                collector.plan_sync(ctx);
            }
            Err(fault) => collector.failed(&fault, ctx),
        }));
    }

    /// These entries are durable.
    fn count(&self, done: Vec<Spooling>) {
        let vitals = &self.life.vitals;
        vitals.records_out.add(done.len() as u64);
        vitals.bytes_out.add(done.iter().map(|spooling| spooling.bytes).sum());
        vitals.dead_letters.add(done.iter().filter(|spooling| spooling.is_letter).count() as u64);
    }

    /// Within the settings' time everything appended is durable; more may join until then.
    fn plan_sync(&mut self, ctx: &mut Context<Self>) {
        if self.sync_planned {
            return;
        }
        self.sync_planned = true;
        ctx.run_later(self.parts.settings.spool.sync_within / 2, |collector, ctx| {
            collector.sync_planned = false;
            collector.sync(ctx);
        });
    }

    fn sync(&mut self, ctx: &mut Context<Self>) {
        let Some(mut writer) = self.writer.take() else { return };
        let life = self.life.clone();
        let syncing = async move {
            let _attempt = life.attempt("sync spool");
            blocking(move || writer.sync().map(|next| (writer, next))).await
        };
        ctx.wait(syncing.into_actor(self).map(|synced, collector, ctx| match synced {
            Ok((writer, next)) => {
                cross("spool.synced");
                collector.writer = Some(writer);
                collector.count(collector.parts.ledger.reached(next));
                collector.end_spans();
                collector.durable.tell();
                collector.failures = 0;
                collector.life.vitals.commits.add(1);
                collector.life.vitals.last_success.set(collector.parts.clock.now());
                if let Some(done) = collector.ending.take() {
                    let _ = done.send(());
                }
            }
            Err(fault) => collector.failed(&fault, ctx),
        }));
    }

    /// What was sampled is durable.
    fn end_spans(&mut self) {
        for (number, span) in self.spans.drain(..) {
            span.end(self.parts.clock.now(), [fact("messaging.batch.message_count", number)]);
        }
    }

    /// While an append waits for room this does not come, and the spool stays full.
    fn look_at_spool(&mut self) {
        let Some(writer) = &self.writer else { return };
        let (waiting, bound) = (writer.waiting(), self.parts.settings.spool.max_bytes);
        let rate = self.filling.observe(tokio::time::Instant::now(), waiting);
        self.life.vitals.spool_full_in.set(time_to_full(waiting, bound, rate));
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        if let Some(stream) = self.stream.take() {
            ctx.cancel_future(stream);
        }
        self.sync(ctx);
    }
}

/// Reads the source and delivers what comes, for as long as this incarnation lives.
async fn listen(life: Life<Collector>, mut source: Box<dyn Source>) {
    let (collector, incarnation) = (life.myself(), life.incarnation);
    loop {
        let received = tokio::select! {
            () = life.paused() => {
                source.hang_up();
                life.while_paused().await;
                continue;
            }
            received = source.next() => received,
        };
        let over = received.is_err();
        let pause = match &received {
            Ok(Received::Disconnected { reading: false, again_in, .. }) => *again_in,
            _ => Duration::ZERO,
        };
        if collector.deliver(TakeReceived(received), incarnation).await.is_err() || over {
            return;
        }
        if pause > Duration::ZERO {
            let _waiting = life.waiting("the source: the next attempt to connect");
            tokio::time::sleep(pause).await;
        }
    }
}

impl Actor for Collector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.open(ctx);
        ctx.run_interval(LOOK, |collector, _| collector.look_at_spool());
    }
}

impl Supervised for Collector {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Handler<Delivery<EndCollecting>> for Collector {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<EndCollecting>, ctx: &mut Context<Self>) {
        let done = delivery.message.done;
        self.is_over = true;
        // While the spool or the source is being opened nothing has come that is to be made durable. Who waits
        // there for an ingester that a person has stopped would wait for ever.
        if self.writer.is_none() {
            let _ = done.send(());
            return;
        }
        self.ending = Some(done);
        self.finish(ctx);
    }
}

impl Handler<Delivery<TakeReceived>> for Collector {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<TakeReceived>, ctx: &mut Context<Self>) {
        if !self.life.takes(&delivery) {
            return;
        }
        match delivery.message.0 {
            Ok(Received::Events(events)) => self.take(events, ctx),
            Ok(Received::OversizedPart(part)) => self.take_part(part, ctx),
            Ok(Received::OversizedEnd { token, unreadable }) => self.end_oversized(token, unreadable, ctx),
            Ok(Received::OversizedVoid) => self.oversized = None,
            Ok(Received::Missed(times)) => self.life.vitals.missed_polls.add(times),
            Ok(Received::Connected { resumed }) => {
                self.life.vitals.connections.add(1);
                self.oversized = None;
                if self.overlap.begin(resumed) {
                    self.possible_gap(UNPROVEN);
                }
                tracing::info!(actor = %self.life.id, resumed, "connected");
            }
            Ok(Received::Disconnected { fault, .. }) => {
                match fault.domain {
                    Domain::User | Domain::Data => tracing::error!(actor = %self.life.id, error = %fault, "the source"),
                    _ => tracing::warn!(actor = %self.life.id, error = %fault, "the source gives nothing"),
                }
                self.life.vitals.source_failures.add(1);
                super::note(&self.life.vitals, &*self.parts.clock, &fault);
            }
            Err(fault) => self.failed(&fault, ctx),
        }
    }
}
