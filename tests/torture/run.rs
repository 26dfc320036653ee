//! One run: a data folder, a server that goes on serving, and a howdah that dies and is started
//! again until the plan is done; then everything is let in, howdah ends in order, and the judge
//! looks at what is there.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use howdah::{config::BusSettings, node::open_bus_read_only};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    judge::{Case, Keeping, Readers, make_events},
    plan::{Death, Plan, Setup},
    process::{HOWDAH, Process, Server, Serving, is_killed, tail},
};

/// Events a second while howdah dies at every step: slow enough that they last.
const SPEED: u32 = 350;

/// A fail point that is not crossed within this time is given up, and the process killed anyhow.
const POINT_PATIENCE: Duration = Duration::from_secs(8);

/// A debug build listens to signals this long after its start at the latest.
const HEARS_AFTER: Duration = Duration::from_millis(500);
/// How long the last life may take to put everything on the bus without one record of progress.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What is promised of an ordered end.
const END: Duration = Duration::from_secs(30);

/// Events above this are dead letters.
const MAX_EVENT: usize = 64 << 10;

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often the process died of `kill -9`, at a fail point or by our hand.
    pub kills: u32,
    /// How often at which fail point.
    pub hits: BTreeMap<&'static str, u32>,
    /// A line for people.
    pub summary: String,
}

/// Does everything that a plan says.
///
/// Panics with the reason when something is violated; the folder is kept then.
pub fn run(name: &str, plan: &Plan) -> Tally {
    let started = Instant::now();
    let run = Run::new(name, plan);
    let readers = plan.setup.readers.then(|| Readers::start(&run.table(), &run.path("log"), run.folder()));
    let mut server = Server::start(&run.path("events.ndjson"), &run.path("server.log"), &run.serving(SPEED));
    run.configure(&server.url());
    let keeping = Keeping::start(&run.table(), &run.path("log"));

    let mut tally = Tally::default();
    for death in &plan.deaths {
        run.live_and_die(*death, &mut tally);
    }
    let starved = server.progress().is_some_and(|progress| progress.released == progress.total);
    server.start_again(&run.serving(0));
    for death in &plan.rush {
        run.live_and_die(*death, &mut tally);
    }
    let records = run.live_and_end();
    keeping.end();

    let mut verdicts = run.verdicts(records);
    if let Some(readers) = readers {
        let (seen, file) = readers.end();
        let proven = run.case().snapshots(&file).unwrap_or_else(|why| panic!("{why}"));
        let _ = write!(verdicts, "; {seen}; {proven}");
    }
    let Setup { partitions, archivers, aggregators, .. } = plan.setup;
    tally.summary = format!(
        "{name}: partitions {partitions}, archivers {archivers}, aggregators {aggregators}, {} kills, {} at fail points, \
         {} s{}; {verdicts}",
        tally.kills,
        tally.hits.values().sum::<u32>(),
        started.elapsed().as_secs(),
        if starved { ", all events were served before the last death" } else { "" },
    );
    tally
}

struct Run<'a> {
    name: &'a str,
    plan: &'a Plan,
    folder: Option<TempDir>,
    num_expected: u64,
    lives: Cell<usize>,
}

impl<'a> Run<'a> {
    fn new(name: &'a str, plan: &'a Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("howdah-torture-").tempdir().unwrap();
        let mut run = Self { name, plan, folder: Some(folder), num_expected: 0, lives: Cell::new(0) };
        let events = run.path("events.ndjson");
        make_events(&events, plan);
        let served = fs::read(&events).unwrap();
        let fits = |line: &&[u8]| !line.is_empty() && line.len() <= MAX_EVENT;
        run.num_expected = served.split(|byte| *byte == b'\n').filter(fits).count() as u64;
        run
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn archive(&self) -> PathBuf {
        self.path("data/store/raw")
    }

    fn table(&self) -> PathBuf {
        self.path("data/store/edits")
    }

    fn serving(&self, speed: u32) -> Serving {
        // A cut costs a second: at full speed there are a few, before that one every few lives.
        let cut_every = if speed == 0 { 4_000 } else { 700 };
        Serving { speed, cut_every, hostile: self.plan.setup.hostile, seed: self.plan.seed }
    }

    /// Everything that waits, rolls, syncs or commits does so often.
    fn configure(&self, url: &str) {
        let Setup { partitions, archivers, aggregators, codec, readers, layouts, .. } = self.plan.setup;
        let data = self.path("data").display().to_string();
        // What is older may be gone in the middle of an open, and Spark may need seconds for one.
        let history = if readers { "20s" } else { "5s" };
        // An event as a file takes whole blocks.
        let per_event = if layouts == ["packed"] { 1 } else { 6 };
        let key = if partitions > 1 { "key = \"/wiki\"" } else { "" };
        let text = format!(
            r#"format = 1
[pipeline]
name = "torture"
[bus]
kind = "embedded"
path = "{data}/bus"
[store]
kind = "local"
path = "{data}/store"
[topics.wiki_changes]
partitions = {partitions}
retention_age = "unlimited"
[collector.collect]
id = "/meta/id"
dedupe_window = "10s"
dedupe_ids = 4000
mailbox = 4
[collector.collect.sse]
url = "{url}"
contact = "torture@example.org"
max_event = "{max_event}KiB"
[collector.collect.spool]
path = "{data}/spool"
layout = "packed"
max_bytes = "{max_spool}KiB"
roll_bytes = "{roll_spool}KiB"
sync_within = "20ms"
[ingester.ingest]
collector = "collect"
topic = "wiki_changes"
{key}
batch_records = 20
mailbox = 2
[archiver.archive]
topic = "wiki_changes"
path = "/raw"
codec = "{codec}"
roll_bytes = "48KiB"
roll_age = "200ms"
replicas = {archivers}
mailbox = 2
[aggregator.edits]
topic = "wiki_changes"
path = "/edits"
time = "/timestamp"
time_unit = "seconds"
window = "1m"
keys = [{{ name = "wiki", pointer = "/wiki" }}]
measures = [{{ name = "edits", kind = "count" }}]
filters = [{{ pointer = "/meta/domain", exclude = ["canary"] }}]
commit_interval = "200ms"
history = "{history}"
checkpoint_every = 10
success_files = true
replicas = {aggregators}
mailbox = 2
"#,
            max_event = MAX_EVENT >> 10,
            max_spool = 2_048 * per_event,
            roll_spool = 48 * per_event,
        );
        fs::write(self.path("pipeline.toml"), text).unwrap();
    }

    /// What the last life has left in the spool is read in its own layout.
    fn lay_out(&self, fail: Option<&String>) {
        let (layouts, life) = (self.plan.setup.layouts, self.lives.replace(self.lives.get() + 1));
        // Only event files have this point.
        let needed = fail.filter(|fail| fail.starts_with("spool.events_synced")).map(|_| "file-per-event");
        let layout = needed.filter(|layout| layouts.contains(layout)).unwrap_or(layouts[life % layouts.len()]);
        let file = self.path("pipeline.toml");
        let lines = fs::read_to_string(&file).unwrap();
        let lines = lines.lines().map(|line| match line.starts_with("layout = ") {
            true => format!("layout = \"{layout}\"\n"),
            false => format!("{line}\n"),
        });
        fs::write(&file, lines.collect::<String>()).unwrap();
    }

    fn start(&self, what: &str, fail: Option<String>) -> Process {
        self.lay_out(fail.as_ref());
        let log = self.path("howdah.log");
        writeln!(OpenOptions::new().create(true).append(true).open(&log).unwrap(), "--- {what}").unwrap();
        let mut command = Command::new(HOWDAH);
        command.arg("run").arg(self.path("pipeline.toml")).env("HOWDAH_LISTEN", "off");
        if let Some(fail) = fail {
            command.arg("--fail").arg(fail);
        }
        Process::start(&mut command, &log)
    }

    fn live_and_die(&self, death: Death, tally: &mut Tally) {
        let fail = if let Death::Point(name, crossing) = death { Some(format!("{name}={crossing}")) } else { None };
        let mut howdah = self.start(&format!("{death:?}"), fail);
        let early = match death {
            Death::Random(after) => howdah.ended_within(after),
            Death::Ending(after, then) => {
                let early = howdah.ended_within(after);
                if early.is_none() {
                    howdah.terminate();
                    if let Some(status) = howdah.ended_within(then) {
                        // Asked in its first milliseconds, before `main` could listen, it dies of the signal
                        // itself: one more death at a random moment. Later it ends with 0.
                        let unheard = status.signal() == Some(15) && after < HEARS_AFTER;
                        assert!(status.success() || unheard, "told to end after {after:?}, howdah ended with {status}");
                        return;
                    }
                }
                early
            }
            Death::Point(name, _) => {
                let ended = howdah.ended_within(POINT_PATIENCE);
                if ended.is_some_and(is_killed) {
                    tally.kills += 1;
                    *tally.hits.entry(name).or_default() += 1;
                    return;
                }
                ended
            }
        };
        assert!(early.is_none(), "{death:?}: before that howdah ended by itself, with {early:?}");
        if howdah.kill() {
            tally.kills += 1;
        }
    }

    /// The last life: until everything is on the bus, then ended in order. Answers with the number
    /// of records on the bus.
    fn live_and_end(&self) -> u64 {
        let mut howdah = self.start("the last life", None);
        let (mut most, mut since) = (0, Instant::now());
        loop {
            assert_eq!(howdah.ended_within(Duration::from_millis(50)), None, "howdah ended by itself");
            let records = self.records_on_bus();
            if records > most {
                (most, since) = (records, Instant::now());
            }
            // A loss keeps this from being reached, and the judge says best what is lost.
            if records >= self.num_expected || since.elapsed() > STANDSTILL {
                break;
            }
        }
        howdah.terminate();
        let status = howdah.ended_within(END).unwrap_or_else(|| panic!("told to end, howdah still runs after {END:?}"));
        assert!(status.success(), "told to end, howdah ended with {status}");
        self.records_on_bus()
    }

    fn records_on_bus(&self) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Ok(bus) = open_bus_read_only(&BusSettings::Embedded { path: self.path("data/bus") }) else { return 0 };
            let topic = bus.topic(&"wiki_changes".into()).await.unwrap();
            let Some(topic) = topic else { return 0 };
            let mut records = 0;
            for partition in 0..topic.num_partitions {
                records += bus.watermarks(&topic, partition).await.unwrap().high;
            }
            records
        })
    }

    fn case(&self) -> Case<'_> {
        Case {
            events: self.path("events.ndjson"),
            archive: self.archive(),
            table: self.table(),
            log: self.path("log"),
            letters: self.path("data/spool/oversized"),
            plan: self.plan,
        }
    }

    /// What everybody says of the folder in the end; panics with all that is violated.
    fn verdicts(&self, records: u64) -> String {
        let (expected, case) = (self.num_expected, self.case());
        let on_bus = match records == expected {
            true => Ok(format!("{records} records on the bus")),
            false => Err(format!("{records} records on the bus, {expected} are expected")),
        };
        let verdicts = [on_bus, case.archive(), case.table(), self.table_is_complete(), self.waited(), self.verify()];
        let failed: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.as_ref().err().cloned()).collect();
        assert!(failed.is_empty(), "{}:\n{}", self.name, failed.join("\n"));
        verdicts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The table stands at the end of the bus: the judge at positions believes where it stands.
    fn table_is_complete(&self) -> Result<String, String> {
        let shown = self.howdah(&["table", "show", "--json"])?;
        let shown: serde_json::Value = serde_json::from_str(&shown).map_err(|error| format!("table show: {error}"))?;
        let positions = shown["positions"].as_array().ok_or("table show: no positions")?;
        let next: u64 = positions.iter().filter_map(|position| position["next"].as_u64()).sum();
        if next == self.num_expected {
            Ok(format!("{next} records in the table"))
        } else {
            Err(format!("the table stands at {next} of {} records", self.num_expected))
        }
    }

    /// A scheduler that waits for the first hours of the day is told that they are there.
    fn waited(&self) -> Result<String, String> {
        self.howdah(&["wait", "--table", "edits", "--until", "2015-09-12T03:00:00Z", "--timeout", "10s"])
    }

    fn verify(&self) -> Result<String, String> {
        self.howdah(&["archive", "verify", "--deep"])
    }

    /// Runs a command of howdah on the pipeline.
    fn howdah(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(HOWDAH).args(arguments).arg(self.path("pipeline.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint =
            || format!("{arguments:?} ({}): {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(complaint()) }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            let (folder, log) = (folder.keep(), "howdah.log");
            let lines = tail(&folder.join(log), 40);
            eprintln!("{}: kept {} for a look; the end of its {log}:\n{lines}", self.name, folder.display());
        }
    }
}
