//! The proxy of the live tests, before a server that echoes: each of its faults is what it says.
//! Waiting is for a condition or on tokio's paused clock.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

#[path = "live/proxy.rs"]
mod proxy;

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use proxy::{Fault, Proxy};

/// Answers every byte with itself and remembers it.
struct Echo {
    address: SocketAddr,
    seen: watch::Receiver<Vec<u8>>,
    connections: watch::Receiver<usize>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seeing, seen) = watch::channel(Vec::new());
        let (connecting, connections) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (seeing, connecting) = (seeing.clone(), connecting.clone());
                connecting.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        seeing.send_modify(|seen| seen.extend(&buffer[..count]));
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                    connecting.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            address,
            seen,
            connections,
        }
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.borrow().clone()
    }

    /// A round trip past the proxy: what reached the server before it has been seen by it.
    async fn ask_directly(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        assert_eq!(ask(&mut stream, b"!").await, b"!");
        stream
    }

    async fn until_seen(&self, wanted: &[u8]) {
        let mut seen = self.seen.clone();
        seen.wait_for(|seen| seen == wanted).await.unwrap();
    }

    async fn until_connections(&self, wanted: usize) {
        let mut connections = self.connections.clone();
        connections.wait_for(|open| *open == wanted).await.unwrap();
    }
}

async fn echo_and_proxy() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address.to_string()).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; request.len()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

/// How a connection ends: the kind of the error, or `None` for an orderly end.
async fn end(stream: &mut TcpStream) -> Option<ErrorKind> {
    match stream.read(&mut [0; 64]).await {
        Ok(0) => None,
        Ok(count) => panic!("{count} bytes came instead of the end"),
        Err(error) => Some(error.kind()),
    }
}

#[tokio::test]
async fn without_a_fault_all_bytes_pass_and_both_ends_hear_of_the_end() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    let request: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let (mut reading, mut writing) = client.split();
    let mut answer = vec![0; request.len()];
    let (written, read) =
        tokio::join!(writing.write_all(&request), reading.read_exact(&mut answer));
    written.unwrap();
    read.unwrap();
    assert_eq!(answer, request);
    echo.until_connections(1).await;
    drop(client);
    echo.until_connections(0).await;
    let counts = proxy.until(|counts| counts.open == 0).await;
    assert_eq!((counts.accepted, counts.held_requests), (1, 0));
    assert_eq!((counts.lost_requests, counts.lost_answers), (0, 0));
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"last words");
}

#[tokio::test(start_paused = true)]
async fn latency_delays_every_round_trip_and_ends_with_the_fault() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    let delay = Duration::from_millis(50);
    proxy.set(Fault::Latency(delay)).await;
    let start = Instant::now();
    for round in 1..=3 {
        assert_eq!(ask(&mut client, b"ping").await, b"ping");
        assert!(start.elapsed() >= delay * round);
    }
    proxy.set(Fault::Latency(Duration::from_secs(86_400))).await;
    client.write_all(b"soon").await.unwrap();
    proxy.until(|counts| counts.held_requests == 4).await;
    proxy.set(Fault::None).await;
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"soon");
    assert!(start.elapsed() < Duration::from_secs(86_400));
}

#[tokio::test(start_paused = true)]
async fn requests_under_latency_overlap() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    let delay = Duration::from_secs(3600);
    proxy.set(Fault::Latency(delay)).await;
    let start = Instant::now();
    for count in 1..=3 {
        client.write_all(b"x").await.unwrap();
        proxy.until(|counts| counts.held_requests == count).await;
    }
    echo.until_seen(b"xxx").await;
    assert!(start.elapsed() < delay * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_closes_what_is_open_and_refuses_what_is_new_until_it_ends() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    proxy.set(Fault::Cut).await;
    assert_eq!(proxy.counts().open, 0);
    assert_eq!(end(&mut client).await, None);
    echo.until_connections(0).await;
    for _ in 0..2 {
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    proxy.set(Fault::Cut).await;
    proxy.set(Fault::None).await;
    assert_eq!(ask(&mut connect(&proxy).await, b"after").await, b"after");
}

#[tokio::test]
async fn a_reset_is_one_for_old_and_new_connections() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    proxy.set(Fault::Reset).await;
    assert_eq!(end(&mut client).await, Some(ErrorKind::ConnectionReset));
    let mut new = connect(&proxy).await;
    assert_eq!(end(&mut new).await, Some(ErrorKind::ConnectionReset));
    proxy.set(Fault::None).await;
    assert_eq!(ask(&mut connect(&proxy).await, b"after").await, b"after");
}

#[tokio::test]
async fn half_open_the_server_hears_of_nothing_and_the_connection_is_no_good_afterwards() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut old = connect(&proxy).await;
    assert_eq!(ask(&mut old, b"before").await, b"before");
    proxy.set(Fault::HalfOpen).await;
    let mut new = connect(&proxy).await;
    old.write_all(b"lost").await.unwrap();
    new.write_all(b"lost too").await.unwrap();
    proxy.until(|counts| counts.lost_requests == 12).await;
    assert_eq!(echo.seen(), b"before");
    assert_eq!(*echo.connections.borrow(), 1);
    proxy.set(Fault::None).await;
    assert_eq!(end(&mut old).await, Some(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut new).await, Some(ErrorKind::ConnectionReset));
    assert_eq!(ask(&mut connect(&proxy).await, b"after").await, b"after");
}

#[tokio::test]
async fn half_open_the_server_does_not_hear_that_a_client_left() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    proxy.set(Fault::HalfOpen).await;
    drop(client);
    proxy.until(|counts| counts.left == 1).await;
    let _direct = echo.ask_directly().await;
    assert_eq!(*echo.connections.borrow(), 2);
    proxy.set(Fault::None).await;
    echo.until_connections(1).await;
}

#[tokio::test]
async fn a_connection_that_lost_nothing_outlives_the_fault() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    for fault in [Fault::HalfOpen, Fault::Blackhole, Fault::HoldRequests] {
        proxy.set(fault).await;
    }
    proxy.set(Fault::None).await;
    assert_eq!(ask(&mut client, b"after").await, b"after");
    assert_eq!(proxy.counts().accepted, 1);
}

#[tokio::test]
async fn in_a_blackhole_the_request_lands_and_the_answer_is_lost() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"1").await, b"1");
    proxy.set(Fault::Blackhole).await;
    client.write_all(b"2").await.unwrap();
    proxy.until(|counts| counts.lost_answers == 1).await;
    assert_eq!(echo.seen(), b"12");
    proxy.set(Fault::None).await;
    assert_eq!(end(&mut client).await, Some(ErrorKind::ConnectionReset));
}

#[tokio::test(start_paused = true)]
async fn an_answer_drips_in_pieces() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    let every = Duration::from_secs(60);
    proxy.set(Fault::Drip { bytes: 3, every }).await;
    let start = Instant::now();
    client.write_all(b"0123456789").await.unwrap();
    let mut answer = [0; 10];
    client.read_exact(&mut answer[..1]).await.unwrap();
    assert_eq!(echo.seen(), b"before0123456789");
    assert!(start.elapsed() < every * 2, "{:?}", start.elapsed());
    client.read_exact(&mut answer[1..]).await.unwrap();
    assert_eq!(&answer, b"0123456789");
    assert!(start.elapsed() >= every * 4, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_held_request_lands_after_its_client_has_given_up() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before ").await, b"before ");
    proxy.set(Fault::HoldRequests).await;
    client.write_all(b"late").await.unwrap();
    proxy.until(|counts| counts.held_requests == 4).await;
    drop(client);
    proxy.until(|counts| counts.left == 1).await;
    assert_eq!(echo.seen(), b"before ");
    proxy.set(Fault::None).await;
    echo.until_seen(b"before late").await;
    // A server that hears of the end might drop the work.
    let _direct = echo.ask_directly().await;
    assert_eq!(*echo.connections.borrow(), 2);
    proxy.set(Fault::Cut).await;
    echo.until_connections(1).await;
}

#[tokio::test]
async fn held_requests_of_a_patient_client_are_answered_after_the_release() {
    let (echo, proxy) = echo_and_proxy().await;
    proxy.set(Fault::HoldRequests).await;
    let mut client = connect(&proxy).await;
    let request: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    client.write_all(&request).await.unwrap();
    proxy.until(|counts| counts.held_requests == 100_000).await;
    assert_eq!(echo.seen(), b"");
    proxy.set(Fault::None).await;
    let mut answer = vec![0; request.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, request);
}

#[tokio::test]
async fn a_held_answer_comes_when_it_is_released() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    proxy.set(Fault::HoldAnswers).await;
    client.write_all(b"question").await.unwrap();
    proxy.until(|counts| counts.held_answers == 8).await;
    assert_eq!(echo.seen(), b"question");
    proxy.set(Fault::None).await;
    let mut answer = [0; 8];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"question");
}

#[tokio::test]
async fn what_is_held_is_lost_by_a_cut() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    proxy.set(Fault::HoldRequests).await;
    client.write_all(b"never").await.unwrap();
    proxy.until(|counts| counts.held_requests == 5).await;
    proxy.set(Fault::Cut).await;
    proxy.set(Fault::None).await;
    let counts = proxy.counts();
    assert_eq!((counts.held_requests, counts.lost_requests), (0, 5));
    assert_eq!(ask(&mut connect(&proxy).await, b"after").await, b"after");
    assert_eq!(echo.seen(), b"after");
}

#[tokio::test]
async fn a_server_that_is_not_there_resets() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Proxy::start(target.to_string()).await.unwrap();
    let mut client = connect(&proxy).await;
    assert_eq!(end(&mut client).await, Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_its_connections() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, b"before").await, b"before");
    let address = proxy.address();
    drop(proxy);
    assert_eq!(end(&mut client).await, None);
    echo.until_connections(0).await;
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_url_goes_through_with_another_port_and_nothing_else_changed() {
    for (url, user, rest) in [
        (
            "postgres://u:p%40:w@localhost:5432/db?sslmode=x",
            "u:p%40:w@localhost",
            "/db?sslmode=x",
        ),
        ("http://127.0.0.1:8000", "127.0.0.1", ""),
        (
            "mongodb://127.0.0.1:27017/?a=b@c:1",
            "127.0.0.1",
            "/?a=b@c:1",
        ),
    ] {
        let (proxy, through) = Proxy::before(url).await.unwrap();
        let scheme = url.split("://").next().unwrap();
        let port = proxy.address().port();
        assert_eq!(through, format!("{scheme}://{user}:{port}{rest}"));
    }
    for url in [
        "localhost:5432",
        "http://localhost/",
        "http://localhost:port/",
    ] {
        let error = Proxy::before(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
    }
}

#[tokio::test]
async fn a_proxy_stands_on_another_address_where_one_is_asked_for() {
    let echo = Echo::start().await;
    let host = "127.0.0.2".parse().unwrap();
    let proxy = Proxy::start_on(host, echo.address.to_string())
        .await
        .unwrap();
    assert_eq!(proxy.address().ip(), host);
    assert_eq!(ask(&mut connect(&proxy).await, b"there").await, b"there");
}
