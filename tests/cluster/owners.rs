//! Two owners of one stage: started on purpose, or one that slept and woke.

use std::{fs, thread, time::Duration};

use super::stand::{Case, Clusters};
use crate::process::harness::{Running, wait_for};

/// Whether a process is stopped by a signal (`proc_pid_stat(5)`).
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

fn wake(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
}

/// Both collect, both send, both archive, both keep the tables.
#[test]
fn two_instances_and_sleepers_that_wake_repeat_nothing() {
    let clusters = Clusters::start();
    let case = Case::new(&clusters, "two_instances", 2, 150.0);
    let mut first = case.start();
    case.await_records(&mut first, 300);
    let mut second = Running::spawn(case.run_in("data-2", None), &case.log());
    case.await_records(&mut second, case.served.total);
    // Who opened the source last stopped the other: the second, unless the first had to open it anew just then.
    let ended = [first.terminate(), second.terminate()];
    let stopped = ended.each_ref().map(|one| one.log.contains("death=Fenced"));
    let drained = ended.each_ref().map(|one| one.log.contains("end=Drained"));
    let logs = || format!("{stopped:?} {drained:?}\nfirst: {}\nsecond: {}", ended[0].log, ended[1].log);
    assert_ne!(stopped[0], stopped[1], "{}", logs());
    assert_eq!(stopped.map(|stopped| !stopped), drained, "{}", logs());
    case.judge();

    for (name, point) in [
        ("asleep_closed", "archive.closed=3,stop"),
        ("asleep_before_entry", "archive.times_put=3,stop"),
        ("asleep_published", "archive.entry_put=3,stop"),
        ("asleep_renamed", "archive.renamed=3,stop"),
        ("asleep_committing", "table.before_commit=4,stop"),
    ] {
        let case = Case::new(&clusters, name, 1, 200.0);
        let mut sleeper = Running::spawn(case.run(Some(point)), &case.log());
        wait_for("the sleeper to sleep", || is_stopped(sleeper.id()).then_some(()), || sleeper.log());
        let mut second = Running::spawn(case.run_in("data-2", None), &case.log());
        case.await_records(&mut second, case.served.total);
        let archived = || case.has_archived_all().then_some(());
        wait_for("the second to have archived everything", archived, || second.log());
        assert!(sleeper.is_alive());
        wake(sleeper.id());
        // It goes on with what it was at, and finds the place taken.
        thread::sleep(Duration::from_secs(3));
        let ended = sleeper.terminate();
        assert!(!ended.log.contains("ERROR"), "{name}: {}", ended.log);
        second.terminate_in_order();
        case.judge();
    }
}
