//! `howdah demo`: a shipped pipeline on recorded data, many times faster, with a live view in which a person
//! may kill actors. Ends with proof: the archive verified, the tables read.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::{sync::mpsc, time::Instant};

use super::{
    DONE, GAVE_UP, LOSS, archive, block_on,
    live::{Screen, lines, views},
    table,
    terminal::{grouped, say},
};
use crate::{
    collect::SourceSettings,
    config::{self, Pipeline, StageKind},
    fault::{Fault, Result},
    node::{self, End, Node},
    recorded::{self, Answers, Feed, Layout, Options},
    trace::Tracer,
};

const EVENTS: &[u8] = include_bytes!("../../data/recentchange-2015-09-12.ndjson.gz");
const ANSWERS: &[u8] = include_bytes!("../../data/randomuser.ndjson.gz");

/// How often the view is drawn.
const DRAW: Duration = Duration::from_millis(200);

/// How to run the demo.
#[derive(Args)]
#[command(after_help = "Example:\n  howdah demo --for 30s\n\n\
    Type an actor's number and Enter to kill it, q and Enter to end.")]
pub struct Arguments {
    /// Which pipeline
    #[arg(value_enum, default_value_t = Which::Wikimedia)]
    pipeline: Which,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = config::parse_duration)]
    time: Option<Duration>,
    /// Events or answers a second
    #[arg(long, default_value_t = 50.0, value_parser = speed)]
    speed: f64,
    /// Keep everything in this folder (default: a temporary one, deleted at the end)
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// A pipeline that ships, with what it runs on here.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// An hour of real Wikipedia edits, as Wikimedia's server streams them
    Wikimedia,
    /// Answers of an API that makes up people; they are loaded into InfluxDB where INFLUX_URL says so
    Randomuser,
}

impl Which {
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Wikimedia => ("pipelines/wikimedia.toml", include_str!("../../pipelines/wikimedia.toml")),
            Self::Randomuser => ("pipelines/randomuser.toml", include_str!("../../pipelines/randomuser.toml")),
        }
    }

    /// The variable that says where its source is.
    fn variable(self) -> &'static str {
        match self {
            Self::Wikimedia => "WIKIMEDIA_URL",
            Self::Randomuser => "RANDOMUSER_URL",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Wikimedia => "Real edits of 2015-09-12",
            Self::Randomuser => "Recorded answers",
        }
    }
}

/// A rate from one in a hundred seconds to ten thousand a second.
fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.01..=10_000.0).contains(speed));
    speed.ok_or_else(|| "allowed: a number from 0.01 to 10000".to_owned())
}

/// Runs the demo.
///
/// # Errors
/// What kept it from starting or from reading its own results.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let temporary = std::env::temp_dir().join(format!("howdah-demo-{}", std::process::id()));
    let folder = arguments.keep.clone().unwrap_or_else(|| temporary.clone());
    std::fs::create_dir_all(&folder).map_err(|error| Fault::io(folder.display(), &error))?;
    let result = demo(arguments, &folder);
    if arguments.keep.is_none() {
        let _ = std::fs::remove_dir_all(&temporary);
    }
    result
}

fn demo(arguments: &Arguments, folder: &Path) -> Result<u8> {
    let which = arguments.pipeline;
    let url = serve(which, arguments.speed)?;
    let pipelines = pipelines(which, arguments.speed, &url, folder)?;
    let (what, speed, number) = (which.what(), arguments.speed, count(&pipelines));
    say!("{what} from {url}, {speed} a second, through {number} actors.")?;
    for notice in pipelines.iter().flat_map(|pipeline| &pipeline.notices) {
        say!("Note: {notice}.")?;
    }
    say!("Type an actor's number and Enter to kill it; q and Enter, or Ctrl-C, to end.\n")?;
    let end = node::block_on(watch(pipelines.clone(), &folder.join("node"), arguments.time))??;
    say!("")?;
    let mut code = if end == End::GaveUp { GAVE_UP } else { DONE };
    for pipeline in &pipelines {
        for (name, report) in block_on(archive::verify(pipeline, true))?? {
            archive::print(&name, &report, true)?;
            if !report.findings.is_empty() {
                code = LOSS;
            }
        }
        for (name, rows) in block_on(table::totals(pipeline))?? {
            say!("{name}: {}", rows.headings())?;
            for (key, edits) in rows.top(10) {
                say!("  {key:<24} {:>8}", grouped(edits))?;
            }
        }
    }
    Ok(code)
}

/// Serves what was recorded from a thread of its own; answers with the source's URL.
fn serve(which: Which, speed: f64) -> Result<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let serving = move || {
        block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.map_err(|error| Fault::io("listening on 127.0.0.1", &error))?;
            match which {
                Which::Wikimedia => {
                    let feed = Arc::new(Feed::load(EVENTS, Layout::default())?);
                    let options = Options { speed, ..Options::default() };
                    let (served, work) = recorded::serve(listener, feed, options, std::future::pending())?;
                    let _ = tell.send(format!("http://{}/v2/stream/recentchange", served.addr));
                    work.await;
                }
                Which::Randomuser => {
                    let answers = Answers::load(ANSWERS)?;
                    let (serving, work) = recorded::serve_answers(listener, answers, 0, std::future::pending())?;
                    let _ = tell.send(format!("http://{}/api/", serving.addr));
                    work.await;
                }
            }
            Ok(())
        })
    };
    std::thread::Builder::new()
        .name("recorded data".to_owned())
        .spawn(move || serving().and_then(|served: Result<()>| served))
        .map_err(|error| Fault::io("starting a thread", &error))?;
    told.recv().map_err(|_| Fault::external("127.0.0.1: no port is free for what was recorded"))
}

/// The shipped pipeline on the recorded data, with shorter times so that a person sees it work.
fn pipelines(which: Which, speed: f64, url: &str, folder: &Path) -> Result<Vec<Pipeline>> {
    let (data, (file, text)) = (folder.display().to_string(), which.file());
    let environment = |name: &str| match name {
        name if name == which.variable() => Some(url.to_owned()),
        "HOWDAH_DATA" => Some(data.clone()),
        name if name.starts_with("INFLUX_") => config::environment(name),
        _ => None,
    };
    // What a person has set may be wrong; the file is not.
    let mut pipelines = config::parse(Path::new(file), text, &environment)
        .map_err(|complaints| Fault::user(complaints.first().map_or(String::new(), ToString::to_string)))?;
    for stage in pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
        match &mut stage.kind {
            StageKind::Archiver(settings) => settings.roll_age = Duration::from_secs(3),
            StageKind::Aggregator(settings) => settings.commit_interval = Duration::from_secs(1),
            StageKind::Collector(settings) => {
                if let SourceSettings::Poll(poll) = &mut settings.source {
                    poll.period = Duration::from_secs_f64(1.0 / speed).max(Duration::from_millis(1));
                }
            }
            StageKind::Ingester { .. } | StageKind::Loader(_) => {}
        }
    }
    Ok(pipelines)
}

fn count(pipelines: &[Pipeline]) -> u32 {
    pipelines.iter().flat_map(|pipeline| &pipeline.stages).map(|stage| stage.replicas).sum()
}

/// Runs the pipelines and draws them until the time is over or a person ends it.
async fn watch(pipelines: Vec<Pipeline>, state: &Path, time: Option<Duration>) -> Result<End> {
    let node = Node::start(pipelines, state, &Tracer::default()).await?;
    let (mut orders, mut screen) = (typed(), Screen::new());
    let ends_at = time.map(|time| Instant::now() + time);
    let mut tick = tokio::time::interval(DRAW);
    let mut interrupted = Box::pin(node::interrupted());
    loop {
        tokio::select! {
            _ = tick.tick() => screen.draw(&lines(&views(node.actors())))?,
            Some(order) = orders.recv() => match order.trim() {
                "q" => break,
                number => kill(&node, number).await,
            },
            () = &mut interrupted => break,
            () = until(ends_at) => break,
            () = node.gave_up() => return Ok(End::GaveUp),
        }
    }
    say!("\nEnding: each stage takes what the one before it left.")?;
    let actors = node.actors().to_vec();
    let end = node.stop().await;
    screen.draw(&lines(&views(&actors)))?;
    Ok(end)
}

async fn kill(node: &Node, number: &str) {
    let actor = number.parse::<usize>().ok().and_then(|number| node.actors().get(number.checked_sub(1)?));
    if let Some(actor) = actor {
        node.kill(&actor.id).await;
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Lines typed on standard input, read by a thread of its own because reading them blocks.
fn typed() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(4);
    let reading = move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        // At the end of input nobody types any more; the channel stays open for as long as it is read.
        loop {
            std::thread::park();
        }
    };
    // Without this thread nothing can be typed, and all else works.
    let _ = std::thread::Builder::new().name("typed".to_owned()).spawn(reading);
    receiver
}
