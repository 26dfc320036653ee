//! The ingester, before a spool that a test has filled.

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    super::ingester::{DrainSpool, TakeSpooled},
    *,
};
use crate::{
    collect::{
        self, IngestSettings, SpoolSettings,
        ingest::Spooled,
        spool::{self, Entry, Owner, Writer},
    },
    model::Incarnation,
};

const NUM_EVENTS: u64 = 8_000;
const BATCH: usize = 20;

fn event(n: u64) -> Entry {
    Entry {
        kind: spool::Kind::Event,
        received: 0,
        token: Bytes::from(format!("token {n}")),
        id: Bytes::from(format!("id {n}")),
        payload: Bytes::from(format!("event {n}")),
    }
}

/// What a collector of this folder's spool would be told.
pub(super) fn collector(folder: &Path, url: &str) -> collect::Settings {
    collect::Settings {
        source: collect::SourceSettings::Sse(collect::SseSettings {
            url: url.to_owned(),
            contact: None,
            reconnect_after: Duration::from_secs(600),
            silence: Duration::from_secs(60),
            max_event: 1 << 20,
        }),
        id: None,
        dedupe_window: Duration::from_secs(600),
        dedupe_ids: 100_000,
        spool: SpoolSettings {
            path: folder.join("spool"),
            layout: collect::Layout::Packed,
            max_bytes: 64 << 20,
            roll_bytes: 100_000,
            sync_within: Duration::from_millis(5),
        },
        file_headers: collect::FileHeaders::default(),
    }
}

/// An ingester of what the collector behind `link` spools.
pub(super) fn parts(settings: &collect::Settings, bus: SharedBus, link: Link) -> IngesterParts {
    IngesterParts {
        settings: Arc::new(IngestSettings { topic: "t".into(), key: None, batch_records: BATCH, batch_bytes: 1 << 20 }),
        collector: Arc::new(settings.clone()),
        source: "p/collect".to_owned(),
        bus,
        link,
        ledger: Ledger::default(),
        tracer: Tracer::default(),
        clock: Arc::new(SystemClock),
    }
}

pub(super) async fn drain(ingester: &Ref<Ingester>) {
    let (done, answered) = oneshot::channel();
    ingester.order(DrainSpool { done }).await.unwrap();
    answered.await.unwrap();
}

/// A spool of [`NUM_EVENTS`].
fn fill(settings: &collect::Settings, link: &Link) -> Writer {
    let (incarnation, life) = (Uuid::new_v4(), Incarnation(1));
    let owner = Owner { source: "p/collect".to_owned(), node: "n".into(), incarnation, life };
    let (mut writer, _) = Writer::open(&settings.spool, &owner, &link.spool, Arc::new(SystemClock)).unwrap();
    for start in (0..NUM_EVENTS).step_by(100) {
        writer.append(&(start..start + 100).map(event).collect::<Vec<_>>()).unwrap();
    }
    writer.sync().unwrap();
    writer
}

fn expected() -> Vec<String> {
    (0..NUM_EVENTS).map(|n| format!("event {n}")).collect()
}

#[actix::test]
async fn spooled_events_meant_for_a_former_life_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (settings, link) = (collector(folder.path(), "http://127.0.0.1:9"), Link::default());
    let _writer = fill(&settings, &link);
    let (parts, mut tree) = (parts(&settings, bus.clone(), link), tree());
    let ingester = child(&mut tree, "ingest", move |life| Ingester::new(life, parts.clone()));
    let _root = start(tree);
    while ingester.vitals().records_out.get() == 0 {
        tokio::task::yield_now().await;
    }
    // The last event: sent now it would move the position over all that come before it.
    let last = NUM_EVENTS - 1;
    let value = Bytes::from(format!("event {last}"));
    let last = Spooled::Event { sequence: last, token: None, id: Bytes::new(), value, headers: Vec::new() };
    for assignment in [1, 2] {
        let stale =
            TakeSpooled { assignment, events: Ok(vec![last.clone()]), received: crate::vitals::Moments::default() };
        ingester.deliver(stale, Incarnation(0)).await.unwrap();
    }
    drain(&ingester).await;
    assert_eq!(ingester.vitals().stale_batches.get(), 2);
    assert_eq!(values(&bus).await, expected());
}

#[actix::test]
async fn an_ingester_restarted_a_hundred_times_over_its_transactions_sends_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let watched = WatchedBus::new(bus.clone(), false);
    let (settings, link) = (collector(folder.path(), "http://127.0.0.1:9"), Link::default());
    let _writer = fill(&settings, &link);
    let (parts, mut tree) = (parts(&settings, watched.clone(), link), tree());
    let ingester = child(&mut tree, "ingest", move |life| Ingester::new(life, parts.clone()));
    let root = start(tree);
    restart_a_hundred_times(&root, &ingester, &watched.witness, async |_| ()).await;
    assert!((values(&bus).await.len() as u64) < NUM_EVENTS, "the restarts came while it sent");
    drain(&ingester).await;
    assert_eq!(values(&bus).await, expected());
    let vitals = ingester.vitals();
    assert_eq!((vitals.records_in.get(), vitals.records_out.get()), (NUM_EVENTS, NUM_EVENTS));
    assert_eq!(vitals.bytes_out.get(), expected().iter().map(|event| event.len() as u64).sum::<u64>());
    assert_eq!(vitals.latency.get().count, NUM_EVENTS);
}

/// The collector's question cannot be answered for a moment, while a transaction is on its way: the
/// source is opened anew, and what the transaction comes to belongs to an opening that is over.
#[actix::test]
async fn an_ingester_that_opens_anew_over_a_transaction_is_not_fenced_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let watched = WatchedBus::new(bus.clone(), false);
    let (settings, link) = (collector(folder.path(), "http://127.0.0.1:9"), Link::default());
    let _writer = fill(&settings, &link);
    let spool = link.spool.durable().borrow().unwrap().spool;
    let (parts, mut tree) = (parts(&settings, watched.clone(), link.clone()), tree());
    let ingester = child(&mut tree, "ingest", move |life| Ingester::new(life, parts.clone()));
    let _root = start(tree);
    let mut begun = watched.witness.0.subscribe();
    watched.sends_held.send_replace(true);
    begun.mark_unchanged();
    begun.changed().await.unwrap();
    watched.unreadable.store(true, Ordering::SeqCst);
    let asked = tokio::task::spawn_local(async move { link.ask(spool).await });
    while ingester.vitals().life().last_error.is_none() {
        tokio::task::yield_now().await;
    }
    watched.unreadable.store(false, Ordering::SeqCst);
    // Only now the transaction goes on, and meets the fence of the opening that came after it.
    assert_eq!(asked.await.unwrap().spool, spool);
    watched.sends_held.send_replace(false);
    drain(&ingester).await;
    assert_eq!(values(&bus).await, expected());
    assert!(ingester.vitals().life().restarts.is_empty(), "{:?}", ingester.vitals().life().restarts);
}
