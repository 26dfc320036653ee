//! The nouns every part shares: ids, records and batches, wall time.
//!
//! Nothing here does I/O, and nothing here knows an actor.

mod address;
mod clock;
mod filter;
mod fingerprint;
mod ids;
pub mod json;
mod nearest;
mod pause;
mod pointer;
mod record;

pub use address::without_secrets;
pub use clock::{Clock, ManualClock, Millis, SystemClock};
pub use filter::Filter;
pub use fingerprint::Fingerprint;
pub use ids::{
    ActorId, Epoch, Incarnation, NodeId, Offset, Partition, PipelineId, Sequence, StageId, TopicId, TopicName,
    fresh_uuid,
};
pub use nearest::nearest;
pub use pause::{Doubling, Pause};
pub use pointer::{Extractor, Pointer, Scalar};
pub use record::{Batch, Header, Hole, Record, Why};
