//! Starts the binary, feeds it, waits for what it does, and has the judge look at what it left.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, LazyLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use howdah::{
    bus::{Bus, Watermarks, embedded::EmbeddedBus, read_range},
    model::{Record, TopicName},
    recorded::{self, Feed, Layout, Options},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{runtime::Builder, sync::oneshot};

/// Nothing here takes a minute on a machine that does something else besides.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Between two looks at another process.
const LOOK: Duration = Duration::from_millis(20);

pub const ARCHIVE: &str = "store/user/bigdata/flume/raw/wiki_changes";
pub const TABLE: &str = "store/user/bigdata/aggregates/wiki_edits_minute";
pub const TOPIC: &str = "wiki_changes";
pub const LETTERS: &str = "wiki_changes.dead_letters";
pub const OVERSIZED: &str = "spool/wikimedia/oversized";

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn tempdir() -> TempDir {
    tempfile::Builder::new().prefix("howdah-process-").tempdir().unwrap()
}

/// Asks until there is an answer; `what` and `more` are the message if there is none in time.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>, more: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "waited in vain for {what}\n{}", more());
        thread::sleep(LOOK);
    }
}

/// Runs a future of the library's.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A listener on a free port below those that the kernel gives to clients.
pub fn listener() -> TcpListener {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap()
}

/// The binary, with a clean environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    command.args(arguments).stdin(Stdio::null());
    let environment = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let read = ["HOWDAH_", "KAFKA_", "HDFS_", "HADOOP_", "OTEL_", "INFLUX_", "RANDOMUSER_"];
    let ours = |name: &String| read.iter().any(|start| name.starts_with(start));
    for name in environment.filter(ours) {
        command.env_remove(name);
    }
    // Many run at a time.
    command.env("HOWDAH_LISTEN", "off");
    // Nobody listens there: a test that forgets its server asks nobody outside this machine.
    command.env("WIKIMEDIA_URL", "http://127.0.0.1:9/");
    command
}

/// Runs a command to its end: its exit code, and what it wrote to both streams.
#[track_caller]
pub fn finish(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(stdout), text(stderr));
    match status.code() {
        Some(code) => (code, out, err),
        None => panic!("{command:?} ended by {status}: {out}{err}"),
    }
}

/// `howdah run`, stopped at the latest when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

/// How a process ended.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
    pub took: Duration,
}

impl Running {
    /// Runs a pipeline with everything in `data`, the log beside the test's other files.
    pub fn start(pipeline: &Path, data: &Path, url: &str, log: &Path) -> Self {
        let mut run = command(&["run", pipeline.to_str().unwrap()]);
        run.env("HOWDAH_DATA", data).env("WIKIMEDIA_URL", url);
        Self::spawn(run, log)
    }

    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until a line of the log has all of `words`, and answers with it.
    #[track_caller]
    pub fn await_line(&mut self, words: &[&str]) -> String {
        let line = |log: &str| log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        let (child, path) = (&mut self.child, &self.log);
        let said = || fs::read_to_string(path).unwrap();
        let ask = || {
            // The order matters: a process that has ended writes nothing more.
            let ended = child.try_wait().unwrap();
            let found = line(&said());
            assert!(found.is_some() || ended.is_none(), "ended with {ended:?}, never said {words:?}\n{}", said());
            found
        };
        wait_for(&format!("{words:?} in the log"), ask, said)
    }

    /// Waits until a topic of the bus in `data` holds `count` records, and fails at once if it has more.
    #[track_caller]
    pub fn await_records(&mut self, data: &Path, topic: &str, count: u64) {
        let at = data.join("bus");
        let (child, log) = (&mut self.child, &self.log);
        let seen = std::cell::Cell::new(0);
        let ask = || {
            let status = child.try_wait().unwrap();
            assert!(status.is_none(), "ended with {status:?}\n{}", fs::read_to_string(log).unwrap());
            seen.set(watermarks(&at, topic)?.high);
            assert!(seen.get() <= count, "{} records in {topic}, {count} were served", seen.get());
            (seen.get() == count).then_some(())
        };
        let said = || format!("{} of {count}\n{}", seen.get(), fs::read_to_string(log).unwrap());
        wait_for(&format!("the records in {topic}"), ask, said);
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and the end.
    #[track_caller]
    pub fn terminate(mut self) -> Ended {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(&mut self) -> Ended {
        let begun = Instant::now();
        let (child, log) = (&mut self.child, &self.log);
        let status =
            wait_for("the end of the process", || child.try_wait().unwrap(), || fs::read_to_string(log).unwrap());
        Ended { status, log: self.log(), took: begun.elapsed() }
    }

    /// SIGTERM; it must end in order and in time.
    #[track_caller]
    pub fn terminate_in_order(self) -> Ended {
        let ended = self.terminate();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        assert!(ended.log.contains("end=Drained"), "{}", ended.log);
        assert!(ended.took < Duration::from_secs(30), "took {:?}\n{}", ended.took, ended.log);
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Recorded events served from this process.
pub struct Served {
    pub url: String,
    pub total: u64,
    served: recorded::Served,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub fn start(events: &Path, options: Options) -> Self {
        let feed = Arc::new(Feed::open(events, Layout::default()).unwrap());
        let total = feed.events().len() as u64;
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let serving = async move {
            let listener = listener();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (served, work) = recorded::serve(listener, feed, options, async move { drop(stopped.await) }).unwrap();
            tell.send(served).unwrap();
            work.await;
        };
        let thread = thread::spawn(move || block_on(serving));
        let served = told.recv().unwrap();
        let url = url_of(served.addr);
        Self { url, total, served, stop: Some(stop), thread: Some(thread) }
    }

    pub fn progress(&self) -> recorded::Progress {
        self.served.progress()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn url_of(address: SocketAddr) -> String {
    format!("http://{address}/v2/stream/recentchange")
}

/// A topic's ends as they are now, if bus and topic are there.
fn watermarks(bus: &Path, topic: &str) -> Option<Watermarks> {
    block_on(async {
        let bus = EmbeddedBus::open_read_only(bus).ok()?;
        let topic = bus.topic(&TopicName::new(topic)).await.ok()??;
        bus.watermarks(&topic, 0).await.ok()
    })
}

/// All records of a topic's only partition.
pub fn records(data: &Path, topic: &str) -> Vec<Record> {
    records_of(&data.join("bus"), topic)
}

/// The same of this embedded bus.
pub fn records_of(bus: &Path, topic: &str) -> Vec<Record> {
    block_on(async {
        let bus = EmbeddedBus::open_read_only(bus).unwrap();
        let topic = bus.topic(&TopicName::new(topic)).await.unwrap().unwrap();
        let ends = bus.watermarks(&topic, 0).await.unwrap();
        read_range(&bus, &topic, 0, ends.low, ends.high).await.unwrap()
    })
}

pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let made = Command::new(repository("tests/judge/setup.sh")).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "tests/judge/setup.sh failed");
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim_end())
});

fn python(script: &str, arguments: &[&str]) -> (i32, String, String) {
    finish(Command::new(&*PYTHON).arg(repository(script)).args(arguments))
}

/// Events made from the recorded ones by `tests/judge/make_events.py`.
pub fn make_events(out: &Path, options: &str) {
    let mut arguments = vec![out.to_str().unwrap()];
    arguments.extend(options.split_whitespace());
    let (code, out, err) = python("tests/judge/make_events.py", &arguments);
    assert_eq!(code, 0, "{out}{err}");
}

/// The archive in `data` holds every event once, in order; `more`: further arguments of the judge.
#[track_caller]
pub fn judge_archive(events: &Path, data: &Path, more: &[&str]) {
    let at = data.join(ARCHIVE);
    let known = ["archive", "--topic", TOPIC, "--partitions", "1", "--key", "none"];
    judge(&known, events, &["--archive", at.to_str().unwrap()], more);
}

/// The table in `data` says of the events what they say.
#[track_caller]
pub fn judge_table(events: &Path, data: &Path, more: &[&str]) {
    let at = data.join(TABLE);
    judge(&["table", "--strict"], events, &["--table", at.to_str().unwrap()], more);
}

/// As [`judge_table`], after writes that failed: their files are named by no commit and stay.
#[track_caller]
pub fn judge_table_with_leftovers(events: &Path, data: &Path) {
    let at = data.join(TABLE);
    judge(&["table"], events, &["--table", at.to_str().unwrap()], &[]);
}

/// Judges folders, wherever they come from; answers with what the judge said.
#[track_caller]
pub fn judge_folder(known: &[&str], events: &Path, place: &[&str]) -> String {
    judge(known, events, place, &[])
}

/// What Spark and Python's deltalake see of an archive and a table on HDFS.
#[track_caller]
pub fn read_on_hdfs(url: &str, conf: &str, archive: &str, table: &str) -> serde_json::Value {
    let mut reading = Command::new(&*PYTHON);
    reading.arg(repository("tests/judge/on_hdfs.py")).args([url, archive, table]).env("HADOOP_CONF_DIR", conf);
    let (code, out, err) = finish(&mut reading);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap()
}

#[track_caller]
fn judge(known: &[&str], events: &Path, place: &[&str], more: &[&str]) -> String {
    let arguments = [known, &["--events", events.to_str().unwrap()], place, more].concat();
    let (code, out, err) = python("tests/judge/judge.py", &arguments);
    assert_eq!(code, 0, "{arguments:?}\n{out}{err}");
    out
}

/// The shipped pipeline with some of its values changed.
pub fn changed_pipeline(folder: &Path, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(repository("pipelines/wikimedia.toml")).unwrap();
    for (old, new) in changes {
        assert_eq!(text.matches(old).count(), 1, "{old} in the pipeline");
        text = text.replace(old, new);
    }
    let path = folder.join("wikimedia.toml");
    fs::write(&path, text).unwrap();
    path
}
