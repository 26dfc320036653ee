//! Which partition an event goes to: the murmur2 hash of its key, as Kafka's own clients do it, so
//! that other producers and consumers of the topic agree.

use bytes::Bytes;

use crate::model::{Extractor, Partition, Pointer, Scalar};

/// Routes events by the text at a pointer, or all of a source to one partition.
pub struct Router {
    extractor: Option<Extractor>,
    source: Bytes,
    num_partitions: u32,
}

impl Router {
    /// A router; without a pointer (or where an event has no text, number or boolean there) the
    /// source's id is the key.
    pub fn new(key: Option<&Pointer>, source: &str, num_partitions: u32) -> Self {
        Self {
            extractor: key.map(|pointer| Extractor::new([pointer])),
            source: Bytes::copy_from_slice(source.as_bytes()),
            num_partitions: num_partitions.max(1),
        }
    }

    /// The event's key and partition.
    pub fn route(&self, value: &[u8]) -> (Bytes, Partition) {
        let key = self.key(value).unwrap_or_else(|| self.source.clone());
        let partition = (murmur2(&key) & 0x7fff_ffff) % self.num_partitions;
        (key, partition)
    }

    fn key(&self, value: &[u8]) -> Option<Bytes> {
        let mut found = Vec::with_capacity(1);
        self.extractor.as_ref()?.extract(value, &mut found).ok()?;
        match found.pop()?? {
            Scalar::Text(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            Scalar::Int(number) => Some(number.to_string().into()),
            Scalar::Float(number) => Some(number.to_string().into()),
            Scalar::Bool(truth) => Some(truth.to_string().into()),
            Scalar::Null | Scalar::Composite => None,
        }
    }
}

/// The 32-bit murmur2 hash with Kafka's seed (Austin Appleby's `MurmurHash2`, as in
/// `org.apache.kafka.common.utils.Utils`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut h = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (at, &byte) in rest.iter().enumerate() {
            h ^= u32::from(byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_own_test_vectors() {
        // UtilsTest.testMurmur2 of Apache Kafka.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in cases {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn an_event_without_the_key_goes_where_the_source_goes() {
        let wiki = Pointer::parse("/wiki").unwrap();
        let router = Router::new(Some(&wiki), "p/collect", 4);
        let source = Router::new(None, "p/collect", 4).route(b"{}");
        assert_eq!(source.0, "p/collect");
        for odd in [&b"{}"[..], b"no json", br#"{"wiki":null}"#, br#"{"wiki":{}}"#] {
            assert_eq!(router.route(odd), source);
        }
        assert_eq!(router.route(br#"{"wiki":"enwiki"}"#).0, "enwiki");
        assert_eq!(router.route(br#"{"wiki":17}"#).0, "17");
    }
}
