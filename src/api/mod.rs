//! The HTTP API: how people and programs look at a node and steer it.
//!
//! - [`steer`]: what a node lets be asked of it, as a trait; the node implements it.
//! - [`views`]: what is told, as it stands in the answers; views of the vitals.
//! - [`metrics`]: the same for Prometheus.
//! - `routes`: which address answers with what. `access`: who may ask. `changes`: what happens, as it does.
//! - `openapi.json`: the document of all that, held to the routes by a test.
//!
//! Looking never waits for an actor: it reads vitals, on a thread that no actor runs on. An order waits for
//! its effect, with a limit.

mod access;
mod changes;
pub mod metrics;
mod process;
mod routes;
mod shared;
pub mod steer;
pub mod views;

#[cfg(test)]
mod tests;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle, web};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub use access::USER;

use self::{access::Access, shared::Shared, steer::Steer};
use crate::{
    fault::{Fault, Result},
    model::Clock,
};

/// The document that says which addresses there are, and what they answer.
pub const OPENAPI: &str = include_str!("openapi.json");

/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(5);

/// Connections at a time: people, a Prometheus or two, and some that follow the changes.
const CONNECTIONS: usize = 256;

/// How long what is being answered is waited for at the end.
const END_SECONDS: u64 = 1;

/// What the API is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file that holds the token; needed where others reach the address.
    pub token_file: Option<PathBuf>,
    /// The certificate chain and its key (PEM files), for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// An address that is held for the API.
pub struct Bound {
    listener: TcpListener,
    token: Option<String>,
    tls: Option<ServerConfig>,
}

/// A running API; it ends when told.
pub struct Api {
    address: SocketAddr,
    is_tls: bool,
    server: ServerHandle,
}

impl Bound {
    /// Binds the address, before there is anything to look at: what keeps it from that keeps the node from starting.
    ///
    /// # Errors
    /// `User`: others reach the address and there is no token, or a file cannot be used. `External`: the address
    /// is in use.
    pub fn new(settings: &Settings) -> Result<Self> {
        let place = settings.listen;
        let token = settings.token_file.as_ref().map(secret).transpose()?;
        if token.is_none() && !place.ip().is_loopback() {
            return Err(Fault::user(format!(
                "HOWDAH_LISTEN={place}: an address that others reach wants a token: write one into a file and name it \
                 in HOWDAH_TOKEN_FILE"
            )));
        }
        let tls = settings.tls.as_ref().map(|(chain, key)| tls(chain, key)).transpose()?;
        if tls.is_none() && !place.ip().is_loopback() {
            tracing::warn!(%place, "the API speaks plain HTTP: who hears it on the network hears the token (HOWDAH_TLS_CERT, HOWDAH_TLS_KEY)");
        }
        let listener = TcpListener::bind(place).map_err(|error| {
            let text = "name another address in HOWDAH_LISTEN, or \"off\" for no API";
            Fault::external(format!("API at {place}: {error}; {text}"))
        })?;
        Ok(Self { listener, token, tls })
    }

    /// Answers from now on, on a thread of its own. Needs an actix system.
    ///
    /// # Errors
    /// The system gives no threads for it.
    pub fn serve(self, steer: Arc<dyn Steer>, clock: Arc<dyn Clock>) -> Result<Api> {
        let Self { listener, token, tls } = self;
        let failed = |error: std::io::Error| Fault::io("the API's server", &error);
        let (address, is_tls) = (listener.local_addr().map_err(failed)?, tls.is_some());
        let shared = web::Data::new(Shared { steer, clock, access: Access::new(token) });
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).configure(routes::configure))
            .workers(1)
            .max_connections(CONNECTIONS)
            .client_request_timeout(HEAD)
            .shutdown_timeout(END_SECONDS)
            .disable_signals();
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls),
            None => server.listen(listener),
        };
        let server = server.map_err(failed)?.run();
        let handle = server.handle();
        #[allow(clippy::disallowed_methods, reason = "it only accepts: what it hands on runs on threads of its own")]
        actix_web::rt::spawn(server);
        Ok(Api { address, is_tls, server: handle })
    }
}

impl Api {
    /// Where it answers: `http://127.0.0.1:7070`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// Ends it: no new request is taken, those under way are ended within a second.
    pub async fn stop(self) {
        self.server.stop(true).await;
    }
}

/// What a file holds, without the space around it.
fn secret(file: &PathBuf) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::user(format!("token file {}: {error}", file.display())))?;
    let text = text.trim();
    // Also so that it can stand in a header.
    if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::user(format!(
            "token file {}: a token has 16 characters or more, letters, digits and signs; \
             `openssl rand -hex 32` makes one",
            file.display()
        )));
    }
    Ok(text.to_owned())
}

fn tls(chain: &PathBuf, key: &PathBuf) -> Result<ServerConfig> {
    let wrong = |file: &PathBuf, error: String| Fault::user(format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| wrong(chain, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| wrong(chain, error.to_string()))
}
