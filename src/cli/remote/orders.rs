//! `howdah restart`, `stop`, `start`, `pause`, `resume`, `roll`, `acknowledge`: orders to one actor, from anywhere.

use clap::Args;

use super::{NodeArguments, client::Node};
use crate::{
    api::steer::Order,
    cli::{DONE, block_on, terminal::say},
    fault::Result,
};

/// Which actor, on which node.
#[derive(Args)]
pub struct Arguments {
    /// The actor: pipeline/stage/replica
    #[arg(value_name = "ACTOR")]
    actor: String,
    #[command(flatten)]
    node: NodeArguments,
}

/// Gives the order, waits for its effect and says what happened.
///
/// # Errors
/// The node cannot be reached or refuses, or the order had no effect.
pub fn order(order: Order, arguments: &Arguments) -> Result<u8> {
    let node = Node::new(&arguments.node)?;
    let done = block_on(node.order(&arguments.actor, order))??;
    say!("{order} {}: {} (life {})", arguments.actor, done.text, done.incarnation)?;
    Ok(DONE)
}
