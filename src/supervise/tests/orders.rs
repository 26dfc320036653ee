//! What a person may order, and the ordered end.

use super::*;

fn pair() -> (Arc<House>, [Ref<Probe>; 2], Root) {
    let house = Arc::new(House::default());
    let mut tree = tree("root", patient());
    let probes = ["a", "b"].map(|name| tree.child(spec(&house, name, stage())));
    (house, probes, start(tree))
}

#[test]
fn a_restart_by_order_is_answered_by_the_new_incarnation() {
    paused(async {
        let (house, [probe, _], root) = pair();
        settle().await;
        house.take_log();
        let before = tokio::time::Instant::now();
        assert_eq!(root.supervisor().restart(probe.id()).await.unwrap(), Incarnation(2));
        assert_eq!(before.elapsed(), Duration::ZERO, "an order is no failure: no pause");
        assert_eq!(house.take_log(), ["drop a 1", "up a 2"]);
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Order, 1)]));
        assert_eq!(probe.vitals().life().last_error, None);
    });
}

#[test]
fn an_order_cuts_the_pause_short() {
    paused(async {
        let (_house, [probe, _], root) = pair();
        let _ = probe.order(Do::Panic).await;
        let before = tokio::time::Instant::now();
        assert_eq!(root.supervisor().restart(probe.id()).await.unwrap(), Incarnation(2));
        assert_eq!(before.elapsed(), Duration::ZERO);
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Panic, 1)]), "and it is restarted once");
    });
}

#[test]
fn two_orders_at_once_are_both_answered() {
    paused(async {
        let (_house, [probe, _], root) = pair();
        let (one, other) = tokio::join!(root.supervisor().restart(probe.id()), root.supervisor().restart(probe.id()));
        assert_eq!((one.unwrap(), other.unwrap()), (Incarnation(2), Incarnation(2)));
    });
}

#[test]
fn an_order_during_a_start_is_answered_by_the_incarnation_after_it() {
    paused(async {
        let house = Arc::new(House::default());
        let mut tree = tree("root", patient());
        let probe = tree.child(spec(&house, "a", stage()));
        let root = start(tree);
        // Nothing has run yet: the first start and the order meet.
        assert_eq!(root.supervisor().restart(probe.id()).await.unwrap(), Incarnation(2));
        assert_eq!(probe.order(Count).await, Ok((0, Incarnation(2))));
    });
}

#[test]
fn what_a_person_stops_stays_stopped_until_a_person_restarts_it() {
    paused(async {
        let house = Arc::new(House::default());
        let mut pipeline = tree("pipeline", Supervision { strategy: Strategy::OneForAll, ..patient() });
        let [a, b] = ["a", "b"].map(|name| pipeline.child(spec(&house, name, stage())));
        let mut node = tree("node", patient());
        let pipeline = node.branch(pipeline);
        let root = start(node);
        settle().await;
        house.take_log();
        pipeline.stop(a.id(), SECOND).await.unwrap();
        assert_eq!(house.take_log(), ["stopping a 1", "drop a 1"]);
        assert_eq!(a.vitals().life().state, State::Stopped);
        let _ = b.order(Do::Panic).await;
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(house.take_log(), ["drop b 1", "up b 2"], "a sibling's death does not raise it");
        root.supervisor().restart(pipeline.id()).await.unwrap();
        b.order(Count).await.unwrap();
        assert_eq!(house.take_log(), ["drop b 2", "up b 3"], "nor does a restart of its supervisor");
        pipeline.stop(a.id(), SECOND).await.unwrap();
        assert_eq!(pipeline.restart(a.id()).await.unwrap(), Incarnation(2));
        assert_eq!(a.order(Count).await, Ok((0, Incarnation(2))), "the same reference leads to the new mailbox");
    });
}

#[test]
fn an_order_for_a_stranger_is_refused() {
    paused(async {
        let (_house, _probes, root) = pair();
        let fault = root.supervisor().restart(&id("c")).await.unwrap_err();
        assert_eq!(fault.to_string(), "test/root/0 has no actor test/c/0; it has test/a/0, test/b/0");
        root.supervisor().stop(&id("c"), SECOND).await.unwrap_err();
    });
}

#[test]
fn a_child_that_does_not_stop_in_time_is_dropped() {
    paused(async {
        let (house, [probe, other], root) = pair();
        probe.order(Do::Refuse).await.unwrap();
        let before = tokio::time::Instant::now();
        root.supervisor().stop(probe.id(), 3 * SECOND).await.unwrap();
        assert_eq!(before.elapsed(), 3 * SECOND);
        assert_eq!(house.alive.load(Ordering::SeqCst), 1);
        assert_eq!(probe.vitals().life().state, State::Stopped);
        other.order(Count).await.unwrap();
    });
}

#[test]
fn children_stop_in_the_order_they_are_told() {
    paused(async {
        let (house, [a, b], root) = pair();
        settle().await;
        house.take_log();
        for probe in [&a, &b] {
            root.supervisor().stop(probe.id(), SECOND).await.unwrap();
        }
        assert_eq!(house.take_log(), ["stopping a 1", "drop a 1", "stopping b 1", "drop b 1"]);
    });
}

#[test]
fn a_shutdown_stops_the_last_started_first_and_each_within_its_limit() {
    paused(async {
        let house = Arc::new(House::default());
        let mut pipeline = tree("pipeline", patient());
        let [_, b] = ["a", "b"].map(|name| pipeline.child(spec(&house, name, stage())));
        let mut node = tree("node", patient());
        node.child(spec(&house, "x", stage()));
        let pipeline = node.branch(pipeline);
        let root = start(node);
        b.order(Do::Refuse).await.unwrap();
        house.take_log();
        let before = tokio::time::Instant::now();
        root.supervisor().shutdown(20 * SECOND).await.unwrap();
        assert_eq!(before.elapsed(), 10 * SECOND, "a child of a child has the limit that its own supervisor sets");
        let log = house.take_log();
        let expected = ["drop b 1", "stopping a 1", "drop a 1", "stopping x 1", "drop x 1"];
        assert_eq!(log.iter().filter(|line| *line != "stopping b 1").collect::<Vec<_>>(), expected);
        settle().await;
        assert_eq!(pipeline.vitals().life().state, State::Stopped);
        assert_eq!(root.supervisor().vitals().life().state, State::Stopped);
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
        assert!(root.supervisor().shutdown(SECOND).await.is_err());
    });
}

#[test]
fn a_death_during_the_shutdown_brings_nobody_back() {
    paused(async {
        let (house, [a, b], root) = pair();
        b.order(Do::Refuse).await.unwrap();
        house.take_log();
        let (down, _) = tokio::join!(root.supervisor().shutdown(3 * SECOND), a.order(Do::Panic));
        down.unwrap();
        assert_eq!(house.take_log().iter().filter(|line| line.starts_with("up")).count(), 0);
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
    });
}
