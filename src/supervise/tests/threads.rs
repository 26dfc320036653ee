//! Each actor on a thread of its own, by the machine's clock.

use super::*;

#[test]
fn each_actor_has_a_named_thread_that_ends_with_it() {
    System::new().block_on(async {
        let house = Arc::new(House::default());
        let spawner = Arc::new(Threads::default());
        let fast = Backoff { base: MS, cap: MS, healthy: SECOND };
        let supervision = Supervision { backoff: fast, ..patient() };
        let mut tree = Tree::new(
            Vitals::new(id("root"), vitals::Kind::Supervisor),
            supervision,
            spawner,
            Arc::new(ManualClock::at(7)),
        );
        let probes = ["archive", "table"].map(|name| tree.child(spec(&house, name, stage())));
        let root = start(tree);
        let mut names = Vec::new();
        for probe in &probes {
            names.push(probe.order(Thread).await.unwrap());
        }
        let names_of_probes = ["test/archive/0", "test/table/0"];
        assert_eq!(names.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), names_of_probes);
        assert_ne!(names[0].0, names[1].0);
        let _ = probes[0].order(Do::Panic).await;
        assert_eq!(probes[0].order(Thread).await.unwrap(), names[0], "a restart stays on its thread");
        root.supervisor().stop(probes[0].id(), SECOND).await.unwrap();
        assert!(!threads().contains(&"test/archive/0".to_owned()), "{:?}", threads());
        assert_eq!(root.supervisor().restart(probes[0].id()).await.unwrap(), Incarnation(3));
        assert_eq!(probes[0].order(Count).await, Ok((0, Incarnation(3))));
        root.supervisor().shutdown(SECOND).await.unwrap();
        assert_eq!(house.alive.load(Ordering::SeqCst), 0);
        // Other tests have threads of their own.
        let ours = |name: &String| names_of_probes.contains(&name.as_str());
        assert!(!threads().iter().any(ours), "{:?}", threads());
    });
}

#[test]
fn the_bound_holds_over_threads() {
    System::new().block_on(async {
        let house = Arc::new(House::default());
        let mut tree = Tree::new(
            Vitals::new(id("root"), vitals::Kind::Supervisor),
            patient(),
            Arc::new(Threads::default()),
            Arc::new(ManualClock::at(7)),
        );
        let probes = ["p", "q"].map(|name| tree.child(spec(&house, name, stage())));
        let root = start(tree);
        let senders = (0..200).map(|n| {
            let probe = &probes[n % 2];
            async move {
                for _ in 0..50 {
                    probe.deliver(Do::Nothing, Incarnation(1)).await.unwrap();
                    assert!(probe.depth() <= 4);
                }
            }
        });
        futures_util::future::join_all(senders).await;
        for probe in &probes {
            assert_eq!(probe.order(Count).await, Ok((5_000, Incarnation(1))));
            assert_eq!((probe.depth(), probe.vitals().mailbox_depth.get()), (0, 0));
        }
        root.supervisor().shutdown(SECOND).await.unwrap();
    });
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}
