//! What librdkafka does and its Rust wrapper does not pass on: a topic's identity and shape (`topics`), many
//! records of one partition at once (`records`), and the sending of what is queued.
//!
//! This folder is the only place of the house with `unsafe` in it. What is kept to: every pointer that
//! librdkafka gives away is owned by a guard and destroyed once, before the client that it came from;
//! what points into an event or a message is read before that goes; strings are copied.
#![allow(unsafe_code)]

mod records;
mod topics;

use std::{
    ffi::{CStr, c_char},
    ptr,
    time::Duration,
};

use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka_sys as sys;

use super::context::Context;
use crate::fault::{Fault, Result};

pub(super) use records::{Fetched, Records, Told};
pub(super) use topics::{Described, describe};

/// Owns what `$destroy` frees.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made non-null by the function that belongs to this destructor, and only here destroyed.
        unsafe { (self.1)(self.0) }
    }
}

fn owned<T>(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Owned<T>> {
    if pointer.is_null() {
        return Err(Fault::internal("librdkafka made nothing where it always makes something"));
    }
    Ok(Owned(pointer, destroy))
}

/// In milliseconds, as librdkafka wants it.
fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Has what is queued sent now, whatever `linger.ms` says, and waits up to `deadline` until every record was
/// answered and the answers were taken by whoever polls the producer.
///
/// The wrapper's own flush raises librdkafka's flag for a moment only, and then polls for a tenth of a second.
pub(super) fn flush(producer: &BaseProducer<Context>, deadline: Duration) {
    // What is missing afterwards is known from the answers.
    // SAFETY: the client outlives this call, as `producer` does; librdkafka allows it from any thread.
    unsafe { sys::rd_kafka_flush(producer.client().native_ptr(), millis(deadline)) };
}

/// A copy of what librdkafka says; empty if it says nothing.
///
/// # Safety
/// `text` is null, or ends with a NUL and lives during the call.
unsafe fn words(text: *const c_char) -> String {
    if ptr::eq(text, ptr::null()) {
        return String::new();
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
