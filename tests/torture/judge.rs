//! The independent judge in `tests/judge`: Python, and no line of howdah.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::Deserialize;

use super::{
    plan::Plan,
    process::{Process, await_within, tail},
};

/// The judge's Python, with the packages that it needs; made at the first call.
fn python() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let output = Command::new("sh").arg(script("setup.sh")).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    python.as_deref().unwrap_or_else(|why| {
        panic!(
            "the judge needs Python 3.11 or newer with venv and pip, Java 17 and Maven (Debian: apt install python3-venv \
             openjdk-17-jre-headless maven), and at its first run the package index for deltalake, duckdb, pyarrow and \
             pyspark and Maven Central for Delta's jars: tests/judge/setup.sh says\n{why}"
        )
    })
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge").join(name)
}

/// Runs a script of the judge to its end; answers with what it said, which is also the complaint if
/// its exit code is not 0.
pub fn judged<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Result<String, String> {
    let output = Command::new(python()).arg("-B").arg(script(name)).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let said = said.trim().to_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{name} ({}):\n{said}", output.status)) }
}

/// Makes the events of a run.
pub fn make_events(out: &Path, plan: &Plan) {
    let mut arguments = vec![out.display().to_string()];
    let mut option = |name: &str, value: u64| arguments.extend([format!("--{name}"), value.to_string()]);
    option("copies", plan.copies.into());
    option("every", plan.every.into());
    option("seed", plan.seed);
    option("canary", 50);
    option("bare", 37);
    if plan.setup.odd {
        option("odd", 41);
        option("times", 97);
    }
    if plan.setup.big {
        option("big", 5_000);
    }
    judged("make_events.py", &arguments).unwrap_or_else(|why| panic!("{why}"));
}

/// What is judged, and by what.
pub struct Case<'a> {
    /// What was served.
    pub events: PathBuf,
    /// The archive's folder.
    pub archive: PathBuf,
    /// The table's folder.
    pub table: PathBuf,
    /// The commits of the table, those that are deleted by now too.
    pub log: PathBuf,
    /// Where payloads lie that were too large.
    pub letters: PathBuf,
    /// Whose run it was.
    pub plan: &'a Plan,
}

impl Case<'_> {
    /// Every served event is in the archive once, byte for byte, in order, in its partition; and
    /// nothing is left over.
    pub fn archive(&self) -> Result<String, String> {
        let partitions = self.plan.setup.partitions.to_string();
        let mut arguments = self.arguments("archive");
        arguments.extend(["--archive".as_ref(), self.archive.as_os_str(), "--topic".as_ref(), "wiki_changes".as_ref()]);
        arguments.extend(["--partitions", &partitions].map(OsStr::new));
        arguments.extend(["--key", if self.plan.setup.partitions > 1 { "/wiki" } else { "none" }].map(OsStr::new));
        if self.letters.exists() {
            arguments.extend(["--letters".as_ref(), self.letters.as_os_str()]);
        }
        judged("judge.py", &arguments)
    }

    /// The table says what the events say. Which events were late, and which ones never came
    /// because of their size, only the positions in the log tell.
    pub fn table(&self) -> Result<String, String> {
        let mut arguments = self.arguments("table");
        arguments.extend(["--ended".as_ref(), "--table".as_ref(), self.table.as_os_str()]);
        arguments.extend(["--log".as_ref(), self.log.as_os_str()]);
        if self.plan.setup.odd || self.plan.setup.big {
            arguments.extend(["--at-positions".as_ref(), self.archive.as_os_str()]);
        }
        judged("judge.py", &arguments)
    }

    /// What readers saw midway was the truth of that moment.
    pub fn snapshots(&self, samples: &Path) -> Result<String, String> {
        let mut arguments = self.arguments("snapshots");
        arguments.extend(["--archive".as_ref(), self.archive.as_os_str(), "--table".as_ref(), self.table.as_os_str()]);
        arguments.extend(["--samples".as_ref(), samples.as_os_str(), "--log".as_ref(), self.log.as_os_str()]);
        judged("judge.py", &arguments)
    }

    fn arguments(&self, judge: &'static str) -> Vec<&OsStr> {
        vec![judge.as_ref(), "--events".as_ref(), self.events.as_os_str()]
    }
}

/// `deltalake` and DuckDB, which open the table ten times a second, and Spark, which opens it now and then.
pub struct Readers {
    process: Process,
    folder: PathBuf,
}

const READERS: [&str; 3] = ["deltalake", "duckdb", "spark"];

/// What they saw.
#[derive(Debug, Deserialize)]
pub struct Seen {
    pub opens_per_second: f64,
    pub errors: u64,
    pub went_back: u64,
    pub samples: u64,
    /// By name.
    pub readers: BTreeMap<String, SeenByOne>,
}

/// What one of them saw.
#[derive(Debug, Deserialize)]
pub struct SeenByOne {
    /// Of the program that read.
    pub version: String,
    pub opens: u64,
    pub errors: u64,
    pub final_hours: u64,
    pub slowest_ms: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, seen) in &self.readers {
            let SeenByOne { version, opens, errors, final_hours, slowest_ms } = seen;
            write!(f, "{name} {version}: {opens} opens (the slowest {slowest_ms} ms), ")?;
            write!(f, "{errors} errors, {final_hours} final hours; ")?;
        }
        write!(f, "{:.1} opens a second, {} sampled", self.opens_per_second, self.samples)
    }
}

/// Keeps what howdah deletes: links each commit of a table into another folder as soon as it is there.
pub struct Keeping {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeping {
    /// How often it looks; howdah keeps a commit for longer by far.
    const EVERY: Duration = Duration::from_millis(50);

    /// Begins; the table need not exist yet.
    pub fn start(table: &Path, into: &Path) -> Self {
        fs::create_dir_all(into).unwrap();
        let (log, into, done) = (table.join("_delta_log"), into.to_owned(), Arc::new(AtomicBool::new(false)));
        let over = done.clone();
        let keep = move || {
            let mut known = HashSet::new();
            loop {
                let last = over.load(Ordering::SeqCst);
                for entry in fs::read_dir(&log).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let is_commit = name.to_str().is_some_and(|name| name.len() == 25 && name.ends_with(".json"));
                    if is_commit && !known.contains(&name) && fs::hard_link(entry.path(), into.join(&name)).is_ok() {
                        known.insert(name);
                    }
                }
                if last {
                    return;
                }
                thread::sleep(Self::EVERY);
            }
        };
        Self { done, thread: Some(thread::spawn(keep)) }
    }

    /// Ends, after a last look.
    pub fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Readers {
    /// Less says nothing. Spark, the slowest of them, makes about twenty.
    const MIN_OPENS: u64 = 5;

    /// How long the slowest of them, a JVM, may take to be ready.
    const START: Duration = Duration::from_secs(180);

    /// How long their last opens may take.
    const END: Duration = Duration::from_secs(60);

    /// Starts them and waits until they can read; the table need not be there yet.
    pub fn start(table: &Path, log: &Path, folder: &Path) -> Self {
        let mut command = Command::new(python());
        command.arg("-B").arg(script("readers.py")).arg("--table").arg(table).arg("--samples").arg(samples(folder));
        command.arg("--log").arg(log);
        let (ready, said) = (folder.join("readers.ready"), folder.join("readers.log"));
        command.arg("--ready-file").arg(&ready).arg("--until-file").arg(folder.join("readers.done"));
        command.args(["--seconds", "600", "--interval", "0.12"]);
        let process = Process::start(&mut command, &said);
        let is_ready = await_within(Self::START, || ready.exists().then_some(()));
        assert!(is_ready.is_some(), "the readers are not ready after {:?}:\n{}", Self::START, tail(&said, 40));
        Self { process, folder: folder.to_owned() }
    }

    /// Ends them; answers with what they saw and where their samples lie.
    pub fn end(mut self) -> (Seen, PathBuf) {
        fs::write(self.folder.join("readers.done"), "").unwrap();
        let status = self.process.ended_within(Self::END).expect("the readers end when told");
        let said = fs::read_to_string(self.folder.join("readers.log")).unwrap();
        let seen: Option<Seen> = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let seen = seen.unwrap_or_else(|| panic!("the readers ended with {status} and said\n{said}"));
        assert!(seen.errors == 0 && seen.went_back == 0, "the readers saw\n{said}");
        assert!(seen.readers.keys().eq(READERS), "others read than {READERS:?}:\n{said}");
        let idle = |one: &SeenByOne| one.opens < Self::MIN_OPENS || one.final_hours == 0;
        assert!(!seen.readers.values().any(idle), "a reader hardly read:\n{said}");
        (seen, samples(&self.folder))
    }
}

fn samples(folder: &Path) -> PathBuf {
    folder.join("samples.jsonl")
}
