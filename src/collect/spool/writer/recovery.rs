//! What a writer finds when it opens, and how it goes on behind that.

use std::fs;

use uuid::Uuid;

use super::{Recovered, Writer};
use crate::{
    collect::{
        Layout,
        spool::{
            Place,
            chain::{self, Identity, file_path},
            files::EventFolder,
            fresh::Fresh,
            header::{Before, FORMAT},
            tail::{Tail, earlier_token},
        },
    },
    fault::{Fault, Kind, Result},
};

impl Writer {
    // Our file exists by now, so a former writer's next sync fails; what it did sync is found.
    pub(super) fn recover(&mut self, layout: &Layout) -> Result<Recovered> {
        let identity = chain::read_identity(&self.folder)?;
        if let Some(Identity { source, .. }) = identity.as_ref().filter(|found| found.source != self.owner.source) {
            let message = format!("{}: the spool of {source:?}, not of {:?}", self.folder.display(), self.owner.source);
            return Err(Fault::user(format!("{message}: give each source a folder of its own")));
        }
        let known = identity.as_ref().map(|identity| identity.uuid);
        let mut chain = chain::load(&self.folder, self.number, |newest| {
            known.is_none_or(|known| newest.spool == known || newest.replaces == Some(known))
        })?;
        self.spool = chain.last().map_or_else(Uuid::new_v4, |newest| newest.header.spool);
        let now = self.clock.now();
        let created = identity.map(|identity| identity.created);
        let created = created.or(chain.first().map(|oldest| oldest.header.created)).unwrap_or(now);
        let first = chain.first().map(|piece| piece.header.first);
        let files = EventFolder::of(&self.folder);
        let mut superseded = Vec::new();
        if let Some(last) = chain.last_mut() {
            let tail = Tail::find(&self.folder, last)?;
            (last.end, last.events) = (Some(tail.len), tail.events);
            for (sequence, name) in &tail.unpublished {
                files.publish(last.header.file, *sequence, name)?;
            }
            (self.next, self.stamp) = (tail.next, tail.stamp);
            self.token = match tail.token {
                Some(token) => token,
                None => earlier_token(&self.folder, &chain)?,
            };
            // Files at the end without an entry drop out of the chain, or each restart of a full
            // spool would add one.
            let kept = chain.iter().take_while(|piece| piece.header.first < self.next).count();
            superseded = chain.split_off(kept);
        }
        let before = chain.last().map(|piece| Before {
            file: piece.header.file,
            len: piece.end.unwrap_or_default(),
            events: piece.events,
        });
        if let Layout::FilePerEvent(template) = layout {
            self.files = Some(Fresh::new(files.clone(), template.clone(), self.stamp));
        }
        if before.is_some_and(|before| before.events > 0) {
            // As at a roll: the next one to open looks for events without a name in our file.
            files.sync()?;
        }
        let durable = *self.link.durable().borrow();
        if let Some(durable) = durable.filter(|place| place.spool == self.spool && place.next > self.next) {
            let message = format!("{}: ends before entry {}", self.folder.display(), self.next);
            return Err(Fault::data(format!("{message}, but was durable up to {}", durable.next)).kind(Kind::Lost));
        }
        if let Some(first) = first {
            // Before the new file: on a full disk that needs the room which its reader makes.
            self.link.opened(created, first, Place { spool: self.spool, next: self.next });
        }
        self.begin(now, before, known.filter(|known| *known != self.spool))?;
        self.check_newest(self.number)?;
        if known != Some(self.spool) {
            let source = self.owner.source.clone();
            chain::write_identity(&self.folder, &Identity { format: FORMAT, uuid: self.spool, source, created })?;
        }
        for piece in superseded {
            let _ = fs::remove_file(file_path(&self.folder, piece.header.file));
        }
        let first = first.unwrap_or(0);
        let chain = chain::load(&self.folder, self.number + 1, |newest| newest.spool == self.spool)?;
        self.count(&chain)?;
        files.clear(self.number, &chain)?;
        let foreign = files.foreign(&self.folder, &chain)?;
        self.link.opened(created, first, Place { spool: self.spool, next: self.next });
        Ok(Recovered { spool: self.spool, created, first, next: self.next, token: self.token.clone(), foreign })
    }
}
