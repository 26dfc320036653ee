//! `howdah serve-events`: recorded events with Wikimedia's protocol.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;

use super::{
    DONE, block_on,
    terminal::{counted, say},
};
use crate::{
    fault::{Fault, Result},
    node::interrupted,
    recorded::{Feed, Layout, Options, serve},
};

/// What to serve, and how.
#[derive(Args)]
#[command(after_help = "Example:\n  howdah serve-events data/recentchange-2015-09-12.ndjson.gz --speed 50\n  \
    WIKIMEDIA_URL=http://127.0.0.1:8000/v2/stream/recentchange howdah run pipelines/wikimedia.toml")]
pub struct Arguments {
    /// Events, one JSON object a line, plain or gzip
    file: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Events a second; 0 is as fast as the client reads
    #[arg(long, default_value_t = 50.0)]
    speed: f64,
    /// Cut each connection after about so many events
    #[arg(long, value_name = "EVENTS")]
    cut_every: Option<usize>,
    /// Round times down to so many milliseconds, so that many events share one
    #[arg(long, default_value_t = 1, value_name = "MS")]
    burst: i64,
    /// Write the stream as badly as the standard allows
    #[arg(long)]
    hostile: bool,
    /// Decides what is left to chance
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// The file cannot be read, or the address is taken.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let layout = Layout { burst: arguments.burst, ..Layout::default() };
    let feed = Arc::new(Feed::open(&arguments.file, layout)?);
    let options = Options {
        speed: arguments.speed,
        cut_every: arguments.cut_every,
        hostile: arguments.hostile,
        seed: arguments.seed,
        ..Options::default()
    };
    block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| Fault::io(format!("listening on {}", arguments.listen), &error))?;
        let (served, work) = serve(listener, feed.clone(), options, interrupted())?;
        let events = counted(feed.events().len() as u64, "event");
        say!("{events} at http://{}/v2/stream/recentchange", served.addr)?;
        work.await;
        Ok(DONE)
    })?
}
