//! The records of one partition, many with each call.
//!
//! The wrapper makes an event of every record: a lock, a signal and an allocation for each. Here the
//! partition's queue is taken off the consumer's own and emptied by `rd_kafka_consume_batch_queue`. What
//! else a consumer is told (errors of connections, its log, statistics) still comes by the consumer's queue,
//! which is served along with it.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    ptr, slice,
    time::Duration,
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use rdkafka_sys as sys;

use super::{super::context::Context, Owned, millis, owned};
use crate::{
    fault::{Fault, Result},
    model::{Millis, Offset, Partition, TopicName},
};

/// Messages that are taken at once at most. librdkafka fetches on as soon as they are taken, so they come on top
/// of its own bound of what waits.
const AT_ONCE: usize = 100;

/// A consumer with the queue of one of its partitions.
pub(in crate::bus::kafka) struct Records {
    // In this order: librdkafka wants both gone before the client.
    waiting: VecDeque<Owned<sys::rd_kafka_message_t>>,
    queue: Owned<sys::rd_kafka_queue_t>,
    consumer: BaseConsumer<Context>,
}

/// What a partition's queue told.
pub(in crate::bus::kafka) enum Told<'r> {
    /// A record.
    Record(Fetched<'r>),
    /// There is nothing more before this offset, where the partition ended when it was told. (librdkafka's own
    /// `position` takes this for a record and stands one further, as of 2.12.1: it is of no use here.)
    End(Offset),
}

/// A record as librdkafka has it.
pub(in crate::bus::kafka) struct Fetched<'r> {
    message: Owned<sys::rd_kafka_message_t>,
    // Gone before its consumer.
    _of: &'r Records,
}

impl Records {
    /// Takes a partition's queue off the consumer's own; to be done before the partition is assigned, since what
    /// is there already stays where it is.
    pub fn new(consumer: BaseConsumer<Context>, topic: &TopicName, partition: Partition) -> Result<Self> {
        let name =
            CString::new(topic.as_str()).map_err(|_| Fault::user(format!("topic {topic}: a name with a NUL")))?;
        // SAFETY: the client outlives the queue by the order of the fields; the name is read during the call.
        // Forwarded to nowhere means: left to who asks this queue, also after an assignment.
        let queue = unsafe {
            let rk = consumer.client().native_ptr();
            let queue = sys::rd_kafka_queue_get_partition(rk, name.as_ptr(), partition.cast_signed());
            let queue = owned(queue, sys::rd_kafka_queue_destroy)?;
            sys::rd_kafka_queue_forward(queue.0, ptr::null_mut());
            queue
        };
        Ok(Self { waiting: VecDeque::with_capacity(AT_ONCE), queue, consumer })
    }

    /// The consumer.
    pub fn consumer(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// What comes next, or nothing within `wait`.
    ///
    /// # Errors
    /// What librdkafka tells of the partition or of the consumer. Nothing that it had before is lost.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Told<'_>>, KafkaError> {
        if self.waiting.is_empty() {
            self.serve()?;
            self.take(AT_ONCE, Duration::ZERO);
        }
        if self.waiting.is_empty() && !wait.is_zero() {
            // librdkafka waits until there are as many as it was asked for.
            self.take(1, wait);
        }
        let Some(message) = self.waiting.pop_front() else { return Ok(None) };
        // SAFETY: the guard's pointer is valid as long as the guard is.
        let (code, offset) = unsafe { ((*message.0).err, (*message.0).offset) };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(Some(Told::Record(Fetched { message, _of: self }))),
            RDKafkaErrorCode::PartitionEOF => Ok(Some(Told::End(u64::try_from(offset).unwrap_or_default()))),
            code => Err(KafkaError::MessageConsumption(code)),
        }
    }

    /// Has the client's context told what there is for it.
    fn serve(&self) -> Result<(), KafkaError> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            // A record by a way that was closed before there was any: its order is not known.
            Some(Ok(_)) => Err(KafkaError::MessageConsumption(RDKafkaErrorCode::Inconsistent)),
        }
    }

    fn take(&mut self, number: usize, wait: Duration) {
        let mut taken = [ptr::null_mut(); AT_ONCE];
        // SAFETY: the queue is owned by `self`; not more messages are written than there is room for.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(self.queue.0, millis(wait), taken.as_mut_ptr(), number.min(AT_ONCE))
        };
        // Negative where nothing was taken.
        let taken = taken.into_iter().take(usize::try_from(count).unwrap_or_default());
        self.waiting.extend(taken.map(|message| Owned(message, sys::rd_kafka_message_destroy)));
    }
}

impl Fetched<'_> {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: valid as long as the guard is, and written by nobody.
        unsafe { &*self.message.0 }
    }

    /// Where it stands.
    pub fn offset(&self) -> Offset {
        u64::try_from(self.raw().offset).unwrap_or_default()
    }

    /// When the broker or the producer says it was; 0 if nobody does.
    pub fn time(&self) -> Millis {
        // SAFETY: the message lives during the call; of which kind its time is need not be asked.
        match unsafe { sys::rd_kafka_message_timestamp(self.message.0, ptr::null_mut()) } {
            -1 => 0,
            time => time,
        }
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as librdkafka gives them, and they live as long as the message.
        unsafe { bytes(self.raw().key.cast(), self.raw().key_len) }
    }

    /// Its value.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: as librdkafka gives them, and they live as long as the message.
        unsafe { bytes(self.raw().payload.cast(), self.raw().len) }
    }

    /// Hands out its headers in their order.
    pub fn headers(&self, mut each: impl FnMut(&str, &[u8])) {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers stay the message's own, and live as long; so do names, which end with a NUL, and
        // values. They are counted up to the first that is not there.
        unsafe {
            if sys::rd_kafka_message_headers(self.message.0, &raw mut headers)
                != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return;
            }
            for nth in 0.. {
                let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
                if sys::rd_kafka_header_get_all(headers, nth, &raw mut name, &raw mut value, &raw mut len)
                    != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    return;
                }
                let name = CStr::from_ptr(name).to_string_lossy();
                each(&name, bytes(value.cast(), len).unwrap_or_default());
            }
        }
    }
}

/// So many bytes from there on; `None` of null.
///
/// # Safety
/// `start` is null, or `len` bytes from it on are there for as long as `'a`.
unsafe fn bytes<'a>(start: *const u8, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { slice::from_raw_parts(start, len) })
}
