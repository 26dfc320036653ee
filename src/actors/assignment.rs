//! What brings records to an actor: one linked future per partition that reads the bus and
//! delivers batches into the actor's mailbox, waiting for its permits.
//!
//! An assignment has a number; batches of an earlier one still waiting in the mailbox are dropped.
//! Which partitions an actor reads is arithmetic ([`partitions_of`]), never negotiated.

use std::{collections::BTreeMap, time::Duration};

use actix::prelude::*;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    bus::{SharedBus, TopicInfo},
    fault::{Fault, Retry},
    model::{Batch, Doubling, Offset, Partition, Pause},
    supervise::{Delivery, Life, Ref},
};

/// A batch of fewer records than this is taken for the last one there is.
const FEW: usize = 200;

/// Records of one partition, for the actor that reads it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeBatch {
    /// The partition.
    pub partition: Partition,
    /// The assignment under which it was read.
    pub assignment: u64,
    /// The records, or why there are none and never will be under this assignment.
    pub batch: Result<Batch, Fault>,
}

/// Take everything up to these offsets, make it durable and visible, and say so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// Where each partition ends; partitions not named end where the actor stands.
    pub until: BTreeMap<Partition, Offset>,
    /// Told once it is done; dropped if the actor dies before.
    pub done: oneshot::Sender<()>,
}

/// How often the end of a partition is asked for while its reader is behind.
const LAG_EVERY: Duration = Duration::from_millis(500);

/// The partitions of replica `replica` of `replicas`: those with `p mod replicas = replica`.
pub fn partitions_of(replica: u32, replicas: u32, num_partitions: u32) -> impl Iterator<Item = Partition> {
    (replica..num_partitions).step_by(replicas.max(1) as usize)
}

/// Reads one partition from `from` on and delivers what it reads to `actor`, until it is cancelled
/// or meets a fault that no repetition mends (which it delivers as well). Records come with headers only
/// where they are traced.
pub async fn feed<A>(
    bus: SharedBus,
    topic: TopicInfo,
    partition: Partition,
    from: Offset,
    assignment: u64,
    traced: bool,
    life: Life<A>,
) where
    A: Actor<Context = Context<A>> + Handler<Delivery<TakeBatch>>,
{
    let (actor, incarnation): (Ref<A>, _) = (life.myself(), life.incarnation);
    let pause = Doubling::default();
    let (mut position, mut attempt) = (from, 0);
    let mut asked: Option<Instant> = None;
    loop {
        let opened = bus.reader(&topic, partition, position).await.map(|mut reader| {
            if !traced {
                reader.leave_out_headers();
            }
            reader
        });
        let fault = match opened {
            Ok(mut reader) => loop {
                life.while_paused().await;
                // A wait that is given up loses nothing.
                let read = tokio::select! {
                    () = life.paused() => continue,
                    read = reader.next() => read,
                };
                match read {
                    Ok(batch) => {
                        (position, attempt) = (batch.to, 0);
                        let few = batch.records.len() < FEW;
                        let time = batch.records.last().map(|record| record.time);
                        let message = TakeBatch { partition, assignment, batch: Ok(batch) };
                        if actor.deliver(message, incarnation).await.is_err() {
                            return;
                        }
                        life.vitals.lane(partition, |lane| {
                            lane.next = position;
                            lane.time = time.unwrap_or(lane.time);
                        });
                        // Few records mean that the end is near, and then the figure has to be right.
                        if (few || asked.is_none_or(|asked| asked.elapsed() >= LAG_EVERY))
                            && let Ok(ends) = bus.watermarks(&topic, partition).await
                        {
                            asked = Some(Instant::now());
                            life.vitals.lane(partition, |lane| lane.end = ends.high);
                        }
                    }
                    Err(fault) => break fault,
                }
            },
            Err(fault) => fault,
        };
        if fault.retry == Retry::Never {
            let _ = actor.deliver(TakeBatch { partition, assignment, batch: Err(fault) }, incarnation).await;
            return;
        }
        attempt += 1;
        tracing::warn!(actor = %life.id, partition, position, error = %fault, "cannot read the bus, trying again");
        let _waiting = life.waiting(format!("the bus: {fault}"));
        match fault.retry {
            Retry::After(time) => tokio::time::sleep(time).await,
            _ => pause.pause(attempt).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_exactly_one_replica() {
        for (replicas, num_partitions) in [(1, 1), (1, 4), (2, 3), (2, 4), (3, 2)] {
            let mut all: Vec<_> = (0..replicas).flat_map(|r| partitions_of(r, replicas, num_partitions)).collect();
            all.sort_unstable();
            assert_eq!(
                all,
                (0..num_partitions).collect::<Vec<_>>(),
                "{replicas} replicas, {num_partitions} partitions"
            );
        }
    }
}
