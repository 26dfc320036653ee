//! A witness between the local store and the disk: what was done, and what a power cut at this
//! moment would leave of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

/// One call that the disk has done: its name, the path, and for a rename or link the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    pub(super) to: PathBuf,
}

struct Failure {
    name: &'static str,
    passing: usize,
    forever: bool,
    errno: Errno,
}

#[derive(Default)]
struct State {
    done: Vec<Done>,
    fail: Vec<Failure>,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Witness(Mutex<State>);

/// See [`Witness::hold`].
pub(super) struct Held<'a> {
    _state: MutexGuard<'a, State>,
}

impl Witness {
    pub(super) fn call<T>(
        &self,
        name: &'static str,
        path: &Path,
        to: &Path,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = state.fail.iter().position(|failure| failure.name == name) {
                let failure = &mut state.fail[at];
                if failure.passing == 0 {
                    let error = failure.errno.into();
                    if !failure.forever {
                        state.fail.remove(at);
                    }
                    return Err(error);
                }
                failure.passing -= 1;
            }
        }
        let result = call();
        if result.is_ok() {
            let done = Done { name, path: path.to_owned(), to: to.to_owned() };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).done.push(done);
        }
        result
    }

    /// Until this is dropped, no call goes on.
    pub(super) fn hold(&self) -> Held<'_> {
        Held { _state: self.0.lock().unwrap() }
    }

    /// Lets the next call of this name fail, after `passing` more that pass.
    pub(super) fn fail(&self, name: &'static str, passing: usize, errno: Errno) {
        self.0.lock().unwrap().fail.push(Failure { name, passing, forever: false, errno });
    }

    /// Lets every call of this name fail.
    pub(super) fn fail_always(&self, name: &'static str, errno: Errno) {
        self.0.lock().unwrap().fail.push(Failure { name, passing: 0, forever: true, errno });
    }

    /// Everything done so far.
    pub(super) fn done(&self) -> Vec<Done> {
        self.0.lock().unwrap().done.clone()
    }

    /// The names of the calls done since there were `before` of them.
    pub(super) fn names_since(&self, before: usize) -> Vec<&'static str> {
        self.done()[before..].iter().map(|done| done.name).collect()
    }

    /// The files below `root` that a power cut now would leave, each with whether its bytes are
    /// whole. As strict as POSIX: nothing is durable that was not synced by its own name.
    pub(super) fn after_power_cut(&self, root: &Path) -> BTreeMap<PathBuf, bool> {
        let mut now: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut on_disk: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let (mut folders, mut whole) = (BTreeSet::new(), BTreeSet::new());
        for (number, Done { name, path, to }) in self.done().into_iter().enumerate() {
            match name {
                "make_folder" => {
                    folders.insert(number);
                    now.insert(path, number);
                }
                "create" => {
                    now.insert(path, number);
                }
                "write" => {
                    whole.remove(&now[&path]);
                }
                "sync_file" => {
                    whole.insert(now[&path]);
                }
                "sync_folder" => {
                    let in_it = |name: &PathBuf| name.parent() == Some(&path);
                    on_disk.retain(|name, _| !in_it(name));
                    on_disk.extend(now.iter().filter(|(name, _)| in_it(name)).map(|(name, id)| (name.clone(), *id)));
                }
                "rename" => {
                    let id = now.remove(&path).unwrap();
                    now.insert(to, id);
                }
                "link" => {
                    now.insert(to, now[&path]);
                }
                "unlink" => {
                    now.remove(&path).unwrap();
                }
                _ => panic!("unknown call {name}"),
            }
        }
        let reachable = |name: &Path| {
            name.ancestors().skip(1).take_while(|above| *above != root).all(|above| on_disk.contains_key(above))
        };
        on_disk
            .iter()
            .filter(|(name, id)| name.starts_with(root) && !folders.contains(id) && reachable(name))
            .map(|(name, id)| (name.strip_prefix(root).unwrap().to_owned(), whole.contains(id)))
            .collect()
    }
}
