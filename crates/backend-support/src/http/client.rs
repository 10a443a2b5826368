//! Sends requests and bounds what they may take.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
};
use reqwest::{
    Client, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use super::{Endpoint, base64, error, tls};
use crate::connection::Secret;

/// The largest answer that is read unless [`HttpOptions::max_answer_bytes`] says otherwise.
const MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;

/// How a request says who sends it.
#[derive(Clone, Debug, Default)]
pub enum Authorization {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A header of the service's own.
    Header {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: Secret,
    },
}

/// What a client is made of besides its address.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    authorization: Authorization,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    connections: usize,
    max_request_bytes: usize,
    max_answer_bytes: usize,
}

impl HttpOptions {
    /// As many connections at once, and as much time for an attempt, as the context says.
    pub fn new(context: &OpenContext) -> Self {
        Self {
            authorization: Authorization::None,
            ca_file: None,
            timeout: context.attempt_timeout,
            connections: context.pool_size.max(1),
            max_request_bytes: usize::MAX,
            max_answer_bytes: MAX_ANSWER_BYTES,
        }
    }

    /// Sets who sends the requests.
    pub fn authorization(mut self, authorization: Authorization) -> Self {
        self.authorization = authorization;
        self
    }

    /// Trusts the certificates of this PEM file too.
    pub fn ca_file(mut self, path: Option<PathBuf>) -> Self {
        self.ca_file = path;
        self
    }

    /// Sets the largest body that is sent. A larger one is `Refused` here: a server that refuses it
    /// closes the connection while it is still written, and its answer is lost more often than not.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// Sets the largest answer that is read, in bytes after decompression.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Act.
    Post,
    /// Write.
    Put,
    /// Remove.
    Delete,
}

/// One request: a method, a path below the endpoint, and perhaps a query and a body.
#[derive(Debug)]
pub struct HttpRequest {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
}

impl HttpRequest {
    /// Adds a pair to the query.
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(key, value);
        self
    }

    /// Sets the body.
    ///
    /// # Errors
    /// `Refused`: the value cannot be written as JSON.
    pub fn json(mut self, body: &impl Serialize) -> BackendResult<Self> {
        let body = serde_json::to_vec(body).map_err(|error| {
            BackendError::new(BackendErrorKind::Refused, format!("not JSON: {error}")).not_applied()
        })?;
        self.body = Some(body);
        Ok(self)
    }
}

/// Speaks to one server. Clones share the connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    endpoint: Arc<Endpoint>,
    permits: Arc<Semaphore>,
    runtime: Runtime,
    timeout: Duration,
    connections: usize,
    max_request_bytes: usize,
    max_answer_bytes: usize,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("endpoint", &self.endpoint.to_string())
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Makes a client; connects to nothing yet.
    ///
    /// # Errors
    /// `Config`: a secret that no header can carry, or a CA file that cannot be read.
    pub async fn new(
        endpoint: Endpoint,
        options: HttpOptions,
        runtime: &Runtime,
    ) -> BackendResult<Self> {
        let headers = headers(&options.authorization)?;
        let ca_file = options.ca_file;
        let tls = runtime
            .blocking(move || tls::client_config(ca_file.as_deref()))
            .await
            .map_err(|lost| BackendError::new(BackendErrorKind::Unavailable, lost.to_string()))??;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("dbmanager/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.connections)
            .build()
            .map_err(error::of_transport)?;
        Ok(Self {
            client,
            endpoint: Arc::new(endpoint),
            permits: Arc::new(Semaphore::new(options.connections)),
            runtime: runtime.clone(),
            timeout: options.timeout,
            connections: options.connections,
            max_request_bytes: options.max_request_bytes,
            max_answer_bytes: options.max_answer_bytes,
        })
    }

    /// A request for the path of these segments, each taken as it is.
    pub fn request<'a>(
        &self,
        method: Method,
        segments: impl IntoIterator<Item = &'a str>,
    ) -> HttpRequest {
        HttpRequest {
            method,
            url: self.endpoint.url(segments),
            body: None,
        }
    }

    /// Sends the request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// `Refused`: the body is larger than allowed; `Overloaded`: no connection was free in time; `Unavailable`, `Timeout`, `Config` (a
    /// certificate that is not trusted) as the connection fails; `Protocol`: the answer is larger
    /// than allowed.
    pub async fn send(&self, request: HttpRequest) -> BackendResult<Answer> {
        let bytes = request.body.as_ref().map_or(0, Vec::len);
        if bytes > self.max_request_bytes {
            return Err(BackendError::new(
                BackendErrorKind::Refused,
                format!(
                    "the request has {bytes} bytes, the server takes {}",
                    self.max_request_bytes
                ),
            )
            .not_applied());
        }
        let permit = self
            .runtime
            .timeout(self.timeout, self.permits.acquire())
            .await;
        let Ok(Ok(_permit)) = permit else {
            return Err(BackendError::new(
                BackendErrorKind::Overloaded,
                format!("all {} connections are in use", self.connections),
            )
            .not_applied());
        };
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.client.request(method, request.url);
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = builder.send().await.map_err(error::of_transport)?;
        self.read(response).await
    }

    async fn read(&self, mut response: reqwest::Response) -> BackendResult<Answer> {
        let status = response.status();
        let retry_after = error::retry_after(response.headers());
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("no content type")
            .to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(error::of_transport)? {
            if body.len() + chunk.len() > self.max_answer_bytes {
                return Err(BackendError::new(
                    BackendErrorKind::Protocol,
                    format!("the answer has more than {} bytes", self.max_answer_bytes),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            retry_after,
            content_type,
            body,
        })
    }
}

/// The headers of every request.
fn headers(authorization: &Authorization) -> BackendResult<HeaderMap> {
    let (name, text) = match authorization {
        Authorization::None => return Ok(HeaderMap::new()),
        Authorization::Bearer(token) => ("authorization", format!("Bearer {}", token.reveal())),
        Authorization::Basic { username, password } => {
            let pair = format!("{username}:{}", password.reveal());
            (
                "authorization",
                format!("Basic {}", base64::encode(pair.as_bytes())),
            )
        }
        Authorization::Header { name, value } => (*name, value.reveal().to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        BackendError::new(
            BackendErrorKind::Config,
            format!("the secret for the header {name:?} has a character that no header can carry"),
        )
        .not_applied()
    })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(
        HeaderName::from_static(name),
        value,
    )]))
}

/// What a server answered.
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    content_type: String,
    body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Protocol`: it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> BackendResult<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            BackendError::new(
                BackendErrorKind::Protocol,
                format!(
                    "not the JSON that was expected ({}, {} bytes): {error}",
                    self.content_type,
                    self.body.len()
                ),
            )
        })
    }

    /// What an answer without success means if the service does not say more by its own words:
    /// 401 and 403 are `Denied`, 413 `Refused`, 429 `Overloaded`, 408 and 504 `Timeout`, other
    /// statuses of the server's side `Unavailable`, and all others `Protocol`. `detail` is what the
    /// service says about it.
    pub fn error(&self, detail: &str) -> BackendError {
        error::of_status(self.status, self.retry_after, detail)
    }
}
