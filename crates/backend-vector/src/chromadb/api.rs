//! The server's HTTP API, version 2: one method for each request that is made.

use std::sync::Arc;

use dbmanager_backend_support::http::{Answer, HttpClient, Method, base64};
use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    config::Config,
    convert::{self, Found, Records, ServerCollection},
    filter::Where,
};

/// Bytes of one request that are aimed at; a record that is larger goes alone.
pub(super) const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of texts in the metadata of one record, whatever a request may have: they are held in
/// memory several times while it is made.
const MAX_METADATA_BYTES: usize = 64 * 1024 * 1024;
/// Collections listed at once.
const PAGE: usize = 500;

/// A record to be written.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) embedding: Vec<f32>,
    /// The same for all chunks of a document.
    pub(super) metadata: Arc<Map<String, Value>>,
}

impl Record {
    /// About how many bytes it takes in a request.
    pub(super) fn weight(&self) -> usize {
        fn of(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len() + 8,
                Value::Array(list) => list.iter().map(of).sum::<usize>() + 8,
                _ => 24,
            }
        }
        let metadata: usize = self
            .metadata
            .iter()
            .map(|(key, value)| key.len() + of(value))
            .sum();
        self.id.len() + self.embedding.len() * 6 + metadata + 64
    }
}

/// One server, tenant and database.
#[derive(Debug)]
pub(super) struct Api {
    http: HttpClient,
    tenant: String,
    database: String,
    max_batch: usize,
    max_metadata: usize,
}

/// Which records are read.
#[derive(Clone, Debug)]
pub(super) struct Selection<'a> {
    pub(super) condition: &'a Where,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
}

impl<'a> Selection<'a> {
    pub(super) fn all(condition: &'a Where) -> Self {
        Self {
            condition,
            limit: None,
            offset: 0,
        }
    }
}

impl Api {
    /// Connects, and checks that the server is one that is understood and holds the database.
    ///
    /// # Errors
    /// `Config`: another server, or no such tenant or database; otherwise as the connection fails.
    pub(super) async fn connect(http: HttpClient, config: &Config) -> BackendResult<Self> {
        #[derive(Deserialize)]
        struct Checks {
            max_batch_size: usize,
        }

        let mut api = Self {
            http,
            tenant: config.tenant.clone(),
            database: config.database.clone(),
            max_batch: 1,
            max_metadata: config.max_request_bytes.min(MAX_METADATA_BYTES),
        };
        let request = api
            .http
            .request(Method::Get, ["api", "v2", "pre-flight-checks"]);
        let answer = api.http.send(request).await?;
        if matches!(answer.status(), 404 | 405 | 410 | 501) {
            return Err(config_error(format!(
                "the server does not speak version 2 of ChromaDB's HTTP API (HTTP status {}): \
                 ChromaDB 1.5 is needed",
                answer.status()
            )));
        }
        let checks: Checks = success(answer, false)?.json()?;
        api.max_batch = checks.max_batch_size.max(1);
        api.check_database().await?;
        Ok(api)
    }

    /// The bytes of texts in a record's metadata above which no request can hold the record.
    pub(super) fn max_metadata(&self) -> usize {
        self.max_metadata
    }

    /// Reads the database's own entry.
    pub(super) async fn check_database(&self) -> BackendResult<()> {
        let (tenant, database) = (self.tenant.as_str(), self.database.as_str());
        let path = ["api", "v2", "tenants", tenant, "databases", database];
        match self.call(Method::Get, &path, None, false).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                Err(config_error(format!(
                    "the server has no database {database:?} of a tenant {tenant:?}: {}",
                    error.message()
                )))
            }
            Err(error) => Err(error),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
        content: bool,
    ) -> BackendResult<Answer> {
        let mut request = self.http.request(method, path.iter().copied());
        if let Some(body) = body {
            request = request.json(&body)?;
        }
        success(self.http.send(request).await?, content)
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["api", "v2", "tenants", &self.tenant, "databases"];
        path.extend([self.database.as_str(), "collections"]);
        path.extend(rest);
        path
    }

    /// The collection of this name, if there is one.
    pub(super) async fn collection(&self, name: &str) -> BackendResult<Option<ServerCollection>> {
        match self
            .call(Method::Get, &self.path(&[name]), None, false)
            .await
        {
            Ok(answer) => answer.json().map(Some),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every collection of the database, other programs' too.
    pub(super) async fn collections(&self) -> BackendResult<Vec<ServerCollection>> {
        let mut all: Vec<ServerCollection> = Vec::new();
        loop {
            let request = self
                .http
                .request(Method::Get, self.path(&[]))
                .query("limit", &PAGE.to_string())
                .query("offset", &all.len().to_string());
            let page: Vec<ServerCollection> =
                success(self.http.send(request).await?, false)?.json()?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Creates a collection, or returns the one of this name as it is.
    pub(super) async fn create_collection(
        &self,
        name: &str,
        metadata: &Map<String, Value>,
        hnsw: Value,
    ) -> BackendResult<ServerCollection> {
        let body = json!({
            "name": name,
            "metadata": metadata,
            "configuration": { "hnsw": hnsw },
            "get_or_create": true,
        });
        let created = self
            .call(Method::Post, &self.path(&[]), Some(body), false)
            .await;
        match created {
            Ok(answer) => answer.json(),
            // Another has created it at the same moment.
            Err(error) => match self.collection(name).await {
                Ok(Some(found)) => Ok(found),
                _ => Err(error),
            },
        }
    }

    /// Removes the collection of this name, if there is one.
    pub(super) async fn drop_collection(&self, name: &str) -> BackendResult<()> {
        match self
            .call(Method::Delete, &self.path(&[name]), None, false)
            .await
        {
            Err(error) if error.kind() != BackendErrorKind::CollectionMissing => Err(error),
            _ => Ok(()),
        }
    }

    /// How many records a collection has.
    pub(super) async fn count(&self, collection: &str) -> BackendResult<usize> {
        let path = self.path(&[collection, "count"]);
        self.call(Method::Get, &path, None, false).await?.json()
    }

    /// Reads records: their ids, and what `include` names of them.
    pub(super) async fn get(
        &self,
        collection: &str,
        selection: Selection<'_>,
        include: &[&str],
    ) -> BackendResult<Records> {
        let mut body = json!({ "include": include, "offset": selection.offset });
        match selection.condition {
            Where::All => {}
            Where::Nothing => return Ok(no_records()),
            Where::Is(clause) => body["where"] = clause.clone(),
        }
        if let Some(limit) = selection.limit {
            body["limit"] = limit.into();
        }
        self.read(collection, body).await
    }

    /// Reads one record with its metadata, if it is there.
    pub(super) async fn get_one(
        &self,
        collection: &str,
        id: &str,
    ) -> BackendResult<Option<Map<String, Value>>> {
        let body = json!({ "ids": [id], "include": ["metadatas"] });
        let records = self.read(collection, body).await?;
        let metadata = records.metadatas.into_iter().flatten().next();
        Ok(metadata.map(Option::unwrap_or_default))
    }

    async fn read(&self, collection: &str, body: Value) -> BackendResult<Records> {
        let path = self.path(&[collection, "get"]);
        let answer = self.call(Method::Post, &path, Some(body), false).await?;
        let records: Records = answer.json()?;
        let count = records.ids.len();
        let whole = records.embeddings.as_ref().is_none_or(|e| e.len() == count)
            && records.metadatas.as_ref().is_none_or(|m| m.len() == count);
        match whole {
            true => Ok(records),
            false => Err(convert::protocol("the records' lists differ in length")),
        }
    }

    /// The ids and distances of the records nearest to the vector, nearest first.
    pub(super) async fn query(
        &self,
        collection: &str,
        vector: &[f32],
        limit: usize,
        condition: &Where,
    ) -> BackendResult<Vec<(String, Option<f32>)>> {
        let mut body = json!({
            "query_embeddings": [vector],
            "n_results": limit,
            "include": ["distances"],
        });
        match condition {
            Where::All => {}
            Where::Nothing => return Ok(Vec::new()),
            Where::Is(clause) => body["where"] = clause.clone(),
        }
        let path = self.path(&[collection, "query"]);
        let answer = self.call(Method::Post, &path, Some(body), false).await?;
        let found: Found = answer.json()?;
        let ids = found.ids.into_iter().next().unwrap_or_default();
        let distances = found.distances.unwrap_or_default();
        let distances = distances.into_iter().next().unwrap_or_default();
        match ids.len() == distances.len() {
            true => Ok(ids.into_iter().zip(distances).collect()),
            false => Err(convert::protocol("not as many distances as records")),
        }
    }

    /// Writes records in as many requests as the server's limits need, and answers for each; what
    /// the server refuses of a request is found by halving it.
    pub(super) async fn upsert(
        &self,
        collection: &str,
        records: &[Record],
    ) -> Vec<BackendResult<()>> {
        let mut answers = Vec::with_capacity(records.len());
        while answers.len() < records.len() {
            let rest = &records[answers.len()..];
            let batch = &rest[..self.fitting(rest)];
            // Halves still to be sent, the first one last.
            let mut waiting = vec![batch];
            while let Some(part) = waiting.pop() {
                match self.upsert_once(collection, part).await {
                    Err(error) if part.len() > 1 && error.is_permanent() => {
                        let (first, second) = part.split_at(part.len() / 2);
                        waiting.extend([second, first]);
                    }
                    answer => answers.extend(part.iter().map(|_| answer.clone())),
                }
            }
        }
        answers
    }

    /// How many of the first records fit into one request; at least one.
    fn fitting(&self, records: &[Record]) -> usize {
        let mut bytes = 0;
        let within = records.iter().take(self.max_batch).take_while(|record| {
            bytes += record.weight();
            bytes <= MAX_REQUEST_BYTES
        });
        within.count().max(1)
    }

    async fn upsert_once(&self, collection: &str, records: &[Record]) -> BackendResult<()> {
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        let metadatas: Vec<_> = records.iter().map(|record| &*record.metadata).collect();
        let embeddings: Vec<String> = records
            .iter()
            .map(|record| {
                let bytes: Vec<u8> = record
                    .embedding
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect();
                base64::encode(&bytes)
            })
            .collect();
        let body = json!({ "ids": ids, "embeddings": embeddings, "metadatas": metadatas });
        let path = self.path(&[collection, "upsert"]);
        self.call(Method::Post, &path, Some(body), true)
            .await
            .map(drop)
    }

    /// Removes records; those that are not there are no matter.
    pub(super) async fn delete(&self, collection: &str, ids: &[String]) -> BackendResult<()> {
        let path = self.path(&[collection, "delete"]);
        for batch in ids.chunks(self.max_batch) {
            let body = json!({ "ids": batch });
            self.call(Method::Post, &path, Some(body), false).await?;
        }
        Ok(())
    }
}

fn no_records() -> Records {
    Records {
        ids: Vec::new(),
        embeddings: Some(Vec::new()),
        metadatas: Some(Vec::new()),
    }
}

fn config_error(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

fn success(answer: Answer, content: bool) -> BackendResult<Answer> {
    match answer.is_success() {
        true => Ok(answer),
        false => Err(convert::error(&answer, content)),
    }
}
