//! Real servers for a test: one process of `python3 -m servers` (see `__init__.py` there), which starts
//! them and ends them with its own input.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

/// A running cluster.
pub struct Servers {
    ready: Value,
    control: Mutex<Control>,
}

struct Control {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What one of the servers' own tools said.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with 0.
    pub ok: bool,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Servers {
    /// Starts a cluster: `["kafka", "--brokers", "3"]`. Says which servers these are.
    ///
    /// # Panics
    /// If it cannot be started: a test of real servers does not pass without them.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut process = Command::new("python3")
            .args(["-B", "-m", "servers"])
            .args(arguments)
            .args(version_of(arguments[0]).iter().flat_map(|version| ["--version", version]))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to start the tests' servers");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut control = Control { process, orders, answers };
        let ready = control.answer();
        println!("tests run against {} ({})", ready["server"].as_str().unwrap_or_default(), arguments.join(" "));
        Self { ready, control: Mutex::new(control) }
    }

    /// What the cluster says of itself: `brokers`, or `url` and `conf`.
    pub fn about(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{} tell no {key}", self.ready))
    }

    /// The same where only some kinds of servers tell it.
    pub fn about_if_told(&self, key: &str) -> Option<&str> {
        self.ready[key].as_str()
    }

    /// Has something done to one server: `kill`, `stop`, `start`, `pause`, `resume`.
    pub fn order(&self, order: &str, which: &str) {
        self.ask(&json!({ "do": order, "which": which }));
    }

    /// Waits until the cluster is whole, as far as it runs.
    pub fn settle(&self) {
        self.ask(&json!({ "do": "settle" }));
    }

    /// Runs one of the servers' own tools.
    pub fn tool(&self, name: &str, arguments: &[&str], input: &str) -> Said {
        let said = self.ask(&json!({ "do": "tool", "name": name, "arguments": arguments, "input": input }));
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        Said { ok: said["code"] == 0, output: text("output"), errors: text("errors") }
    }

    fn ask(&self, order: &Value) -> Value {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = control.orders.as_mut().expect("the servers have ended");
        writeln!(orders, "{order}").expect("the servers have ended");
        let mut answer = control.answer();
        assert!(answer.get("ok").is_some(), "{order}: {answer}");
        answer["ok"].take()
    }
}

/// Another version of these servers than the usual one, for `make compat`.
#[allow(clippy::disallowed_methods, reason = "a test's own switches, which no configuration has")]
fn version_of(servers: &str) -> Option<String> {
    std::env::var(match servers {
        "kafka" => "HOWDAH_TEST_KAFKA",
        "hdfs" => "HOWDAH_TEST_HADOOP",
        _ => return None,
    })
    .ok()
}

impl Control {
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the servers ended, saying {line:?}"));
        assert!(answer.get("failed").is_none(), "{}", answer["failed"].as_str().unwrap_or_default());
        answer
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let control = self.control.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(control.orders.take());
        let _ = control.process.wait();
    }
}
