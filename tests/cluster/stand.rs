//! A Kafka and an HDFS cluster, and on them a pipeline of its own for each case.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use howdah::{
    bus::{
        Bus, Reader,
        kafka::{KafkaBus, Settings},
    },
    model::TopicName,
    recorded::Options,
};
use tempfile::TempDir;

use crate::{
    process::harness::{Running, Served, block_on, command, finish, judge_folder, make_events, repository},
    servers::Servers,
};

/// Servers that the cases of a test share.
pub struct Clusters {
    pub kafka: Servers,
    pub hdfs: Servers,
}

impl Clusters {
    /// One broker, one NameNode, three DataNodes.
    pub fn start() -> Self {
        Self::with(&["kafka"], &["hdfs"])
    }

    pub fn with(kafka: &[&str], hdfs: &[&str]) -> Self {
        // Side by side: each waits for its processes most of the time.
        std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Servers::start(kafka));
            let hdfs = Servers::start(hdfs);
            Self { kafka: kafka.join().unwrap(), hdfs }
        })
    }
}

/// A pipeline of its own on shared clusters: its own topic, folders and source.
pub struct Case<'c> {
    pub clusters: &'c Clusters,
    pub name: &'static str,
    pub served: Served,
    pub pipeline: PathBuf,
    folder: TempDir,
    events: PathBuf,
    lives: Cell<u32>,
}

/// What is quicker in a test than with people: values of the shipped pipeline, and others.
const QUICK: [(&str, &str); 4] = [
    ("roll_bytes = \"128MiB\"", "roll_bytes = \"1MiB\""),
    ("roll_age = \"10m\"", "roll_age = \"1s\""),
    ("commit_interval = \"10s\"", "commit_interval = \"1s\""),
    ("silence = \"30s\"", "silence = \"10s\""),
];

/// The line that says who a pipeline is on a guarded HDFS.
pub fn kerberos(principal: &str, keytab: &str) -> String {
    format!("kerberos = {{ principal = \"{principal}\", keytab = \"{keytab}\" }}\n")
}

/// The pipeline with who it is on a guarded HDFS.
pub fn guarded(pipeline: &str, principal: &str, keytab: &str) -> String {
    let head = "[store] ";
    assert_eq!(pipeline.matches(head).count(), 1);
    let line = pipeline.lines().find(|line| line.starts_with(head)).unwrap();
    pipeline.replace(line, &format!("{line}\n{}", kerberos(principal, keytab).trim_end()))
}

impl<'c> Case<'c> {
    /// Events are the recorded ones so many times over, served at so many a second.
    pub fn new(clusters: &'c Clusters, name: &'static str, copies: u32, speed: f64) -> Self {
        Self::changed(clusters, name, copies, speed, &[])
    }

    /// The same with more values of the pipeline changed.
    pub fn changed(
        clusters: &'c Clusters,
        name: &'static str,
        copies: u32,
        speed: f64,
        changes: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("howdah-cluster-").tempdir().unwrap();
        let events = folder.path().join("events.ndjson");
        make_events(&events, &format!("--copies {copies} --canary 50 --bare 37 --seed 5"));
        let served = Served::start(&events, Options { speed, cut_every: Some(900), ..Options::default() });
        let mut text = fs::read_to_string(repository("pipelines/wikimedia.toml")).unwrap();
        for (old, new) in QUICK.iter().chain(changes) {
            assert_eq!(text.matches(old).count(), 1, "{old} in the pipeline");
            text = text.replace(old, new);
        }
        let text = text
            .replace("name = \"wikimedia\"", &format!("name = \"{name}\""))
            .replace("wiki_changes", name)
            .replace("/user/bigdata/aggregates/", &format!("/user/bigdata/aggregates/{name}/"));
        let text = match (clusters.hdfs.about_if_told("principal"), clusters.hdfs.about_if_told("keytab")) {
            (Some(principal), Some(keytab)) => guarded(&text, principal, keytab),
            _ => text,
        };
        let pipeline = folder.path().join("pipeline.toml");
        fs::write(&pipeline, text).unwrap();
        Self { clusters, name, served, pipeline, folder, events, lives: Cell::new(0) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of howdah's, on the clusters, with its own data in `data`.
    pub fn howdah(&self, arguments: &[&str], data: &str) -> Command {
        let mut howdah = command(arguments);
        howdah
            .env("HOWDAH_DATA", self.path(data))
            .env("WIKIMEDIA_URL", &self.served.url)
            .env("KAFKA_BROKERS", self.clusters.kafka.about("brokers"))
            .env("HDFS_URL", self.clusters.hdfs.about("url"))
            .env("HADOOP_CONF_DIR", self.clusters.hdfs.about("conf"));
        if let Some(realm) = self.clusters.hdfs.about_if_told("krb5_conf") {
            // No tickets but those that the keytab gets.
            howdah.env("KRB5_CONFIG", realm).env("KRB5CCNAME", self.path("no-tickets"));
        }
        howdah
    }

    /// The command that runs the pipeline.
    pub fn run(&self, fail: Option<&str>) -> Command {
        self.run_in("data", fail)
    }

    /// The same with another folder for what it keeps on this machine.
    pub fn run_in(&self, data: &str, fail: Option<&str>) -> Command {
        let mut arguments = vec!["run", self.pipeline.to_str().unwrap()];
        arguments.extend(fail.iter().flat_map(|fail| ["--fail", fail]));
        self.howdah(&arguments, data)
    }

    /// Whether the archive has as many lines as events were served.
    pub fn has_archived_all(&self) -> bool {
        let verify = ["archive", "verify", "--json", self.pipeline.to_str().unwrap()];
        let (_, out, _) = finish(&mut self.howdah(&verify, "data"));
        let reports: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        reports[0][1]["lines"].as_u64().unwrap_or_default() >= self.served.total
    }

    /// Whether each of the pipeline's tables says that it has counted the topic up to its end.
    pub fn has_counted_all(&self) -> bool {
        let high = block_on(async {
            let bus = KafkaBus::new(Settings::plain(self.clusters.kafka.about("brokers"))).unwrap();
            let topic = bus.topic(&TopicName::from(self.name)).await.unwrap().unwrap();
            bus.watermarks(&topic, 0).await.unwrap().high
        });
        let show = ["table", "show", "--json", self.pipeline.to_str().unwrap()];
        let (_, out, _) = finish(&mut self.howdah(&show, "data"));
        let tables: Vec<serde_json::Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        tables.len() == 2 && tables.iter().all(|table| table["positions"][0]["next"].as_u64() == Some(high))
    }

    /// The file that the next life logs to.
    pub fn log(&self) -> PathBuf {
        self.lives.set(self.lives.get() + 1);
        self.path(&format!("howdah-{}.log", self.lives.get()))
    }

    pub fn start(&self) -> Running {
        Running::spawn(self.run(None), &self.log())
    }

    /// Waits until so many records are on the topic, and fails if there are more than were served.
    pub fn await_records(&self, howdah: &mut Running, count: u64) {
        self.await_within(howdah, count, Duration::from_secs(240));
    }

    pub fn await_within(&self, howdah: &mut Running, count: u64, limit: Duration) {
        let begun = Instant::now();
        block_on(async {
            let bus = KafkaBus::new(Settings::plain(self.clusters.kafka.about("brokers"))).unwrap();
            let mut reader: Option<Box<dyn Reader>> = None;
            let mut seen = 0;
            while seen < count {
                assert!(howdah.is_alive(), "{}: howdah has ended\n{}", self.name, howdah.log());
                assert!(begun.elapsed() < limit, "{}: {seen} of {count} records\n{}", self.name, howdah.log());
                let Some(open) = &mut reader else {
                    if let Ok(Some(topic)) = bus.topic(&TopicName::from(self.name)).await {
                        reader = bus.reader(&topic, 0, 0).await.ok();
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                match tokio::time::timeout(Duration::from_millis(500), open.next()).await {
                    Ok(Ok(batch)) => seen += batch.records.len() as u64,
                    // The brokers are away: they come back.
                    Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
                    Err(_) => {}
                }
            }
            assert!(seen <= self.served.total, "{}: {seen} records, more than were served", self.name);
        });
    }

    /// Waits until the archiver's group stands at the topic's end.
    pub fn await_end(&self, howdah: &mut Running) {
        let begun = Instant::now();
        block_on(async {
            let bus = KafkaBus::new(Settings::plain(self.clusters.kafka.about("brokers"))).unwrap();
            let topic = bus.topic(&TopicName::from(self.name)).await.unwrap().unwrap();
            let group = format!("{}/archive", self.name);
            loop {
                let high = bus.watermarks(&topic, 0).await.unwrap().high;
                if bus.committed_offset(&group, &topic, 0).await.unwrap() == Some(high) {
                    return;
                }
                assert!(begun.elapsed() < Duration::from_secs(120), "{}: not archived\n{}", self.name, howdah.log());
                assert!(howdah.is_alive(), "{}: howdah has ended\n{}", self.name, howdah.log());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    /// Copies what lies on HDFS to this machine; answers with the folder.
    pub fn fetch(&self) -> PathBuf {
        let here = self.path("store");
        let _ = fs::remove_dir_all(&here);
        fs::create_dir_all(here.join("raw")).unwrap();
        for (there, here) in [(self.archive(), here.join("raw")), (self.aggregates(), here.clone())] {
            let got = self.clusters.hdfs.tool("fs", &["-get", &there, here.to_str().unwrap()], "");
            assert!(got.ok, "{}: {}", self.name, got.errors);
        }
        here
    }

    pub fn archive(&self) -> String {
        format!("/user/bigdata/flume/raw/{}", self.name)
    }

    pub fn aggregates(&self) -> String {
        format!("/user/bigdata/aggregates/{}", self.name)
    }

    /// Every event is in the archive once, in order, and the table says what they say; answers with how
    /// many edits the table has counted.
    pub fn judge(&self) -> u64 {
        let here = self.fetch();
        let folder = |path: &Path| path.to_str().unwrap().to_owned();
        let archive = folder(&here.join("raw").join(self.name));
        let table = folder(&here.join(self.name).join("wiki_edits_minute"));
        let topic = ["archive", "--topic", self.name, "--partitions", "1", "--key", "none"];
        judge_folder(&topic, &self.events, &["--archive", &archive]);
        // A killed process leaves files that no commit names; they go after the table's `history`.
        let said = judge_folder(&["table", "--ended"], &self.events, &["--table", &table]);
        self.verify();
        let edits = said.rsplit("edits ").next().unwrap_or_default();
        edits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_else(|_| panic!("{said}"))
    }

    /// howdah's own proof, against the bus.
    pub fn verify(&self) -> String {
        let (code, out, err) =
            finish(&mut self.howdah(&["archive", "verify", "--deep", self.pipeline.to_str().unwrap()], "data"));
        assert_eq!(code, 0, "{}: {out}{err}", self.name);
        out
    }
}
