//! Servers, ways to them, and what the tests of this service have in common.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dbmanager_backend_vector::chromadb::ChromadbFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendFactory, BackendResult, CreateCollectionRequest,
        IdsRequest, Mutation, OpenContext, ServiceConfig, Stamp, StampRequest, VectorBackend,
        VectorHit, VectorSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        EmbeddingSpace, JournalId, Metric, StoreId, VectorOrigin, VectorSet, Version,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream as AsyncStream},
    sync::watch,
};

use crate::environment::{CHROMADB, unique};

/// The server's API without the adapter, to prepare and to look behind its back.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    address: String,
}

impl Raw {
    pub(crate) fn new(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        Self {
            address: address.to_owned(),
        }
    }

    /// The status and the JSON of an answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        // Version 1.0: the body ends with the connection.
        let request = format!(
            "{method} /api/v2{path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn collections(&self, rest: &str) -> String {
        format!("/tenants/default_tenant/databases/default_database/collections{rest}")
    }

    pub(crate) fn on_collections(&self, method: &str, rest: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, &self.collections(rest), body);
        assert!((200..300).contains(&status), "{method} {rest}: {answer}");
        answer
    }

    /// The names of the collections that start so.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let all = self.on_collections("GET", "", &Value::Null);
        let names = all.as_array().unwrap().iter();
        names
            .map(|collection| collection["name"].as_str().unwrap().to_owned())
            .filter(|name| name.starts_with(prefix))
            .collect()
    }

    pub(crate) fn remove_all(&self, prefix: &str) {
        for name in self.names(prefix) {
            // Another sweep may have been faster.
            self.call(
                "DELETE",
                &self.collections(&format!("/{name}")),
                &Value::Null,
            );
        }
    }

    /// The ids of the records in the collection of this name.
    pub(crate) fn record_ids(&self, name: &str) -> Vec<String> {
        let id = self.id_of(name);
        let found = self.on_collections("POST", &format!("/{id}/get"), &json!({"include": []}));
        let ids = found["ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn id_of(&self, name: &str) -> String {
        let found = self.on_collections("GET", &format!("/{name}"), &Value::Null);
        found["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn upsert(&self, name: &str, id: &str, embedding: &[f32], metadata: &Value) {
        let path = format!("/{}/upsert", self.id_of(name));
        let body = json!({"ids": [id], "embeddings": [embedding], "metadatas": [metadata]});
        self.on_collections("POST", &path, &body);
    }

    pub(crate) fn answers(&self) -> bool {
        TcpStream::connect(&self.address).is_ok()
            && self.call("GET", "/heartbeat", &Value::Null).0 == 200
    }
}

/// Removes everything under a prefix when it is no longer used.
pub(crate) struct Swept(pub(crate) Raw, pub(crate) String);

impl Drop for Swept {
    fn drop(&mut self) {
        self.0.remove_all(&self.1);
    }
}

/// A place of one's own on a server.
pub(crate) struct Site {
    pub(crate) raw: Raw,
    pub(crate) prefix: String,
    pub(crate) url: String,
    _swept: Swept,
}

impl Site {
    /// On the server that the environment names, if there is one.
    pub(crate) fn new() -> Option<Self> {
        CHROMADB.address().map(|url| Self::on(&url))
    }

    pub(crate) fn on(url: &str) -> Self {
        let (raw, prefix) = (Raw::new(url), unique("live"));
        Self {
            _swept: Swept(raw.clone(), prefix.clone()),
            raw,
            prefix,
            url: url.to_owned(),
        }
    }

    pub(crate) fn config(&self) -> Value {
        json!({"url": self.url, "collection_prefix": self.prefix})
    }

    pub(crate) async fn open(&self) -> Arc<dyn VectorBackend> {
        open(self.config()).await.unwrap()
    }

    /// The name on the server of a part of [`papers`].
    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}{part}1-papers", self.prefix)
    }
}

pub(crate) fn object(config: Value) -> ServiceConfig {
    match config {
        Value::Object(config) => config,
        other => panic!("{other} is no configuration"),
    }
}

pub(crate) fn context() -> OpenContext {
    OpenContext::new(Runtime::tokio())
}

pub(crate) async fn open_in(
    config: Value,
    context: &OpenContext,
) -> BackendResult<Arc<dyn VectorBackend>> {
    match ChromadbFactory::new()
        .open(&object(config), context)
        .await?
    {
        AnyBackend::Vector(backend) => Ok(backend),
        other => panic!("{other:?} is no vector store"),
    }
}

pub(crate) async fn open(config: Value) -> BackendResult<Arc<dyn VectorBackend>> {
    open_in(config, &context()).await
}

pub(crate) fn papers() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

pub(crate) fn create(dimension: u32, metric: Metric) -> CreateCollectionRequest {
    let options =
        CollectionOptions::new().embedding_space(EmbeddingSpace::CALLER, dimension, metric);
    let key = papers();
    CreateCollectionRequest::new(Collection { key, options }, 1)
}

pub(crate) fn stamp(epoch: u64) -> StampRequest {
    StampRequest::new(Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    })
}

/// A stamped store with the collection [`papers`] of two dimensions.
pub(crate) async fn prepare(store: &Arc<dyn VectorBackend>) {
    store.write_stamp(stamp(1)).await.unwrap();
    store
        .create_collection(create(2, Metric::Cosine))
        .await
        .unwrap();
}

pub(crate) fn version(number: u64) -> Version {
    Version::from_u64(Version::from_parts(1_760_000_000_000, 0).as_u64() + number)
}

/// The document at a version, with these vectors.
pub(crate) fn upsert(number: u64, document: Document, vectors: &[[f32; 2]]) -> Mutation {
    let vectors = vectors.iter().zip(0..).map(|(values, chunk)| ChunkVector {
        chunk,
        passage: None,
        values: values.to_vec(),
    });
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: vectors.collect(),
    };
    let id = document.id.clone();
    let record = DocumentRecord::new(document, set).unwrap();
    Mutation::upsert(id, version(number), Arc::new(record))
}

pub(crate) async fn apply(
    store: &Arc<dyn VectorBackend>,
    mutations: Vec<Mutation>,
) -> BackendResult<Vec<BackendResult<()>>> {
    store.apply(ApplyRequest::new(papers(), 1, mutations)).await
}

/// Writes what must be taken.
pub(crate) async fn write(store: &Arc<dyn VectorBackend>, mutations: Vec<Mutation>) {
    for answer in apply(store, mutations).await.unwrap() {
        answer.unwrap();
    }
}

pub(crate) fn ids(list: &[&str]) -> IdsRequest {
    let list: Vec<Arc<str>> = list.iter().map(|id| Arc::from(*id)).collect();
    IdsRequest::new(papers(), list)
}

pub(crate) async fn search(store: &Arc<dyn VectorBackend>, limit: usize) -> Vec<VectorHit> {
    let request = VectorSearchRequest::new(papers(), [1.0, 0.0], limit);
    store.search_vectors(request).await.unwrap()
}

/// The server's program; `None`, with a line in the report, if it is not there.
pub(crate) fn program() -> Option<PathBuf> {
    CHROMADB.software("chromadb/software/bin/chroma")
}

/// A server of the test's own.
pub(crate) struct OwnServer {
    program: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl OwnServer {
    pub(crate) fn new(program: PathBuf) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            program,
            directory: tempfile::tempdir().unwrap(),
            port: free.local_addr().unwrap().port(),
            process: None,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let process = Command::new(&self.program)
            .current_dir(self.directory.path())
            .env("ANONYMIZED_TELEMETRY", "False")
            .args([
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
            ])
            .arg("--path")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let raw = Raw::new(&self.url());
        for _ in 0..1_200 {
            if raw.answers() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not start");
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A copy of what it has stored; it must not run.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(&self.data(), copy.path());
        copy
    }

    /// Puts a copy in the place of what it has stored; it must not run.
    pub(crate) fn restore(&self, copy: tempfile::TempDir) {
        std::fs::remove_dir_all(self.data()).unwrap();
        copy_directory(copy.path(), &self.data());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_directory(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What a gate does with connections.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Gate {
    /// Lets them through.
    Open,
    /// Lets those through whose first request has this line among its headers; others are 401.
    Guarded(&'static str),
    /// Gives each this answer.
    Answering(String),
    /// Takes them and says nothing.
    Silent,
}

/// Starts a gate in front of an address; what it does can be changed.
pub(crate) async fn gate(at: &str, to: &str, mode: Gate) -> (String, watch::Sender<Gate>) {
    let listener = TcpListener::bind((at, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = to.trim_start_matches("http://").to_owned();
    let (sender, receiver) = watch::channel(mode);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, to.clone(), receiver.clone()));
        }
    });
    (format!("http://{address}"), sender)
}

/// Reads a request: its head, and as much of a body as it announces.
async fn read_request(client: &mut AsyncStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let read = request.len();
    request.resize(read + length, 0);
    client.read_exact(&mut request[read..]).await?;
    Ok(request)
}

async fn pass(mut client: AsyncStream, to: String, mut mode: watch::Receiver<Gate>) {
    let now = mode.borrow_and_update().clone();
    let mut first = Vec::new();
    if matches!(now, Gate::Guarded(_) | Gate::Answering(_)) {
        match read_request(&mut client).await {
            Ok(request) => first = request,
            Err(_) => return,
        }
    }
    let refusal = match now {
        Gate::Open => None,
        Gate::Silent => {
            // Until the gate does something else, or is gone.
            let _ = mode.changed().await;
            return;
        }
        Gate::Guarded(header) => {
            let line = format!("\r\n{header}\r\n");
            let inside = String::from_utf8_lossy(&first).contains(&line);
            (!inside).then(|| answer("401 Unauthorized", "{}"))
        }
        Gate::Answering(answer) => Some(answer),
    };
    // Whether either side has gone is no matter of the gate's.
    if let Some(answer) = refusal {
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    if let Ok(mut server) = AsyncStream::connect(&to).await {
        let _ = server.write_all(&first).await;
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = mode.changed() => {}
        }
    }
}

pub(crate) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
