//! Where a server is.

use std::fmt;

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use reqwest::Url;

/// The address of a server: scheme, host, port and perhaps a path before all others.
///
/// Two spellings of one address are equal and print alike. It holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads `http://host:port/path` or `https://…`; `key` is the setting that the text stands
    /// under.
    ///
    /// # Errors
    /// `Config`, naming `key`, without the text if it holds credentials.
    pub fn parse(key: &str, text: &str) -> BackendResult<Self> {
        let wrong = |what: String| {
            BackendError::new(BackendErrorKind::Config, format!("{key}: {what}")).not_applied()
        };
        let mut url = Url::parse(text).map_err(|error| wrong(format!("not a URL: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("credentials do not belong into the URL".to_owned()));
        }
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = url.scheme();
            return Err(wrong(format!(
                "the scheme is {scheme:?}, not \"http\" or \"https\""
            )));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "a query or fragment does not belong into it".to_owned(),
            ));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The server `host` at `port`; `key` is the setting that the host stands under.
    ///
    /// # Errors
    /// `Config`, naming `key`: the host is not a host name or address.
    pub fn new(key: &str, host: &str, port: u16, encrypted: bool) -> BackendResult<Self> {
        let scheme = if encrypted { "https" } else { "http" };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host_in_url = if bare.contains(':') {
            format!("[{bare}]")
        } else {
            bare.to_owned()
        };
        let endpoint = Self::parse(key, &format!("{scheme}://{host_in_url}:{port}"))?;
        let extra = |c: char| "/\\?#@".contains(c) || c.is_whitespace();
        if bare.is_empty() || bare.contains(extra) {
            return Err(BackendError::new(
                BackendErrorKind::Config,
                format!("{key}: {host:?} is not a host name or address"),
            )
            .not_applied());
        }
        Ok(endpoint)
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The URL below this address with these segments, each taken as it is.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port_or_known_default().unwrap_or_default();
        let path = self.0.path().trim_end_matches('/');
        write!(f, "{}://{}:{port}{path}", self.0.scheme(), self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_address_are_the_same() {
        let spelt = |text| Endpoint::parse("url", text).unwrap();
        assert_eq!(spelt("http://HOST:80/"), spelt("http://host"));
        assert_eq!(spelt("http://host/a/").to_string(), "http://host:80/a");
        let made = Endpoint::new("host", "Host", 443, true).unwrap();
        assert_eq!(made, spelt("https://host"));
        let six = Endpoint::new("host", "::1", 8000, false).unwrap();
        assert_eq!(six.to_string(), "http://[::1]:8000");
        assert_eq!(six, Endpoint::new("host", "[::1]", 8000, false).unwrap());
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_key() {
        for text in ["", "host", "ftp://host", "http://host/?a=b", "http://"] {
            let error = Endpoint::parse("url", text).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().starts_with("url: "), "{error}");
        }
        for host in ["", "a b", "a/b", "a@b", "a?b", "a#b"] {
            let error = Endpoint::new("host", host, 1, false).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config, "{host}");
        }
        let error = Endpoint::parse("url", "http://user:hunter2@host").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn segments_are_taken_as_they_are() {
        let url = Endpoint::parse("url", "http://host/base")
            .unwrap()
            .url(["a/b", "..", "?#"]);
        assert_eq!(url.as_str(), "http://host/base/a%2Fb/%3F%23");
    }
}
