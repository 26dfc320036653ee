//! The loader, before a sink that can be watched.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    load::{
        self, Settings,
        sink::{Answer, Place, Sink, Written},
        testing,
        transform::{self, Row},
    },
    model::Pointer,
    vitals::Death,
};

/// Records of each life.
const EACH: u64 = 50;

/// What it was sent, by the place of each row; a row that was sent again has to be the same.
struct Held {
    rows: Mutex<BTreeMap<String, String>>,
    witness: Witness,
}

impl Held {
    fn new() -> Arc<Self> {
        Arc::new(Self { rows: Mutex::default(), witness: Witness::new() })
    }

    fn rows(&self) -> BTreeMap<String, String> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Sink for Held {
    fn describe(&self) -> String {
        "a sink that is watched".to_owned()
    }

    fn write(&self, row: &Row<'_>, place: &Place) -> Result<Written, String> {
        let text = format!("{}#{} {}", place.offset, place.element, String::from_utf8_lossy(row.element));
        Ok(Written { text: text.into(), identity: None })
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn send(&self, rows: &[Bytes]) -> Answer {
        self.witness.begins();
        tokio::task::yield_now().await;
        {
            let mut held = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                let (place, element) = std::str::from_utf8(row).unwrap().split_once(' ').unwrap();
                let before = held.insert(place.to_owned(), element.to_owned());
                assert!(before.is_none_or(|before| before == element), "{place} is another one now");
            }
        }
        tokio::task::yield_now().await;
        Answer::all_taken()
    }
}

fn parts(bus: &SharedBus, sink: &Arc<Held>) -> LoaderParts {
    let n = Pointer::parse("/n").unwrap();
    let settings = testing::settings();
    let transform = transform::Settings { key: Some(n), ..settings.transform.clone() };
    let settings = Settings { transform, batch_rows: 20, batch_bytes: 1 << 20, ..settings };
    LoaderParts {
        settings: Arc::new(settings),
        replicas: 1,
        bus: bus.clone(),
        sink: sink.clone(),
        clock: Arc::new(SystemClock),
        suspects: Suspects::default(),
        loads: Loads::default(),
        witness: load::Witness::default(),
        tracer: Tracer::default(),
    }
}

/// Two elements, of which the second has the key of the next record's first.
fn record(n: u64) -> String {
    format!(r#"{{"r":[{{"n":{n}}},{{"n":{}}}]}}"#, n + 1)
}

async fn drain(loader: &Ref<Loader>, end: Offset) {
    let (done, answered) = oneshot::channel();
    loader.order(Drain { until: BTreeMap::from([(0, end)]), done }).await.unwrap();
    answered.await.unwrap();
}

#[actix::test]
async fn a_loader_restarted_a_hundred_times_over_its_requests_loads_and_counts_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, sink) = (bus(folder.path()).await, Held::new());
    let (parts, mut tree) = (parts(&bus, &sink), tree());
    let loader = child(&mut tree, "users", move |life| Loader::new(life, parts.clone()));
    let root = start(tree);
    let feed = async |life| send(&bus, (life * EACH..(life + 1) * EACH).map(record)).await;
    restart_a_hundred_times(&root, &loader, &sink.witness, feed).await;
    let records = 100 * EACH;
    drain(&loader, records).await;
    // Each number once, where it came first: as the second element of the record before.
    let mut expected = BTreeMap::from([("0#0".to_owned(), r#"{"n":0}"#.to_owned())]);
    expected.extend((0..records).map(|n| (format!("{n}#1"), format!(r#"{{"n":{}}}"#, n + 1))));
    assert_eq!(sink.rows(), expected);
    let vitals = loader.vitals();
    assert_eq!((vitals.records_in.get(), vitals.latency.get().count), (records, records));
    assert_eq!((vitals.records_out.get(), vitals.duplicates.get()), (records + 1, records - 1));
}

#[actix::test]
async fn a_record_that_a_loader_dies_of_is_a_dead_letter_of_its_own_and_the_rest_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, sink) = (bus(folder.path()).await, Held::new());
    let records = (0..30).map(record).chain(["poison".to_owned()]).chain((30..60).map(record));
    send(&bus, records).await;
    let (parts, mut tree) = (parts(&bus, &sink), tree());
    let loader = child(&mut tree, "users", move |life| Loader::new(life, parts.clone()));
    let _root = start(tree);
    while loader.vitals().dead_letters.get() == 0 {
        tokio::task::yield_now().await;
    }
    drain(&loader, 61).await;
    assert_eq!((sink.rows().len(), loader.vitals().life().restarts[&Death::Panic]), (61, 4));
    let topic = bus.topic(&"t".into()).await.unwrap().unwrap();
    let dead = bus.topic(&"t.dead_letters".into()).await.unwrap().unwrap();
    let letters = crate::bus::read_range(&*bus, &dead, 0, 0, 1).await.unwrap();
    let key = letters[0].key.clone().unwrap();
    assert_eq!(String::from_utf8(key.to_vec()).unwrap(), format!("t/{}/0@30/users", topic.id));
    assert_eq!(letters[0].value.as_deref(), Some(b"poison".as_slice()));
    // It may be of use to a table, which is not kept from looking at it.
    assert!(crate::bus::letters::poison(&*bus, &topic).await.unwrap().is_empty());
}
