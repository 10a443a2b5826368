//! The server's own collections behind one of ours.

use dbmanager_core::backend::BackendResult;
use futures_util::TryStreamExt;
use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::{CreateCollectionOptions, ValidationAction, ValidationLevel},
    results::CollectionSpecification,
};

use super::{
    convert::{NAMESPACE_EXISTS, NAMESPACE_NOT_FOUND, code, error},
    layout,
    server::Server,
};

/// Makes the collection of the documents with its indexes; what is there already stays.
pub(super) async fn make_documents(
    server: &Server,
    name: &str,
    schema_validation: bool,
) -> BackendResult<()> {
    let validator = schema_validation.then(layout::validator);
    make(server, name, validator).await?;
    for (keys, sparse) in layout::indexes() {
        make_index(server, name, keys, sparse).await?;
    }
    Ok(())
}

/// Makes the collection of the parts of large documents.
pub(super) async fn make_parts(server: &Server, name: &str) -> BackendResult<()> {
    make(server, name, None).await?;
    make_index(server, name, doc! { "id": 1, "version": 1 }, false).await
}

/// Drops a collection; one that is not there is gone already.
pub(super) async fn remove(server: &Server, name: &str) -> BackendResult<()> {
    let what = "drop a collection";
    let collection = server.collection(name);
    let dropped = server
        .try_run(what, async { collection.drop().await })
        .await?;
    match dropped {
        Err(e) if code(&e) == Some(NAMESPACE_NOT_FOUND) => Ok(()),
        dropped => dropped.map_err(|e| error(what, e)),
    }
}

async fn make(server: &Server, name: &str, validator: Option<Document>) -> BackendResult<()> {
    let what = "create a collection";
    let database = server.database();
    let options = CreateCollectionOptions::builder()
        .validator(validator.clone())
        .validation_level(validator.as_ref().map(|_| ValidationLevel::Strict))
        .validation_action(validator.as_ref().map(|_| ValidationAction::Error))
        .build();
    let created = server
        .try_run(what, async {
            let create = database.create_collection(name);
            create.with_options(options).await
        })
        .await?;
    match created {
        Err(e) if code(&e) == Some(NAMESPACE_EXISTS) => {}
        created => created.map_err(|e| error(what, e))?,
    }
    match validator {
        Some(validator) => make_sure_of_validator(server, name, validator).await,
        None => Ok(()),
    }
}

/// FerretDB forgets the validator that a collection is created with, and keeps one that is set
/// later. MongoDB asks for more rights to set one later, so that is done only where it must be.
async fn make_sure_of_validator(
    server: &Server,
    name: &str,
    validator: Document,
) -> BackendResult<()> {
    let found: Vec<CollectionSpecification> = server
        .run("look at a collection", async {
            let list = server.database().list_collections();
            list.filter(doc! { "name": name })
                .await?
                .try_collect()
                .await
        })
        .await?;
    if found.iter().any(|found| found.options.validator.is_some()) {
        return Ok(());
    }
    let command = doc! {
        "collMod": name,
        "validator": validator,
        "validationLevel": "strict",
        "validationAction": "error",
    };
    server
        .command("set the validator of a collection", command)
        .await
        .map(drop)
}

async fn make_index(
    server: &Server,
    name: &str,
    keys: Document,
    sparse: bool,
) -> BackendResult<()> {
    let mut index = IndexModel::builder().keys(keys).build();
    if sparse {
        index.options.get_or_insert_default().sparse = Some(true);
    }
    let collection = server.collection(name);
    server
        .run("create an index", async {
            collection.create_index(index).await
        })
        .await
        .map(drop)
}
