//! Calls that cannot hang.
//!
//! hdfs-native has no time limit on what it asks a NameNode (datafusion-contrib/hdfs-native, as of
//! 0.14.8), and a connection that hangs takes all later calls of the same client with it. So each call
//! runs on threads of this store under a deadline, and a call that met it leaves a fresh client behind.
//! The call itself runs on to its end when its caller stops waiting. Kerberos blocks its thread while it
//! waits for a key distribution centre; so the caller has a clock of its own.

use std::{
    fs::File,
    future::Future,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdfs_native::{Client, ClientBuilder, HdfsError};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    Kerberos, Settings,
    faults::{Failure, classify, is_below_a_file},
};
use crate::{
    fault::{Fault, Result, Retry},
    store::StorePath,
};

/// Threads that speak with the cluster. Checksums and copies are all they compute.
const THREADS: usize = 2;

/// How much longer the caller waits than the call itself may take.
const GRACE: Duration = Duration::from_millis(500);

/// How often a file that is of no more use is tried to be deleted, and the first pause between.
const DISCARDS: u32 = 6;
const DISCARD_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Calls {
    pub(super) settings: Settings,
    client: Mutex<Client>,
    io: Io,
}

/// The threads; ended without waiting, because they may be dropped where nobody may block.
struct Io(Option<Runtime>);

impl Io {
    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Calls {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("hdfs").enable_all().build();
        let runtime = runtime.map_err(|error| Fault::io("the threads of the HDFS store", &error))?;
        let handle = runtime.handle().clone();
        let io = Io(Some(runtime));
        let client = connect(&settings, &handle)?;
        Ok(Self { settings, client: Mutex::new(client), io })
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.settings)
    }

    /// The present client.
    pub(super) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client, so that nobody waits on what the old one waits for.
    fn refresh(&self) {
        let Some(handle) = self.io.handle() else { return };
        // The settings made a client once; that they would not now is no reason to lose the old one.
        if let Ok(fresh) = connect(&self.settings, handle) {
            drop(mem::replace(&mut *self.client.lock().unwrap_or_else(PoisonError::into_inner), fresh));
        }
    }

    /// Runs one call under the deadline.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        path: &StorePath,
        call: impl Future<Output = hdfs_native::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = self.describe();
        let internal =
            |text: String| Failure::Fault(Fault::internal(format!("{place}: {path}: {text}")).unknown_effect());
        let Some(io) = self.io.handle() else { return Err(internal("the store was closed".to_owned())) };
        let deadline = self.settings.deadline;
        let running = io.spawn(tokio::time::timeout(deadline, call));
        match tokio::time::timeout(deadline + GRACE, running).await {
            Ok(Ok(Ok(Ok(done)))) => Ok(done),
            Ok(Ok(Ok(Err(error)))) => Err(classify(&place, path, error)),
            Err(_) | Ok(Ok(Err(_))) => {
                self.refresh();
                Err(Failure::Fault(self.overdue(path, deadline)))
            }
            // hdfs-native panics on a name that is no UTF-8.
            Ok(Err(error)) => Err(internal(error.to_string())),
        }
    }

    /// The same for a question whose answer may be "nothing".
    pub(super) async fn find<T: Send + 'static>(
        self: &Arc<Self>,
        path: &StorePath,
        call: impl Future<Output = hdfs_native::Result<T>> + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let asked = async {
            match call.await {
                Ok(found) => Ok(Some(found)),
                Err(error) if is_below_a_file(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        match self.call(path, asked).await {
            Ok(found) => Ok(found),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(failure.fault(&self.describe(), path)),
        }
    }

    /// Deletes a file that is of no more use, some time soon and if it can be done at all.
    pub(super) fn discard(self: &Arc<Self>, path: StorePath) {
        let Some(io) = self.io.handle() else { return };
        let calls = Arc::clone(self);
        io.spawn(async move {
            let mut pause = DISCARD_AGAIN;
            for _ in 0..DISCARDS {
                let client = calls.client();
                let deleting = tokio::time::timeout(calls.settings.deadline, client.delete(path.as_str(), false));
                if matches!(deleting.await, Ok(Ok(_))) {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        });
    }

    fn overdue(&self, path: &StorePath, deadline: Duration) -> Fault {
        Fault::external(format!("{}: {path}: no answer in {deadline:?}", self.describe())).unknown_effect()
    }
}

/// Where, and by Kerberos as whom.
fn describe(settings: &Settings) -> String {
    let whom = settings.kerberos.as_ref().map(|kerberos| format!(" as {}", kerberos.principal));
    format!("store {}{}", settings.url, whom.unwrap_or_default())
}

fn connect(settings: &Settings, io: &Handle) -> Result<Client> {
    let place = describe(settings);
    let mut builder =
        ClientBuilder::new().with_url(&settings.url).with_config(overrides(settings)).with_io_runtime(io.clone());
    if let Some(folder) = &settings.conf_dir {
        builder = builder.with_config_dir(folder.display().to_string());
    }
    if let Some(user) = &settings.user {
        builder = builder.with_user(user);
    }
    if let Some(Kerberos { principal, keytab }) = &settings.kerberos {
        // The library would only say that it has no credentials.
        File::open(keytab).map_err(|error| {
            Fault::user(format!("{place}: keytab {}: {error}", keytab.display())).retry(Retry::Backoff)
        })?;
        builder = builder.with_kerberos_principal(principal).with_kerberos_keytab(keytab.display().to_string());
    }
    builder.build().map_err(|error: HdfsError| Fault::user(format!("{place}: {error}")))
}

/// What is said to hdfs-native beside the cluster's own files. Its own patience with a NameNode that
/// does not answer (15 attempts, up to 15 s apart) and a DataNode (a minute) outlasts any deadline.
fn overrides(settings: &Settings) -> Vec<(String, String)> {
    let mut overrides = vec![
        ("dfs.client.failover.max.attempts", "6".to_owned()),
        ("dfs.client.failover.sleep.base.millis", "100".to_owned()),
        ("dfs.client.failover.sleep.max.millis", "1000".to_owned()),
        ("dfs.client.socket-timeout", settings.datanode_timeout.as_millis().to_string()),
    ];
    if settings.kerberos.is_some() {
        // hdfs-native sends a bare name where the files do not say so.
        overrides.push(("hadoop.security.authentication", "kerberos".to_owned()));
    }
    overrides.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
