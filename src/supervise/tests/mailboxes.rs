//! The bound that binds, permits that always come back, and who a message is for.

use futures_util::future::join_all;

use super::*;

const FIRST: Incarnation = Incarnation(1);

#[test]
fn the_bound_is_true_with_many_clones_and_senders() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        probe.order(Do::Wait(10)).await.unwrap();
        let senders = (0..100).map(|_| {
            let clone = probe.clone();
            async move { clone.deliver(Do::Nothing, FIRST).await }
        });
        let sending = tokio::task::spawn_local(join_all(senders));
        settle().await;
        assert_eq!(probe.depth(), 4);
        assert!(probe.is_full());
        assert_eq!((probe.vitals().mailbox_depth.get(), probe.vitals().mailbox_capacity.get()), (4, 4));
        assert!(sending.await.unwrap().iter().all(Result::is_ok));
        settle().await;
        assert_eq!(probe.order(Count).await.map(|(handled, _)| handled), Ok(101));
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (0, 0));
    });
}

#[test]
fn time_that_senders_wait_is_counted() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        probe.order(Do::Wait(10)).await.unwrap();
        for _ in 0..4 {
            probe.deliver(Do::Nothing, FIRST).await.unwrap();
        }
        assert_eq!(probe.vitals().mailbox_waited_ms.get(), 0);
        let gives_up = tokio::time::timeout(3 * SECOND, probe.deliver(Do::Nothing, FIRST)).await;
        assert!(gives_up.is_err());
        assert_eq!(probe.vitals().mailbox_waited_ms.get(), 3_000);
        probe.deliver(Do::Nothing, FIRST).await.unwrap();
        assert_eq!(probe.vitals().mailbox_waited_ms.get(), 10_000);
    });
}

#[test]
fn a_sender_that_is_dropped_takes_no_room() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        probe.order(Do::Wait(10)).await.unwrap();
        for _ in 0..4 {
            probe.deliver(Do::Nothing, FIRST).await.unwrap();
        }
        let waits = tokio::task::spawn_local({
            let probe = probe.clone();
            async move { join_all((0..50).map(|_| probe.deliver(Do::Nothing, FIRST))).await }
        });
        settle().await;
        waits.abort();
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(probe.order(Count).await.map(|(handled, _)| handled), Ok(5), "what was not queued is not sent");
        assert_eq!(probe.depth(), 0);
        probe.order(Do::Wait(10)).await.unwrap();
        for _ in 0..4 {
            tokio::time::timeout(MS, probe.deliver(Do::Nothing, FIRST)).await.expect("all the room is there").unwrap();
        }
    });
}

#[test]
fn permits_come_back_from_the_dead() {
    paused(async {
        let (house, probe, _root) = one(stage());
        // Three held by the state, and one by the handler that panics.
        for what in [Do::Keep, Do::Keep, Do::Keep] {
            probe.deliver(what, FIRST).await.unwrap();
        }
        settle().await;
        assert_eq!(probe.depth(), 3);
        probe.deliver(Do::Panic, FIRST).await.unwrap();
        settle().await;
        assert_eq!(probe.vitals().life().state, State::Restarting);
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (0, 0), "before the pause is over");
        assert_eq!(house.alive.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn data_for_the_dead_is_told_from_data_for_the_living() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        probe.deliver(Do::Panic, FIRST).await.unwrap();
        for _ in 0..2 {
            probe.deliver(Do::Nothing, FIRST).await.unwrap();
        }
        probe.deliver(Do::Nothing, Incarnation(2)).await.unwrap();
        assert_eq!(probe.order(Count).await, Ok((1, Incarnation(2))));
        assert_eq!(probe.vitals().stale_batches.get(), 2);
        assert_eq!(probe.depth(), 0);
    });
}

#[test]
fn orders_that_wait_are_answered_by_the_next_incarnation() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        let (died, answered) = tokio::join!(probe.order(Do::Panic), probe.order(Count));
        assert_eq!(died, Err(Gone::Died(id("a"))));
        assert_eq!(answered, Ok((0, Incarnation(2))));
    });
}

#[test]
fn orders_pass_a_full_mailbox_of_data() {
    paused(async {
        let (_house, probe, _root) = one(stage());
        for _ in 0..4 {
            probe.deliver(Do::Keep, FIRST).await.unwrap();
        }
        settle().await;
        assert!(probe.is_full());
        let answer = tokio::time::timeout(SECOND, probe.order(Count)).await;
        assert_eq!(answer, Ok(Ok((4, FIRST))));
    });
}

#[test]
fn what_is_sent_before_the_start_waits() {
    paused(async {
        let house = Arc::new(House::default());
        let mut tree = tree("root", patient());
        let probe = tree.child(spec(&house, "a", stage()));
        probe.deliver(Do::Nothing, FIRST).await.unwrap();
        assert_eq!(probe.depth(), 1);
        let _root = start(tree);
        assert_eq!(probe.order(Count).await, Ok((1, FIRST)));
    });
}

#[test]
fn who_waits_for_room_in_a_mailbox_that_ends_is_told() {
    paused(async {
        let (_house, probe, root) = one(stage());
        probe.order(Do::Wait(1_000)).await.unwrap();
        for _ in 0..4 {
            probe.deliver(Do::Nothing, FIRST).await.unwrap();
        }
        let waits = tokio::task::spawn_local({
            let probe = probe.clone();
            async move { tokio::join!(probe.deliver(Do::Nothing, FIRST), probe.order(Count)) }
        });
        settle().await;
        root.supervisor().stop(probe.id(), SECOND).await.unwrap();
        let gone = Gone::Stopped(id("a"));
        assert_eq!(waits.await.unwrap(), (Err(gone.clone()), Err(gone.clone())));
        assert_eq!(probe.deliver(Do::Nothing, FIRST).await, Err(gone));
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (0, 0));
    });
}

#[test]
fn who_waits_is_told_of_the_end_although_the_room_never_comes_back() {
    paused(async {
        let (house, probe, root) = one(stage());
        for _ in 0..4 {
            probe.deliver(Do::LeakPermit, FIRST).await.unwrap();
        }
        let waits = tokio::task::spawn_local({
            let probe = probe.clone();
            async move { probe.deliver(Do::Nothing, FIRST).await }
        });
        settle().await;
        root.supervisor().stop(probe.id(), SECOND).await.unwrap();
        let told = tokio::time::timeout(SECOND, waits).await.expect("it is told").unwrap();
        assert_eq!(told, Err(Gone::Stopped(id("a"))));
        assert_eq!(probe.vitals().mailbox_depth.get(), 4);
        house.permits.lock().unwrap().clear();
        assert_eq!(probe.vitals().mailbox_depth.get(), 0);
    });
}

#[test]
fn a_sender_waits_for_its_receiver_by_name() {
    paused(async {
        let house = Arc::new(House::default());
        let mut tree = tree("root", patient());
        let slow = tree.child(spec(&house, "slow", stage()));
        let fast = tree.child(spec(&house, "fast", StageSupervision { stall: SECOND, ..stage() }));
        let _root = start(tree);
        slow.order(Do::Wait(3_600)).await.unwrap();
        fast.order(Do::Feed(slow.clone(), 6)).await.unwrap();
        settle().await;
        assert_eq!(fast.vitals().life().state, State::Waiting("test/slow/0".into()));
        fast.deliver(Do::Nothing, FIRST).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_700)).await;
        assert_eq!(restarts(&fast), BTreeMap::new(), "an hour of back-pressure is not a stall");
        assert_eq!(fast.vitals().life().state, State::Running);
        assert_eq!(slow.order(Count).await, Ok((7, FIRST)));
    });
}

#[test]
fn a_busy_actor_lets_its_neighbours_breathe() {
    paused(async {
        let (_house, probe, _root) = one(StageSupervision { mailbox: 10_000, ..stage() });
        for _ in 0..1_000 {
            probe.deliver(Do::Breathe, FIRST).await.unwrap();
        }
        let mut depths = Vec::new();
        while probe.depth() > 0 {
            tokio::task::yield_now().await;
            depths.push(probe.depth());
        }
        let turns = depths.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(turns >= 1_000 / 64 - 1, "{depths:?}");
    });
}
