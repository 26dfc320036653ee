//! What a node knows of its actors beyond the process: a small file for each kind of thing, written whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    disk,
    fault::{Fault, Result},
    model::ActorId,
};

/// The files' format.
const FORMAT: u32 = 1;

/// What a kind of thing is called, and what to do where its file cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// The file's name.
    pub(super) name: &'static str,
    /// What follows if it is deleted.
    pub(super) way_out: &'static str,
}

/// One thing of each actor, or none; see the module's text.
pub(super) struct Kept<V> {
    file: PathBuf,
    values: Mutex<BTreeMap<String, V>>,
    /// Held while the file is written, so that who only reads the values does not wait for a disk.
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Written<V> {
    format: u32,
    actors: BTreeMap<String, V>,
}

impl<V: Clone + PartialEq + Serialize + DeserializeOwned> Kept<V> {
    /// Reads what is known; nothing, where nothing ever was.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is no file of ours.
    pub(super) fn open(folder: &Path, about: About) -> Result<Self> {
        let file = folder.join(about.name);
        let values = match fs::read(&file) {
            Ok(text) => read(&text, about).map_err(|text| Fault::data(format!("{}: {text}", file.display())))?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Fault::io(file.display(), &error)),
        };
        Ok(Self { file, values: Mutex::new(values), writing: Mutex::new(()) })
    }

    /// What is known of this actor.
    pub(super) fn of(&self, actor: &ActorId) -> Option<V> {
        self.lock().get(&actor.to_string()).cloned()
    }

    /// Changes what is known of an actor; it is durable when this returns. Blocks.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed then.
    pub(super) fn set(&self, actor: &ActorId, value: Option<V>) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.lock().clone();
        let mut changed = before.clone();
        match value {
            Some(value) => drop(changed.insert(actor.to_string(), value)),
            None => drop(changed.remove(&actor.to_string())),
        }
        if before != changed {
            self.write(&changed)?;
            *self.lock() = changed;
        }
        Ok(())
    }

    fn write(&self, actors: &BTreeMap<String, V>) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        disk::make_folder(folder)?;
        let staged = self.file.with_extension("json.new");
        let written = Written { format: FORMAT, actors: actors.clone() };
        let text = serde_json::to_vec_pretty(&written).map_err(|error| Fault::internal(error.to_string()))?;
        let io = |error| Fault::io(self.file.display(), &error);
        let mut out = File::create(&staged).map_err(io)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(io)?;
        fs::rename(&staged, &self.file).map_err(io)?;
        disk::sync_folder(folder)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, V>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<V: DeserializeOwned>(text: &[u8], about: About) -> Result<BTreeMap<String, V>, String> {
    let written: Written<V> = serde_json::from_slice(text).map_err(|error| format!("{error}; {}", about.way_out))?;
    if written.format != FORMAT {
        return Err(format!("format {} is not known to this version, which writes {FORMAT}", written.format));
    }
    Ok(written.actors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::steering::WISHES,
        vitals::{Hold, Wish},
    };

    fn id(stage: &str) -> ActorId {
        ActorId { pipeline: "p".into(), stage: stage.into(), replica: 0 }
    }

    fn open(folder: &Path) -> Result<Kept<Wish>> {
        Kept::open(folder, WISHES)
    }

    #[test]
    fn what_is_wanted_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("not/yet/there");
        let stopped = Wish { hold: Hold::Stopped, by: "anna from 10.0.0.7".into(), since: 7 };
        let paused = Wish { hold: Hold::Paused, ..stopped.clone() };
        let wishes = open(&place).unwrap();
        assert_eq!(wishes.of(&id("a")), None);
        wishes.set(&id("a"), Some(stopped.clone())).unwrap();
        wishes.set(&id("b"), Some(paused.clone())).unwrap();
        let again = open(&place).unwrap();
        assert_eq!((again.of(&id("a")), again.of(&id("b"))), (Some(stopped), Some(paused)));
        again.set(&id("a"), None).unwrap();
        assert_eq!(open(&place).unwrap().of(&id("a")), None);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_told() {
        let folder = tempfile::tempdir().unwrap();
        for (text, said) in [("{", "EOF"), (r#"{"format":2,"actors":{}}"#, "format 2"), ("[]", "invalid")] {
            fs::write(folder.path().join(WISHES.name), text).unwrap();
            let fault = open(folder.path()).err().unwrap();
            assert!(fault.message.contains("wishes.json") && fault.message.contains(said), "{fault}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let wishes = open(folder.path()).unwrap();
        // A folder of this name cannot be replaced by the file.
        fs::create_dir_all(folder.path().join(WISHES.name).join("full")).unwrap();
        let wish = Wish { hold: Hold::Stopped, by: "anna".into(), since: 7 };
        wishes.set(&id("a"), Some(wish)).unwrap_err();
        assert_eq!(wishes.of(&id("a")), None);
    }
}
