//! The command line: one file a command; each parses, calls and prints.
//!
//! Exit codes: 0 done, 1 complaints, 2 usage, 3 not reachable, 4 loss found, 70 supervision gave
//! up. After 1 and 2 somebody has to change something that was written; after 3 the same may work later.

mod archive;
mod check;
mod dead_letters;
mod demo;
mod doctor;
mod live;
mod manual;
mod remote;
mod run;
mod serve_answers;
mod serve_events;
mod table;
mod terminal;
mod topics;
mod wait;

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, Parser, Subcommand};

use self::terminal::complain;
use crate::{
    api::steer::Order,
    config::{self, Pipeline},
    fault::{Domain, Fault, Kind, Retry},
    model::Millis,
};

/// Everything was done.
pub const DONE: u8 = 0;
/// The pipeline file has complaints, or what was asked for is not there or not possible.
pub const COMPLAINTS: u8 = 1;
/// The command line is not one of ours.
pub const USAGE: u8 = 2;
/// A service, disk or folder could not be reached, or is in use.
pub const NOT_REACHABLE: u8 = 3;
/// Records are lost, or bytes are not what they should be.
pub const LOSS: u8 = 4;
/// Supervision gave up.
pub const GAVE_UP: u8 = 70;

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   complaints: about the pipeline file, or about what was asked for
  2   usage
  3   a service, disk or folder could not be reached, or is in use
  4   loss found
  70  supervision gave up";

/// Supervised actors carry events from the outside over a bus into an archive and live tables.
#[derive(Parser)]
#[command(name = "howdah", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What is logged: error, warn, info, debug, or a filter like `howdah=debug`
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    log: String,
    /// Log lines as JSON
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run pipelines in this process until SIGTERM or Ctrl-C
    Run(run::Arguments),
    /// Check pipeline files without running them; needs no network
    Check(check::Arguments),
    /// Look at everything a pipeline needs, and say what is wrong and how to mend it
    Doctor(doctor::Arguments),
    /// Say how a running node is, and what is not as it should be
    #[command(after_help = "Example:\n  howdah status --node https://worker7:7070 --token-file /etc/howdah/token")]
    Status(remote::Looking),
    /// List the actors of a running node
    Actors(remote::Looking),
    /// Watch the actors of a running node
    Top(remote::Watching),
    /// Say which stage of a pipeline waits for what
    #[command(after_help = "Example:\n  howdah why wikimedia")]
    Why(remote::Why),
    /// Begin a new life of an actor, and return when it handles messages
    #[command(after_help = "Example:\n  howdah restart wikimedia/archive/0 --node https://worker7:7070")]
    Restart(remote::Arguments),
    /// Stop an actor until it is started, also over a restart of the process
    Stop(remote::Arguments),
    /// Start an actor that was stopped
    Start(remote::Arguments),
    /// Have an actor take nothing in until it is resumed, also over a restart of the process
    Pause(remote::Arguments),
    /// Let an actor go on that was paused
    Resume(remote::Arguments),
    /// Publish the open segment of an archiver, or commit the open windows of an aggregator
    Roll(remote::Arguments),
    /// Say that somebody knows what an actor has lost: `status` shows it no more
    Acknowledge(remote::Arguments),
    /// Look after the topics of a pipeline
    #[command(subcommand)]
    Topics(topics::Command),
    /// Look after an archive
    #[command(subcommand)]
    Archive(archive::Command),
    /// Look at what could not be used
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Look at a live table
    #[command(subcommand)]
    Table(table::Command),
    /// Wait until an hour of a table is final
    Wait(wait::Arguments),
    /// Watch a shipped pipeline at work on recorded data; needs no network
    Demo(demo::Arguments),
    /// Serve recorded events the way Wikimedia's stream does
    ServeEvents(serve_events::Arguments),
    /// Serve recorded answers of an HTTP API, one to each request
    ServeAnswers(serve_answers::Arguments),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  howdah completions bash > /etc/bash_completion.d/howdah")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command
    #[command(after_help = "Example:\n  howdah man --dir /usr/local/share/man/man1")]
    Man {
        /// Write a page for each command into this folder
        #[arg(long, value_name = "FOLDER")]
        dir: Option<std::path::PathBuf>,
    },
}

/// Runs the command line and answers with the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { DONE };
        }
    };
    let quiet = matches!(arguments.command, Command::Demo(_));
    if let Err(complaint) = terminal::log(&arguments.log, arguments.log_json, quiet) {
        complain!("howdah: {complaint}");
        return USAGE;
    }
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Status(arguments) => remote::status(&arguments),
        Command::Actors(arguments) => remote::actors(&arguments),
        Command::Top(arguments) => remote::top(&arguments),
        Command::Why(arguments) => remote::why(&arguments),
        Command::Restart(arguments) => remote::order(Order::Restart, &arguments),
        Command::Stop(arguments) => remote::order(Order::Stop, &arguments),
        Command::Start(arguments) => remote::order(Order::Start, &arguments),
        Command::Pause(arguments) => remote::order(Order::Pause, &arguments),
        Command::Resume(arguments) => remote::order(Order::Resume, &arguments),
        Command::Roll(arguments) => remote::order(Order::Roll, &arguments),
        Command::Acknowledge(arguments) => remote::order(Order::Acknowledge, &arguments),
        Command::Topics(command) => topics::run(&command),
        Command::Archive(command) => archive::run(&command),
        Command::DeadLetters(command) => dead_letters::run(&command),
        Command::Table(command) => table::run(&command),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::ServeEvents(arguments) => serve_events::run(&arguments),
        Command::ServeAnswers(arguments) => serve_answers::run(&arguments),
        Command::Completions { shell } => manual::completions(Arguments::command(), shell),
        Command::Man { dir } => manual::pages(&Arguments::command(), dir.as_ref()),
    };
    result.unwrap_or_else(|fault| {
        complain!("howdah: {fault}");
        code_of(&fault)
    })
}

/// The exit code that a fault means.
fn code_of(fault: &Fault) -> u8 {
    match (fault.kind, fault.domain, fault.retry) {
        (Kind::Lost, ..) => LOSS,
        (_, Domain::User | Domain::Data, Retry::Never) => COMPLAINTS,
        (_, Domain::External | Domain::User | Domain::Data, _) => NOT_REACHABLE,
        (_, Domain::Internal, _) => GAVE_UP,
    }
}

/// Runs a future to its end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::io("starting the runtime", &error))?;
    Ok(runtime.block_on(future))
}

/// The pipelines of a file, for a look at what they made; `None` if it has complaints, which are said.
fn pipelines(file: &Path) -> Option<Vec<Pipeline>> {
    config::load(&[file.to_owned()], &config::looking)
        .inspect_err(|complaints| complaints.iter().for_each(|complaint| complain!("{complaint}")))
        .ok()
}

/// A time as people write it: `2015-09-12T15:00:00Z`.
fn parse_time(text: &str) -> Result<Millis, String> {
    let time = text.parse::<jiff::Timestamp>().map_err(|error| format!("{error}, allowed: 2015-09-12T15:00:00Z"))?;
    Ok(time.as_millisecond())
}
