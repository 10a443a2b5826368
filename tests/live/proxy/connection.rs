//! One connection through a proxy: two directions, each a reader that takes what comes and a
//! writer that does with it what the fault says.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{sleep, sleep_until},
};

use super::{
    Counts, Fault,
    chunk::{Chunk, Direction, Step},
};

const CHUNK_BYTES: usize = 16 * 1024;
/// How much of one direction is kept before its sender is no longer listened to: 16 MiB.
const CHUNKS_KEPT: usize = 1024;

pub(super) struct Connection {
    client: TcpStream,
    faults: watch::Receiver<Fault>,
    shared: Shared,
}

/// What both directions write to.
struct Shared {
    counts: watch::Sender<Counts>,
    lost_bytes: AtomicBool,
    server_is_spared_the_end: AtomicBool,
}

/// How a connection ends.
enum End {
    Closed,
    Reset,
}

impl Connection {
    pub(super) fn new(
        client: TcpStream,
        faults: watch::Receiver<Fault>,
        counts: watch::Sender<Counts>,
    ) -> Self {
        counts.send_modify(|counts| counts.open += 1);
        Self {
            client,
            faults,
            shared: Shared {
                counts,
                lost_bytes: AtomicBool::new(false),
                server_is_spared_the_end: AtomicBool::new(false),
            },
        }
    }

    pub(super) async fn run(self, target: String) {
        let Self {
            mut client,
            faults,
            shared,
        } = self;
        let mut server = None;
        let end = tokio::select! {
            // A fault that ends connections comes before the bytes that arrived with it.
            biased;
            end = shared.ended_by_fault(faults.clone()) => end,
            end = shared.converse(&mut client, &mut server, &target, faults) => end,
        };
        if matches!(end, End::Reset) {
            for stream in std::iter::once(&client).chain(&server) {
                // Fails only on a socket that has ended by itself.
                let _ = stream.set_zero_linger();
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| counts.open -= 1);
    }
}

impl Shared {
    async fn ended_by_fault(&self, mut faults: watch::Receiver<Fault>) -> End {
        let mut fault = *faults.borrow_and_update();
        loop {
            match fault {
                Fault::Cut => return End::Closed,
                Fault::Reset => return End::Reset,
                _ => {}
            }
            if faults.changed().await.is_err() {
                return End::Closed;
            }
            let next = *faults.borrow_and_update();
            if next != fault && next != Fault::Cut && self.lost_bytes.load(Ordering::Relaxed) {
                return End::Reset;
            }
            fault = next;
        }
    }

    async fn converse(
        &self,
        client: &mut TcpStream,
        server: &mut Option<TcpStream>,
        target: &str,
        faults: watch::Receiver<Fault>,
    ) -> End {
        if *faults.borrow() == Fault::HalfOpen {
            // The server never hears of it, and so it is one that cannot go on afterwards.
            self.lost_bytes.store(true, Ordering::Relaxed);
            self.throw_away(client).await;
            return End::Closed;
        }
        // As if the client's own packets went there: a server that is not there resets.
        let Ok(connected) = TcpStream::connect(target).await else {
            return End::Reset;
        };
        let server = server.insert(connected);
        for stream in [&*client, &*server] {
            // Without it the small pieces of a drip are put together again.
            if stream.set_nodelay(true).is_err() {
                return End::Reset;
            }
        }
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let requests = self.carry(
            Direction::Requests,
            client_reads,
            server_writes,
            faults.clone(),
        );
        let answers = self.carry(Direction::Answers, server_reads, client_writes, faults);
        let both = tokio::try_join!(
            async {
                // A client that was reset has left like any other: the server hears of the end.
                let _ = requests.await;
                Ok::<(), io::Error>(())
            },
            answers,
        );
        match both {
            Ok(_) => End::Closed,
            Err(_) => End::Reset,
        }
    }

    async fn throw_away(&self, client: &mut TcpStream) {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = client.read(&mut buffer).await {
            self.counts
                .send_modify(|counts| counts.lost_requests += count as u64);
        }
        self.counts.send_modify(|counts| counts.left += 1);
    }

    /// One direction, until its sender has ended and all that it sent has gone on.
    async fn carry(
        &self,
        direction: Direction,
        from: ReadHalf<'_>,
        to: WriteHalf<'_>,
        faults: watch::Receiver<Fault>,
    ) -> io::Result<()> {
        let (queue, chunks) = mpsc::channel(CHUNKS_KEPT);
        let (read, ()) = tokio::join!(
            async {
                let read = self.read(direction, from, queue).await;
                self.note_end(direction, *faults.borrow());
                read
            },
            self.write(direction, to, chunks, faults.clone()),
        );
        read
    }

    async fn read(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        queue: mpsc::Sender<Chunk>,
    ) -> io::Result<()> {
        loop {
            let mut bytes = vec![0; CHUNK_BYTES];
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            bytes.truncate(count);
            if queue
                .send(Chunk::new(bytes, direction, &self.counts))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }

    fn note_end(&self, direction: Direction, fault: Fault) {
        if direction == Direction::Answers {
            return;
        }
        self.counts.send_modify(|counts| counts.left += 1);
        match fault {
            // A client that leaves while its request is held did not take the request back, and a
            // server that saw it leave might drop the work.
            Fault::HoldRequests => {}
            Fault::HalfOpen => self.lost_bytes.store(true, Ordering::Relaxed),
            _ => return,
        }
        self.server_is_spared_the_end.store(true, Ordering::Relaxed);
    }

    async fn write(
        &self,
        direction: Direction,
        mut to: WriteHalf<'_>,
        mut chunks: mpsc::Receiver<Chunk>,
        mut faults: watch::Receiver<Fault>,
    ) {
        let mut writable = true;
        while let Some(mut chunk) = chunks.recv().await {
            // When the receiver has gone, its sender is still listened to: the other direction
            // may have something to deliver.
            chunk.passed = self
                .deliver(&chunk, &mut to, &mut faults, &mut writable)
                .await;
        }
        let spared = direction == Direction::Requests
            && self.server_is_spared_the_end.load(Ordering::Relaxed);
        if writable && !spared {
            // Fails only where the other side has gone already.
            let _ = to.shutdown().await;
        }
    }

    /// Whether the chunk went on, or its receiver has gone.
    async fn deliver(
        &self,
        chunk: &Chunk,
        to: &mut WriteHalf<'_>,
        faults: &mut watch::Receiver<Fault>,
        writable: &mut bool,
    ) -> bool {
        let mut rest = chunk.bytes.as_slice();
        while !rest.is_empty() {
            let fault = *faults.borrow_and_update();
            let piece = match chunk.direction.step(fault, chunk.arrived) {
                Step::Pass => rest.len(),
                Step::PassAt(time) => tokio::select! {
                    () = sleep_until(time) => rest.len(),
                    _ = faults.changed() => continue,
                },
                Step::Wait => {
                    // The sender of faults outlives every connection.
                    let _ = faults.changed().await;
                    continue;
                }
                Step::Lose => {
                    self.lost_bytes.store(true, Ordering::Relaxed);
                    return false;
                }
                Step::Drip { bytes, every } => {
                    let piece = rest.len().min(bytes.max(1));
                    if *writable {
                        tokio::select! {
                            () = sleep(every) => piece,
                            _ = faults.changed() => continue,
                        }
                    } else {
                        piece
                    }
                }
            };
            let (now, later) = rest.split_at(piece);
            if *writable && to.write_all(now).await.is_err() {
                *writable = false;
            }
            rest = later;
        }
        true
    }
}
