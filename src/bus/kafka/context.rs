//! What librdkafka tells beside its answers: its log, errors of connections, deliveries.

use std::{
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    ClientContext, Message, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    error::RDKafkaErrorCode, message::DeliveryResult, producer::ProducerContext,
};

/// Of one client.
#[derive(Default)]
pub(super) struct Context {
    /// Whether a connection failed since this was last asked.
    disturbed: AtomicBool,
    /// What the last such failure was.
    last: Mutex<String>,
    /// Records that a producer has sent, by their place in the batch, with their offsets.
    delivered: Mutex<Vec<(usize, Result<i64, RDKafkaErrorCode>)>>,
}

impl Context {
    /// Whether a connection failed since the last call.
    pub(super) fn was_disturbed(&self) -> bool {
        self.disturbed.swap(false, Ordering::Relaxed)
    }

    /// What the last failure of a connection was, in brackets; empty if there was none.
    pub(super) fn trouble(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { String::new() } else { format!(" ({last})") }
    }

    /// What was delivered or given up since the last call.
    pub(super) fn take_delivered(&self) -> Vec<(usize, Result<i64, RDKafkaErrorCode>)> {
        mem::take(&mut *self.delivered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // Whatever it says comes as an error too, where somebody handles it.
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "a connection failed");
        self.disturbed.store(true, Ordering::Relaxed);
        reason.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push((place, outcome));
    }
}
