//! Where the archive's files lie. A final name bears partition, start, next and eight digits of
//! the staging file's uuid: whatever stands there is that entry's file and no other's.

use jiff::{Timestamp, tz::TimeZone};
use uuid::Uuid;

use super::{Codec, Settings};
use crate::{
    fault::{Fault, Result},
    model::{Millis, Offset, Partition, TopicId, TopicName},
    store::StorePath,
};

/// The folders of one partition's archive.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The archive's folder: the template up to its first field.
    pub base: StorePath,
    template: String,
    prefix: String,
    codec: Codec,
    bucket_ms: Option<i64>,
    lane: String,
    partition: Partition,
    topic_folder: String,
}

impl Layout {
    /// The layout of one partition under `settings`.
    ///
    /// # Errors
    /// `User` if the template is no path.
    pub fn new(settings: &Settings, topic: TopicId, partition: Partition) -> Result<Self> {
        let (base, template) = split(&settings.path);
        let bucketed = !template.is_empty();
        let bucket_ms = i64::try_from(settings.bucket.as_millis()).unwrap_or(i64::MAX).max(1);
        Ok(Self {
            base: StorePath::new(base)?,
            template: template.to_owned(),
            prefix: settings.prefix.clone(),
            codec: settings.codec,
            bucket_ms: bucketed.then_some(bucket_ms),
            lane: format!("{}/{topic}/{partition}", settings.topic),
            partition,
            topic_folder: format!("_chain/{}", settings.topic),
        })
    }

    /// The partition's chain.
    pub fn chain(&self) -> StorePath {
        self.base.join("_chain").join(&self.lane)
    }

    /// The folder that holds one folder for each identity the topic ever had.
    pub fn identities(&self) -> StorePath {
        self.base.join(&self.topic_folder)
    }

    /// `archive.json` of the topic's identity.
    pub fn identity(&self) -> StorePath {
        self.chain().parent().join("archive.json")
    }

    /// The folder of the partition's staging files.
    pub fn staging(&self) -> StorePath {
        self.base.join("_staging").join(&self.lane)
    }

    /// A staging file, from the archive's folder.
    pub fn staging_name(&self, start: Offset, uuid: Uuid) -> String {
        format!("_staging/{}/{start:020}-{}", self.lane, uuid.simple())
    }

    /// A sidecar's name in the chain's folder.
    pub fn times_name(start: Offset, uuid: Uuid) -> String {
        format!("{start:020}-{}.times", uuid.simple())
    }

    /// A final file, from the archive's folder.
    ///
    /// # Errors
    /// `User` if the template cannot be filled in.
    pub fn target_name(&self, first_time: Millis, start: Offset, next: Offset, uuid: Uuid) -> Result<String> {
        let short = &uuid.simple().to_string()[..8];
        let extension = self.codec.extension();
        let name = format!("{}{}-{start:020}-{next:020}-{short}.{extension}", self.prefix, self.partition);
        let Some(width) = self.bucket_ms else { return Ok(name) };
        let floor = first_time.div_euclid(width) * width;
        let time = Timestamp::from_millisecond(floor)
            .map_err(|error| Fault::data(format!("bus time {floor} ms: {error}")))?
            .to_zoned(TimeZone::UTC);
        let folder = jiff::fmt::strtime::format(&self.template, &time)
            .map_err(|error| Fault::user(format!("archive path {:?}: {error}", self.template)))?;
        Ok(format!("{folder}/{name}"))
    }

    /// The time bucket of a record, comparable with others; one for all where the path is flat.
    pub fn bucket(&self, time: Millis) -> i64 {
        self.bucket_ms.map_or(0, |width| time.div_euclid(width))
    }
}

/// Splits a template into the fixed folder and the rest that has fields (empty for a flat path).
fn split(template: &str) -> (&str, &str) {
    match template.find('%').map(|field| template[..field].rfind('/').unwrap_or(0)) {
        Some(slash) => (&template[..slash], template[slash..].trim_matches('/')),
        None => (template, ""),
    }
}

/// What a staging file's name says: its start and the name's text. `None` for other files.
pub fn staging_start(name: &str) -> Option<Offset> {
    let (digits, uuid) = name.split_once('-')?;
    (digits.len() == 20 && uuid.len() == 32).then(|| digits.parse().ok())?
}

/// The topic in a chain's path, for messages: `wiki_changes-0`.
pub fn lane_name(topic: &TopicName, partition: Partition) -> String {
    format!("{topic}-{partition}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(path: &str, bucket: Duration, base: &str, target: &str) {
        let settings = Settings { path: path.into(), bucket, ..Settings::for_test() };
        let layout = Layout::new(&settings, TopicId(Uuid::nil()), 2).unwrap();
        assert_eq!(layout.base.as_str(), base);
        // 2015-09-12T00:46:58.771Z
        let name = layout.target_name(1_442_018_818_771, 100, 220, Uuid::from_u128(0xabcd << 112)).unwrap();
        assert_eq!(name, target);
    }

    #[test]
    fn names_bear_partition_start_next_and_uuid() {
        let minute = Duration::from_secs(60);
        let file = "2-00000000000000000100-00000000000000000220-abcd0000.jsonl";
        check("/user/raw/wiki", minute, "/user/raw/wiki", file);
        check("/raw/%Y%m%d/%H%M", 10 * minute, "/raw", &format!("20150912/0040/{file}"));
        check("/raw/day-%Y-%m-%d", 1440 * minute, "/raw", &format!("day-2015-09-12/{file}"));
    }

    #[test]
    fn buckets_are_comparable_and_one_for_a_flat_path() {
        let flat = Settings::for_test();
        let layout = Layout::new(&flat, TopicId(Uuid::nil()), 0).unwrap();
        assert_eq!(layout.bucket(0), layout.bucket(i64::MAX));
        let ten = Settings { path: "/a/%H%M".into(), bucket: Duration::from_secs(600), ..flat };
        let layout = Layout::new(&ten, TopicId(Uuid::nil()), 0).unwrap();
        assert_eq!(layout.bucket(599_999), layout.bucket(0));
        assert!(layout.bucket(600_000) > layout.bucket(599_999));
        assert!(layout.bucket(-1) < layout.bucket(0));
    }

    #[test]
    fn a_staging_name_tells_its_start() {
        let layout = Layout::new(&Settings::for_test(), TopicId(Uuid::nil()), 0).unwrap();
        let path = layout.staging_name(77, Uuid::from_u128(5));
        assert_eq!(staging_start(path.rsplit('/').next().unwrap()), Some(77));
        assert_eq!(staging_start(".tmp-123"), None);
    }
}
