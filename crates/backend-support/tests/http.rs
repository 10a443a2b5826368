//! What the HTTP client makes of what servers do.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Duration,
};

use dbmanager_backend_support::{
    connection::Secret,
    http::{Answer, Authorization, Endpoint, HttpClient, HttpOptions, Method},
};
use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, Effect, OpenContext},
};

/// Reads one request: its head, and as much of a body as it announces.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut one).ok()? == 0 {
            return None;
        }
        bytes.extend(one);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

/// A server that gives this answer to each request, and hands on what it was asked.
fn server(answer: impl Into<Vec<u8>>) -> (Endpoint, mpsc::Receiver<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (answer, sender) = (answer.clone(), sender.clone());
            std::thread::spawn(move || {
                while let Some(request) = request(&mut stream) {
                    // Handed on first, so that who has an answer finds its request. The client may
                    // have seen enough before it has read all of one.
                    if sender.send(request).is_err() || stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (endpoint(port), receiver)
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new("host", "127.0.0.1", port, false).unwrap()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn context() -> OpenContext {
    OpenContext::new(Runtime::tokio()).attempt_timeout(Duration::from_secs(5))
}

async fn client(endpoint: Endpoint, context: &OpenContext) -> HttpClient {
    let options = HttpOptions::new(context);
    HttpClient::new(endpoint, options, &context.runtime)
        .await
        .unwrap()
}

async fn get(client: &HttpClient) -> BackendResult<Answer> {
    client.send(client.request(Method::Get, ["a"])).await
}

/// What an answer of this status becomes.
async fn error_of(status: &str, headers: &str) -> BackendError {
    let (endpoint, _requests) = server(answer(status, headers, "{}"));
    let answer = get(&client(endpoint, &context()).await).await.unwrap();
    assert!(!answer.is_success());
    answer.error("what the service says")
}

#[tokio::test]
async fn json_goes_in_and_out() {
    let (endpoint, requests) = server(answer("200 OK", "", r#"{"b": [1, 2]}"#));
    let client = client(endpoint, &context()).await;
    let request = client
        .request(Method::Post, ["a/b", "c d"])
        .query("e", "f&g")
        .json(&serde_json::json!({"h": "é"}))
        .unwrap();
    let answer: serde_json::Value = client.send(request).await.unwrap().json().unwrap();
    assert_eq!(answer, serde_json::json!({"b": [1, 2]}));
    let sent = requests.recv().unwrap();
    assert!(
        sent.starts_with("POST /a%2Fb/c%20d?e=f%26g HTTP/1.1\r\n"),
        "{sent}"
    );
    assert!(
        sent.contains("content-type: application/json\r\n"),
        "{sent}"
    );
    assert!(sent.ends_with("\r\n\r\n{\"h\":\"é\"}"), "{sent}");
}

#[tokio::test]
async fn statuses_have_a_meaning() {
    use BackendErrorKind::{Denied, Overloaded, Protocol, Refused, Timeout, Unavailable};

    for (status, kind, effect) in [
        ("401 Unauthorized", Denied, Effect::NotApplied),
        ("403 Forbidden", Denied, Effect::NotApplied),
        ("413 Payload Too Large", Refused, Effect::NotApplied),
        ("429 Too Many Requests", Overloaded, Effect::NotApplied),
        ("408 Request Timeout", Timeout, Effect::Unknown),
        ("504 Gateway Timeout", Timeout, Effect::Unknown),
        ("500 Internal Server Error", Unavailable, Effect::Unknown),
        ("502 Bad Gateway", Unavailable, Effect::Unknown),
        ("404 Not Found", Protocol, Effect::Unknown),
        ("301 Moved Permanently", Protocol, Effect::Unknown),
    ] {
        let error = error_of(status, "").await;
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{status}");
        assert!(error.message().contains("what the service says"), "{error}");
        assert!(error.message().contains(&status[..3]), "{error}");
        assert_eq!(error.retry_after(), None);
    }
}

#[tokio::test]
async fn the_server_says_when_to_come_again() {
    for (status, header, expected) in [
        ("429 Too Many Requests", "retry-after: 7\r\n", Some(7)),
        (
            "503 Service Unavailable",
            "retry-after: 999999\r\n",
            Some(3_600),
        ),
        ("503 Service Unavailable", "retry-after: tomorrow\r\n", None),
        ("500 Internal Server Error", "retry-after: 7\r\n", None),
    ] {
        let after = error_of(status, header).await.retry_after();
        assert_eq!(
            after,
            expected.map(Duration::from_secs),
            "{status} {header}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, asked) = server(answer("200 OK", "", "{}"));
    let (here, _requests) = server(answer(
        "307 Temporary Redirect",
        &format!("location: {elsewhere}/\r\n"),
        "",
    ));
    let client = client(here, &context()).await;
    assert_eq!(get(&client).await.unwrap().status(), 307);
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn a_page_where_json_was_expected_is_a_protocol_error() {
    let page = "<html>starting, secret</html>";
    let (endpoint, _requests) = server(answer("200 OK", "content-type: text/html\r\n", page));
    let answer = get(&client(endpoint, &context()).await).await.unwrap();
    let error = answer.json::<serde_json::Value>().unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Protocol);
    assert!(error.message().contains("text/html"), "{error}");
    assert!(!format!("{error} {answer:?}").contains("secret"), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_http_is_unavailable() {
    let (endpoint, _requests) = server("SSH-2.0-nothing\r\n\r\n");
    let error = get(&client(endpoint, &context()).await).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    assert_eq!(error.effect(), Effect::Unknown);
}

#[tokio::test]
async fn answers_are_bounded() {
    let context = context();
    for (most, kind) in [(10, None), (9, Some(BackendErrorKind::Protocol))] {
        let (endpoint, _requests) = server(answer("200 OK", "", "0123456789"));
        let options = HttpOptions::new(&context).max_answer_bytes(most);
        let client = HttpClient::new(endpoint, options, &context.runtime);
        let answer = get(&client.await.unwrap()).await;
        assert_eq!(answer.err().map(|error| error.kind()), kind);
    }
}

#[tokio::test]
async fn requests_are_bounded() {
    let context = context();
    let (endpoint, asked) = server(answer("200 OK", "", "{}"));
    let options = HttpOptions::new(&context).max_request_bytes(10);
    let client = HttpClient::new(endpoint, options, &context.runtime)
        .await
        .unwrap();
    let send = async |text: &str| {
        let request = client.request(Method::Post, ["a"]).json(&text)?;
        client.send(request).await
    };
    assert!(send("01234567").await.unwrap().is_success());
    let error = send("012345678").await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Refused);
    assert_eq!(error.effect(), Effect::NotApplied);
    assert_eq!(asked.try_iter().count(), 1);
}

#[tokio::test]
async fn a_closed_port_has_changed_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = get(&client(endpoint(port), &context()).await)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    assert_eq!(error.effect(), Effect::NotApplied);
}

/// A server that accepts and never answers.
fn silent() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, endpoint(port))
}

#[tokio::test]
async fn a_silent_server_times_out_with_unknown_effect() {
    let (_listener, endpoint) = silent();
    let context = context().attempt_timeout(Duration::from_millis(100));
    let error = get(&client(endpoint, &context).await).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout);
    assert_eq!(error.effect(), Effect::Unknown);
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_the_pool_recovers() {
    let (listener, endpoint) = silent();
    let context = context()
        .attempt_timeout(Duration::from_millis(200))
        .pool_size(1);
    let client = client(endpoint, &context).await;
    let (first, second, third, fourth) =
        tokio::join!(get(&client), get(&client), get(&client), get(&client));
    // The first one holds the connection. When it gives up, so do the others, but for one at most
    // that has its connection a moment before.
    let failed = [first, second, third, fourth].map(Result::unwrap_err);
    assert_eq!(failed[0].kind(), BackendErrorKind::Timeout);
    let overloaded = failed
        .iter()
        .filter(|error| error.kind() == BackendErrorKind::Overloaded)
        .inspect(|error| assert_eq!(error.effect(), Effect::NotApplied))
        .count();
    assert!(overloaded >= 2, "{failed:?}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Those of the requests that were given up are closed by now.
            if request(&mut stream).is_some() {
                let _ = stream.write_all(answer("200 OK", "", "{}").as_bytes());
            }
        }
    });
    assert!(get(&client).await.unwrap().is_success());
}

#[tokio::test]
async fn secrets_are_sent_and_not_shown() {
    let context = context();
    let token = || Secret::new("hunter2");
    let basic = Authorization::Basic {
        username: "me".to_owned(),
        password: token(),
    };
    let header = Authorization::Header {
        name: "x-token",
        value: token(),
    };
    for (authorization, expected) in [
        (
            Authorization::Bearer(token()),
            "authorization: Bearer hunter2",
        ),
        (basic, "authorization: Basic bWU6aHVudGVyMg=="),
        (header, "x-token: hunter2"),
    ] {
        let (endpoint, requests) = server(answer("401 Unauthorized", "", "{}"));
        let options = HttpOptions::new(&context).authorization(authorization);
        let shown = format!("{options:?}");
        let client = HttpClient::new(endpoint, options, &context.runtime)
            .await
            .unwrap();
        let error = get(&client).await.unwrap().error("");
        let sent = requests.recv().unwrap();
        assert!(sent.contains(expected), "{sent}");
        let shown = format!("{shown} {client:?} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_secret_that_no_header_carries_is_a_configuration_error() {
    let context = context();
    let token = Authorization::Bearer(Secret::new("hunter2\n"));
    let options = HttpOptions::new(&context).authorization(token);
    let error = HttpClient::new(endpoint(1), options, &context.runtime)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert!(!error.message().contains("hunter2"), "{error}");
}
