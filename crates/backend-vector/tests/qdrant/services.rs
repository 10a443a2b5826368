//! The model behind the server's protocol, on a port of its own.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use qdrant_client::qdrant::{
    self as q, BatchResult, CollectionDescription, QueryPoints, ScoredPoint,
    collections_server::{Collections, CollectionsServer},
    create_vector_name_request::VectorConfig,
    points_server::{Points, PointsServer},
    points_update_operation::Operation,
    qdrant_server::{Qdrant, QdrantServer},
    query, vector_input, vectors_config, with_payload_selector,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::model::{Collection, Model};

type Answer<T> = Result<Response<T>, Status>;

/// A running model; it ends with this value.
pub(super) struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Served {
    pub(super) fn start(model: Model) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming =
            TcpIncoming::from(TcpListener::from_std(listener).unwrap()).with_nodelay(Some(true));
        let service = Service(Arc::new(model));
        let most = usize::MAX;
        let task = tokio::spawn(async move {
            Server::builder()
                .add_service(QdrantServer::new(service.clone()))
                .add_service(
                    CollectionsServer::new(service.clone()).max_decoding_message_size(most),
                )
                .add_service(PointsServer::new(service).max_decoding_message_size(most))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Service(Arc<Model>);

impl Service {
    /// The model and the message, if the request has the key.
    async fn admit<T>(&self, request: Request<T>) -> Result<(&Model, T), Status> {
        // Requests that arrive together are carried out in any order.
        tokio::task::yield_now().await;
        let given = request.metadata().get("api-key");
        let given = given.and_then(|key| key.to_str().ok());
        if self.0.api_key.is_some() && given != self.0.api_key {
            return Err(Status::unauthenticated("Invalid API key or JWT"));
        }
        Ok((&self.0, request.into_inner()))
    }
}

#[async_trait]
impl Qdrant for Service {
    async fn health_check(&self, _: Request<q::HealthCheckRequest>) -> Answer<q::HealthCheckReply> {
        Ok(Response::new(q::HealthCheckReply {
            title: "model".to_owned(),
            version: self.0.version.to_owned(),
            commit: None,
        }))
    }
}

fn done() -> Answer<q::PointsOperationResponse> {
    Ok(Response::new(q::PointsOperationResponse::default()))
}

fn changed() -> Answer<q::CollectionOperationResponse> {
    Ok(Response::new(q::CollectionOperationResponse {
        result: true,
        time: 0.0,
    }))
}

fn query(model: &Model, collection: &str, query: QueryPoints) -> Result<BatchResult, Status> {
    let Some(query::Variant::Nearest(q::VectorInput {
        variant: Some(vector_input::Variant::Dense(vector)),
    })) = query.query.and_then(|query| query.variant)
    else {
        panic!("the adapter asks for the nearest ones only");
    };
    let exact = query.params.and_then(|params| params.exact) == Some(true);
    let fields = match query.with_payload.and_then(|with| with.selector_options) {
        Some(with_payload_selector::SelectorOptions::Include(include)) => include.fields,
        other => panic!("the adapter does not ask for {other:?}"),
    };
    let hits = model.on(collection, |collection| {
        collection.nearest(
            query.using.as_deref().unwrap_or_default(),
            &vector.data,
            &query.filter.unwrap_or_default(),
            query.limit.unwrap_or(10) as usize,
            model.lossy_index && !exact,
        )
    })?;
    let scored = hits.into_iter().map(|(point, score)| ScoredPoint {
        id: point.id,
        payload: point
            .payload
            .into_iter()
            .filter(|(key, _)| fields.contains(key))
            .collect(),
        score,
        ..ScoredPoint::default()
    });
    Ok(BatchResult {
        result: scored.collect(),
    })
}

/// Implements a service by the given methods; the others are not used by the adapter.
macro_rules! service {
    ($service:ident { $($body:tt)* } unused { $($name:ident: $request:ident => $response:ident,)* }) => {
        #[async_trait]
        impl $service for Service {
            $($body)*
            $(
                async fn $name(&self, _: Request<q::$request>) -> Answer<q::$response> {
                    Err(Status::unimplemented(stringify!($name)))
                }
            )*
        }
    };
}

service!(Collections {
    async fn get(
        &self,
        request: Request<q::GetCollectionInfoRequest>,
    ) -> Answer<q::GetCollectionInfoResponse> {
        let (model, message) = self.admit(request).await?;
        let info = model.on(&message.collection_name, |collection| Ok(collection.info()))?;
        Ok(Response::new(q::GetCollectionInfoResponse {
            result: Some(info),
            time: 0.0,
        }))
    }

    async fn list(
        &self,
        request: Request<q::ListCollectionsRequest>,
    ) -> Answer<q::ListCollectionsResponse> {
        let (model, _) = self.admit(request).await?;
        let names = model.all().keys().cloned().collect::<Vec<_>>();
        let collections = names.into_iter().map(|name| CollectionDescription { name });
        Ok(Response::new(q::ListCollectionsResponse {
            collections: collections.collect(),
            time: 0.0,
        }))
    }

    async fn create(
        &self,
        request: Request<q::CreateCollection>,
    ) -> Answer<q::CollectionOperationResponse> {
        let (model, message) = self.admit(request).await?;
        let name = message.collection_name;
        assert!(name.len() <= 255 && !name.contains(['/', ':', '*', '?', '"', '|', '\\']));
        let vectors = match message.vectors_config.and_then(|config| config.config) {
            Some(vectors_config::Config::ParamsMap(named)) => named.map.into_iter().collect(),
            other => panic!("the adapter does not use {other:?}"),
        };
        let mut all = model.all();
        if all.contains_key(&name) {
            return Err(Status::invalid_argument(format!(
                "Wrong input: Collection `{name}` already exists!"
            )));
        }
        let collection = Collection {
            vectors,
            metadata: message.metadata,
            ..Collection::default()
        };
        all.insert(name, collection);
        changed()
    }

    async fn update(
        &self,
        request: Request<q::UpdateCollection>,
    ) -> Answer<q::CollectionOperationResponse> {
        let (model, message) = self.admit(request).await?;
        model.on(&message.collection_name, |collection| {
            collection.metadata.extend(message.metadata);
            Ok(())
        })?;
        changed()
    }

    async fn delete(
        &self,
        request: Request<q::DeleteCollection>,
    ) -> Answer<q::CollectionOperationResponse> {
        let (model, message) = self.admit(request).await?;
        let removed = model.all().remove(&message.collection_name);
        Ok(Response::new(q::CollectionOperationResponse {
            result: removed.is_some(),
            time: 0.0,
        }))
    }
} unused {
    update_aliases: ChangeAliases => CollectionOperationResponse,
    list_collection_aliases: ListCollectionAliasesRequest => ListAliasesResponse,
    list_aliases: ListAliasesRequest => ListAliasesResponse,
    collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse,
    collection_exists: CollectionExistsRequest => CollectionExistsResponse,
    update_collection_cluster_setup: UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse,
    create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse,
    delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse,
    list_shard_keys: ListShardKeysRequest => ListShardKeysResponse,
});

service!(Points {
    async fn get(&self, request: Request<q::GetPoints>) -> Answer<q::GetResponse> {
        let (model, message) = self.admit(request).await?;
        let result = model.on(&message.collection_name, |c| c.get(&message.ids))?;
        Ok(Response::new(q::GetResponse {
            result,
            ..q::GetResponse::default()
        }))
    }

    async fn scroll(&self, request: Request<q::ScrollPoints>) -> Answer<q::ScrollResponse> {
        let (model, message) = self.admit(request).await?;
        let page = model.on(&message.collection_name, |c| c.scroll(&message))?;
        Ok(Response::new(q::ScrollResponse {
            result: page.0,
            next_page_offset: page.1,
            ..q::ScrollResponse::default()
        }))
    }

    async fn create_field_index(
        &self,
        request: Request<q::CreateFieldIndexCollection>,
    ) -> Answer<q::PointsOperationResponse> {
        let (model, message) = self.admit(request).await?;
        model.on(&message.collection_name, |collection| {
            let field_type = message.field_type.unwrap_or_default();
            collection.indexes.insert(message.field_name, field_type);
            Ok(())
        })?;
        done()
    }

    async fn create_vector_name(
        &self,
        request: Request<q::CreateVectorNameRequest>,
    ) -> Answer<q::PointsOperationResponse> {
        let (model, message) = self.admit(request).await?;
        let Some(VectorConfig::DenseConfig(dense)) = message.vector_config else {
            panic!("the adapter makes dense vectors only");
        };
        let params = q::VectorParams {
            size: dense.size,
            distance: dense.distance,
            ..q::VectorParams::default()
        };
        model.on(&message.collection_name, |collection| {
            collection.vectors.insert(message.vector_name, params);
            Ok(())
        })?;
        done()
    }

    async fn update_batch(
        &self,
        request: Request<q::UpdateBatchPoints>,
    ) -> Answer<q::UpdateBatchResponse> {
        let (model, message) = self.admit(request).await?;
        assert_eq!(message.wait, Some(true));
        let name = &message.collection_name;
        for operation in message.operations {
            // Each is carried out for itself; others come between.
            tokio::task::yield_now().await;
            match operation.operation {
                Some(Operation::Upsert(list)) => model.upsert(name, list)?,
                Some(Operation::DeletePoints(delete)) => {
                    model.on(name, |collection| collection.delete(delete.points))?;
                }
                other => panic!("the adapter does not use {other:?}"),
            }
        }
        Ok(Response::new(q::UpdateBatchResponse::default()))
    }

    async fn query_batch(
        &self,
        request: Request<q::QueryBatchPoints>,
    ) -> Answer<q::QueryBatchResponse> {
        let (model, message) = self.admit(request).await?;
        let queries = message.query_points.into_iter();
        let result = queries.map(|one| query(model, &message.collection_name, one));
        Ok(Response::new(q::QueryBatchResponse {
            result: result.collect::<Result<_, _>>()?,
            ..q::QueryBatchResponse::default()
        }))
    }
} unused {
    upsert: UpsertPoints => PointsOperationResponse,
    delete: DeletePoints => PointsOperationResponse,
    update_vectors: UpdatePointVectors => PointsOperationResponse,
    delete_vectors: DeletePointVectors => PointsOperationResponse,
    set_payload: SetPayloadPoints => PointsOperationResponse,
    overwrite_payload: SetPayloadPoints => PointsOperationResponse,
    delete_payload: DeletePayloadPoints => PointsOperationResponse,
    clear_payload: ClearPayloadPoints => PointsOperationResponse,
    delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse,
    delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse,
    search: SearchPoints => SearchResponse,
    search_batch: SearchBatchPoints => SearchBatchResponse,
    search_groups: SearchPointGroups => SearchGroupsResponse,
    recommend: RecommendPoints => RecommendResponse,
    recommend_batch: RecommendBatchPoints => RecommendBatchResponse,
    recommend_groups: RecommendPointGroups => RecommendGroupsResponse,
    discover: DiscoverPoints => DiscoverResponse,
    discover_batch: DiscoverBatchPoints => DiscoverBatchResponse,
    count: CountPoints => CountResponse,
    query: QueryPoints => QueryResponse,
    query_groups: QueryPointGroups => QueryGroupsResponse,
    facet: FacetCounts => FacetResponse,
    search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse,
    search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse,
});
