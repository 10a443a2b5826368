//! The one HTTP client of every service that is spoken to over HTTP: address, TLS, authorization,
//! time limit, bound on connections, bound on answers, and what failed in the words of the
//! backend contract. It knows no service.
//!
//! - TLS is rustls on its ring provider, handed in as a configuration of its own, so that no
//!   process-wide provider is needed, and none is installed. Trusted are the Mozilla roots and the
//!   certificates of `ca_file`.
//! - Redirects are not followed (a secret would go along) and proxies of the environment are not
//!   used.
//! - What is said of the effect: nothing changed if no connection came about, if none was free, or
//!   if the server refused to look at the request (401, 403, 413, 429). Otherwise it is unknown.

pub mod base64;
mod client;
mod endpoint;
mod error;
mod tls;

pub use client::{Answer, Authorization, HttpClient, HttpOptions, HttpRequest, Method};
pub use endpoint::Endpoint;
