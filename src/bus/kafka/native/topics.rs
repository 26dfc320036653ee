//! Calls of the C library's `DescribeTopics` (KIP-516's topic ids, Kafka 2.8 and newer), and the reading of
//! its answer.

use std::{
    ffi::{CString, c_char},
    time::Duration,
};

use rdkafka::{client::Client, error::RDKafkaErrorCode};
use rdkafka_sys as sys;
use uuid::Uuid;

use super::{
    super::{context::Context, faults::of_code},
    millis, owned, words,
};
use crate::{
    fault::{Fault, Result},
    model::{TopicId, TopicName},
};

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bus::kafka) struct Described {
    /// Its identity; all zeros from brokers older than 2.8.
    pub(in crate::bus::kafka) id: TopicId,
    /// For each partition how many copies it has.
    pub(in crate::bus::kafka) replicas: Vec<usize>,
}

/// Asks the brokers for a topic; `None` if there is none. Blocks up to `deadline`.
pub(in crate::bus::kafka) fn describe(
    client: &Client<Context>,
    name: &TopicName,
    deadline: Duration,
) -> Result<Option<Described>> {
    let place = format!("topic {name}");
    let text = CString::new(name.as_str()).map_err(|_| Fault::user(format!("{place}: a name holds a NUL")))?;
    let millis = millis(deadline);
    let rk = client.native_ptr();
    let mut names = [text.as_ptr()];
    let mut errors: [c_char; 256] = [0; 256];
    // SAFETY: `rk` outlives this call, as `client` does. The names are read during the call that takes
    // them. The queue and the options outlive the request, whose event is polled from that queue alone.
    let event = unsafe {
        let topics = owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let options = owned(
            sys::rd_kafka_AdminOptions_new(rk, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        let set = sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, errors.as_mut_ptr(), errors.len());
        if set != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(of_code(&place, set.into(), &words(errors.as_ptr())));
        }
        let queue = owned(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy)?;
        sys::rd_kafka_DescribeTopics(rk, topics.0, options.0, queue.0);
        // A little longer than the request itself, so that its own error is what is told.
        let event = sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000));
        if event.is_null() {
            return Err(Fault::external(format!("{place}: no answer from the brokers in {deadline:?}")));
        }
        owned(event, sys::rd_kafka_event_destroy)?
    };
    // SAFETY: the answer belongs to the event, which lives to the end of this function; counts are those
    // that librdkafka gives along with the arrays.
    unsafe {
        let code = sys::rd_kafka_event_error(event.0);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let text = words(sys::rd_kafka_event_error_string(event.0));
            return Err(of_code(&place, code.into(), &text));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(Fault::internal(format!("{place}: librdkafka answered another question")));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 {
            return Err(Fault::internal(format!(
                "{place}: librdkafka described {count} topics where one was asked for"
            )));
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            let code = RDKafkaErrorCode::from(sys::rd_kafka_error_code(error));
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => return Ok(None),
                code => return Err(of_code(&place, code, &words(sys::rd_kafka_error_string(error)))),
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() {
            Uuid::nil()
        } else {
            Uuid::from_u64_pair(
                sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
                sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
            )
        };
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let replicas = (0..count).map(|n| {
            let mut copies = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(*partitions.add(n), &raw mut copies);
            copies
        });
        Ok(Some(Described { id: TopicId(id), replicas: replicas.collect() }))
    }
}
