//! An archive put back onto a topic: its lines as records, in order within each partition.
//!
//! A record's bus time is when it is written, so the time it had is kept as a header, and so is the
//! coordinate it had: who reads can tell a record that came twice. Keys are not archived; they are made
//! again as the pipeline makes them. Partitions are taken turn by turn, the one with the earliest line
//! first.

use std::{num::NonZeroU64, ops::Range, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Settings, naming::Layout, recall::Recall};
use crate::{
    bus::{Outgoing, Producer, TopicInfo, letters},
    fault::{Fault, Result},
    model::{Batch, Header, Hole, Millis, Offset, Partition, TopicId, Why},
    store::{SharedStore, Store},
};

/// Header: where the record came from, `wiki_changes/<topic identity>/0@17`.
pub const ORIGIN: &str = "howdah.origin";

/// The identities of a topic whose archives lie in the folder of these settings, and how many partitions
/// each has.
///
/// # Errors
/// Those of the store.
pub async fn identities(store: &dyn Store, settings: &Settings) -> Result<Vec<(TopicId, u32)>> {
    let root = Layout::new(settings, TopicId(uuid::Uuid::nil()), 0)?.identities();
    let mut found = Vec::new();
    for folder in store.list(&root).await?.into_iter().filter(|entry| entry.folder) {
        let Ok(id) = uuid::Uuid::try_parse(&folder.name) else { continue };
        let lanes = store.list(&root.join(&folder.name)).await?;
        let partitions = lanes.iter().filter_map(|lane| lane.name.parse::<Partition>().ok());
        found.push((TopicId(id), partitions.max().map_or(0, |last| last + 1)));
    }
    Ok(found)
}

/// What is put back, and where.
pub struct Replay {
    /// Of which bus times.
    pub range: Range<Millis>,
    /// Records in a second at most.
    pub rate: Option<NonZeroU64>,
    /// Onto this topic.
    pub onto: TopicInfo,
    /// The key of a record, and its partition where the topic has not as many as the archive.
    pub route: Route,
}

/// What gives a record its key and its partition.
pub type Route = Box<dyn Fn(&[u8]) -> (Bytes, Partition) + Send + Sync>;

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that were written.
    pub records: u64,
    /// Offsets that the archive itself does not have.
    pub gaps: Vec<(Partition, Hole)>,
    /// Records that were dead letters and so no lines.
    pub letters: u64,
}

struct Part {
    partition: Partition,
    recall: Recall,
    next: Option<Batch>,
}

impl Replay {
    /// Puts the archive of this identity back; `progress` is told how many records there are so far.
    ///
    /// # Errors
    /// Those of store and bus. What was written by then stays; the message says where to go on.
    pub async fn run(
        &self,
        store: &SharedStore,
        settings: &Settings,
        (topic, num_partitions): (TopicId, u32),
        producer: &mut dyn Producer,
        mut progress: impl FnMut(u64),
    ) -> Result<Replayed> {
        let (mut replayed, begun) = (Replayed::default(), Instant::now());
        let mut parts = Vec::new();
        for partition in 0..num_partitions {
            let mut recall = Recall::open(store.clone(), settings, topic, partition, 0).await?;
            recall.seek(self.range.start).await?;
            let mut part = Part { partition, recall, next: None };
            self.advance(&mut part, &mut replayed).await?;
            parts.push(part);
        }
        loop {
            let time = |part: &&mut Part| part.next.as_ref()?.records.first().map(|record| record.time);
            let first = parts.iter_mut().filter(|part| part.next.is_some()).min_by_key(time);
            let Some((part, batch)) = first.and_then(|part| part.next.take().map(|batch| (part, batch))) else {
                return Ok(replayed);
            };
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(replayed.records as f64 / rate.get() as f64);
                tokio::time::sleep_until(begun + due).await;
            }
            let place = |offset: Offset| format!("{}/{topic}/{}@{offset}", settings.topic, part.partition);
            let (from, to, num_records) = (batch.from, batch.to, batch.records.len() as u64);
            let same = self.onto.num_partitions == num_partitions;
            let outgoing = batch.records.into_iter().filter_map(|record| {
                let value = record.value?;
                let (key, routed) = (self.route)(&value);
                let time: Header = (letters::TIME.into(), record.time.to_string().into());
                let origin: Header = (ORIGIN.into(), place(record.offset).into());
                let partition = if same { part.partition } else { routed };
                let topic = self.onto.name.clone();
                Some(Outgoing { topic, partition, key: Some(key), value: Some(value), headers: vec![time, origin] })
            });
            producer.send(outgoing.collect()).await.map_err(|fault| {
                let text =
                    format!("records {} to offset {to} may have been written or not, those before were", place(from));
                Fault { message: format!("{text}: {}", fault.message), ..fault }
            })?;
            replayed.records += num_records;
            progress(replayed.records);
            self.advance(part, &mut replayed).await?;
        }
    }

    /// On to the next batch with records of the range.
    async fn advance(&self, part: &mut Part, replayed: &mut Replayed) -> Result<()> {
        while let Some(mut batch) = part.recall.next().await? {
            match batch.why {
                Why::Retention => replayed.gaps.extend(batch.holes().into_iter().map(|hole| (part.partition, hole))),
                Why::DeadLetter => replayed.letters += batch.to - batch.from,
                _ => {}
            }
            if batch.records.first().is_some_and(|first| first.time >= self.range.end) {
                return Ok(());
            }
            batch.records.retain(|record| record.value.is_some() && self.range.contains(&record.time));
            if !batch.records.is_empty() {
                part.next = Some(batch);
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        archive::{
            Codec,
            recall::tests::{Archived, archived},
        },
        bus::{Bus, read_range},
        model::Record,
    };

    /// An archive, and the topic onto which it is put back; made where nothing waits.
    struct Again {
        archived: Archived,
        lines: Vec<Record>,
        onto: TopicInfo,
    }

    impl Again {
        fn new() -> Self {
            let archived = archived(5, Codec::Zstd);
            let end = archived.recalled_to();
            let lines = archived.lines().into_iter().filter(|record| record.offset < end).collect();
            let onto = archived.sim.world().topic(&crate::archive::histories::spec("again"));
            Self { archived, lines, onto }
        }

        async fn run(&self, rate: Option<u64>, range: &Range<Millis>) -> (Vec<Record>, Replayed) {
            let store: SharedStore = Arc::new(self.archived.sim.world().store());
            let (bus, settings) = (&self.archived.parts.bus, &self.archived.parts.settings);
            let found = identities(&*store, settings).await.unwrap();
            assert_eq!(found, [(self.archived.topic.id, 1)]);
            let route = Box::new(|value: &[u8]| (Bytes::copy_from_slice(&value[..value.len().min(1)]), 0));
            let (onto, rate) = (self.onto.clone(), rate.and_then(NonZeroU64::new));
            let replay = Replay { range: range.clone(), rate, onto, route };
            let mut sends = Sends(&**bus);
            let replayed = replay.run(&store, settings, found[0], &mut sends, |_| ()).await.unwrap();
            let high = bus.watermarks(&self.onto, 0).await.unwrap().high;
            (read_range(&**bus, &self.onto, 0, 0, high).await.unwrap(), replayed)
        }
    }

    /// The model's producer is for one send.
    struct Sends<'a>(&'a dyn Bus);

    #[async_trait::async_trait]
    impl Producer for Sends<'_> {
        async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>> {
            self.0.producer("replay").await?.send(records).await
        }
    }

    #[test]
    fn lines_come_back_in_order_with_their_times_and_coordinates() {
        for part in [0, 1] {
            let again = Again::new();
            let times: Vec<_> = again.lines.iter().map(|line| line.time).collect();
            let range = if part == 0 { Millis::MIN..Millis::MAX } else { times[30]..times[90] };
            let (found, replayed) = again.run(None, &range).now_or_never().expect("nothing waits");
            let lines: Vec<_> = again.lines.into_iter().filter(|line| range.contains(&line.time)).collect();
            assert!(lines.len() > 50 && replayed.gaps.is_empty() && replayed.letters > 0);
            assert_eq!((found.len() as u64, found.len()), (replayed.records, lines.len()));
            for (line, found) in lines.iter().zip(&found) {
                let text = |name| String::from_utf8(found.header(name).unwrap().to_vec()).unwrap();
                assert_eq!((&found.value, text(letters::TIME)), (&line.value, line.time.to_string()));
                assert!(text(ORIGIN).ends_with(&format!("/0@{}", line.offset)));
                assert_eq!(found.key.as_deref(), line.value.as_ref().map(|value| &value[..value.len().min(1)]));
            }
        }
    }

    #[test]
    fn no_more_records_than_the_rate_come_in_a_second() {
        let again = Again::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let seconds = runtime.block_on(async {
            let begun = Instant::now();
            again.run(Some(10), &(Millis::MIN..Millis::MAX)).await;
            begun.elapsed().as_secs()
        });
        // The last batch waits for those before it, not for itself.
        let lines = again.lines.len() as u64;
        assert!((lines / 10 - 1..=lines / 10).contains(&seconds), "{seconds} s for {lines} lines");
    }
}
