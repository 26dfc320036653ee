//! The ingester: batches of spooled events come in, bus transactions go out.
//!
//! It owns an [`Ingest`], the source's producer and position. A restart opens it anew from the bus;
//! the spool is read again from where the bus says. Invariant: it sends only the batch that begins
//! where it stands. A fence is final: it stops, and never opens the producer again by itself.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Reopens, blocking,
    ledger::Ledger,
    link::{Link, Owned},
    oversized,
};
use crate::{
    bus::{SharedBus, TopicInfo},
    collect::{
        IngestSettings, Settings,
        ingest::{Handover, Ingest, Parts, Spooled},
        origin::Origin,
        spool::{self, Place},
        tail::ids_in_tail,
    },
    fault::{Fault, Result, Retry},
    model::{Clock, Doubling, Millis, Pause, Sequence},
    supervise::{Delivery, Life},
    trace::{Span, Tracer, fact, text},
    vitals::Moments,
};

/// How often what was sent is read back, so that the spool may forget it.
const READ_BACK: Duration = Duration::from_secs(2);

/// What an ingester is made of.
#[derive(Clone)]
pub struct IngesterParts {
    /// What it was told.
    pub settings: Arc<IngestSettings>,
    /// What its collector was told.
    pub collector: Arc<Settings>,
    /// The source: `wikimedia/collect`.
    pub source: String,
    /// The bus.
    pub bus: SharedBus,
    /// What it shares with its collector.
    pub link: Link,
    /// What its lives have under way.
    pub ledger: Ledger<Sending>,
    /// Goes on with traces.
    pub tracer: Tracer,
    /// Wall time, for the figures and the first mark.
    pub clock: Arc<dyn Clock>,
}

/// A transaction under way: what counts once it is durable.
#[derive(Debug)]
pub struct Sending {
    records: u64,
    bytes: u64,
    letters: u64,
    received: Moments,
}

impl Sending {
    fn of(events: &[Spooled], received: Moments) -> Self {
        let mut sending = Self { records: 0, bytes: 0, letters: 0, received };
        for event in events {
            match event {
                Spooled::Event { value, .. } => {
                    sending.records += 1;
                    sending.bytes += value.len() as u64;
                }
                Spooled::Letter { .. } => sending.letters += 1,
            }
        }
        sending
    }
}

/// See the module's text.
pub struct Ingester {
    pub(super) life: Life<Self>,
    parts: IngesterParts,

    spool: Option<Uuid>,
    /// Absent while a step of it runs.
    ingest: Option<Ingest>,
    reader: Option<SpawnHandle>,
    assignment: u64,
    position: Sequence,
    answers: Option<SpawnHandle>,
    waiting: VecDeque<Delivery<TakeSpooled>>,
    read_back_due: bool,
    /// Up to where the spool was told to forget; what an earlier life proved is told again.
    released: Option<Sequence>,
    failures: u32,
    draining: Option<DrainSpool>,
}

/// Events of the spool.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSpooled {
    pub(super) assignment: u64,
    pub(super) events: Result<Vec<Spooled>>,
    /// When they were received.
    pub(super) received: Moments,
}

/// Send everything that is durable in the spool, and say so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DrainSpool {
    /// Told once it is done; dropped if the actor dies before.
    pub done: oneshot::Sender<()>,
}

impl Ingester {
    /// A fresh life of an ingester.
    pub fn new(life: Life<Self>, parts: IngesterParts) -> Self {
        Self {
            life,
            parts,
            spool: None,
            ingest: None,
            reader: None,
            assignment: 0,
            position: 0,
            answers: None,
            waiting: VecDeque::new(),
            read_back_due: false,
            released: None,
            failures: 0,
            draining: None,
        }
    }

    /// Takes the source over (again), after a pause if that failed before.
    fn open(&mut self, ctx: &mut Context<Self>) {
        self.drop_reader(ctx);
        self.parts.link.answer(self.life.incarnation, None);
        let (life, parts, failures) = (self.life.clone(), self.parts.clone(), self.failures);
        let opening = async move {
            if failures > 0 {
                let _waiting = life.waiting(format!("a back-off after {failures} failures"));
                Doubling::default().pause(failures).await;
            }
            let (place, first) = {
                let _waiting = life.waiting("the collector to open its spool");
                parts.link.opened().await
            };
            let _attempt = life.attempt("take the source over");
            (place.spool, take_over(&life, &parts, place, first).await)
        };
        self.then(opening, ctx, |ingester, (spool, opened), ctx| match opened {
            Ok((ingest, topics)) => ingester.opened(spool, ingest, topics, ctx),
            Err(fault) => ingester.failed(&fault, ctx),
        });
    }

    fn opened(&mut self, spool: Uuid, ingest: Ingest, topics: [TopicInfo; 2], ctx: &mut Context<Self>) {
        self.position = ingest.next();
        self.count(self.parts.ledger.found(self.life.incarnation, self.position));
        self.released = None;
        let reading = follow(self.life.clone(), self.parts.clone(), spool, self.position, self.assignment);
        self.reader = Some(ctx.spawn(reading.into_actor(self)));
        self.spool = Some(spool);
        let (handover, next) = (ingest.handover().clone(), ingest.next());
        let answering = answer(self.life.clone(), self.parts.clone(), spool, topics, handover, next);
        self.answers = Some(self.then(answering, ctx, |ingester, fault, ctx| ingester.failed(&fault, ctx)));
        self.ingest = Some(ingest);
        // What an earlier life has proven may make room that the collector waits for.
        self.read_back_due = true;
        self.settle(ctx);
    }

    fn drop_reader(&mut self, ctx: &mut Context<Self>) {
        self.assignment += 1;
        for work in [self.reader.take(), self.answers.take()].into_iter().flatten() {
            ctx.cancel_future(work);
        }
        self.life.vitals.stale_batches.add(self.waiting.drain(..).len() as u64);
    }

    fn failed(&mut self, fault: &Fault, ctx: &mut Context<Self>) {
        self.ingest = None;
        if fault.retry == Retry::Never {
            return self.life.fail(ctx, fault.clone());
        }
        tracing::warn!(actor = %self.life.id, error = %fault, "a step onto the bus failed, opening the source anew");
        super::note(&self.life.vitals, &*self.parts.clock, fault);
        self.failures += 1;
        self.open(ctx);
    }

    /// Starts the next step, if none runs and there is one.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let drained = self.is_drained() && self.waiting.is_empty();
        let Some(mut ingest) = self.ingest.take() else { return };
        let durable = self.parts.link.spool.durable().borrow().map_or(0, |end| end.next);
        // Behind its own end the spool has nothing to forget: its collector has yet to go on there.
        let provable = self.released != Some(ingest.next()) && ingest.next() <= durable;
        let next = if self.read_back_due && provable { None } else { self.waiting.pop_front() };
        if next.is_none() && !(provable && (self.read_back_due || drained)) {
            self.read_back_due = false;
            self.ingest = Some(ingest);
            if drained && let Some(drain) = self.draining.take() {
                let _ = drain.done.send(());
            }
            return;
        }
        let (life, parts) = (self.life.clone(), self.parts.clone());
        self.read_back_due &= next.is_some();
        let proving = next.is_none();
        let step = async move {
            let _attempt = life.attempt(if next.is_some() { "send" } else { "read back" });
            let result = match next.map(|delivery| delivery.message) {
                Some(TakeSpooled { events: Ok(events), received, .. }) => {
                    let end = events.last().map(|event| (event.sequence() + 1, Sending::of(&events, received)));
                    parts.ledger.begin(life.incarnation, end);
                    send(&mut ingest, &events, &life, &parts).await
                }
                Some(TakeSpooled { events: Err(fault), .. }) => Err(fault),
                None => prove(&mut ingest, &parts).await,
            };
            (ingest, result)
        };
        self.then(step, ctx, move |ingester, (ingest, result), ctx| match result {
            Ok(()) => {
                if proving {
                    ingester.released = Some(ingest.proven());
                }
                ingester.stepped(ingest, ctx);
            }
            Err(fault) => ingester.failed(&fault, ctx),
        });
    }

    fn stepped(&mut self, ingest: Ingest, ctx: &mut Context<Self>) {
        self.life.progress();
        self.failures = 0;
        self.position = ingest.next();
        self.count(self.parts.ledger.reached(self.position));
        let durable = self.parts.link.spool.durable().borrow().map_or(0, |end| end.next);
        self.life.vitals.lag.set(i64::try_from(durable.saturating_sub(self.position)).unwrap_or(i64::MAX));
        self.ingest = Some(ingest);
        self.settle(ctx);
    }

    /// These transactions are durable.
    fn count(&self, done: Vec<Sending>) {
        let (vitals, now) = (&self.life.vitals, self.parts.clock.now());
        for sending in done {
            vitals.latency.observe(&sending.received, now);
            vitals.records_in.add(sending.records + sending.letters);
            vitals.bytes_in.add(sending.bytes);
            vitals.records_out.add(sending.records);
            vitals.bytes_out.add(sending.bytes);
            vitals.dead_letters.add(sending.letters);
            vitals.commits.add(1);
            vitals.last_success.set(now);
        }
    }

    /// Whether a drain is on and everything durable was sent.
    fn is_drained(&self) -> bool {
        let durable = *self.parts.link.spool.durable().borrow();
        let sent = |end: Place| Some(end.spool) == self.spool && self.position >= end.next;
        self.draining.is_some() && durable.is_some_and(sent)
    }
}

impl Reopens for Ingester {
    fn opening(&self) -> u64 {
        self.assignment
    }
}

/// Opens the source on the bus; answers with the topics that say which events are known, too.
async fn take_over(
    life: &Life<Ingester>,
    parts: &IngesterParts,
    place: Place,
    first: Sequence,
) -> Result<(Ingest, [TopicInfo; 2])> {
    let name = &parts.settings.topic;
    let topic = parts.bus.topic(name).await?;
    let topic = topic.ok_or_else(|| Fault::user(format!("topic {name} does not exist")))?;
    let ingest_parts = Parts {
        actor: life.id.clone(),
        source: parts.source.clone(),
        spool: place.spool,
        made: parts.link.spool.made(),
        progress: Arc::new({
            let life = life.clone();
            move || life.progress()
        }),
        bus: parts.bus.clone(),
        settings: parts.settings.clone(),
    };
    let (now, claim) = (parts.clock.now(), parts.link.claim.of(life.incarnation));
    let ingest = Ingest::open(ingest_parts, topic.clone(), now, &claim, first..place.next).await?;
    let letters = ingest.letters().clone();
    Ok((ingest, [topic, letters]))
}

/// Answers each question of the collector's, for as long as this one owns the source.
async fn answer(
    life: Life<Ingester>,
    parts: IngesterParts,
    spool: Uuid,
    topics: [TopicInfo; 2],
    handover: Handover,
    next: Sequence,
) -> Fault {
    let mut questions = parts.link.question();
    loop {
        let question = *questions.borrow_and_update();
        let settings = &parts.collector;
        let window = Millis::try_from(settings.dedupe_window.as_millis()).unwrap_or(Millis::MAX);
        let since = parts.clock.now().saturating_sub(window);
        let mut ids = Vec::new();
        {
            let attempt = life.attempt("read the tail of the topic");
            for topic in &topics {
                match ids_in_tail(&parts.bus, topic, since, settings.dedupe_ids, || attempt.progress()).await {
                    Ok(more) => ids.extend(more),
                    Err(fault) => return fault,
                }
            }
        }
        ids.sort_by_key(|(_, time)| *time);
        let Handover { token, since } = handover.clone();
        let owned = Owned { question, spool, token, since, next, ids: Arc::new(ids) };
        parts.link.answer(life.incarnation, Some(owned));
        if questions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sends; what is sampled goes on with its trace.
async fn send(ingest: &mut Ingest, events: &[Spooled], life: &Life<Ingester>, parts: &IngesterParts) -> Result<()> {
    let spans = spans(events, life, parts);
    let headers = spans.iter().map(|(entries, span)| (entries.clone(), span.context().header()));
    ingest.trace(headers.collect());
    let sent = ingest.send(events).await;
    let now = parts.clock.now();
    for (entries, span) in spans {
        let number = entries.end - entries.start;
        match &sent {
            Ok(()) => span.end(
                now,
                [
                    text("messaging.destination.name", parts.settings.topic.as_str()),
                    fact("messaging.batch.message_count", number),
                ],
            ),
            Err(fault) => span.fail(fault, now),
        }
    }
    sent
}

/// A span for each sampled batch that has a part in these events, with the sequences of that.
fn spans(events: &[Spooled], life: &Life<Ingester>, parts: &IngesterParts) -> Vec<(Range<Sequence>, Span)> {
    let (Some(first), Some(last), true) = (events.first(), events.last(), parts.tracer.is_on()) else {
        return Vec::new();
    };
    let runs = parts.link.traced.within(&(first.sequence()..last.sequence() + 1)).into_iter();
    let now = parts.clock.now();
    let begin = |(entries, under)| Some((entries, parts.tracer.send("ingest", &life.id, &under, now)?));
    runs.filter_map(begin).collect()
}

/// Reads back, and lets the spool forget what was seen on the bus.
async fn prove(ingest: &mut Ingest, parts: &IngesterParts) -> Result<()> {
    ingest.read_back().await?;
    let (proven, path, link) = (ingest.proven(), parts.collector.spool.path.clone(), parts.link.spool.clone());
    blocking(move || spool::Reader::open(&path, proven, &link)?.release(proven)).await.map(drop)
}

/// Reads the spool from `from` on, as far as it is durable, and delivers what it reads.
async fn follow(life: Life<Ingester>, parts: IngesterParts, spool: Uuid, from: Sequence, assignment: u64) {
    let (ingester, incarnation) = (life.myself(), life.incarnation);
    let (records, bytes) = (parts.settings.batch_records, parts.settings.batch_bytes);
    let mut durable = parts.link.spool.durable();
    let (mut position, mut reader, origin) = (from, None, Origin::of(&parts.collector));
    loop {
        let moved = |place: &Option<Place>| place.is_some_and(|end| end.spool != spool || end.next > position);
        life.while_paused().await;
        let end = tokio::select! {
            () = life.paused() => continue,
            end = durable.wait_for(moved) => end.map(|end| *end),
        };
        let Ok(end) = end else { return };
        let mut received = Moments::default();
        let result = match end {
            Some(end) if end.spool == spool => {
                let (opened, parts) = (reader.take(), parts.clone());
                let read = blocking(move || {
                    let mut reader: spool::Reader = match opened {
                        Some(reader) => reader,
                        None => spool::Reader::open(&parts.collector.spool.path, position, &parts.link.spool)?,
                    };
                    let frames = reader.read(records, bytes, end.next)?;
                    Ok((reader, frames))
                });
                read.await.and_then(|(opened, frames)| {
                    reader = Some(opened);
                    frames.iter().for_each(|frame| received.push(frame.entry.received));
                    frames.into_iter().map(|frame| spooled(frame, origin.as_ref())).collect()
                })
            }
            // The spool was lost and begun anew: another position on the bus.
            _ => Err(Fault::external("the collector has begun another spool")),
        };
        let failed = result.is_err();
        if let Some(last) = result.as_ref().ok().and_then(|events: &Vec<_>| events.last()) {
            position = last.sequence() + 1;
        }
        if ingester.deliver(TakeSpooled { assignment, events: result, received }, incarnation).await.is_err() || failed
        {
            return;
        }
    }
}

/// A frame of the spool as the ingester takes it.
fn spooled(spool::Frame { sequence, entry, file }: spool::Frame, origin: Option<&Origin>) -> Result<Spooled> {
    let token = (!entry.token.is_empty()).then(|| String::from_utf8_lossy(&entry.token).into_owned());
    Ok(match entry.kind {
        spool::Kind::Event => {
            let headers = origin.map(|origin| origin.headers(&entry.token, file.as_deref())).unwrap_or_default();
            Spooled::Event { sequence, token, id: entry.id, value: entry.payload, headers }
        }
        spool::Kind::Letter => {
            let letter = oversized::letter(&entry.payload)?;
            Spooled::Letter { sequence, token, id: entry.id, letter }
        }
    })
}

impl Actor for Ingester {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.open(ctx);
        ctx.run_interval(READ_BACK, |ingester, ctx| {
            ingester.read_back_due = true;
            ingester.settle(ctx);
        });
    }
}

impl Supervised for Ingester {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Handler<Delivery<DrainSpool>> for Ingester {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<DrainSpool>, ctx: &mut Context<Self>) {
        self.draining = Some(delivery.message);
        self.settle(ctx);
    }
}

impl Handler<Delivery<TakeSpooled>> for Ingester {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<TakeSpooled>, ctx: &mut Context<Self>) {
        if !self.life.takes(&delivery) {
            return;
        }
        if delivery.message.assignment != self.assignment {
            return self.life.vitals.stale_batches.add(1);
        }
        self.waiting.push_back(delivery);
        self.settle(ctx);
    }
}
