//! Secrets are planted wherever one may be given, and then looked for in everything that howdah says.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use howdah::recorded::Options;

use super::harness::{Running, Served, command, finish, listener, repository, tempdir, wait_for};

const SECRETS: [&str; 6] = [
    "planted-token-of-the-api",
    "planted-user-of-the-source",
    "planted-password-of-the-source",
    "planted-key-in-the-query",
    "planted-word-for-the-receiver",
    "planted-password-of-kafka",
];

/// Everything that was said, by where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, at: &str, text: impl Into<String>) {
        self.0.push((at.to_owned(), text.into()));
    }

    /// What a command says, however it ends.
    fn of(&mut self, command: &mut Command) {
        let Output { stdout, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
        let text = [stdout, stderr].concat();
        self.add(&format!("{command:?}"), String::from_utf8_lossy(&text));
    }

    #[track_caller]
    fn check(&self) {
        for (at, text) in &self.0 {
            for secret in SECRETS {
                // Not even a part of it, as a debugger would cut it.
                let found = text.lines().find(|line| line.contains(&secret[..secret.len() - 4]));
                assert!(found.is_none(), "{secret}, in {at}: {}", found.unwrap());
            }
        }
    }

    /// Whether they had to do with it at all.
    #[track_caller]
    fn mentions(&self, words: &str) {
        assert!(self.0.iter().any(|(_, text)| text.contains(words)), "nobody speaks of {words}");
    }
}

/// A node whose source is at that address, with all that was planted; and what it says.
fn run_and_ask(folder: &Path, source: &str, said: &mut Said) {
    let [token, user, password, key, word, _] = SECRETS;
    fs::create_dir_all(folder).unwrap();
    let (file, port) = (folder.join("token"), listener().local_addr().unwrap().port());
    fs::write(&file, token).unwrap();
    let mut run = command(&["run", "--log", "debug", repository("pipelines/wikimedia.toml").to_str().unwrap()]);
    run.env("HOWDAH_DATA", folder.join("data"))
        .env("WIKIMEDIA_URL", format!("{source}?key={key}"))
        .env("HOWDAH_LISTEN", format!("127.0.0.1:{port}"))
        .env("HOWDAH_TOKEN_FILE", &file)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{user}:{password}@127.0.0.1:9"))
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {word}"))
        .env("OTEL_TRACES_SAMPLER_ARG", "1");
    let mut running = Running::spawn(run, &folder.join("log"));
    running.await_line(&["started"]);
    let url = format!("http://127.0.0.1:{port}");
    let asking = |arguments: &[&str]| {
        let mut asking = command(arguments);
        asking.args(["--node", &url, "--token-file", file.to_str().unwrap()]);
        asking
    };
    // It has connected, or failed to.
    let collector = || {
        let (_, out, _) = finish(&mut asking(&["actors", "--json"]));
        out
    };
    let words = ["\"last_error\": {", "\"records\": 2316"];
    wait_for("a word of the source", || words.iter().any(|word| collector().contains(word)).then_some(()), collector);
    for arguments in [
        &["status"][..],
        &["actors"],
        &["actors", "--json"],
        &["why", "wikimedia"],
        &["restart", "wikimedia/collect/0"],
        &["restart", "wikimedia/nobody/0"],
    ] {
        said.of(&mut asking(arguments));
    }
    for page in ["metrics", "readyz", "api/v1/node", "api/v1/pipelines", "api/v1/pipelines/wikimedia", "api/v1/nowhere"]
    {
        for shown in [token, "another-token-than-planted"] {
            let header = format!("Authorization: Bearer {shown}");
            let Output { stdout, .. } =
                Command::new("curl").args(["-si", "-H", &header, &format!("{url}/{page}")]).output().unwrap();
            said.add(page, String::from_utf8_lossy(&stdout));
        }
    }
    said.add("log", running.terminate().log);
    said.add("wishes", fs::read_to_string(folder.join("data/node/wishes.json")).unwrap_or_default());
}

#[test]
fn what_is_secret_is_said_nowhere() {
    let folder = tempdir();
    let mut said = Said::default();
    let events = repository("data/recentchange-2015-09-12.ndjson.gz");
    let served = Served::start(&events, Options::default());
    run_and_ask(&folder.path().join("well"), &served.url, &mut said);
    // A source that is not there is spoken of in errors.
    let nobody = format!("http://{}/v2/stream/recentchange", listener().local_addr().unwrap());
    run_and_ask(&folder.path().join("ill"), &nobody, &mut said);
    said.mentions(&served.url);
    said.mentions(&nobody);
    said.mentions("the token is missing or not the right one");
    said.mentions("traces are not taken");

    // Kafka, of which nobody is there; and an address that is refused for what it gives away.
    let password = folder.path().join("password");
    fs::write(&password, SECRETS[5]).unwrap();
    let text = fs::read_to_string(repository("pipelines/wikimedia.toml")).unwrap();
    let sasl = format!("mechanism = \"SCRAM-SHA-256\", user = \"howdah\", password_file = \"{}\"", password.display());
    let pipeline = folder.path().join("kafka.toml");
    fs::write(&pipeline, text.replacen("[bus]", &format!("[bus]\ndeadline = \"1s\"\nsasl = {{ {sasl} }}"), 1)).unwrap();
    let brokers = listener().local_addr().unwrap().to_string();
    let given_away = nobody.replace("://", &format!("://{}:{}@", SECRETS[1], SECRETS[2]));
    for (arguments, source) in [
        (&["check"][..], format!("{given_away}?key={}", SECRETS[3])),
        (&["doctor"], format!("{nobody}?key={}", SECRETS[3])),
        (&["topics", "check"], nobody),
    ] {
        let mut asking = command(arguments);
        asking.arg(&pipeline).env("WIKIMEDIA_URL", source).env("HOWDAH_DATA", folder.path().join("kafka"));
        said.of(asking.env("KAFKA_BROKERS", &brokers));
    }
    said.mentions("an address holds no user and no password");
    said.mentions(&brokers);
    said.check();
}
