//! Strategies, policies, intensity, escalation.

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three probes under one supervisor.
struct Three {
    house: Arc<House>,
    probes: Vec<Ref<Probe>>,
    _root: Root,
}

fn three(supervision: Supervision, policies: [Policy; 3]) -> Three {
    let house = Arc::new(House::default());
    let mut tree = tree("root", supervision);
    let probes = NAMES.iter().zip(policies);
    let probes = probes.map(|(name, policy)| tree.child(spec(&house, name, StageSupervision { policy, ..stage() })));
    Three { probes: probes.collect(), house, _root: start(tree) }
}

/// Kills the second of three; expects this to have happened then.
fn check(strategy: Strategy, expected: &[&str]) {
    paused(async {
        let three = three(Supervision { strategy, ..patient() }, [Policy::Permanent; 3]);
        settle().await;
        assert_eq!(three.house.take_log(), ["up a 1", "up b 1", "up c 1"]);
        let _ = three.probes[1].order(Do::Panic).await;
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(three.house.take_log(), expected, "{strategy:?}");
        let siblings = |probe: usize| restarts(&three.probes[probe]).get(&Death::Sibling).copied().unwrap_or(0);
        let expected = expected.iter().filter(|line| line.starts_with("up")).count() as u64 - 1;
        assert_eq!(siblings(0) + siblings(2), expected);
        assert_eq!(restarts(&three.probes[1]), BTreeMap::from([(Death::Panic, 1)]));
    });
}

#[test]
fn one_for_one_restarts_the_one_that_died() {
    check(Strategy::OneForOne, &["drop b 1", "up b 2"]);
}

#[test]
fn one_for_all_restarts_all_down_from_the_last_and_up_from_the_first() {
    check(Strategy::OneForAll, &["drop b 1", "drop c 1", "drop a 1", "up a 2", "up b 2", "up c 2"]);
}

#[test]
fn rest_for_one_restarts_it_and_those_after_it() {
    check(Strategy::RestForOne, &["drop b 1", "drop c 1", "up b 2", "up c 2"]);
}

#[test]
fn a_second_death_while_a_restart_is_pending_restarts_nobody_twice() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne, Strategy::OneForOne] {
        paused(async {
            let three = three(Supervision { strategy, ..patient() }, [Policy::Permanent; 3]);
            settle().await;
            three.house.take_log();
            let _ = tokio::join!(
                three.probes[0].order(Do::Panic),
                three.probes[1].order(Do::Panic),
                three.probes[2].order(Do::Panic)
            );
            tokio::time::sleep(20 * SECOND).await;
            let mut log = three.house.take_log();
            log[3..].sort();
            assert_eq!(log[3..], ["up a 2", "up b 2", "up c 2"], "{strategy:?}");
            assert_eq!(log.len(), 6, "{strategy:?}: {log:?}");
        });
    }
}

#[test]
fn a_death_while_others_are_raised_begins_the_round_again() {
    paused(async {
        let three = three(Supervision { strategy: Strategy::OneForAll, ..patient() }, [Policy::Permanent; 3]);
        settle().await;
        three.house.take_log();
        three.house.arm("b", Place::Started, 1);
        let _ = three.probes[2].order(Do::Panic).await;
        tokio::time::sleep(20 * SECOND).await;
        let expected =
            ["drop c 1", "drop b 1", "drop a 1", "up a 2", "drop b 2", "drop a 2", "up a 3", "up b 3", "up c 2"];
        assert_eq!(three.house.take_log(), expected);
    });
}

#[test]
fn a_death_at_the_first_start_does_not_hold_up_the_others() {
    paused(async {
        let house = Arc::new(House::default());
        house.arm("b", Place::Started, 1);
        let mut tree = tree("root", patient());
        for name in NAMES {
            tree.child(spec(&house, name, stage()));
        }
        let _root = start(tree);
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(house.take_log(), ["up a 1", "drop b 1", "up c 1", "up b 2"]);
    });
}

/// A probe of this policy does `what`; does it come back?
fn comes_back(policy: Policy, what: Do) -> bool {
    paused(async {
        let three = three(patient(), [policy, Policy::Permanent, Policy::Permanent]);
        let _ = three.probes[0].order(what).await;
        tokio::time::sleep(10 * SECOND).await;
        let life = three.probes[0].vitals().life();
        let back = three.probes[0].order(Count).await.is_ok();
        assert_eq!(life.state, if back { State::Running } else { State::Stopped });
        assert_eq!(three.house.alive.load(Ordering::SeqCst), if back { 3 } else { 2 });
        back
    })
}

#[test]
fn policies_say_who_comes_back() {
    let ways = [Do::Panic, Do::Fail, Do::Leave];
    let seen = |policy| ways.clone().map(|way| comes_back(policy, way));
    assert_eq!(seen(Policy::Permanent), [true, true, true]);
    assert_eq!(seen(Policy::Transient), [true, true, false]);
    assert_eq!(seen(Policy::Temporary), [false, false, false]);
}

#[test]
fn the_end_of_a_temporary_child_is_not_an_error() {
    paused(async {
        let strict = Intensity { restarts: 0, within: SECOND };
        let supervision = Supervision { strategy: Strategy::OneForAll, intensity: strict, ..patient() };
        let three = three(supervision, [Policy::Permanent, Policy::Permanent, Policy::Temporary]);
        settle().await;
        three.house.take_log();
        let _ = three.probes[2].order(Do::Leave).await;
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(three.house.take_log(), ["stopping c 1", "drop c 1", "drop c 2"], "no sibling went down");
        assert_eq!(three.probes[2].vitals().life().last_error, None);
    });
}

#[test]
fn a_temporary_child_that_goes_down_with_a_sibling_stays_down() {
    paused(async {
        let supervision = Supervision { strategy: Strategy::OneForAll, ..patient() };
        let three = three(supervision, [Policy::Permanent, Policy::Temporary, Policy::Permanent]);
        settle().await;
        three.house.take_log();
        let _ = three.probes[0].order(Do::Panic).await;
        tokio::time::sleep(10 * SECOND).await;
        let ups: Vec<_> = three.house.take_log().into_iter().filter(|line| line.starts_with("up")).collect();
        assert_eq!(ups, ["up a 2", "up c 2"]);
    });
}

/// What the root's parent was told.
type Told = Arc<Mutex<Vec<(String, String)>>>;

fn told() -> (Told, impl Parent) {
    let told = Told::default();
    let parent = {
        let told = Arc::clone(&told);
        move |who: &ActorId, why: &str| told.lock().unwrap().push((who.to_string(), why.to_owned()))
    };
    (told, parent)
}

fn bears(restarts: u32) -> Supervision {
    Supervision { intensity: Intensity { restarts, within: 100 * SECOND }, ..patient() }
}

#[test]
fn past_its_intensity_a_supervisor_stops_its_children_and_tells_its_parent() {
    paused(async {
        let house = Arc::new(House::default());
        let mut tree = tree("root", bears(2));
        let probes = NAMES.map(|name| tree.child(spec(&house, name, stage())));
        let (told, parent) = told();
        let root = tree.start(parent).unwrap();
        for _ in 0..2 {
            let _ = probes[1].order(Do::Panic).await;
            probes[1].order(Count).await.unwrap();
        }
        assert_eq!(told.lock().unwrap().len(), 0);
        house.take_log();
        let _ = probes[1].order(Do::Panic).await;
        settle().await;
        let who_and_why = told.lock().unwrap().clone();
        assert_eq!(who_and_why.len(), 1);
        assert_eq!(who_and_why[0].0, "test/root/0");
        let why = &who_and_why[0].1;
        assert!(
            why.starts_with("test/b/0 died: more than 2 restarts within 100s; the last death: told to at"),
            "{why}"
        );
        let states = probes.map(|probe| probe.vitals().life().state);
        assert_eq!(states, [State::Stopped, State::GaveUp, State::Stopped]);
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
        assert_eq!(root.supervisor().vitals().life().state, State::GaveUp);
        assert!(root.supervisor().shutdown(SECOND).await.is_err(), "who asks is told");
        let log = house.take_log();
        assert_eq!(log[1..], ["stopping c 1", "drop c 1", "drop b 4", "stopping a 1", "drop a 1"]);
    });
}

#[test]
fn escalation_goes_from_actor_to_pipeline_to_node_to_the_roots_parent() {
    paused(async {
        let house = Arc::new(House::default());
        let mut pipeline = tree("pipeline", bears(1));
        let probes = NAMES.map(|name| pipeline.child(spec(&house, name, stage())));
        let mut node = tree("node", bears(1));
        let pipeline = node.branch(pipeline);
        let other = node.child(spec(&house, "other", stage()));
        let (told, parent) = told();
        let _root = node.start(parent).unwrap();
        let kill = async || {
            let _ = probes[1].order(Do::Panic).await;
            tokio::time::sleep(5 * SECOND).await;
        };
        kill().await;
        assert_eq!(probes[1].order(Count).await, Ok((0, Incarnation(2))), "the pipeline restarts the actor");
        house.take_log();
        kill().await;
        let ups: Vec<_> = house.take_log().into_iter().filter(|line| line.starts_with("up")).collect();
        assert_eq!(ups.len(), 3, "the node restarts the pipeline with all its actors: {ups:?}");
        assert!(ups.iter().zip(NAMES).all(|(line, name)| line.starts_with(&format!("up {name} "))), "{ups:?}");
        assert_eq!(pipeline.vitals().life().restarts, BTreeMap::from([(Death::Fault, 1)]));
        assert_eq!(probes[0].order(Count).await.map(|(handled, _)| handled), Ok(0), "the references still lead there");
        assert_eq!(restarts(&probes[1]), BTreeMap::from([(Death::Panic, 2)]));
        kill().await;
        assert_eq!(told.lock().unwrap().len(), 0, "the pipeline's count began anew");
        kill().await;
        let why = told.lock().unwrap().clone();
        assert_eq!(why.len(), 1);
        assert_eq!(why[0].0, "test/node/0");
        assert!(why[0].1.starts_with("test/pipeline/0 died: more than 1 restarts"), "{why:?}");
        assert!(why[0].1.contains("test/b/0 died"), "the whole chain is named: {why:?}");
        assert_eq!(other.vitals().life().state, State::Stopped);
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_healthy_stretch_resets_the_count_and_a_successful_start_does_not() {
    paused(async {
        let house = Arc::new(House::default());
        let mut tree = tree("root", bears(2));
        let probe = tree.child(spec(&house, "a", stage()));
        let (told, parent) = told();
        let _root = tree.start(parent).unwrap();
        for _ in 0..10 {
            tokio::time::sleep(70 * SECOND).await;
            let _ = probe.order(Do::Panic).await;
        }
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Panic, 10)]));
        for _ in 0..2 {
            let _ = probe.order(Do::Panic).await;
            tokio::time::sleep(20 * SECOND).await;
        }
        assert_eq!((told.lock().unwrap().len(), probe.vitals().life().state), (1, State::GaveUp));
    });
}

#[test]
fn a_supervisor_that_dies_takes_its_children_along_and_brings_them_back() {
    paused(async {
        let house = Arc::new(House::default());
        let mut pipeline = tree("pipeline", patient());
        let probe = pipeline.child(spec(&house, "a", stage()));
        let mut node = tree("node", patient());
        let pipeline = node.branch(pipeline);
        let root = start(node);
        probe.order(Do::Tick).await.unwrap();
        house.take_log();
        assert_eq!(root.supervisor().restart(pipeline.id()).await.unwrap(), Incarnation(2));
        assert_eq!(probe.order(Count).await, Ok((0, Incarnation(2))));
        assert_eq!(house.take_log(), ["drop a 1", "up a 2"]);
        assert_eq!(restarts(&probe), BTreeMap::from([(Death::Sibling, 1)]));
        assert_eq!(house.alive.load(Ordering::SeqCst), 1);
    });
}
