//! Commands that ask a running node, here or elsewhere, by its HTTP API.

mod client;
mod look;
mod orders;
mod why;

pub use look::{Looking, Watching, actors, status, top};
pub use orders::{Arguments, order};
pub use why::{Why, why};

use std::path::PathBuf;

use clap::Args;

/// Which node is asked, and how.
#[derive(Args, Clone, Debug)]
pub struct NodeArguments {
    /// The node's address [default: $HOWDAH_NODE, else http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    node: Option<String>,
    /// The file that holds the node's token [default: the token in $HOWDAH_TOKEN, else $HOWDAH_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificate (PEM) that vouches for the node, where the system's do not [default: $HOWDAH_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}
