//! The port of a proxy: listened on, or kept without listening so that connections are refused and
//! no other program takes it.

use std::{io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Counts, Fault, FaultChange, connection::Connection};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    /// `None` while connections are refused.
    listening: Option<TcpListener>,
    /// Bound and not listening, while connections are refused.
    reserved: Option<TcpSocket>,
}

impl Listener {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let listening = bound(address)?.listen(BACKLOG)?;
        Ok(Self {
            address: listening.local_addr()?,
            listening: Some(listening),
            reserved: None,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn refuse(&mut self) -> io::Result<()> {
        if self.listening.take().is_some() {
            self.reserved = Some(bound(self.address)?);
        }
        Ok(())
    }

    fn listen(&mut self) -> io::Result<()> {
        if let Some(reserved) = self.reserved.take() {
            self.listening = Some(reserved.listen(BACKLOG)?);
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let Some(listening) = &self.listening else {
            return std::future::pending().await;
        };
        loop {
            match listening.accept().await {
                Ok((client, _)) => return Ok(client),
                // It left before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Carries connections to the target until there is nobody left to change the fault.
    pub(super) async fn serve(
        mut self,
        target: String,
        mut changes: mpsc::Receiver<FaultChange>,
        counts: watch::Sender<Counts>,
    ) {
        let faults = watch::Sender::new(Fault::None);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let Some((fault, done)) = change else { return };
                    let moved = if fault == Fault::Cut { self.refuse() } else { self.listen() };
                    moved.expect("the port is still the proxy's");
                    faults.send_replace(fault);
                    if fault.ends_connections() {
                        while let Some(ended) = connections.join_next().await {
                            ended.expect("a connection never panics");
                        }
                    }
                    // Who asked may have given up waiting; the change holds all the same.
                    let _ = done.send(());
                }
                client = self.accept() => {
                    let client = client.expect("this program may open one more connection");
                    counts.send_modify(|counts| counts.accepted += 1);
                    let connection = Connection::new(client, faults.subscribe(), counts.clone());
                    connections.spawn(connection.run(target.clone()));
                }
                Some(ended) = connections.join_next() => ended.expect("a connection never panics"),
            }
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections that were just closed still name the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
