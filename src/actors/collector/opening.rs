//! What a collector finds in its spool when it opens it.

use uuid::Uuid;

use super::{
    super::{blocking, oversized},
    CollectorParts, OVERSIZED,
};
use crate::{
    collect::spool::{self, Recovered, Writer},
    fault::Result,
    model::{Fingerprint, Incarnation, Millis},
};

/// Opens the spool's writer for this life.
///
/// # Errors
/// Those of [`Writer::open`].
pub(super) async fn open_spool(parts: &CollectorParts, life: Incarnation) -> Result<(Writer, Recovered)> {
    let parts = parts.clone();
    blocking(move || {
        let incarnation = Uuid::new_v4();
        let owner = spool::Owner { source: parts.source.clone(), node: parts.node.clone(), incarnation, life };
        let opened = Writer::open(&parts.settings.spool, &owner, &parts.link.spool, parts.clock.clone())?;
        // What was begun before is nobody's, now that nobody before may go on.
        oversized::clear(&parts.settings.spool.path.join(OVERSIZED))?;
        Ok(opened)
    })
    .await
}

/// The ids in the spool with the time each was received, oldest first, as far back as the window wants.
pub(super) async fn known_to_spool(parts: &CollectorParts) -> Result<Vec<(Fingerprint, Millis)>> {
    let parts = parts.clone();
    blocking(move || {
        let settings = &parts.settings;
        let window = Millis::try_from(settings.dedupe_window.as_millis()).unwrap_or(Millis::MAX);
        let since = parts.clock.now().saturating_sub(window);
        let mut known = Vec::new();
        spool::recent(&settings.spool.path, &parts.link.spool, since, settings.dedupe_ids as u64, |id, time| {
            known.push((Fingerprint::of(id), time));
        })?;
        Ok(known)
    })
    .await
}
