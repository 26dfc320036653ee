//! A month of the recorded hour, committed each minute and kept in order: what a commit writes, day by day.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use howdah::{
    bus::TopicInfo,
    model::{Batch, Clock, Doubling, ManualClock, Millis, Pause, Record, Why},
    store::{SharedStore, memory::MemoryStore},
    table::{Committer, Keeper, LaneId, Proposal, Settings},
};

const DAYS: i64 = 30;
const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// The days whose last hour is measured.
const MEASURED: [i64; 5] = [1, 2, 10, 20, 30];

/// Replays the month and prints it.
pub async fn month(settings: &Settings, topic: &TopicInfo, events: &[Bytes]) {
    let events: Vec<_> = events.iter().map(|event| Event::of(event)).collect();
    let first = events.iter().map(|event| event.time).min().unwrap();
    let clock = ManualClock::at(first);
    let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let settings = Settings { history: Duration::from_secs(24 * 3600), ..settings.clone() };
    let (shared, pause): (SharedStore, Arc<dyn Pause>) = (store.clone(), Arc::new(Doubling::default()));
    let time: Arc<dyn Clock> = Arc::new(clock.clone());
    let mut committer = Committer::open(&settings, shared.clone(), pause.clone(), time.clone()).await.unwrap();
    let mut keeper = Keeper::open(&settings, shared, pause, time).await.unwrap();
    let mut lane = committer.lane(LaneId { topic: topic.id, partition: 0 }, 0);
    println!("a month of commits, one a minute, {} events an hour", events.len());
    for hour in 0..DAYS * 24 {
        let day = (hour % 24 == 23 && MEASURED.contains(&(hour / 24 + 1))).then_some(hour / 24 + 1);
        let before = store.files();
        for minute in 0..60 {
            clock.advance(MINUTE);
            let from = lane.at();
            let fresh = events.iter().filter(|event| (event.time - first) / MINUTE == minute);
            let records: Vec<_> =
                (from..).zip(fresh).map(|(offset, event)| event.record(offset, hour * HOUR)).collect();
            let to = from + records.len() as u64;
            lane.take(&Batch { from, records, to, why: Why::Marker });
            let sealed: Vec<_> = lane.seal(None).into_iter().collect();
            if !sealed.is_empty() {
                committer.commit(&Proposal::new(sealed)).await.unwrap();
            }
            if minute % 10 == 9 {
                keeper.round(topic).await.unwrap();
            }
        }
        if let Some(day) = day {
            let after = store.files();
            let fresh = after.iter().filter(|(path, _)| !before.contains_key(*path)).map(|(_, len)| len);
            let per_commit = fresh.sum::<u64>() / 60;
            println!("  day {day:>2}: {per_commit:>6} bytes written per commit, {:>6} files in all", after.len());
        }
    }
}

/// A recorded event, cut where its time stands.
struct Event<'e> {
    before: &'e [u8],
    time: Millis,
    after: &'e [u8],
}

impl<'e> Event<'e> {
    fn of(event: &'e [u8]) -> Self {
        let name = b"\"timestamp\":";
        let at = event.windows(name.len()).position(|found| found == name).unwrap() + name.len();
        let len = event[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let seconds: i64 = str::from_utf8(&event[at..at + len]).unwrap().parse().unwrap();
        Self { before: &event[..at], time: seconds * 1000, after: &event[at + len..] }
    }

    fn record(&self, offset: u64, later: Millis) -> Record {
        let time = self.time + later;
        let value = [self.before, (time / 1000).to_string().as_bytes(), self.after].concat();
        Record { offset, time, key: None, value: Some(value.into()), headers: Vec::new() }
    }
}
