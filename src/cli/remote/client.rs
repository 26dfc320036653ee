//! The client of the API.

use std::{path::PathBuf, time::Duration};

use reqwest::{Certificate, Client, Method, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};

use super::NodeArguments;
use crate::{
    api::{USER, steer::Order, views::ActorView},
    config,
    fault::{Fault, Result},
};

/// How long a connection may take, and an answer: longer than the node waits for an order.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(75);

/// Which node is asked when nobody says.
const NODE: &str = "http://127.0.0.1:7070";

/// The address of one node.
pub struct Node {
    client: Client,
    base: Url,
    token: Option<String>,
    user: String,
}

/// All actors, as the node tells them.
#[derive(Deserialize)]
struct Actors {
    actors: Vec<ActorView>,
}

/// What came of an order.
#[derive(Debug, Deserialize)]
pub struct Done {
    /// The actor's life after it.
    pub incarnation: u64,
    /// What happened.
    pub text: String,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Node {
    /// The node that is meant; nothing is asked yet.
    ///
    /// # Errors
    /// `User`: the address, or one of the files, cannot be used.
    pub fn new(arguments: &NodeArguments) -> Result<Self> {
        let set = |name: &str| config::environment(name).filter(|value| !value.is_empty());
        let file = |given: &Option<PathBuf>, name: &str| given.clone().or_else(|| set(name).map(PathBuf::from));
        let written = arguments.node.clone().or_else(|| set("HOWDAH_NODE")).unwrap_or_else(|| NODE.to_owned());
        // What people write: `host:port`.
        let whole = if written.contains("://") { written.clone() } else { format!("http://{written}") };
        let base = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| Fault::user(format!("--node {written:?}: allowed: an address as {NODE}")))?;
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| Fault::user(format!("{}: {error}", path.display())))
        };
        let token = match (&arguments.token_file, set("HOWDAH_TOKEN")) {
            (None, Some(token)) => Some(token),
            (given, _) => file(given, "HOWDAH_TOKEN_FILE").as_ref().map(read).transpose()?,
        };
        let token = token.map(|token| token.trim().to_owned());
        // Only the first one counts; another part of the process may have been here before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().connect_timeout(CONNECT).timeout(ANSWER);
        if let Some(path) = file(&arguments.ca, "HOWDAH_CA") {
            let certificate = Certificate::from_pem(read(&path)?.as_bytes())
                .map_err(|error| Fault::user(format!("{}: {error}", path.display())))?;
            client = client.add_root_certificate(certificate);
        }
        let client = client.build().map_err(|error| Fault::internal(error.to_string()))?;
        let user = set("USER").or_else(|| set("LOGNAME")).unwrap_or_default();
        Ok(Self { client, base, token, user })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// All actors.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn actors(&self) -> Result<Vec<ActorView>> {
        Ok(self.get::<Actors>("/api/v1/actors").await?.actors)
    }

    /// Gives an order to `pipeline/stage/replica` and waits for its effect.
    ///
    /// # Errors
    /// As [`get`](Self::get); what kept it from being done.
    pub async fn order(&self, actor: &str, order: Order) -> Result<Done> {
        let parts: Vec<_> = actor.split('/').collect();
        let [_, _, _] = parts[..] else {
            return Err(Fault::user(format!(
                "{actor:?} names no actor: write pipeline/stage/replica, as wikimedia/archive/0"
            )));
        };
        let mut path = vec!["api", "v1", "actors"];
        path.extend(parts);
        path.push(order.word());
        self.ask(Method::POST, &path).await
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// `External`: the node cannot be reached or does not answer; `User`: it refuses, in its words.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, &path.trim_start_matches('/').split('/').collect::<Vec<_>>()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &[&str]) -> Result<T> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Fault::user(format!("{} cannot be a node's address", self.base)))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.client.request(method, url.clone()).header(USER, &self.user);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            let odd = |error| Fault::external(format!("{url}: the answer is none of a howdah node: {error}"));
            return serde_json::from_slice(&text).map_err(odd);
        }
        let said =
            serde_json::from_slice::<Refused>(&text).map_or_else(|_| status.to_string(), |refused| refused.error);
        let said = format!("{}: {said}", self.url());
        Err(match status {
            StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => Fault::external(said),
            _ if status.is_server_error() => Fault::internal(said),
            _ => Fault::user(said),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Fault {
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        // The last one says what happened.
        while let Some(error) = cause {
            text = error.to_string();
            cause = error.source();
        }
        let ways = "is a howdah running there, and is this its HOWDAH_LISTEN?";
        Fault::external(format!("no answer from {}: {text}: {ways}", self.url()))
    }
}
