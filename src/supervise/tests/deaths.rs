//! Each way to die, and that the same address works afterwards.

use super::*;

/// Tells a probe to do `what` and expects it alive again, by `death`, with this last error.
fn check(what: Do, death: Death, error: &str) {
    paused(async {
        let (house, probe, _root) = one(stage());
        let _ = probe.order(what).await;
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(probe.order(Count).await, Ok((0, Incarnation(2))), "{what:?}");
        assert_eq!(restarts(&probe), BTreeMap::from([(death, 1)]), "{what:?}");
        let life = probe.vitals().life();
        assert_eq!(life.state, State::Running);
        let (at, last) = life.last_error.unwrap_or_default();
        assert!(last.contains(error), "{what:?}: {last:?}");
        assert_eq!(at, if error.is_empty() { 0 } else { 7 });
        assert_eq!(house.alive.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn address_survives_a_panic() {
    check(Do::Panic, Death::Panic, "told to at src/supervise/tests/mod.rs:");
}
