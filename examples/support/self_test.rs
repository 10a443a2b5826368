//! Speaks HTTP to the service over a plain connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::AnyResult;

/// A request, the status that must answer it, and what its body must contain.
struct Case {
    method: &'static str,
    path: &'static str,
    headers: &'static str,
    body: &'static str,
    status: u16,
    /// A JSON pointer into the body, and the value there.
    expected: Option<(&'static str, Value)>,
}

fn case(method: &'static str, path: &'static str, body: &'static str, status: u16) -> Case {
    Case {
        method,
        path,
        headers: "",
        body,
        status,
        expected: None,
    }
}

impl Case {
    fn expect(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.expected = Some((pointer, value.into()));
        self
    }

    fn header(mut self, headers: &'static str) -> Self {
        self.headers = headers;
        self
    }
}

fn cases() -> Vec<Case> {
    const DOCUMENTS: &str = "/collections/papers/documents";
    const DOCUMENT: &str = "/collections/papers/documents/p1";
    const BODY: &str = r#"{"id": "p1", "title": "Crash recovery", "text": "Write-ahead logging"}"#;
    const KEY: &str = "idempotency-key: k1\r\n";
    vec![
        case("GET", "/live", "", 200),
        case("GET", "/ready", "", 200).expect("/journal/writable", true),
        case("POST", DOCUMENTS, BODY, 200)
            .header(KEY)
            .expect("/reached", true),
        case("POST", DOCUMENTS, BODY, 200)
            .header(KEY)
            .expect("/id", "p1"),
        case("POST", DOCUMENTS, r#"{"id": "p1"}"#, 409)
            .header(KEY)
            .expect("/write_outcome/rejected", true),
        case("POST", DOCUMENTS, r#"{"id": ""}"#, 400).expect("/write_outcome/rejected", true),
        case("POST", DOCUMENTS, r#"{"title": "no id"}"#, 400).expect("/retryable", false),
        case("GET", DOCUMENT, "", 200).expect("/document/title", "Crash recovery"),
        case(
            "POST",
            "/search",
            r#"{"text": "recovery", "collections": ["papers"]}"#,
            200,
        )
        .expect("/hits/0/id", "p1"),
        case(
            "POST",
            "/search",
            r#"{"text": "recovery", "collections": ["none"]}"#,
            404,
        )
        .expect("/kind", "no such collection"),
        case("DELETE", DOCUMENT, "", 200).expect("/id", "p1"),
        case("GET", DOCUMENT, "", 404),
    ]
}

/// Runs every case; the number of them, or the first that failed.
pub(crate) async fn run(address: SocketAddr) -> AnyResult<usize> {
    let cases = cases();
    for case in &cases {
        let (status, body) = request(address, case).await?;
        let named = |problem: String| format!("{} {}: {problem}: {body}", case.method, case.path);
        if status != case.status {
            return Err(named(format!("status {status}, not {}", case.status)).into());
        }
        if let Some((pointer, expected)) = &case.expected {
            let body: Value = serde_json::from_str(&body).map_err(|e| named(e.to_string()))?;
            if body.pointer(pointer) != Some(expected) {
                return Err(named(format!("{pointer} is not {expected}")).into());
            }
        }
    }
    Ok(cases.len())
}

async fn request(address: SocketAddr, case: &Case) -> AnyResult<(u16, String)> {
    let Case {
        method,
        path,
        headers,
        body,
        ..
    } = case;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the answer has no end of headers")?;
    let status = head.split(' ').nth(1).ok_or("the answer has no status")?;
    Ok((status.parse()?, body.to_owned()))
}
