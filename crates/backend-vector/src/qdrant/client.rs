//! The connections, and the calls the adapter makes.
//!
//! The messages and services are those of the crate `qdrant-client`; its own channel takes no
//! certificate authority from a file and puts a malformed API key into its error text, so the
//! channels are made here.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult, OpenContext};
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, CreateVectorNameRequest,
    DeleteCollection, GetCollectionInfoRequest, GetPoints, HealthCheckRequest,
    ListCollectionsRequest, PayloadIncludeSelector, PointId, PointsUpdateOperation,
    QueryBatchPoints, QueryPoints, ReadConsistency, RetrievedPoint, ScoredPoint, ScrollPoints,
    UpdateBatchPoints, UpdateCollection, WithPayloadSelector, WithVectorsSelector, WriteOrdering,
    collections_client::CollectionsClient, points_client::PointsClient,
    qdrant_client::QdrantClient, with_payload_selector, with_vectors_selector,
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    config::{Config, wrong},
    convert::status_error,
};

/// After this time without an answer to a ping a connection counts as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection with requests on it is pinged, so that a half-open one is found.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The connections to one server.
pub(super) struct Client {
    channels: Vec<Channel>,
    next: AtomicUsize,
    api_key: Option<MetadataValue<Ascii>>,
    read_consistency: Option<ReadConsistency>,
    write_ordering: Option<WriteOrdering>,
    /// The server's own limit for a request.
    timeout_seconds: u64,
    closed: AtomicBool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

/// What to read of points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// Fields of the payload; all if empty.
    pub(super) fields: &'a [&'a str],
    pub(super) vectors: bool,
}

impl Selection<'_> {
    /// The whole payload, no vectors.
    pub(super) const PAYLOAD: Selection<'static> = Selection {
        fields: &[],
        vectors: false,
    };

    pub(super) fn payload(&self) -> WithPayloadSelector {
        let options = if self.fields.is_empty() {
            with_payload_selector::SelectorOptions::Enable(true)
        } else {
            with_payload_selector::SelectorOptions::Include(PayloadIncludeSelector {
                fields: self
                    .fields
                    .iter()
                    .map(|field| (*field).to_owned())
                    .collect(),
            })
        };
        WithPayloadSelector {
            selector_options: Some(options),
        }
    }

    pub(super) fn vectors(&self) -> WithVectorsSelector {
        WithVectorsSelector {
            selector_options: Some(with_vectors_selector::SelectorOptions::Enable(self.vectors)),
        }
    }
}

impl Client {
    /// Connects when first used, and again by itself whenever a connection was lost.
    pub(super) fn new(config: &Config, context: &OpenContext) -> BackendResult<Self> {
        let endpoint = config
            .endpoint()?
            .connect_timeout(context.attempt_timeout)
            .timeout(context.attempt_timeout)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let channels = (0..context.pool_size.max(1))
            .map(|_| endpoint.connect_lazy())
            .collect();
        let api_key = config.api_key().map(|key| {
            let mut value: MetadataValue<Ascii> = key
                .reveal()
                .parse()
                .map_err(|_| wrong("api_key cannot be sent"))?;
            value.set_sensitive(true);
            Ok::<_, BackendError>(value)
        });
        Ok(Self {
            channels,
            next: AtomicUsize::new(0),
            api_key: api_key.transpose()?,
            read_consistency: config.read_consistency(),
            write_ordering: config.write_ordering(),
            timeout_seconds: context.attempt_timeout.as_secs().max(1),
            closed: AtomicBool::new(false),
        })
    }

    /// Later calls answer `Unavailable`.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn check_open(&self) -> BackendResult<()> {
        if !self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let closed = BackendError::new(BackendErrorKind::Unavailable, "the store is closed");
        Err(closed.not_applied())
    }

    fn channel(&self) -> BackendResult<Channel> {
        self.check_open()?;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.channels[next % self.channels.len()].clone())
    }

    fn points(&self) -> BackendResult<PointsClient<Channel>> {
        let client = PointsClient::new(self.channel()?);
        Ok(client.max_decoding_message_size(usize::MAX))
    }

    fn collections(&self) -> BackendResult<CollectionsClient<Channel>> {
        let client = CollectionsClient::new(self.channel()?);
        Ok(client.max_decoding_message_size(usize::MAX))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert("api-key", key.clone());
        }
        request
    }

    fn timeout(&self) -> Option<u64> {
        Some(self.timeout_seconds)
    }

    pub(super) async fn version(&self) -> BackendResult<String> {
        let request = self.request(HealthCheckRequest {});
        let answer = QdrantClient::new(self.channel()?)
            .health_check(request)
            .await;
        Ok(answer.map_err(status_error)?.into_inner().version)
    }

    /// The names of all collections that the key may see.
    pub(super) async fn collection_names(&self) -> BackendResult<Vec<String>> {
        let request = self.request(ListCollectionsRequest {});
        let answer = self.collections()?.list(request).await;
        let collections = answer.map_err(status_error)?.into_inner().collections;
        Ok(collections.into_iter().map(|one| one.name).collect())
    }

    /// `None` if there is no such collection.
    pub(super) async fn collection(&self, name: &str) -> BackendResult<Option<CollectionInfo>> {
        let request = self.request(GetCollectionInfoRequest {
            collection_name: name.to_owned(),
        });
        match self.collections()?.get(request).await {
            Ok(answer) => Ok(answer.into_inner().result),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status_error(status)),
        }
    }

    pub(super) async fn create_collection(&self, message: CreateCollection) -> BackendResult<()> {
        let message = CreateCollection {
            timeout: self.timeout(),
            ..message
        };
        let answer = self.collections()?.create(self.request(message)).await;
        answer.map(drop).map_err(status_error)
    }

    pub(super) async fn update_collection(&self, message: UpdateCollection) -> BackendResult<()> {
        let message = UpdateCollection {
            timeout: self.timeout(),
            ..message
        };
        let answer = self.collections()?.update(self.request(message)).await;
        answer.map(drop).map_err(status_error)
    }

    /// Deleting what is not there is `Ok`.
    pub(super) async fn delete_collection(&self, name: &str) -> BackendResult<()> {
        let request = self.request(DeleteCollection {
            collection_name: name.to_owned(),
            timeout: self.timeout(),
        });
        match self.collections()?.delete(request).await {
            Err(status) if status.code() != Code::NotFound => Err(status_error(status)),
            _ => Ok(()),
        }
    }

    pub(super) async fn create_vector_name(
        &self,
        message: CreateVectorNameRequest,
    ) -> BackendResult<()> {
        let message = CreateVectorNameRequest {
            wait: Some(true),
            timeout: self.timeout(),
            ..message
        };
        let request = self.request(message);
        let answer = self.points()?.create_vector_name(request).await;
        answer.map(drop).map_err(status_error)
    }

    pub(super) async fn create_index(
        &self,
        message: CreateFieldIndexCollection,
    ) -> BackendResult<()> {
        let message = CreateFieldIndexCollection {
            wait: Some(true),
            timeout: self.timeout(),
            ..message
        };
        let request = self.request(message);
        let answer = self.points()?.create_field_index(request).await;
        answer.map(drop).map_err(status_error)
    }

    /// The points of these ids that are there, in any order.
    pub(super) async fn get(
        &self,
        collection: &str,
        ids: Vec<PointId>,
        selection: Selection<'_>,
    ) -> BackendResult<Vec<RetrievedPoint>> {
        let request = self.request(GetPoints {
            collection_name: collection.to_owned(),
            ids,
            with_payload: Some(selection.payload()),
            with_vectors: Some(selection.vectors()),
            read_consistency: self.read_consistency,
            timeout: self.timeout(),
            ..GetPoints::default()
        });
        let answer = self.points()?.get(request).await;
        Ok(answer.map_err(status_error)?.into_inner().result)
    }

    /// A page of points and where the next one starts.
    pub(super) async fn scroll(
        &self,
        message: ScrollPoints,
    ) -> BackendResult<(Vec<RetrievedPoint>, Option<PointId>)> {
        let request = self.request(ScrollPoints {
            with_payload: Some(Selection::PAYLOAD.payload()),
            with_vectors: Some(Selection::PAYLOAD.vectors()),
            read_consistency: self.read_consistency,
            timeout: self.timeout(),
            ..message
        });
        let answer = self.points()?.scroll(request).await;
        let answer = answer.map_err(status_error)?.into_inner();
        Ok((answer.result, answer.next_page_offset))
    }

    /// The hits of each query.
    pub(super) async fn query(
        &self,
        collection: &str,
        queries: Vec<QueryPoints>,
    ) -> BackendResult<Vec<Vec<ScoredPoint>>> {
        let request = self.request(QueryBatchPoints {
            collection_name: collection.to_owned(),
            query_points: queries,
            read_consistency: self.read_consistency,
            timeout: self.timeout(),
        });
        let answer = self.points()?.query_batch(request).await;
        let batches = answer.map_err(status_error)?.into_inner().result;
        Ok(batches.into_iter().map(|batch| batch.result).collect())
    }

    /// Carries the operations out one after the other; returns when they are visible. The status
    /// is left to the caller, who knows whose content it may be about.
    pub(super) async fn update(
        &self,
        collection: &str,
        operations: Vec<PointsUpdateOperation>,
        ordering: Option<WriteOrdering>,
    ) -> BackendResult<Result<(), Status>> {
        let request = self.request(UpdateBatchPoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            operations,
            ordering: ordering.or(self.write_ordering),
            timeout: self.timeout(),
        });
        Ok(self.points()?.update_batch(request).await.map(drop))
    }
}
