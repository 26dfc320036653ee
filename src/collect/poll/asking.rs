//! One request, and its answer as far as it may go.

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Method, Response, Url,
    header::{HeaderMap, HeaderValue, USER_AGENT},
};
use tokio::time::timeout;

use super::PollSettings;
use crate::{
    fault::{Fault, Result},
    web,
};

/// Asks a service.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    client: Client,
    settings: PollSettings,
    method: Method,
    agent: HeaderValue,
    /// The address of each first page.
    pub url: Url,
    /// The same for people: without what may be a password.
    pub shown: String,
}

/// What came.
#[derive(Debug)]
pub(super) enum Asked {
    /// The whole body.
    Whole(Bytes),
    /// The beginning of a body that is above the bound, and where the rest comes from.
    TooLarge(Bytes, Response),
}

impl Asker {
    /// One for these settings; nothing is asked yet.
    ///
    /// # Errors
    /// `User`: the settings cannot be used.
    pub fn new(settings: &PollSettings) -> Result<Self> {
        let (url, shown) = web::address(&settings.url)?;
        let method = Method::from_bytes(settings.method.as_bytes())
            .map_err(|_| Fault::user(format!("{shown}: {:?} is no method of HTTP", settings.method)))?;
        let client = web::builder()
            .redirect(web::within_host())
            .connect_timeout(settings.timeout)
            .build()
            .map_err(|error| Fault::user(format!("{shown}: no HTTP client: {}", web::chain(&error))))?;
        let agent = web::user_agent(settings.contact.as_deref())?;
        Ok(Self { client, settings: settings.clone(), method, agent, url, shown })
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// `External`, with the time to wait if the service named one: no answer in time, or none with a status of
    /// 2xx. `User`, again with back-off: a secret cannot be read.
    pub async fn ask(&self, url: Url) -> Result<Asked> {
        let asking = async {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, self.agent.clone());
            web::put(&mut headers, &self.settings.headers).await?;
            let mut request = self.client.request(self.method.clone(), url).headers(headers);
            if let Some(body) = &self.settings.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(failed)?;
            let status = response.status();
            if !status.is_success() {
                let again = web::again(response.headers());
                let text = format!("the service answers {status}{}", web::said(response).await);
                return Err(Fault::external(text).retry(again));
            }
            self.body(response).await
        };
        let answered = timeout(self.settings.timeout, asking).await;
        let late = || Fault::external(format!("no whole answer within {:?}", self.settings.timeout));
        answered.unwrap_or_else(|_| Err(late()))
    }

    async fn body(&self, mut response: Response) -> Result<Asked> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > self.settings.max_answer {
                return Ok(Asked::TooLarge(body.freeze(), response));
            }
        }
        Ok(Asked::Whole(body.freeze()))
    }

    /// The rest of an answer above the bound, piece by piece.
    ///
    /// # Errors
    /// `External`: it broke off.
    pub async fn rest(&self, response: &mut Response) -> Result<Option<Bytes>> {
        let late = || Fault::external(format!("no byte for {:?}", self.settings.timeout));
        let chunk = timeout(self.settings.timeout, response.chunk()).await;
        chunk.map_err(|_| late())?.map_err(failed)
    }
}

fn failed(error: reqwest::Error) -> Fault {
    Fault::external(web::chain(&error.without_url()))
}
