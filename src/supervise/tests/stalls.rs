//! What is a stall, and what only looks like one. The bound is 30 s everywhere here.

use super::*;

/// Tells a probe to do this, lets `seconds` pass, and expects so many deaths by stall.
fn check(orders: &[Do], data: usize, seconds: u64, stalls: u64, words: &str) {
    paused(async {
        let (_house, probe, _root) = one(stage());
        for order in orders {
            probe.order(order.clone()).await.unwrap();
        }
        for _ in 0..data {
            probe.deliver(Do::Nothing, Incarnation(1)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let life = probe.vitals().life();
        let expected = if stalls > 0 { BTreeMap::from([(Death::Stall, stalls)]) } else { BTreeMap::new() };
        assert_eq!(life.restarts, expected, "{orders:?}");
        let (_, last) = life.last_error.unwrap_or_default();
        assert!(last.contains(words), "{last:?}");
    });
}

#[test]
fn an_attempt_that_does_not_end_is_a_stall() {
    check(&[Do::Attempt(1_000)], 0, 29, 0, "");
    check(&[Do::Attempt(1_000)], 0, 35, 1, "the attempt \"put\" came to no end within 30s");
}

#[test]
fn messages_that_nobody_handles_are_a_stall() {
    check(&[Do::Deaf(1_000)], 1, 29, 0, "");
    check(&[Do::Deaf(1_000)], 1, 35, 1, "messages wait");
}

#[test]
fn an_idle_actor_is_well() {
    check(&[], 0, 100_000, 0, "");
    check(&[Do::Deaf(1_000)], 0, 1_100, 0, "");
    check(&[Do::Attempt(20)], 0, 1_100, 0, "");
}

#[test]
fn time_spent_in_a_stall_is_no_healthy_stretch() {
    paused(async {
        let house = Arc::new(House::default());
        let supervision = Supervision {
            intensity: Intensity { restarts: 2, within: 3_600 * SECOND },
            backoff: Backoff { healthy: 20 * SECOND, ..patient().backoff },
            ..patient()
        };
        let mut tree = tree("root", supervision);
        let probe = tree.child(spec(&house, "a", stage()));
        let _root = tree.start(|_: &ActorId, _: &str| ()).unwrap();
        for _ in 0..3 {
            probe.order(Do::Attempt(1_000)).await.unwrap();
            tokio::time::sleep(45 * SECOND).await;
        }
        assert_eq!(probe.vitals().life().state, State::GaveUp);
    });
}

#[test]
fn waiting_is_not_a_stall() {
    check(&[Do::Wait(1_000)], 4, 1_100, 0, "");
}

#[test]
fn an_outage_of_an_hour_restarts_nobody() {
    check(&[Do::Outage(3_600)], 4, 4_000, 0, "");
}

#[test]
fn an_attempt_that_gets_further_is_not_a_stall() {
    check(&[Do::SlowAttempt { steps: 10, each: 20 }], 0, 300, 0, "");
    check(&[Do::SlowAttempt { steps: 10, each: 40 }], 0, 300, 1, "the attempt");
}

#[test]
fn handling_messages_does_not_hide_an_attempt_that_hangs() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        probe.order(Do::Attempt(1_000)).await.unwrap();
        for _ in 0..40 {
            let _ = probe.order(Count).await;
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Stall, 1)]));
    });
}

#[test]
fn a_message_after_a_long_rest_has_the_whole_bound() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        tokio::time::sleep(1_000 * SECOND).await;
        probe.order(Do::Deaf(25)).await.unwrap();
        probe.deliver(Do::Nothing, Incarnation(1)).await.unwrap();
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::new());
        assert_eq!(probe.order(Count).await, Ok((2, Incarnation(1))));
    });
}

#[test]
fn the_bound_starts_anew_when_the_waiting_ends() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        // 100 s of waiting, then 20 s of silence: below the bound.
        probe.order(Do::WaitThenDeaf(100, 20)).await.unwrap();
        probe.deliver(Do::Nothing, Incarnation(1)).await.unwrap();
        tokio::time::sleep(200 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::new());
        // And 40 s: above.
        probe.order(Do::WaitThenDeaf(100, 40)).await.unwrap();
        probe.deliver(Do::Nothing, Incarnation(1)).await.unwrap();
        tokio::time::sleep(200 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Stall, 1)]));
    });
}

#[test]
fn the_state_says_whom_it_waits_for_and_since_when() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        assert_eq!(probe.vitals().life().state, State::Starting);
        settle().await;
        assert_eq!(probe.vitals().life().state, State::Running);
        assert_eq!(probe.vitals().life().since, 7);
        probe.order(Do::Wait(10)).await.unwrap();
        assert_eq!(probe.vitals().life().state, State::Waiting("the store".into()));
        tokio::time::sleep(11 * SECOND).await;
        assert_eq!(probe.vitals().life().state, State::Running);
        probe.order(Do::Recover(10)).await.unwrap();
        assert_eq!(probe.vitals().life().state, State::Starting);
        tokio::time::sleep(11 * SECOND).await;
        assert_eq!(probe.vitals().life().state, State::Running);
    });
}

#[test]
fn a_guard_of_the_dead_changes_nothing_for_the_living() {
    paused(async {
        let (house, probe, root) = one(stage());
        probe.order(Do::LeakGuards).await.unwrap();
        assert_eq!(probe.vitals().life().state, State::Waiting("nobody".into()));
        root.supervisor().restart(probe.id()).await.unwrap();
        assert_eq!(probe.vitals().life().state, State::Running);
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Order, 1)]), "the attempt of the dead stalls nobody");
        probe.order(Do::Wait(10)).await.unwrap();
        house.leaked.lock().unwrap().clear();
        assert_eq!(probe.vitals().life().state, State::Waiting("the store".into()));
    });
}
