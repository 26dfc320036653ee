//! Each way to die, and that the same address works afterwards.

use super::*;

/// Tells a probe to do `what`, with this trap armed so many times, and expects it well again after
/// these deaths, with this last error.
fn check(what: Do, trap: Option<(Place, u32)>, deaths: &[(Death, u64)], error: &str) {
    paused(async {
        let (house, probe, _root) = one(stage());
        settle().await;
        if let Some((place, times)) = trap {
            house.arm("a", place, times);
        }
        let _ = probe.order(what.clone()).await;
        tokio::time::sleep(20 * SECOND).await;
        let (handled, incarnation) = probe.order(Count).await.unwrap();
        let life = probe.vitals().life();
        assert_eq!(handled, 0, "{what:?} {trap:?}: the state is blank");
        assert_eq!(incarnation, life.incarnation);
        assert_eq!(restarts(&probe), deaths.iter().copied().collect(), "{what:?} {trap:?}");
        assert_eq!(life.state, State::Running);
        let (at, last) = life.last_error.unwrap_or_default();
        assert!(last.contains(error), "{what:?} {trap:?}: {last:?}");
        assert_eq!(at, if error.is_empty() { 0 } else { 7 });
        assert_eq!(house.alive.load(Ordering::SeqCst), 1, "{what:?} {trap:?}: nothing of the dead is left");
    });
}

const ONE_PANIC: &[(Death, u64)] = &[(Death::Panic, 1)];

#[test]
fn address_survives_a_panic_in_a_handler() {
    check(Do::Panic, None, ONE_PANIC, "told to at src/supervise/tests/mod.rs:");
}

#[test]
fn address_survives_a_panic_in_a_spawned_future() {
    check(Do::PanicInSpawned, None, ONE_PANIC, "told to at");
    check(Do::PanicInLinked, None, ONE_PANIC, "told to at");
}

#[test]
fn address_survives_a_panic_in_blocking_work() {
    check(Do::PanicInBlocking, None, ONE_PANIC, "told to at src/supervise/tests/mod.rs:");
}

#[test]
fn address_survives_a_panic_in_an_awaited_future() {
    check(Do::PanicInWaited, None, ONE_PANIC, "told to at");
}

#[test]
fn address_survives_a_panic_in_a_timer() {
    check(Do::PanicLater, None, ONE_PANIC, "told to at");
}

#[test]
fn address_survives_a_panic_in_started() {
    check(Do::Panic, Some((Place::Started, 1)), &[(Death::Panic, 2)], "trap in Started");
}

#[test]
fn address_survives_a_panic_in_stopping_and_stopped() {
    check(Do::Leave, Some((Place::Stopping, 1)), ONE_PANIC, "trap in Stopping");
    check(Do::Leave, Some((Place::Stopped, 1)), ONE_PANIC, "trap in Stopped");
}

#[test]
fn address_survives_a_panic_in_the_drop_of_the_state() {
    check(Do::Panic, Some((Place::Drop, 1)), ONE_PANIC, "trap in Drop");
    check(Do::Leave, Some((Place::Drop, 1)), &[(Death::Ended, 1)], "trap in Drop");
}

#[test]
fn address_survives_a_panic_in_the_drop_of_a_future() {
    check(Do::PanicWithBomb, None, ONE_PANIC, "bomb");
}

#[test]
fn address_survives_a_panic_in_the_factory() {
    // Once in place of the dead; that is made good at the restart.
    check(Do::Panic, Some((Place::Factory, 1)), ONE_PANIC, "trap in Factory");
    // Once more at the restart, which is a death of its own.
    check(Do::Panic, Some((Place::Factory, 2)), &[(Death::Panic, 2)], "trap in Factory");
}

#[test]
fn address_survives_a_declared_fault() {
    check(Do::Fail, None, &[(Death::Fault, 1)], "the disk is gone");
    check(Do::FailLater, None, &[(Death::Fault, 1)], "the disk is gone");
}

#[test]
fn who_is_fenced_stays_down() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        settle().await;
        let _ = probe.order(Do::FailAs(Kind::Fenced)).await;
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::new());
        assert!(matches!(probe.order(Count).await, Err(Gone::Stopped(_))));
    });
}

/// What only a person can mend is not tried ten times first.
#[test]
fn loss_and_another_topic_end_at_once() {
    for kind in [Kind::Lost, Kind::Recreated] {
        paused(async move {
            let house = Arc::new(House::default());
            let mut tree = tree("root", patient());
            let probe = tree.child(spec(&house, "a", stage()));
            let said = Arc::new(Mutex::new(String::new()));
            let words = Arc::clone(&said);
            let _root = tree.start(move |_: &ActorId, why: &str| *words.lock().unwrap() = why.to_owned()).unwrap();
            settle().await;
            let _ = probe.order(Do::FailAs(kind)).await;
            tokio::time::sleep(SECOND).await;
            assert!(said.lock().unwrap().contains("it is so for good"), "{kind:?}: {}", said.lock().unwrap());
            assert_eq!(restarts(&probe), BTreeMap::new(), "{kind:?}");
        });
    }
}

#[test]
fn a_permanent_actor_that_ends_by_itself_comes_back() {
    check(Do::Leave, None, &[(Death::Ended, 1)], "");
}

#[test]
fn the_first_factory_may_panic_too() {
    paused(async {
        let house = Arc::new(House::default());
        house.arm("a", Place::Factory, 2);
        let mut tree = tree("root", patient());
        let probe = tree.child(spec(&house, "a", stage()));
        let _root = start(tree);
        assert_eq!(probe.order(Count).await, Ok((0, Incarnation(3))));
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Panic, 2)]));
    });
}

#[test]
fn nothing_of_an_actor_runs_after_a_declared_fault() {
    paused(async {
        let (house, probe, _root) = one(stage());
        settle().await;
        house.take_log();
        let queued = [probe.order(Do::Fail), probe.order(Do::Nothing)];
        futures_util::future::join_all(queued).await.into_iter().for_each(|answer| assert_eq!(answer, Ok(())));
        assert_eq!(house.take_log(), ["drop a 1", "up a 2"], "neither stopping nor stopped");
        assert_eq!(probe.order(Count).await, Ok((1, Incarnation(2))), "the second order was for the second life");
    });
}

#[test]
fn timers_and_futures_end_with_their_incarnation() {
    paused(async {
        let (house, probe, _root) = one(stage());
        probe.order(Do::Tick).await.unwrap();
        tokio::time::sleep(2 * SECOND + MS).await;
        let _ = probe.order(Do::Panic).await;
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(house.take_log(), ["up a 1", "tick a 1", "tick a 1", "drop a 1", "up a 2"]);
    });
}

#[test]
fn the_dead_are_dropped_at_once_and_the_next_starts_after_the_pause() {
    paused(async {
        let (house, probe, _root) = one(stage());
        settle().await;
        house.take_log();
        let _ = probe.order(Do::Panic).await;
        settle().await;
        assert_eq!(house.take_log(), ["drop a 1"]);
        assert_eq!(probe.vitals().life().state, State::Restarting);
        assert_eq!(restarts(&probe), BTreeMap::new(), "it is not restarted yet");
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(house.take_log(), ["up a 2"]);
    });
}

#[test]
fn an_actor_that_does_not_let_itself_be_reborn_is_refused() {
    struct Stubborn;
    impl Actor for Stubborn {
        type Context = Context<Self>;
    }
    impl Supervised for Stubborn {}
    impl Handler<Delivery<Do>> for Stubborn {
        type Result = ();
        fn handle(&mut self, _: Delivery<Do>, _: &mut Self::Context) {
            panic!("told to");
        }
    }
    paused(async {
        let mut tree = tree("root", patient());
        let stubborn = tree.child(Spec::new(Vitals::new(id("a"), vitals::Kind::Supervisor), stage(), |_| Stubborn));
        let _root = start(tree);
        let _ = stubborn.order(Do::Panic).await;
        tokio::time::sleep(20 * SECOND).await;
        let life = stubborn.vitals().life();
        assert!(life.last_error.unwrap().1.contains("self.life.reborn()"));
        assert_eq!(life.incarnation, Incarnation(1), "the old state never runs again");
    });
}

#[test]
fn a_thousand_restarts_leave_nothing_behind() {
    paused(async {
        let (house, probe, root) = one(stage());
        settle().await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let held = |probe: &Ref<Probe>| (Arc::strong_count(probe.vitals()), Arc::strong_count(&house));
        let before = (tasks(), held(&probe));
        for death in 1..=1_000_u64 {
            let _ = probe.order([Do::Panic, Do::Fail, Do::Tick][death as usize % 3].clone()).await;
            let _ = probe.deliver(Do::Keep, probe.vitals().life().incarnation).await;
            let _ = root.supervisor().restart(probe.id()).await;
        }
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!((tasks(), held(&probe)), before);
        assert_eq!(house.alive.load(Ordering::SeqCst), 1);
        assert_eq!(restarts(&probe).values().sum::<u64>() + 1, probe.vitals().life().incarnation.0);
        assert!(probe.vitals().life().incarnation.0 > 1_000);
        assert_eq!(probe.depth(), 0);
    });
}

#[test]
fn dropping_the_root_drops_everything() {
    paused(async {
        let (house, probe, root) = one(stage());
        probe.order(Do::Tick).await.unwrap();
        drop(root);
        settle().await;
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
        assert_eq!(probe.order(Count).await, Err(Gone::Stopped(id("a"))));
        assert_eq!(probe.vitals().life().state, State::Stopped);
        assert_eq!(Arc::strong_count(&house), 1, "not even the factory is left");
    });
}
