//! Under a service manager: what it is told, and what the unit that ships leaves the process.

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};

use howdah::recorded::Options;

use super::harness::{Running, Served, command, finish, repository, tempdir};

#[test]
fn the_service_manager_is_told_of_readiness_life_and_end() {
    let folder = tempdir();
    let socket = folder.path().join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = || {
        let mut text = [0; 1024];
        let len = told.recv(&mut text).expect("a word within a minute");
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let served = Served::start(&repository("data/recentchange-2015-09-12.ndjson.gz"), Options::default());
    let mut run = command(&["run", repository("pipelines/wikimedia.toml").to_str().unwrap()]);
    run.env("HOWDAH_DATA", folder.path().join("data"))
        .env("WIKIMEDIA_URL", &served.url)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "200000")
        .env_remove("WATCHDOG_PID");
    let howdah = Running::spawn(run, &folder.path().join("log"));
    let first = next();
    assert_eq!(first.lines().collect::<Vec<_>>(), ["READY=1", "STATUS=5 actors"]);
    for _ in 0..5 {
        assert_eq!(next().trim_end(), "WATCHDOG=1");
    }
    let ended = howdah.terminate_in_order();
    told.set_nonblocking(true).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| {
        let mut text = [0; 64];
        let len = told.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..len].to_vec()).unwrap().trim_end().to_owned())
    })
    .collect();
    let (last, lives) = rest.split_last().expect("an end");
    assert_eq!(last, "STOPPING=1", "{rest:?} {}", ended.log);
    assert!(lives.iter().all(|word| word == "WATCHDOG=1"), "{rest:?}");
}

/// By systemd's own measure: 0 is closed to everything, 10 is open.
#[test]
fn the_unit_that_ships_leaves_the_process_little() {
    let unit = repository("deploy/howdah.service");
    let mut looking = Command::new("systemd-analyze");
    looking.args(["security", "--offline=true", "--no-pager", "--threshold=20", unit.to_str().unwrap()]);
    let (code, out, err) = finish(&mut looking);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("Overall exposure level for howdah.service"), "{out}{err}");
}
