//! Processes of a run: howdah itself, and the server of recorded events beside it. Each is held by
//! its handle and gone when that is dropped.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::time::Instant;

/// The program under test.
pub const HOWDAH: &str = env!("CARGO_BIN_EXE_howdah");

/// How often something is looked at that cannot be waited for.
const LOOK: Duration = Duration::from_millis(2);

/// Looks again and again until there is an answer; `None` when the time is over.
pub fn await_within<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// A process that does not outlive its handle.
pub struct Process(Child);

impl Process {
    /// Starts a program that writes both its outputs to the end of `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}")))
    }

    /// Its status, once it has ended; `None` when the time is over.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        await_within(time, || self.0.try_wait().unwrap())
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// `kill -9`; whether that is what it died of.
    pub fn kill(&mut self) -> bool {
        self.0.kill().unwrap();
        is_killed(self.0.wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process died of `kill -9`, by whose hand ever.
pub fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// How events are served.
pub struct Serving {
    /// Events a second; 0 is as fast as they are read.
    pub speed: u32,
    /// Each connection is cut after about so many.
    pub cut_every: u32,
    /// As badly as the standard allows.
    pub hostile: bool,
    /// Of all that is left to chance.
    pub seed: u64,
}

/// `howdah serve-events`.
pub struct Server {
    process: Process,
    port: u16,
    events: PathBuf,
    log: PathBuf,
}

/// How far a server is.
#[derive(Debug, Deserialize)]
pub struct Progress {
    pub released: usize,
    pub total: usize,
}

impl Server {
    /// Starts it and waits until it answers.
    pub fn start(events: &Path, log: &Path, serving: &Serving) -> Self {
        let port = free_port();
        let process = Self::spawn(events, log, port, serving);
        let server = Self { process, port, events: events.to_owned(), log: log.to_owned() };
        server.await_answer();
        server
    }

    /// Starts it anew at the same address, so that clients find it again.
    pub fn start_again(&mut self, serving: &Serving) {
        self.process.kill();
        self.process = Self::spawn(&self.events, &self.log, self.port, serving);
        self.await_answer();
    }

    fn spawn(events: &Path, log: &Path, port: u16, serving: &Serving) -> Process {
        let mut command = Command::new(HOWDAH);
        command.arg("serve-events").arg(events).arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.arg("--speed").arg(serving.speed.to_string());
        command.arg("--cut-every").arg(serving.cut_every.to_string());
        // About a dozen of the recorded events share a time, and come again at each resume.
        command.arg("--burst").arg("20000").arg("--seed").arg(serving.seed.to_string());
        if serving.hostile {
            command.arg("--hostile");
        }
        Process::start(&mut command, log)
    }

    fn await_answer(&self) {
        let answer = await_within(Duration::from_secs(20), || self.progress());
        assert!(answer.is_some(), "the server of events does not answer: see {}", self.log.display());
    }

    /// The address of the stream.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v2/stream/recentchange", self.port)
    }

    /// How far it is; `None` if it does not answer.
    pub fn progress(&self) -> Option<Progress> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /_progress HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// A port that is free now, below those that the kernel hands out to clients.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    for _ in 0..10_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between 20000 and 30000 is free");
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
