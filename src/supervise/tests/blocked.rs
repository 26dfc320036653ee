//! Threads that are blocked, by the machine's clock: each actor has one of its own.

use super::*;

/// Long enough that a busy machine blocks no thread for so long.
const BOUND: Duration = SECOND;

/// Everything here ends long before.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test with these probes on threads of their own, whose deaths are borne so often.
fn on_threads<T>(probes: &[&'static str], bound: Duration, restarts: u32, test: impl AsyncFnOnce(Stage) -> T) -> T {
    System::new().block_on(async {
        let house = Arc::new(House::default());
        let mut tree = fast("root", restarts);
        let stage = StageSupervision { blocked: bound, ..stage() };
        let probes = probes.iter().map(|name| tree.child(spec(&house, name, stage))).collect();
        let (said, gave_up) = tokio::sync::watch::channel(String::new());
        let root = tree.start(move |_: &ActorId, why: &str| drop(said.send_replace(why.to_owned()))).unwrap();
        tokio::time::timeout(LIMIT, test(Stage { house, probes, root, gave_up }))
            .await
            .expect("the test waits for ever")
    })
}

/// A supervisor without a pause. Whoever works for a bound is healthy; being blocked so long is no work.
fn fast(name: &str, restarts: u32) -> Tree {
    let supervision = Supervision {
        intensity: Intensity { restarts, within: LIMIT },
        backoff: Backoff { base: MS, cap: MS, healthy: BOUND },
        ..patient()
    };
    Tree::new(
        Vitals::new(id(name), vitals::Kind::Supervisor),
        supervision,
        Arc::new(Threads::default()),
        Arc::new(ManualClock::at(7)),
    )
}

struct Stage {
    house: Arc<House>,
    probes: Vec<Ref<Probe>>,
    root: Root,
    gave_up: tokio::sync::watch::Receiver<String>,
}

/// Waits until it is so.
async fn until(it_is_so: impl Fn() -> bool) {
    while !it_is_so() {
        tokio::time::sleep(MS).await;
    }
}

/// Gives an order, again if the actor dies over it.
async fn insist<M>(probe: &Ref<Probe>, order: impl Fn() -> M) -> M::Result
where
    Probe: Handler<Delivery<M>>,
    M: Message<Result: Send> + Send + 'static,
{
    loop {
        match probe.order(order()).await {
            Ok(answer) => return answer,
            Err(gone) => assert_eq!(gone, Gone::Died(probe.id().clone())),
        }
    }
}

#[test]
fn address_survives_a_blocked_thread() {
    on_threads(&["a", "b"], BOUND, 5, async |Stage { house, probes, root, .. }| {
        let [probe, neighbour] = [&probes[0], &probes[1]];
        let (old, beside) = (probe.order(Thread).await.unwrap(), neighbour.order(Thread).await.unwrap());
        let word = Arc::new(tokio::sync::Notify::new());
        for order in [Do::Tick, Do::Hear(Arc::clone(&word))] {
            probe.order(order).await.unwrap();
        }
        let (block, free) = Block::new();
        let over = probe.order(Do::Block(block.clone()));
        let waits = async {
            block.entered().await;
            for _ in 0..4 {
                probe.deliver(Do::Say("data"), Incarnation(1)).await.unwrap();
            }
            assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get(), probe.is_full()), (4, 4, true));
            tokio::join!(probe.order(Do::Say("order")), probe.deliver(Do::Say("more data"), Incarnation(1)))
        };
        // Whoever waits is told while the old thread is still blocked.
        let (over, (order, data)) = tokio::join!(over, waits);
        let died = Gone::Died(id("a"));
        assert_eq!((over, order, data), (Err(died.clone()), Err(died.clone()), Err(died)));
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get(), probe.is_full()), (0, 0, false));
        assert_eq!(probe.vitals().stale_batches.get(), 4);

        // The same reference reaches the new life, on another thread.
        assert_eq!(probe.order(Count).await, Ok((0, Incarnation(2))));
        assert_ne!(probe.order(Thread).await.unwrap().0, old.0);
        until(|| probe.vitals().life().state == State::Running).await;
        let life = probe.vitals().life();
        assert_eq!(life.incarnation, Incarnation(2));
        assert_eq!(life.restarts, BTreeMap::from([(Death::Blocked, 1)]));
        let (_, why) = life.last_error.unwrap();
        assert!(why.starts_with("its thread has been blocked since 19"), "{why}");
        assert_eq!(probe.vitals().abandoned.get(), 1);
        probe.deliver(Do::Say("data"), Incarnation(2)).await.unwrap();
        probe.deliver(Do::Say("late data"), Incarnation(1)).await.unwrap();
        probe.order(Do::Keep).await.unwrap();
        probe.deliver(Do::Keep, Incarnation(2)).await.unwrap();
        assert_eq!(probe.order(Count).await, Ok((3, Incarnation(2))));
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (1, 1));
        assert_eq!(house.take_log(), ["up a 1", "up b 1", "up a 2", "data a 2"]);

        // When the old one comes back, nothing it does counts, and it ends.
        word.notify_one();
        free.send(()).unwrap();
        until(|| probe.vitals().abandoned.get() == 0).await;
        assert_eq!(house.take_log(), ["wakes a 1", "drop a 1"], "no message, no timer, no future");
        assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (1, 1));
        assert_eq!(probe.vitals().stale_batches.get(), 5, "the four that waited, and the one that came late");
        let life = probe.vitals().life();
        assert_eq!((life.state, life.incarnation), (State::Running, Incarnation(2)));
        assert_eq!(probe.order(Count).await, Ok((3, Incarnation(2))));

        assert_eq!(neighbour.order(Thread).await.unwrap(), beside);
        assert_eq!(restarts(neighbour), BTreeMap::new());
        root.supervisor().shutdown(SECOND).await.unwrap();
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
    });
}

/// A thread may be blocked wherever the actor runs code; `deaths` are then counted.
fn check(place: Place, deaths: &[(Death, u64)]) {
    on_threads(&["a"], BOUND, 5, async |Stage { house, probes, .. }| {
        let probe = &probes[0];
        probe.order(Count).await.unwrap();
        let (block, free) = Block::new();
        house.blocks.lock().unwrap().insert(("a", place), block.clone());
        let _ = probe.order(Do::Panic).await;
        block.entered().await;
        let (_, incarnation) = insist(probe, || Count).await;
        assert_eq!(restarts(probe), deaths.iter().copied().collect(), "{place:?}");
        free.send(()).unwrap();
        until(|| probe.vitals().abandoned.get() == 0).await;
        assert_eq!(probe.order(Count).await, Ok((0, incarnation)), "{place:?}");
        let life = probe.vitals().life();
        assert_eq!((life.state, life.incarnation), (State::Running, incarnation), "{place:?}");
        assert_eq!(house.alive.load(Ordering::SeqCst), 1, "{place:?}");
    });
}

#[test]
fn address_survives_a_blocked_factory() {
    check(Place::Factory, &[(Death::Blocked, 1)]);
}

#[test]
fn address_survives_a_blocked_start() {
    check(Place::Started, &[(Death::Panic, 1), (Death::Blocked, 1)]);
}

#[test]
fn address_survives_a_blocked_drop_of_the_state() {
    check(Place::Drop, &[(Death::Blocked, 1)]);
}

#[test]
fn who_waits_blocks_nothing() {
    on_threads(&["a"], BOUND, 0, async |Stage { probes, .. }| {
        probes[0].order(Do::Deaf(3)).await.unwrap();
        assert_eq!(probes[0].order(Count).await, Ok((1, Incarnation(1))), "answered after three bounds");
    });
}

#[test]
fn a_watcher_that_stood_still_itself_kills_nobody() {
    let bound = 2 * BOUND;
    on_threads(&["a"], bound, 0, async |Stage { probes, gave_up, .. }| {
        let (block, free) = Block::new();
        let answer = probes[0].order(Do::Block(block.clone()));
        let freed = async {
            block.entered().await;
            // Until it was looked for an answer, and then not for long: the supervisor's thread is this one.
            tokio::time::sleep(3 * bound / 10).await;
            std::thread::sleep(3 * bound);
            // It looks before the other thread can answer.
            tokio::time::sleep(10 * MS).await;
            free.send(()).unwrap();
        };
        assert_eq!(tokio::join!(answer, freed).0, Ok(()));
        tokio::time::sleep(bound / 2).await;
        assert_eq!(probes[0].order(Count).await, Ok((2, Incarnation(1))));
        assert_eq!(*gave_up.borrow(), "");
    });
}

#[test]
fn who_is_blocked_again_and_again_is_given_up() {
    on_threads(&["a"], BOUND, 1, async |Stage { probes, mut gave_up, .. }| {
        let blocks = [Block::new(), Block::new()];
        for (block, _) in &blocks {
            assert_eq!(probes[0].order(Do::Block(block.clone())).await, Err(Gone::Died(id("a"))));
        }
        let why = gave_up.wait_for(|why| !why.is_empty()).await.unwrap().clone();
        assert!(why.contains("more than 1 restarts within") && why.contains("blocked since"), "{why}");
        assert_eq!(probes[0].order(Count).await, Err(Gone::Stopped(id("a"))));
        assert_eq!(probes[0].vitals().life().state, State::GaveUp);
        assert_eq!(probes[0].vitals().abandoned.get(), 2);
        drop(blocks);
        until(|| probes[0].vitals().abandoned.get() == 0).await;
        assert_eq!(probes[0].vitals().life().state, State::GaveUp);
    });
}

#[test]
fn who_leaves_too_many_threads_behind_is_given_up_however_rarely() {
    on_threads(&["a"], BOUND / 5, 1_000, async |Stage { probes, mut gave_up, .. }| {
        let mut blocks = Vec::new();
        while gave_up.borrow().is_empty() {
            let (block, free) = Block::new();
            let _ = probes[0].order(Do::Block(block)).await;
            blocks.push(free);
        }
        let why = gave_up.borrow_and_update().clone();
        assert!(why.contains("a/0: 9 of its threads are blocked"), "{why}");
        assert!(blocks.len() >= 9);
    });
}

#[test]
fn a_blocked_thread_does_not_hold_up_the_end() {
    on_threads(&["a", "b"], LIMIT, 5, async |Stage { house, probes, root, .. }| {
        let (block, free) = Block::new();
        let order = probes[0].order(Do::Block(block.clone()));
        let end = async {
            block.entered().await;
            root.supervisor().shutdown(MS).await.unwrap();
        };
        let (answer, ()) = tokio::join!(order, end);
        assert_eq!(answer, Err(Gone::Died(id("a"))));
        assert_eq!(probes[0].order(Count).await, Err(Gone::Stopped(id("a"))));
        assert_eq!(probes[0].vitals().life().state, State::Stopped);
        free.send(()).unwrap();
        until(|| house.alive.load(Ordering::SeqCst) == 0).await;
    });
}

#[test]
fn who_was_blocked_when_it_was_to_stop_can_be_started_again() {
    on_threads(&["a"], LIMIT, 5, async |Stage { probes, root, .. }| {
        let (block, _free) = Block::new();
        let order = probes[0].order(Do::Block(block.clone()));
        let again = async {
            block.entered().await;
            root.supervisor().stop(probes[0].id(), MS).await.unwrap();
            root.supervisor().restart(probes[0].id()).await.unwrap()
        };
        assert_eq!(tokio::join!(order, again).1, Incarnation(2));
        assert_eq!(probes[0].order(Count).await, Ok((0, Incarnation(2))));
        root.supervisor().shutdown(SECOND).await.unwrap();
    });
}

#[test]
fn a_thread_that_was_blocked_before_its_supervisor_restarted_is_given_up_by_the_next() {
    System::new().block_on(async {
        let house = Arc::new(House::default());
        let (mut root, mut branch) = (fast("root", 5), fast("branch", 5));
        let probe = branch.child(spec(&house, "a", StageSupervision { blocked: BOUND, ..stage() }));
        root.branch(branch);
        let root = start(root);
        let (block, free) = Block::new();
        let over = probe.order(Do::Block(block.clone()));
        let restarted = async {
            block.entered().await;
            probe.deliver(Do::Say("data"), Incarnation(1)).await.unwrap();
            root.supervisor().restart(&id("branch")).await.unwrap();
            insist(&probe, || Count).await
        };
        let both = tokio::time::timeout(LIMIT, async { tokio::join!(over, restarted) });
        let (over, (handled, incarnation)) = both.await.expect("whoever waits in the old mailbox is told");
        assert_eq!((over, handled), (Err(Gone::Died(id("a"))), 0));
        house.take_log();
        free.send(()).unwrap();
        until(|| probe.vitals().abandoned.get() == 0).await;
        assert_eq!(house.take_log(), ["wakes a 1", "drop a 1"]);
        assert_eq!(probe.order(Count).await, Ok((0, incarnation)));
        let life = probe.vitals().life();
        assert_eq!((life.state, life.incarnation), (State::Running, incarnation));
        assert_eq!(probe.vitals().mailbox_depth.get(), 0);
        root.supervisor().shutdown(SECOND).await.unwrap();
    });
}
