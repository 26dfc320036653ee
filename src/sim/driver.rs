//! Many seeds on two threads, and one seed to look at.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::world::TRACED;

/// Runs `history` with the seeds `0..count`, and fails with the first seed found for which it
/// returns an error or panics. `HOWDAH_SIM_SEED=n` runs only that one and prints its trace;
/// `HOWDAH_SIM_COUNT=n` replaces `count`.
///
/// # Panics
/// `<name>: seed <n>: <reason>`.
pub fn histories(name: &str, count: u64, history: impl Fn(u64) -> Result<(), String> + Sync) {
    if let Some(seed) = number("HOWDAH_SIM_SEED") {
        TRACED.set(true);
        let end = guarded(&history, seed);
        TRACED.set(false);
        assert!(end.is_ok(), "{name}: seed {seed}: {}", end.unwrap_err());
        return;
    }
    let count = number("HOWDAH_SIM_COUNT").unwrap_or(count);
    if let Some((seed, reason)) = first_failure(count, &history) {
        panic!("{name}: seed {seed}: {reason}\n(HOWDAH_SIM_SEED={seed} prints this history)");
    }
}

/// The smallest failing seed that was found, and its reason.
pub fn first_failure(count: u64, history: &(impl Fn(u64) -> Result<(), String> + Sync)) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    if let Err(reason) = guarded(history, seed) {
                        failed.store(true, Ordering::Relaxed);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, reason));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().min()
}

fn guarded(history: &impl Fn(u64) -> Result<(), String>, seed: u64) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| history(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")))
    })
}

// The environment is read in `config` only, where the program is concerned; this is a test's knob.
#[allow(clippy::disallowed_methods)]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
