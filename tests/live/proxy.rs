//! A TCP proxy that stands before a real server and misbehaves on demand.
//!
//! It knows bytes, not protocols: a *request* is what the client sends, an *answer* what the
//! server sends. A fault can be changed at any time, also for connections that are open. A
//! connection that lost bytes to a fault is reset when that fault ends: what would follow on it
//! would be half of a conversation.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "each test file uses its own part, and a test may panic in its helpers"
)]

#[path = "proxy/chunk.rs"]
mod chunk;
#[path = "proxy/connection.rs"]
mod connection;
#[path = "proxy/listener.rs"]
mod listener;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use self::listener::Listener;

/// What the proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes as it is.
    None,
    /// Requests arrive this much later, so that every round trip takes that much longer. Requests
    /// under way overlap, as on a long line.
    Latency(Duration),
    /// Every connection is closed, and new ones are refused as on a port where nobody listens.
    Cut,
    /// Every connection is reset, new ones as soon as they are made.
    Reset,
    /// Connections are accepted, what arrives is thrown away, and nothing is ever answered. The
    /// server hears of none of it.
    HalfOpen,
    /// Requests reach the server, its answers are thrown away.
    Blackhole,
    /// Answers come in pieces of at most `bytes`, one every `every`.
    Drip {
        /// The size of a piece.
        bytes: usize,
        /// The time from one piece to the next.
        every: Duration,
    },
    /// Requests wait in the proxy until the next fault, then they go on, even if their client has
    /// left meanwhile: the request that times out here and lands there a minute later. What lands
    /// is what the client had sent without an answer, so a protocol that asks several questions
    /// for one request lands the first of them only.
    HoldRequests,
    /// Requests reach the server, its answers wait in the proxy until the next fault.
    HoldAnswers,
}

/// What went through the proxy, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections ever accepted.
    pub accepted: u64,
    /// Clients that ended their side, such as those that gave up waiting.
    pub left: u64,
    /// Connections now open at the client's or the server's side.
    pub open: u64,
    /// Bytes of requests that came and have neither gone on nor been thrown away.
    pub held_requests: u64,
    /// Bytes of answers that came and have neither gone on nor been thrown away.
    pub held_answers: u64,
    /// Bytes of requests thrown away.
    pub lost_requests: u64,
    /// Bytes of answers thrown away.
    pub lost_answers: u64,
}

type FaultChange = (Fault, oneshot::Sender<()>);

/// A proxy on loopback before one server. Dropped, it closes its port and every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    changes: mpsc::Sender<FaultChange>,
    counts: watch::Receiver<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 before `target`, which is `host:port`. The server is
    /// not asked whether it is there.
    pub async fn start(target: impl Into<String>) -> io::Result<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), target).await
    }

    /// The same on another address of this machine, such as 127.0.0.2, which is in no certificate.
    pub async fn start_on(host: IpAddr, target: impl Into<String>) -> io::Result<Self> {
        let listener = Listener::open(SocketAddr::new(host, 0))?;
        let address = listener.address();
        let (changes, received) = mpsc::channel(1);
        let (counting, counts) = watch::channel(Counts::default());
        let task = tokio::spawn(listener.serve(target.into(), received, counting));
        Ok(Self {
            address,
            changes,
            counts,
            task,
        })
    }

    /// A proxy before the server that the URL names, and the URL that goes through it: the same
    /// but for the port, so that the name in a certificate still holds.
    pub async fn before(url: &str) -> io::Result<(Self, String)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a URL without host and port");
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, server)) => (format!("{user}@"), server),
            None => (String::new(), authority),
        };
        let (host, port) = server.rsplit_once(':').ok_or_else(invalid)?;
        port.parse::<u16>().map_err(|_| invalid())?;
        let proxy = Self::start(server).await?;
        let through = format!("{scheme}://{user}{host}:{}{path}", proxy.address.port());
        Ok((proxy, through))
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the proxy does. On return it holds for new connections, and after [`Fault::Cut`]
    /// and [`Fault::Reset`] the old ones are gone.
    pub async fn set(&self, fault: Fault) {
        let (done, heard) = oneshot::channel();
        self.changes
            .send((fault, done))
            .await
            .expect("the proxy's task runs as long as the proxy");
        heard
            .await
            .expect("the proxy's task answers every change, unless its port was taken from it");
    }

    /// What went through until now.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are as wanted, such as until a request is held.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        *self
            .counts
            .clone()
            .wait_for(wanted)
            .await
            .expect("the proxy's task runs as long as the proxy")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fault {
    /// Whether connections end by it.
    fn ends_connections(self) -> bool {
        matches!(self, Self::Cut | Self::Reset)
    }
}
