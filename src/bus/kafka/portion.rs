//! How much of a batch librdkafka is given at once: what fits into one request to each partition.
//!
//! Of what is left over for a second request, librdkafka's thread asks again and again whether it may go
//! while the first is on its way (an idempotent producer has one under way for each partition): that
//! doubles the cost of a record. Given in portions, nothing is ever left over; and the second copy of the
//! records, which librdkafka makes, is never more than a portion.

use std::collections::HashMap;

use bytes::Bytes;

use crate::bus::Outgoing;

/// The bytes that share a request at most, before they are compressed, unless a single record is larger: not
/// more than brokers take whose `message.max.bytes` nobody has raised.
pub(super) const BATCH_BYTES: usize = 1_000_000;

/// What a record takes beside its key, value and headers, at most: its lengths, its times and its offset.
const OVERHEAD: usize = 64;

/// What a request to one partition may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// How many of these records, from the first on, fit into one request to each partition: one at least, of
/// whatever size.
pub(super) fn portion(records: &[Outgoing], limit: Limit) -> usize {
    let mut taken: HashMap<(&str, u32), Limit> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let so_far = taken.entry((record.topic.as_str(), record.partition)).or_insert(Limit { records: 0, bytes: 0 });
        let bytes = so_far.bytes + size(record);
        if so_far.records > 0 && (so_far.records >= limit.records || bytes > limit.bytes) {
            return place;
        }
        *so_far = Limit { records: so_far.records + 1, bytes };
    }
    records.len()
}

fn size(record: &Outgoing) -> usize {
    let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    part(&record.key) + part(&record.value) + headers + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(partition: u32, len: usize) -> Outgoing {
        let value = Some(vec![b'x'; len - OVERHEAD].into());
        Outgoing { topic: "t".into(), partition, key: None, value, headers: Vec::new() }
    }

    fn portions(records: &[Outgoing], limit: Limit) -> Vec<usize> {
        let mut rest = records;
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let next = portion(rest, limit);
            lengths.push(next);
            rest = &rest[next..];
        }
        lengths
    }

    #[test]
    fn each_partition_gets_what_fits_into_a_request() {
        let limit = Limit { records: 3, bytes: 1_000 };
        let all = |sizes: &[(u32, usize)]| sizes.iter().map(|&(partition, len)| to(partition, len)).collect::<Vec<_>>();
        assert_eq!(portions(&all(&[(0, 500), (0, 500), (0, 100)]), limit), [2, 1]);
        assert_eq!(portions(&all(&[(0, 600), (1, 600), (0, 400), (1, 401), (0, 100)]), limit), [3, 2]);
        assert_eq!(portions(&all(&[(0, 100); 7]), limit), [3, 3, 1]);
        // One alone may be larger than any request should be.
        assert_eq!(portions(&all(&[(0, 5_000), (0, 100), (1, 5_000), (0, 901)]), limit), [1, 2, 1]);
        assert_eq!(portion(&[], limit), 0);
    }

    #[test]
    fn keys_and_headers_count() {
        let mut record = to(0, 500);
        record.key = Some("k".repeat(300).into());
        record.headers = vec![("h".into(), "v".repeat(199).into())];
        let limit = Limit { records: 9, bytes: 2_000 };
        assert_eq!(portions(&[record.clone(), record.clone(), record.clone()], limit), [2, 1]);
        record.headers.push(("n".into(), Bytes::new()));
        assert_eq!(portions(&[record.clone(), record], limit), [1, 1]);
    }
}
