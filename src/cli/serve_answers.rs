//! `howdah serve-answers`: recorded answers of an HTTP API.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{
    DONE, block_on,
    terminal::{counted, say},
};
use crate::{
    fault::{Fault, Result},
    node::interrupted,
    recorded::{Answers, serve_answers},
};

/// What to serve, and how.
#[derive(Args)]
#[command(after_help = "Example:\n  howdah serve-answers data/randomuser.ndjson.gz\n  \
    RANDOMUSER_URL=http://127.0.0.1:8001/api/ howdah run pipelines/randomuser.toml")]
pub struct Arguments {
    /// Answers, one a line, plain or gzip; after the last one the first comes again
    file: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8001", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Be out of sorts at every so many requests, each time in another way
    #[arg(long, default_value_t = 0, value_name = "REQUESTS")]
    moody_every: usize,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// The file cannot be read, or the address is taken.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let answers = Answers::open(&arguments.file)?;
    block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| Fault::io(format!("listening on {}", arguments.listen), &error))?;
        let number = counted(answers.len() as u64, "answer");
        let (serving, work) = serve_answers(listener, answers, arguments.moody_every, interrupted())?;
        say!("{number} at http://{}/api/", serving.addr)?;
        work.await;
        Ok(DONE)
    })?
}
