//! The server's other interface (HTTP, on the port below gRPC's), to look at what is stored and
//! to tamper with it.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// The HTTP interface of the server with this gRPC address.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    host: String,
    port: u16,
    api_key: Option<String>,
}

/// The key of the server that the environment names, if it has one.
pub(super) fn api_key() -> Option<String> {
    env::var("DBMANAGER_TEST_QDRANT_API_KEY")
        .ok()
        .filter(|key| !key.is_empty())
}

impl Rest {
    pub(super) fn new(grpc: &str, api_key: Option<String>) -> Self {
        let authority = grpc.split("//").last().unwrap();
        let (host, port) = authority.trim_end_matches('/').rsplit_once(':').unwrap();
        Self {
            host: host.to_owned(),
            port: port.parse::<u16>().unwrap() - 1,
            api_key,
        }
    }

    /// The answer's `result`.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let key = self.api_key.as_deref().unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\napi-key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if !head.starts_with("HTTP/1.1 200") {
            return Err(answer);
        }
        let body: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        Ok(body["result"].clone())
    }

    /// Of the server's collections those that begin so.
    pub(super) fn collections(&self, prefix: &str) -> Result<Vec<String>, String> {
        let result = self.call("GET", "/collections", &Value::Null)?;
        let all = result["collections"].as_array().cloned();
        let names = all.into_iter().flatten();
        Ok(names
            .filter_map(|one| one["name"].as_str().map(str::to_owned))
            .filter(|name| name.starts_with(prefix))
            .collect())
    }

    pub(super) fn delete(&self, collection: &str) -> Result<(), String> {
        let path = format!("/collections/{collection}");
        self.call("DELETE", &path, &Value::Null).map(drop)
    }
}
