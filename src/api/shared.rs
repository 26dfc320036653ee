//! What every answer is made from.

use std::sync::Arc;

use super::{access::Access, steer::Steer};
use crate::model::Clock;

/// See the module's text.
pub struct Shared {
    /// The node.
    pub steer: Arc<dyn Steer>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Who may ask.
    pub access: Access,
}
