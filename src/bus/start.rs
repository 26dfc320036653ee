//! Where a reader begins on a topic that it never read: decided once, and then stored with what it
//! writes. Nothing here is asked again after that.

use std::fmt;

use super::{Bus, TopicInfo};
use crate::{
    fault::{Fault, Result},
    model::{Millis, Offset, Partition},
};

/// A place to begin, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first record that the bus still has.
    #[default]
    Earliest,
    /// With the first record that comes from now on.
    Latest,
    /// With the first record that is as new as this, in milliseconds since 1970.
    At(Millis),
    /// Where this group of another program stands: what it has committed is not read again.
    Group(String),
}

impl Start {
    /// Reads `earliest`, `latest`, `group:<name>` or a time like `2026-11-26T08:00:00Z`.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(group) = text.strip_prefix("group:").filter(|group| !group.is_empty()) {
            return Ok(Self::Group(group.to_owned()));
        }
        let time: Result<jiff::Timestamp, _> = text.parse();
        time.map(|time| Self::At(time.as_millisecond())).map_err(|_| {
            format!(
                "{text:?} is no start, allowed: \"earliest\", \"latest\", \"group:<name>\" or a time like \
                 \"2026-11-26T08:00:00Z\""
            )
        })
    }

    /// The offset that this means now.
    ///
    /// # Errors
    /// `User` for a group that has committed nothing for this partition; those of the bus.
    pub async fn resolve(&self, bus: &dyn Bus, topic: &TopicInfo, partition: Partition) -> Result<Offset> {
        match self {
            Self::Earliest => Ok(bus.watermarks(topic, partition).await?.low),
            Self::Latest => Ok(bus.watermarks(topic, partition).await?.high),
            Self::At(time) => {
                let low = bus.watermarks(topic, partition).await?.low;
                Ok(bus.offset_before(topic, partition, *time).await?.max(low))
            }
            // Below the low watermark it stays: what retention has taken since is loss, and is recorded so.
            Self::Group(group) => bus.committed_offset(group, topic, partition).await?.ok_or_else(|| {
                let text = format!("group {group:?} has committed no offset of {}-{partition}", topic.name);
                Fault::user(format!("{}: {text}: name another start", bus.describe()))
            }),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(time) => match jiff::Timestamp::from_millisecond(*time) {
                Ok(time) => time.fmt(f),
                Err(_) => time.fmt(f),
            },
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_it_is_written() {
        for text in ["earliest", "latest", "group:flume hdfs", "2026-11-26T08:00:00Z"] {
            assert_eq!(Start::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Start::parse("2026-11-26T09:00:00.5+01:00"), Ok(Start::At(1_795_680_000_500)));
        for bad in ["", "Earliest", "group:", "2026-11-26", "2026-11-26T08:00:00", "now", "17"] {
            assert!(Start::parse(bad).is_err(), "{bad:?}");
        }
    }
}
