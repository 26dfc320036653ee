//! What people want of actors, other than that they run: a file that outlives the process. Who stopped an actor
//! finds it stopped after a reboot.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk,
    fault::{Fault, Result},
    model::ActorId,
    vitals::Wish,
};

/// The file's format.
const FORMAT: u32 = 1;

/// The file in its folder, and while it is written.
const NAME: &str = "wishes.json";
const STAGED: &str = "wishes.json.new";

/// See the module's text.
pub struct Wishes {
    folder: PathBuf,
    wishes: Mutex<BTreeMap<String, Wish>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    actors: BTreeMap<String, Wish>,
}

impl Wishes {
    /// Reads what is wanted; nothing, where nobody ever wanted anything.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is no file of ours.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join(NAME);
        let actors = match fs::read(&file) {
            Ok(text) => read(&text).map_err(|text| Fault::data(format!("{}: {text}", file.display())))?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Fault::io(file.display(), &error)),
        };
        Ok(Self { folder: folder.to_owned(), wishes: Mutex::new(actors) })
    }

    /// What is wanted of this actor.
    pub fn of(&self, actor: &ActorId) -> Option<Wish> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).get(&actor.to_string()).cloned()
    }

    /// Writes down what is wanted of an actor from now on; it is durable when this returns. Blocks.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed then.
    pub fn set(&self, actor: &ActorId, wish: Option<Wish>) -> Result<()> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = wishes.clone();
        match wish {
            Some(wish) => drop(changed.insert(actor.to_string(), wish)),
            None => drop(changed.remove(&actor.to_string())),
        }
        if *wishes != changed {
            self.write(&changed)?;
            *wishes = changed;
        }
        Ok(())
    }

    fn write(&self, actors: &BTreeMap<String, Wish>) -> Result<()> {
        disk::make_folder(&self.folder)?;
        let (staged, file) = (self.folder.join(STAGED), self.folder.join(NAME));
        let written = Written { format: FORMAT, actors: actors.clone() };
        let text = serde_json::to_vec_pretty(&written).map_err(|error| Fault::internal(error.to_string()))?;
        let io = |error| Fault::io(file.display(), &error);
        let mut out = File::create(&staged).map_err(io)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(io)?;
        fs::rename(&staged, &file).map_err(io)?;
        disk::sync_folder(&self.folder)
    }
}

fn read(text: &[u8]) -> Result<BTreeMap<String, Wish>, String> {
    let way_out = "what is wanted of actors is not known: mend it, or delete it and all of them run";
    let written: Written = serde_json::from_slice(text).map_err(|error| format!("{error}; {way_out}"))?;
    if written.format != FORMAT {
        return Err(format!("format {} is not known to this version, which writes {FORMAT}", written.format));
    }
    Ok(written.actors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Hold;

    fn id(stage: &str) -> ActorId {
        ActorId { pipeline: "p".into(), stage: stage.into(), replica: 0 }
    }

    #[test]
    fn what_is_wanted_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("not/yet/there");
        let stopped = Wish { hold: Hold::Stopped, by: "anna from 10.0.0.7".into(), since: 7 };
        let paused = Wish { hold: Hold::Paused, ..stopped.clone() };
        let wishes = Wishes::open(&place).unwrap();
        assert_eq!(wishes.of(&id("a")), None);
        wishes.set(&id("a"), Some(stopped.clone())).unwrap();
        wishes.set(&id("b"), Some(paused.clone())).unwrap();
        let again = Wishes::open(&place).unwrap();
        assert_eq!((again.of(&id("a")), again.of(&id("b"))), (Some(stopped), Some(paused)));
        again.set(&id("a"), None).unwrap();
        assert_eq!(Wishes::open(&place).unwrap().of(&id("a")), None);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_told() {
        let folder = tempfile::tempdir().unwrap();
        for (text, said) in [("{", "EOF"), (r#"{"format":2,"actors":{}}"#, "format 2"), ("[]", "invalid")] {
            fs::write(folder.path().join(NAME), text).unwrap();
            let fault = Wishes::open(folder.path()).err().unwrap();
            assert!(fault.message.contains("wishes.json") && fault.message.contains(said), "{fault}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let wishes = Wishes::open(folder.path()).unwrap();
        // A folder of this name cannot be replaced by the file.
        fs::create_dir_all(folder.path().join(NAME).join("full")).unwrap();
        let wish = Wish { hold: Hold::Stopped, by: "anna".into(), since: 7 };
        wishes.set(&id("a"), Some(wish)).unwrap_err();
        assert_eq!(wishes.of(&id("a")), None);
    }
}
