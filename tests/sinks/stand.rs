//! The sinks, a service that is polled, and the shipped pipeline between them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::JoinHandle,
};

use howdah::recorded::{Answers, Serving, serve_answers};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    process::harness::{block_on, command, finish, listener, repository},
    servers::Servers,
    torture::judge::judged,
};

/// The recorded answers.
pub const ANSWERS: &str = "data/randomuser.ndjson.gz";

/// Sinks that the cases of a test share.
pub struct Sinks {
    pub influx: Servers,
    pub opensearch: Servers,
}

impl Sinks {
    pub fn start() -> Self {
        std::thread::scope(|scope| {
            let influx = scope.spawn(|| Servers::start(&["influx"]));
            let opensearch = Servers::start(&["opensearch"]);
            Self { influx: influx.join().unwrap(), opensearch }
        })
    }
}

/// Recorded answers, served from this process.
pub struct Service {
    pub url: String,
    serving: Serving,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Out of sorts at every so many requests.
    pub fn start(moody_every: usize) -> Self {
        Self::of(&repository(ANSWERS), moody_every)
    }

    /// The same of these answers, over and over.
    pub fn of(answers: &Path, moody_every: usize) -> Self {
        let answers = Answers::open(answers).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let serving = async move {
            let listener = listener();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let until = async { drop(stopped.await) };
            let (serving, work) = serve_answers(listener, answers, moody_every, until).unwrap();
            tell.send(serving).unwrap();
            work.await;
        };
        let thread = std::thread::spawn(|| block_on(serving));
        let serving: Serving = told.recv().unwrap();
        let url = format!("http://{}/api/?nat=us", serving.addr);
        Self { url, serving, stop: Some(stop), thread: Some(thread) }
    }

    /// How many answers it has given.
    pub fn given(&self) -> usize {
        self.serving.given()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is quicker in a test than with people: values of the shipped pipeline, and others.
const QUICK: [(&str, &str); 5] = [
    ("period = \"1s\"", "period = \"100ms\""),
    ("max_pause = \"5m\"", "max_pause = \"1s\""),
    ("roll_age = \"10m\"", "roll_age = \"1s\""),
    ("key_horizon = \"30d\"", "key_horizon = \"30d\"\nlinger = \"100ms\""),
    ("measurement = \"users\"", "measurement = \"MEASUREMENT\""),
];

/// Every user of every answer as a document, beside the points of the shipped loader.
const DOCUMENTS: &str = r#"
[loader.documents]
kind = "elasticsearch"
url = "OPENSEARCH"
topic = "user_logs"
explode = "/results"
index = "MEASUREMENT-%Y.%m"
time_field = "@timestamp"
linger = "100ms"
fields = [
    { name = "title", pointer = "/name/title" },
    { name = "gender", pointer = "/gender" },
    { name = "email", pointer = "/email" },
    { name = "first", pointer = "/name/first" },
    { name = "last", pointer = "/name/last" },
    { name = "street", template = "{/location/street/number} {/location/street/name}" },
    { name = "city", pointer = "/location/city" },
    { name = "state", pointer = "/location/state" },
    { name = "country", pointer = "/location/country" },
    { name = "postcode", pointer = "/location/postcode" },
    { name = "latitude", pointer = "/location/coordinates/latitude" },
    { name = "longitude", pointer = "/location/coordinates/longitude" },
    { name = "phone", pointer = "/phone" },
    { name = "age", pointer = "/dob/age", type = "integer" },
]
"#;

/// The shipped pipeline with names of its own in sinks that others use too.
pub struct Case<'s> {
    pub sinks: &'s Sinks,
    pub name: &'static str,
    pub service: Service,
    pub pipeline: PathBuf,
    folder: TempDir,
    kafka: Option<&'s Servers>,
}

impl<'s> Case<'s> {
    pub fn new(sinks: &'s Sinks, name: &'static str, kafka: Option<&'s Servers>) -> Self {
        let folder = tempfile::Builder::new().prefix("howdah-sinks-").tempdir().unwrap();
        let mut text = fs::read_to_string(repository("pipelines/randomuser.toml")).unwrap();
        for (old, new) in QUICK {
            assert_eq!(text.matches(old).count(), 1, "{old} in the pipeline");
            text = text.replace(old, new);
        }
        let text = (text + DOCUMENTS)
            .replace("OPENSEARCH", sinks.opensearch.about("url"))
            .replace("MEASUREMENT", name)
            .replace("name = \"randomuser\"", &format!("name = \"{name}\""))
            .replace("user_logs", &format!("{name}_logs"));
        let pipeline = folder.path().join("pipeline.toml");
        fs::write(&pipeline, text).unwrap();
        Self { sinks, name, service: Service::start(23), pipeline, folder, kafka }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn archive(&self) -> PathBuf {
        self.path("data/store-randomuser/final_project")
    }

    /// A command of howdah's, with everything that the pipeline reads from the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        let influx = &self.sinks.influx;
        command.env("HOWDAH_DATA", self.path("data")).env("RANDOMUSER_URL", &self.service.url);
        command.env("INFLUX_URL", influx.about("url")).env("INFLUX_TOKEN", influx.about("token"));
        command.env("INFLUX_BUCKET", influx.about("bucket"));
        if let Some(kafka) = self.kafka {
            command.env("KAFKA_BROKERS", kafka.about("brokers"));
        }
        command
    }

    pub fn run(&self, fail: Option<&str>) -> Command {
        let mut run = self.command(&["run", self.pipeline.to_str().unwrap()]);
        if let Some(fail) = fail {
            run.args(["--fail", fail]);
        }
        run
    }

    /// What the independent judge says of the sinks; panics if it is no praise.
    pub fn judge(&self) -> String {
        let Sinks { influx, opensearch } = self.sinks;
        let (archive, answers, index) = (self.archive(), repository(ANSWERS), format!("{}-*", self.name));
        let told = [
            ("--archive", archive.to_str().unwrap()),
            ("--answers", answers.to_str().unwrap()),
            ("--influx", influx.about("url")),
            ("--token", influx.about("token")),
            ("--bucket", influx.about("bucket")),
            ("--measurement", self.name),
            ("--opensearch", opensearch.about("url")),
            ("--index", &index),
        ];
        let arguments: Vec<_> = told.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect();
        judged("users.py", &arguments).unwrap_or_else(|why| panic!("{}: {why}\n{}", self.name, self.kept()))
    }

    /// Nothing was of no use.
    pub fn assert_no_letters(&self) {
        let (code, out, err) = finish(&mut self.command(&["dead-letters", "list", self.pipeline.to_str().unwrap()]));
        assert!(code == 0 && out.contains("0 dead letters"), "{}: {code}: {out}{err}", self.name);
    }

    /// `howdah doctor` finds the sinks well, and says what is wrong with a token or a bucket.
    pub fn assert_doctor_knows_the_sinks(&self) {
        let doctor = |more: &[(&str, &str)]| {
            let mut doctor = self.command(&["doctor", self.pipeline.to_str().unwrap()]);
            let (code, out, err) = finish(doctor.envs(more.iter().copied()));
            (code, format!("{out}{err}"))
        };
        let (code, said) = doctor(&[]);
        assert!(code == 0 && said.matches("answers, and knows who asks").count() == 2, "{code}: {said}");
        for (variable, value, words) in [
            ("INFLUX_TOKEN", "howdah:another", "401 Unauthorized: authorization failed: mend the token or its rights"),
            ("INFLUX_BUCKET", "nowhere/raw", "404 Not Found: database not found: \"nowhere\": mend the bucket"),
        ] {
            let (code, said) = doctor(&[(variable, value)]);
            assert!(code == 1 && said.contains(words), "{code}: {said}");
        }
    }

    /// The end of the log.
    fn kept(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn log(&self) -> PathBuf {
        self.path("howdah.log")
    }
}

/// Whether a text stands in a file.
pub fn says(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|log| log.contains(text))
}
