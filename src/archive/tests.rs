//! What breaks a careless lane, one step at a time.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Lane, Parts, Published, Settings,
    entry::Times,
    histories::{self, archiver, check, spec},
    verify::{Verify, What},
};
use crate::{
    bus::{Bus, Start, TopicInfo, model::Payload},
    fault::{Domain, Kind, Result},
    model::{Batch, Hole, Millis, Offset, Record, Why},
    sim::Sim,
    store::StorePath,
};

/// A world in which everything is done at once, with a topic `t` in it.
struct Calm {
    sim: Sim,
    topic: TopicInfo,
    parts: Parts,
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

fn calm(settings: Settings) -> Calm {
    let mut sim = Sim::new(1);
    let (world, owner) = (sim.world().clone(), sim.owner());
    let topic = world.topic(&spec("t"));
    let parts = histories::parts(&sim, owner, &Arc::new(settings));
    let parts = Parts { bus: Arc::new(world.bus()), store: Arc::new(world.store()), ..parts };
    Calm { sim, topic, parts }
}

impl Calm {
    fn append(&self, values: &[&str]) {
        self.sim.world().append(
            &"t".into(),
            0,
            values.iter().map(|value| Payload::value((*value).to_owned())).collect(),
        );
    }

    fn lane(&self) -> Lane {
        now(Lane::open(self.parts.clone(), self.topic.clone(), 0)).unwrap()
    }

    fn batch(&self, from: Offset) -> Batch {
        now(async { self.parts.bus.reader(&self.topic, 0, from).await?.next().await }).unwrap()
    }

    /// The batch from `from` on as far as `to`.
    fn cut(&self, from: Offset, to: Offset) -> Batch {
        let mut batch = self.batch(from);
        batch.records.retain(|record| record.offset < to);
        Batch { to, ..batch }
    }

    fn files(&self) -> BTreeMap<String, Bytes> {
        self.sim.world().files()
    }

    fn text(&self, published: &Published) -> String {
        let target = published.entry.target.as_ref().unwrap();
        String::from_utf8(self.files()[&format!("/raw/{target}")].to_vec()).unwrap()
    }
}

fn take(lane: &mut Lane, batch: &Batch) -> Vec<Published> {
    now(lane.take(batch, Instant::now())).unwrap()
}

fn roll(lane: &mut Lane) -> Published {
    now(lane.roll()).unwrap().unwrap()
}

fn hole(from: Offset, to: Offset, why: Why) -> Hole {
    Hole { from, to, why }
}

#[test]
fn two_first_starters_with_a_moving_low_watermark_begin_one_chain() {
    let mut late = 0;
    for seed in 0..50 {
        let mut sim = Sim::new(seed);
        sim.calm();
        let world = sim.world().clone();
        let (topic, _) = (world.topic(&spec("t")), world.topic(&spec("t.dead_letters")));
        world.append(&"t".into(), 0, (0..10).map(|n| Payload::value(format!("event {n}"))).collect());
        let (settings, target) = (Arc::new(Settings::for_test()), Rc::new(Cell::new(10)));
        let (a, b) = (sim.owner(), sim.owner());
        let first = sim.spawn(a, archiver(histories::parts(&sim, a, &settings), topic.clone(), target.clone()));
        // Somewhere before it has put anything, or after.
        let steps = sim.below(60);
        sim.run(steps);
        sim.freeze(a);
        let begun = world.files().keys().any(|path| path.ends_with("begin.json"));
        late += usize::from(!begun);
        world.retain(&"t".into(), 0, 5);
        let second = sim.spawn(b, archiver(histories::parts(&sim, b, &settings), topic.clone(), target.clone()));
        assert!(sim.run_until(5_000, |_| second.is_done()), "seed {seed}: the second");
        sim.wake(a);
        assert!(sim.run_until(5_000, |_| first.is_done()), "seed {seed}: the first");
        for end in [first, second] {
            assert_eq!(end.take().unwrap().message, "drained", "seed {seed}");
        }
        check(&sim, &topic, 10).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let entry = &world.files()[&format!("/raw/_chain/t/{}/0/{:020}.json", topic.id, 0)];
        let entry: Value = serde_json::from_slice(entry).unwrap();
        let why = entry["holes"].as_array().unwrap().first().map(|hole| hole["why"].as_str().unwrap().to_owned());
        // What went before the chain had begun is its beginning; what went after that is loss.
        match why.as_deref() {
            None => {}
            Some("start") => assert!(!begun, "seed {seed}"),
            // Begun, or about to be: a put that was on its way counts from what it had seen.
            Some("retention") => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!((5..45).contains(&late), "{late} of 50 began late");
}

#[test]
fn who_lost_the_place_goes_on_where_the_winners_entry_ends() {
    let calm = calm(Settings::for_test());
    calm.append(&["a", "b", "c"]);
    let (mut slow, mut quick) = (calm.lane(), calm.lane());
    take(&mut slow, &calm.batch(0));
    take(&mut quick, &calm.cut(0, 2));
    let won = roll(&mut quick);
    let lost = roll(&mut slow);
    assert_eq!((lost.mine, lost.entry.next, slow.position()), (false, 2, 2));
    assert_eq!(lost.entry, won.entry);
    take(&mut slow, &calm.batch(2));
    let rest = roll(&mut slow);
    assert_eq!((calm.text(&won), calm.text(&rest)), ("a\nb\n".to_owned(), "c\n".to_owned()));
    assert!(!calm.files().keys().any(|path| path.contains("/_staging/")), "{:?}", calm.files().keys());
}

#[test]
fn two_topics_in_one_folder_keep_their_own_bytes() {
    let calm = calm(Settings::for_test());
    let other = calm.sim.world().topic(&spec("u"));
    calm.append(&["t 0", "t 1"]);
    calm.sim.world().append(&"u".into(), 0, vec![Payload::value("u 0"), Payload::value("u 1")]);
    let mut first = calm.lane();
    take(&mut first, &calm.batch(0));
    let settings = Settings { topic: "u".into(), ..Settings::for_test() };
    let parts = Parts { settings: Arc::new(settings), ..calm.parts.clone() };
    let mut second = now(Lane::open(parts, other.clone(), 0)).unwrap();
    let batch = now(async { calm.parts.bus.reader(&other, 0, 0).await?.next().await }).unwrap();
    take(&mut second, &batch);
    let (first, second) = (roll(&mut first), roll(&mut second));
    assert_eq!((first.entry.next, second.entry.next), (2, 2));
    assert_eq!((calm.text(&first), calm.text(&second)), ("t 0\nt 1\n".to_owned(), "u 0\nu 1\n".to_owned()));
}

#[test]
fn an_archive_of_another_pipeline_is_refused() {
    let calm = calm(Settings::for_test());
    calm.append(&["a"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    roll(&mut lane);
    let mut parts = calm.parts.clone();
    parts.actor.pipeline = "q".into();
    let fault = now(Lane::open(parts, calm.topic.clone(), 0)).err().unwrap();
    assert_eq!(fault.domain, Domain::User);
    assert!(fault.message.contains("belongs to pipeline p") && fault.message.contains("/raw/_chain/t/"), "{fault}");
}

#[test]
fn a_topic_made_anew_does_not_go_on_in_the_old_archive() {
    let calm = calm(Settings::for_test());
    calm.append(&["a"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    roll(&mut lane);
    let before = calm.files();
    let new = calm.sim.world().recreate(&"t".into());
    let fault = now(Lane::open(calm.parts.clone(), new, 0)).err().unwrap();
    assert_eq!(fault.kind, Kind::Recreated, "{fault}");
    assert_eq!(calm.files(), before);
}

#[test]
fn a_topic_made_anew_gets_a_chain_beside_the_old_one_if_that_is_wanted() {
    let settings = Settings { follows_recreated: true, start: Start::Latest, ..Settings::for_test() };
    let mut calm = calm(settings);
    let mut lane = calm.lane();
    calm.append(&["a", "b"]);
    take(&mut lane, &calm.batch(0));
    roll(&mut lane);
    let before = calm.files();
    calm.topic = calm.sim.world().recreate(&"t".into());
    calm.append(&["c"]);
    // "latest" was meant for what lay there before; of the new topic nothing is left out.
    let mut lane = calm.lane();
    assert_eq!(lane.position(), 0);
    take(&mut lane, &calm.batch(0));
    let published = roll(&mut lane);
    assert_eq!(calm.text(&published), "c\n");
    let after = calm.files();
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "nothing of the old chain changes");
}

#[test]
fn on_a_topic_in_use_a_chain_begins_where_it_is_told_and_stays_there() {
    let first = |start: Start| {
        let calm = calm(Settings { start, ..Settings::for_test() });
        calm.append(&["a", "b", "c", "d"]);
        now(calm.parts.bus.commit_offset("flume", &calm.topic, 0, 2)).unwrap();
        let at = calm.lane().position();
        calm.append(&["e"]);
        now(calm.parts.bus.commit_offset("flume", &calm.topic, 0, 5)).unwrap();
        assert_eq!(calm.lane().position(), at, "asked once");
        let entries = calm.files().keys().filter(|path| path.ends_with("/00000000000000000000.json")).count();
        assert_eq!(entries, usize::from(at > 0), "the first entry holds what lies before");
        at
    };
    assert_eq!(first(Start::Earliest), 0);
    assert_eq!(first(Start::Latest), 4);
    assert_eq!(first(Start::Group("flume".to_owned())), 2);
    let calm = calm(Settings { start: Start::Group("nobody".to_owned()), ..Settings::for_test() });
    let fault = now(Lane::open(calm.parts.clone(), calm.topic.clone(), 0)).err().unwrap();
    assert_eq!(fault.domain, Domain::User);
    assert!(fault.message.contains("group \"nobody\" has committed no offset of t-0"), "{fault}");
}

/// Shorter than the archive, or grown beyond it with other records: neither is gone on with.
#[test]
fn a_bus_that_was_put_back_is_not_gone_on_with() {
    let calm = calm(Settings::for_test());
    calm.append(&["a", "b", "c"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    roll(&mut lane);
    // A copy of the world's archive beside a topic of the same identity that holds other records.
    let check = |times: &[Millis], words: &str| {
        let mut batch = calm.batch(0);
        batch.records.truncate(times.len());
        batch.records.iter_mut().zip(times).for_each(|(record, time)| record.time = *time);
        let bus = Arc::new(Other { inner: calm.sim.world().bus(), records: batch.records });
        let parts = Parts { bus, ..calm.parts.clone() };
        let fault = now(Lane::open(parts, calm.topic.clone(), 0)).err().unwrap();
        assert_eq!(fault.kind, Kind::Lost);
        assert!(fault.message.contains(words) && fault.message.starts_with("t-0: "), "{fault}");
    };
    let time = calm.batch(0).records[0].time;
    check(&[time, time], "the archive ends at 3, the bus at 2");
    check(&[time, time, time + 1], "the record at offset 2 is not the one that was archived");
    check(&[time, time, time - 1, time], "the record at offset 2 is not the one that was archived");
    assert_eq!(calm.lane().position(), 3);
}

#[test]
fn the_sidecar_holds_the_bus_times_of_the_lines_and_of_nothing_else() {
    let calm = calm(Settings::for_test());
    calm.sim.world().topic(&spec("t.dead_letters"));
    let (world, topic) = (calm.sim.world(), "t".into());
    world.append(&topic, 0, vec![Payload::null(), Payload::value("a")]);
    world.clock().advance(5);
    world.append(&topic, 0, vec![Payload::value("b\nc")]);
    world.skip(&topic, 0, 2);
    world.clock().advance(7);
    world.append(&topic, 0, vec![Payload::value("d")]);
    let mut lane = calm.lane();
    let batch = calm.batch(0);
    take(&mut lane, &batch);
    let published = roll(&mut lane);
    let folder = format!("/raw/_chain/t/{}/0/", calm.topic.id);
    let sidecar = &calm.files()[&format!("{folder}{}", published.entry.times.unwrap())];
    let begun = batch.records[0].time;
    assert_eq!(Times::decode(sidecar, 2).unwrap(), [begun, begun + 12]);
}

#[test]
fn no_entry_is_put_before_its_letters_are_on_the_bus() {
    let calm = calm(Settings::for_test());
    // Nobody has made the letters' topic, so they cannot be sent.
    calm.append(&["a", "b\nc"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    assert!(now(lane.roll()).is_err());
    let entry = format!("{:020}.json", 0);
    assert!(!calm.files().keys().any(|path| path.ends_with(&entry)), "{:?}", calm.files().keys());
    now(lane.abandon());
    assert!(!calm.files().keys().any(|path| path.contains("/_staging/")), "{:?}", calm.files().keys());
    calm.sim.world().topic(&spec("t.dead_letters"));
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    assert_eq!(roll(&mut lane).entry.holes, [hole(1, 2, Why::DeadLetter)]);
    assert_eq!(calm.sim.world().records(&"t.dead_letters".into(), 0).len(), 1);
}

#[test]
fn what_retention_took_is_an_entrys_hole_and_a_finding() {
    let calm = calm(Settings::for_test());
    calm.append(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.cut(0, 3));
    calm.sim.world().retain(&"t".into(), 0, 7);
    take(&mut lane, &calm.batch(3));
    take(&mut lane, &calm.batch(7));
    let published = roll(&mut lane);
    assert_eq!(published.entry.holes, [hole(3, 7, Why::Retention)]);
    assert_eq!(calm.text(&published), "0\n1\n2\n7\n8\n9\n");
    let findings = verify(&calm);
    assert_eq!(findings.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [What::Lost]);
    assert!(findings[0].1.contains("[3, 7)"), "{findings:?}");
}

fn verify(calm: &Calm) -> Vec<(What, String)> {
    let bus = calm.sim.world().bus();
    let verify = Verify {
        store: &*calm.parts.store,
        base: StorePath::new("/raw").unwrap(),
        topic: "t",
        deep: true,
        bus: Some((&bus, calm.topic.clone(), "p/archive".to_owned())),
    };
    let report = now(verify.run(|_, _| ())).unwrap();
    report.findings.into_iter().map(|finding| (finding.what, finding.place)).collect()
}

/// The archive's folder gone, or last week's put back in its place: whole in itself, and not whole.
#[test]
fn an_archive_that_was_put_back_or_is_gone_is_found_by_what_was_reached() {
    let calm = calm(Settings::for_test());
    calm.append(&["a"]);
    let mut lane = calm.lane();
    take(&mut lane, &calm.batch(0));
    roll(&mut lane);
    let before: Vec<_> = calm.files().into_keys().collect();
    assert_eq!(verify(&calm), []);
    calm.append(&["b"]);
    take(&mut lane, &calm.batch(1));
    roll(&mut lane);
    assert_eq!(verify(&calm), []);
    let remove = |keep: &[String]| {
        for path in calm.files().into_keys().filter(|path| !keep.contains(path)) {
            now(calm.parts.store.delete(&StorePath::new(&path).unwrap())).unwrap();
        }
    };
    remove(&before);
    assert_eq!(verify(&calm), [(What::Broken, "t-0".to_owned())]);
    remove(&[]);
    assert_eq!(verify(&calm), [(What::Broken, "t-0".to_owned())]);
}

#[test]
fn times_that_jitter_over_a_boundary_roll_once_and_2038_does_not_stick() {
    let bucket = Duration::from_secs(60);
    let calm = calm(Settings { path: "/raw/%H%M".to_owned(), bucket, ..Settings::for_test() });
    let mut lane = calm.lane();
    let mut offset = 0;
    let mut give = |lane: &mut Lane, time: Millis| {
        let record = Record { offset, time, key: None, value: Some(Bytes::from("x")), headers: Vec::new() };
        let batch = Batch { from: offset, records: vec![record], to: offset + 1, why: Why::Marker };
        offset += 1;
        take(lane, &batch)
    };
    let place = |published: &Published| {
        (published.entry.target.as_ref().unwrap().split('/').next().unwrap().to_owned(), published.entry.count)
    };
    let mut rolled = Vec::new();
    for time in [59_000, 60_000, 59_000, 60_500, 58_000] {
        rolled.extend(give(&mut lane, time));
    }
    assert_eq!(rolled.iter().map(place).collect::<Vec<_>>(), [("0000".to_owned(), 1)]);
    // 2038-01-19, and back again: time that goes back does not roll.
    assert_eq!(give(&mut lane, 2_147_483_647_000).iter().map(place).collect::<Vec<_>>(), [("0001".to_owned(), 4)]);
    assert_eq!(give(&mut lane, 120_000), []);
    assert_eq!(place(&roll(&mut lane)), ("0314".to_owned(), 2));
    give(&mut lane, 120_000);
    assert_eq!(place(&roll(&mut lane)), ("0002".to_owned(), 1));
}

/// A bus whose topic holds other records than it did.
struct Other {
    inner: crate::sim::ModelBus,
    records: Vec<Record>,
}

struct OtherReader(Vec<Record>, Offset);

#[async_trait::async_trait]
impl crate::bus::Reader for OtherReader {
    async fn next(&mut self) -> Result<Batch> {
        let (from, to) = (self.1, self.0.len() as Offset);
        let records = self.0.iter().filter(|record| record.offset >= from).cloned().collect();
        self.1 = to;
        Ok(Batch { from, records, to, why: Why::Marker })
    }

    fn position(&self) -> Offset {
        self.1
    }

    fn leave_out_headers(&mut self) {
        self.0.iter_mut().for_each(|record| record.headers.clear());
    }
}

#[async_trait::async_trait]
impl Bus for Other {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn ensure_topic(&self, spec: &crate::bus::TopicSpec) -> Result<TopicInfo> {
        self.inner.ensure_topic(spec).await
    }

    async fn topic(&self, name: &crate::model::TopicName) -> Result<Option<TopicInfo>> {
        self.inner.topic(name).await
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn crate::bus::Producer>> {
        self.inner.producer(id).await
    }

    async fn reader(&self, _: &TopicInfo, _: u32, from: Offset) -> Result<Box<dyn crate::bus::Reader>> {
        let records = (0..).zip(&self.records).map(|(offset, record)| Record { offset, ..record.clone() });
        Ok(Box::new(OtherReader(records.collect(), from)))
    }

    async fn watermarks(&self, _: &TopicInfo, _: u32) -> Result<crate::bus::Watermarks> {
        Ok(crate::bus::Watermarks { low: 0, high: self.records.len() as Offset })
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: u32, next: Offset) -> Result<()> {
        self.inner.commit_offset(group, topic, partition, next).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: u32) -> Result<Option<Offset>> {
        self.inner.committed_offset(group, topic, partition).await
    }

    async fn delete_topic(&self, name: &crate::model::TopicName) -> Result<()> {
        self.inner.delete_topic(name).await
    }
}
