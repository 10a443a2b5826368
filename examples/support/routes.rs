//! The service's routes, and errors as HTTP says them.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dbmanager::{Result, model::LegName, prelude::*};
use serde::Deserialize;
use serde_json::{Value, json};

/// The header under which a repeated request is recognised.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(crate) fn router(db: DatabaseManager) -> Router {
    Router::new()
        .route("/collections/{collection}/documents", post(store))
        .route(
            "/collections/{collection}/documents/{id}",
            get(read).delete(delete),
        )
        .route("/search", post(search))
        .route("/live", get(|| async { StatusCode::OK }))
        .route("/ready", get(ready))
        .with_state(db)
}

async fn store(
    State(db): State<DatabaseManager>,
    Path(collection): Path<String>,
    headers: HeaderMap,
    document: std::result::Result<Json<Document>, JsonRejection>,
) -> Response {
    let Json(document) = match document {
        Ok(document) => document,
        Err(rejection) => return unreadable(&rejection),
    };
    let mut write = db
        .store_document(collection, document)
        .on_timeout(OnTimeout::ReturnPending);
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        match key.to_str() {
            Ok(key) => write = write.idempotency_key(key),
            Err(error) => {
                return problem(Error::new(ErrorKind::InvalidInput, error.to_string()));
            }
        }
    }
    written(write.await)
}

async fn delete(
    State(db): State<DatabaseManager>,
    Path((collection, id)): Path<(String, String)>,
) -> Response {
    written(
        db.delete_document(collection, id)
            .on_timeout(OnTimeout::ReturnPending)
            .await,
    )
}

/// 200 once the level is reached; 202 while it is not: journaled, and on its way to every store.
fn written(result: Result<Receipt>) -> Response {
    match result {
        Ok(receipt) if receipt.level_reached() => Json(receipt).into_response(),
        Ok(receipt) => (StatusCode::ACCEPTED, Json(receipt)).into_response(),
        Err(error) => problem(error),
    }
}

async fn read(
    State(db): State<DatabaseManager>,
    Path((collection, id)): Path<(String, String)>,
) -> Response {
    match db.get_document(collection, id).await {
        Ok(Some(found)) => {
            Json(json!({"version": found.version, "document": found.document})).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => problem(error),
    }
}

/// What `POST /search` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    text: String,
    /// Absent: all of them.
    collections: Option<Vec<String>>,
    #[serde(rename = "type")]
    search_type: Option<SearchType>,
    limit: Option<usize>,
}

async fn search(
    State(db): State<DatabaseManager>,
    request: std::result::Result<Json<Search>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return unreadable(&rejection),
    };
    let mut query = Query::hybrid(request.text);
    query.search_type = request.search_type.unwrap_or(query.search_type);
    query.limit = request.limit.unwrap_or(query.limit);
    let scope = request.collections.map_or(Scope::All, Scope::Collections);
    match db.search_documents(scope, query).await {
        Ok(response) => {
            let degraded = response.degraded();
            let mut body = json!(response);
            body["degraded"] = Value::Bool(degraded);
            Json(body).into_response()
        }
        Err(error) => problem(error),
    }
}

/// Ready as long as a write of the default level can be acknowledged and a search answered.
async fn ready(State(db): State<DatabaseManager>) -> Response {
    let health = db.health();
    let reads = [LegName::Semantic, LegName::Metadata, LegName::Graph]
        .into_iter()
        .any(|leg| health.reads(leg));
    let code = if health.writes(Level::Quorum) && reads {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(health)).into_response()
}

fn unreadable(rejection: &JsonRejection) -> Response {
    problem(Error::new(ErrorKind::InvalidInput, rejection.body_text()))
}

/// The error with what a caller needs to decide what to do next.
fn problem(error: Error) -> Response {
    let outcome = match error.write_outcome() {
        None => Value::Null,
        Some(WriteOutcome::Rejected) => json!({"rejected": true}),
        Some(WriteOutcome::Pending(receipt)) => json!({"pending": receipt}),
        Some(WriteOutcome::Indeterminate(id)) => json!({"indeterminate": id}),
        Some(other) => json!({"other": format!("{other:?}")}),
    };
    let body = json!({
        "kind": error.kind().to_string(),
        "message": error.to_string(),
        "retryable": error.is_retryable(),
        "retry_after_seconds": error.retry_after().map(|after| after.as_secs_f64()),
        "write_outcome": outcome,
    });
    (status(error.kind()), Json(body)).into_response()
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::EmbeddingSpaceMismatch => StatusCode::BAD_REQUEST,
        ErrorKind::CollectionNotFound => StatusCode::NOT_FOUND,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::IdempotencyConflict | ErrorKind::CollectionChanged => StatusCode::CONFLICT,
        ErrorKind::CursorExpired => StatusCode::GONE,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable | ErrorKind::Closed | ErrorKind::Locked => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        // Journaled: it will be applied, however long that takes.
        ErrorKind::LevelNotReached => StatusCode::ACCEPTED,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
