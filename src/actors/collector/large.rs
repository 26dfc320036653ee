//! What is above the size bound, or of no use: into a file of its own, and then a dead letter.

use std::path::PathBuf;

use actix::prelude::*;
use bytes::Bytes;

use super::{
    super::{
        blocking,
        oversized::{Oversized, SetAside},
    },
    Collector, OVERSIZED, UNPROVEN,
};
use crate::model::Fingerprint;

impl Collector {
    /// An event above the size bound, piece by piece into a file of its own.
    pub(super) fn take_part(&mut self, part: Bytes, ctx: &mut Context<Self>) {
        let folder = self.oversized_folder();
        let so_far = self.oversized.take();
        let writing = blocking(move || {
            let mut file = match so_far {
                Some(file) => file,
                None => Oversized::begin(&folder)?,
            };
            file.append(&part)?;
            Ok(file)
        });
        ctx.wait(writing.into_actor(self).map(|written, collector, ctx| match written {
            Ok(file) => collector.oversized = Some(file),
            Err(fault) => collector.failed(&fault, ctx),
        }));
    }

    pub(super) fn end_oversized(&mut self, token: Bytes, unreadable: Option<String>, ctx: &mut Context<Self>) {
        let Some(file) = self.oversized.take() else { return };
        let why = unreadable.map_or(SetAside::Above(self.parts.settings.source.bound().0), SetAside::Unreadable);
        ctx.wait(blocking(move || file.end()).into_actor(self).map(move |kept, collector, ctx| match kept {
            Ok(kept) => {
                let (now, source) = (collector.parts.clock.now(), collector.parts.source.clone());
                let new = collector.seen.insert(Fingerprint::of(&kept.id), now);
                if collector.overlap.observe(!new) {
                    collector.possible_gap(UNPROVEN);
                }
                collector.life.vitals.records_in.add(1);
                collector.durable.take(1);
                match kept.entry(&source, token, now, why) {
                    Ok(entry) if new => collector.append(vec![entry], ctx),
                    Ok(_) => {
                        collector.life.vitals.duplicates.add(1);
                        collector.append(Vec::new(), ctx);
                    }
                    Err(fault) => collector.failed(&fault, ctx),
                }
            }
            Err(fault) => collector.failed(&fault, ctx),
        }));
    }

    fn oversized_folder(&self) -> PathBuf {
        self.parts.settings.spool.path.join(OVERSIZED)
    }
}
