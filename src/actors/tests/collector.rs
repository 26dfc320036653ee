//! The collector and its ingester, before a server of recorded events.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::{super::collector::EndCollecting, ingester, *};
use crate::{
    collect,
    recorded::{self, Feed, Layout, Options},
};

pub(super) const NUM_EVENTS: usize = 30_000;

/// Edits a millisecond apart.
fn recording(num_events: usize) -> (Feed, Vec<String>) {
    let edit = |n: usize| {
        format!(
            r#"{{"n":{n},"meta":{{"id":"{n}","dt":"2015-09-12T00:{:02}:{:02}.{:03}Z"}}}}"#,
            n / 60_000,
            n / 1_000 % 60,
            n % 1_000
        )
    };
    let edits: Vec<_> = (0..num_events).map(edit).collect();
    (Feed::load(edits.join("\n").as_bytes(), Layout::default()).unwrap(), edits)
}

/// A collector and its ingester before a server of [`recording`].
pub(super) struct House {
    pub(super) collector: Ref<Collector>,
    pub(super) ingester: Ref<Ingester>,
    root: Root,
}

fn house(folder: &Path, bus: &SharedBus, url: &str, reconnect_after: Duration) -> House {
    house_of(tree(), Arc::new(SystemClock), folder, bus, url, reconnect_after)
}

/// These two in a tree of its own kind, with a clock of their own.
pub(super) fn house_of(
    tree: Tree,
    clock: Arc<dyn Clock>,
    folder: &Path,
    bus: &SharedBus,
    url: &str,
    reconnect_after: Duration,
) -> House {
    let mut settings = ingester::collector(folder, url);
    settings.id = Some(crate::model::Pointer::parse("/meta/id").unwrap());
    let collect::SourceSettings::Sse(source) = &mut settings.source else { panic!("{:?}", settings.source) };
    source.reconnect_after = reconnect_after;
    house_with(tree, clock, settings, bus)
}

fn house_with(mut tree: Tree, clock: Arc<dyn Clock>, settings: collect::Settings, bus: &SharedBus) -> House {
    let link = Link::default();
    let sends = IngesterParts { clock: clock.clone(), ..ingester::parts(&settings, bus.clone(), link.clone()) };
    let parts = CollectorParts {
        settings: Arc::new(settings),
        source: "p/collect".to_owned(),
        node: "n".into(),
        link,
        ledger: Ledger::default(),
        tracer: Tracer::default(),
        clock,
    };
    let ingester = child(&mut tree, "ingest", move |life| Ingester::new(life, sends.clone()));
    let collector = child(&mut tree, "collect", move |life| Collector::new(life, parts.clone()));
    House { collector, ingester, root: start(tree) }
}

/// A server of [`recording`], and its URL.
pub(super) async fn serve(options: Options) -> (recorded::Served, String, Vec<String>) {
    let (feed, edits) = recording(NUM_EVENTS);
    let (served, url) = serve_feed(Arc::new(feed), options).await;
    (served, url, edits)
}

async fn serve_feed(feed: Arc<Feed>, options: Options) -> (recorded::Served, String) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let options = Options { max_connections: 1_000, ..options };
    let (served, work) = recorded::serve(listener, feed, options, std::future::pending()).unwrap();
    tokio::spawn(work);
    let url = format!("http://{}/v2/stream/recentchange", served.addr);
    (served, url)
}

impl House {
    /// Waits until so many events are on the bus, and ends both in order.
    pub(super) async fn end(&self, bus: &SharedBus, num_events: usize) {
        let topic = bus.topic(&"t".into()).await.unwrap().unwrap();
        while bus.watermarks(&topic, 0).await.unwrap().high < num_events as u64 {
            tokio::task::yield_now().await;
        }
        self.end_now().await;
    }

    async fn end_now(&self) {
        let (done, answered) = oneshot::channel();
        self.collector.order(EndCollecting { done }).await.unwrap();
        answered.await.unwrap();
        ingester::drain(&self.ingester).await;
    }

    /// Lets each die a hundred times, whatever it holds: a chunk just received, an append, a sync, a
    /// transaction, a read-back.
    async fn restart_both_a_hundred_times(&self) {
        let vitals = self.collector.vitals();
        for life in 0..100 {
            for id in [self.collector.id(), self.ingester.id()] {
                let seen = vitals.records_in.get();
                while vitals.records_in.get() == seen {
                    tokio::task::yield_now().await;
                }
                for _ in 0..life % 11 {
                    tokio::task::yield_now().await;
                }
                self.root.supervisor().restart(id).await.unwrap();
            }
        }
        let restarts = |vitals: &Vitals| vitals.life().restarts.values().sum::<u64>();
        assert_eq!((restarts(vitals), restarts(self.ingester.vitals())), (100, 100));
    }
}

/// The number of an event in the recording.
fn number(text: &str) -> usize {
    text[5..].split(',').next().unwrap().parse().unwrap()
}

/// Every event is there once. The two data centres' topics interleave anew with each connection.
pub(super) async fn check(bus: &SharedBus, edits: &[String]) {
    let mut found = values(bus).await;
    found.sort_by_key(|text| number(text));
    assert!(found == edits, "{} events of {}", found.len(), edits.len());
}

#[actix::test]
async fn a_collector_and_its_ingester_restarted_a_hundred_times_each_keep_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    // More than the restarts take: what is not served by then does not matter.
    let (feed, _) = recording(20 * NUM_EVENTS);
    let feed = Arc::new(feed);
    let options = Options { speed: 3_000.0, cut_every: Some(2_000), ..Options::default() };
    let (_served, url) = serve_feed(Arc::clone(&feed), options).await;
    let house = house(folder.path(), &bus, &url, Duration::from_secs(600));
    house.restart_both_a_hundred_times().await;
    house.end_now().await;
    // Of each data centre's topic a beginning, each event once, in order.
    let found: Vec<usize> = values(&bus).await.iter().map(|text| number(text)).collect();
    assert!(found.len() > 200, "{}", found.len());
    let mut known = 0;
    for topic in feed.topics() {
        let of_topic: HashSet<_> = topic.events.iter().copied().collect();
        let taken: Vec<_> = found.iter().copied().filter(|event| of_topic.contains(event)).collect();
        assert!(taken == topic.events[..taken.len()], "{}: {} events", topic.name, taken.len());
        known += taken.len();
    }
    assert_eq!(known, found.len());
    let (spooled, sent) = (house.collector.vitals(), house.ingester.vitals());
    assert_eq!(spooled.records_out.get(), known as u64);
    assert_eq!((sent.records_in.get(), sent.records_out.get()), (known as u64, known as u64));
    assert_eq!(sent.bytes_out.get(), spooled.bytes_out.get());
}

/// Each connection is left for the next in the middle of the stream, which interleaves the topics
/// otherwise.
#[actix::test]
async fn connections_that_follow_each_other_in_the_middle_lose_and_repeat_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (served, url, edits) = serve(Options { speed: 10_000.0, ..Options::default() }).await;
    let house = house(folder.path(), &bus, &url, Duration::from_millis(20));
    house.end(&bus, NUM_EVENTS).await;
    check(&bus, &edits).await;
    assert!(served.progress().resumes > 50, "{:?}", served.progress());
    assert_eq!(house.collector.vitals().possible_gaps.get(), 0, "each resume has proven its overlap");
}

#[actix::test]
async fn a_collector_whose_disk_was_lost_repeats_nothing_of_what_the_topic_has() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let (_served, url, edits) = serve(Options { speed: 10_000.0, ..Options::default() }).await;
    let first = house(folder.path(), &bus, &url, Duration::from_secs(600));
    first.end(&bus, NUM_EVENTS / 2).await;
    drop(first);
    std::fs::remove_dir_all(folder.path().join("spool")).unwrap();
    let second = house(folder.path(), &bus, &url, Duration::from_secs(600));
    second.end(&bus, NUM_EVENTS).await;
    check(&bus, &edits).await;
}

/// A file that breaks off in the middle of an event above the bound, and another one that has such an event.
#[actix::test]
async fn what_came_of_a_large_event_that_has_no_end_is_no_part_of_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let bus = bus(folder.path()).await;
    let mut settings = ingester::collector(folder.path(), "");
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    settings.source = collect::SourceSettings::Folder(Box::new(collect::folder::tests::settings(&files)));
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(b'a'..=b'z')).take(2_000_000).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &noise).unwrap();
    let packed = packed.finish().unwrap();
    std::fs::write(files.join("a.gz"), &packed[..packed.len() / 2]).unwrap();
    let house = house_with(tree(), Arc::new(SystemClock), settings, &bus);
    while house.collector.vitals().source_failures.get() == 0 {
        tokio::task::yield_now().await;
    }
    let large = "x".repeat(5_000);
    std::fs::write(files.join("b"), format!("{large}\nb2\n")).unwrap();
    house.end(&bus, 1).await;
    assert_eq!(values(&bus).await, ["b2"]);
    let kept: Vec<_> = std::fs::read_dir(folder.path().join("spool/oversized")).unwrap().collect();
    let [Ok(file)] = &kept[..] else { panic!("{kept:?}") };
    assert!(std::fs::read(file.path()).unwrap() == large.as_bytes(), "its bytes and no others");
}
