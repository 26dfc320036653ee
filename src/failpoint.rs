//! Fail points: named places of a protocol at which a test lets the process die or the disk fill.
//!
//! Only builds with debug assertions have them; elsewhere a point is nothing. A point is a name
//! like `archive.after_put`; [`POINTS`] lists them all, so that a test can demand that each was
//! crossed. What a point does is armed once, at start: [`arm`] takes `name=N` to kill the process
//! (as `kill -9` would) at the N-th crossing, counted from 1, and `name=N,stop` to freeze it there
//! (as `kill -STOP` would) until it is woken.

/// Every point there is, in the order of a record's life.
pub const POINTS: &[&str] = &[
    "collect.received",
    "spool.appended",
    "spool.events_synced",
    "spool.synced",
    "spool.rolled",
    "ingest.before_send",
    "ingest.after_send",
    "archive.staged",
    "archive.closed",
    "archive.letters_sent",
    "archive.times_put",
    "archive.entry_put",
    "archive.renamed",
    "archive.offset_committed",
    "table.live_written",
    "table.before_commit",
    "table.committed",
    "table.closed",
    "table.final_staged",
    "table.final_there",
    "table.swapped",
    "table.checkpointed",
    "table.marked",
    "table.cleaned",
    "load.before_sink",
    "load.after_sink",
    "load.stored",
];

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    struct Armed {
        name: String,
        crossings: AtomicU64,
        at: u64,
        stop: bool,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Arms one point; see the module's text.
    ///
    /// # Errors
    /// What is wrong with `plan`.
    pub fn arm(plan: &str) -> Result<(), String> {
        let (name, at) = plan.split_once('=').ok_or_else(|| format!("fail point {plan:?}: write name=N"))?;
        let (at, stop) = at.strip_suffix(",stop").map_or((at, false), |at| (at, true));
        let at = at.parse().map_err(|_| format!("fail point {plan:?}: {at:?} is no number"))?;
        if !super::POINTS.contains(&name) {
            return Err(format!("fail point {name:?} is not one of {:?}", super::POINTS));
        }
        let armed = Armed { name: name.to_owned(), crossings: AtomicU64::new(0), at, stop };
        ARMED.set(armed).map_err(|_| "a fail point is armed already".to_owned())
    }

    /// Crosses a point; may not return.
    pub fn cross(name: &str) {
        debug_assert!(super::POINTS.contains(&name), "fail point {name:?} is not listed");
        if let Some(armed) = ARMED.get()
            && armed.name == name
            && armed.crossings.fetch_add(1, Ordering::SeqCst) + 1 == armed.at
        {
            if armed.stop {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                return;
            }
            // The same end as an outer kill -9: no unwinding, no flush, no farewell.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, cross};

/// Crosses a point: nothing in this build.
#[cfg(not(debug_assertions))]
pub fn cross(_name: &str) {}

/// Notes that a rare branch of a protocol was taken; the model histories demand each of them.
/// Nothing outside this crate's own tests.
pub fn rare(_name: &'static str) {
    #[cfg(test)]
    tests_only::note(_name);
}

#[cfg(test)]
pub mod tests_only {
    //! How often each rare branch was taken, over all threads of the test binary.

    use std::{
        collections::BTreeMap,
        sync::{Mutex, PoisonError},
    };

    static TAKEN: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

    /// Counts one.
    pub fn note(name: &'static str) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    /// Dies of a record that says so: a stand-in for a mistake that only some record brings to light.
    pub fn look(value: &[u8]) {
        assert!(!value.starts_with(b"poison"), "died of a record");
    }

    /// All counts so far.
    pub fn taken() -> BTreeMap<&'static str, u64> {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
