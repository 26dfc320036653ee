//! The collector and its ingester, before a server of recorded events.

use tokio::sync::oneshot;

use super::{super::collector::EndCollecting, ingester, *};
use crate::recorded::{self, Feed, Layout, Options};

const NUM_EVENTS: usize = 30_000;

/// Edits a millisecond apart.
fn recording() -> (Feed, Vec<String>) {
    let edit = |n: usize| {
        format!(
            r#"{{"n":{n},"meta":{{"id":"{n}","dt":"2015-09-12T00:{:02}:{:02}.{:03}Z"}}}}"#,
            n / 60_000,
            n / 1_000 % 60,
            n % 1_000
        )
    };
    let edits: Vec<_> = (0..NUM_EVENTS).map(edit).collect();
    (Feed::load(edits.join("\n").as_bytes(), Layout::default()).unwrap(), edits)
}

/// Whichever of the two dies, and whatever it holds: a chunk just received, an append, a sync, a
/// transaction, a read-back.
#[actix::test]
async fn a_collector_and_its_ingester_restarted_a_hundred_times_each_keep_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (feed, edits) = recording();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let options = Options { speed: 3_000.0, max_connections: 1_000, cut_every: Some(2_000), ..Options::default() };
    let (served, work) = recorded::serve(listener, Arc::new(feed), options, std::future::pending()).unwrap();
    let work = tokio::spawn(work);

    let mut settings = ingester::collector(folder.path(), &format!("http://{}/v2/stream/recentchange", served.addr));
    settings.id = Some(crate::model::Pointer::parse("/meta/id").unwrap());
    let link = Link::default();
    let sends = ingester::parts(&settings, bus.clone(), link.clone());
    let parts = CollectorParts {
        settings: Arc::new(settings),
        source: "p/collect".to_owned(),
        node: "n".into(),
        link,
        clock: Arc::new(SystemClock),
    };
    let mut tree = tree();
    let ingester = child(&mut tree, "ingest", move |life| Ingester::new(life, sends.clone()));
    let collector = child(&mut tree, "collect", move |life| Collector::new(life, parts.clone()));
    let root = start(tree);

    for life in 0..100 {
        for actor in [&collector.vitals().clone(), &ingester.vitals().clone()] {
            let seen = collector.vitals().records_in.get();
            while collector.vitals().records_in.get() == seen {
                tokio::task::yield_now().await;
            }
            for _ in 0..life % 11 {
                tokio::task::yield_now().await;
            }
            root.supervisor().restart(&actor.id).await.unwrap();
        }
    }
    assert!(served.progress().released < NUM_EVENTS, "the restarts came while events came: {:?}", served.progress());

    let topic = bus.topic(&"t".into()).await.unwrap().unwrap();
    while bus.watermarks(&topic, 0).await.unwrap().high < NUM_EVENTS as u64 {
        tokio::task::yield_now().await;
    }
    let (done, answered) = oneshot::channel();
    collector.order(EndCollecting { done }).await.unwrap();
    answered.await.unwrap();
    ingester::drain(&ingester).await;
    let mut found = values(&bus).await;
    // The two data centres' topics interleave anew with each connection; within each the order stands.
    let number = |text: &String| text[5..].split(',').next().unwrap().parse::<usize>().unwrap();
    found.sort_by_key(number);
    assert!(found == edits, "{} events of {}", found.len(), edits.len());
    let restarts = |vitals: &Vitals| vitals.life().restarts.values().sum::<u64>();
    assert_eq!((restarts(collector.vitals()), restarts(ingester.vitals())), (100, 100));
    work.abort();
}
