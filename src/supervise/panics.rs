//! Panics as values: what an actor's code panicked with, and where.
//!
//! The text and the place of a panic are told to the process's panic hook only, before the stack
//! unwinds; what `catch_unwind` returns has lost the place. So a hook of ours, installed once and in
//! front of the one that was there, notes both for the thread that runs [`guarded`] code and prints
//! nothing for it: the supervisor logs the death, with the actor's name. Panics elsewhere go to the
//! hook that was there before.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `code`; a panic in it comes back as its text and place (`"no such key at src/a.rs:7:9"`).
///
/// Whatever `code` left half changed must be thrown away or rebuilt by the caller: this is why the
/// supervisor never lets an actor that panicked run on.
pub(super) fn guarded<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    install();
    LAST.take();
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(code));
    GUARDED.set(before);
    result.map_err(|payload| {
        let noted = LAST.with_borrow_mut(Option::take);
        let text = noted.unwrap_or_else(|| text(payload.as_ref()));
        // A payload is any value: its own Drop may panic, and nobody is left to catch that.
        std::mem::forget(payload);
        text
    })
}

/// Runs blocking `work` (files, compression) off the async thread, and gives its result; a panic in
/// it goes on in the caller, as if the caller had done the work itself. Dropping the future does not
/// end the work, only the interest in it.
///
/// # Panics
/// When the work does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(move || guarded(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(why)) => panic!("{why} in blocking work"),
        // It was never begun, because the runtime ends, and with it whoever waits here.
        Err(_) => std::future::pending().await,
    }
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| if GUARDED.get() { note(info) } else { before(info) }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    LAST.with_borrow_mut(|last| *last = Some(format!("{}{place}", text(info.payload()))));
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
