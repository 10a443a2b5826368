//! A semantic embedder for dbmanager: an ONNX model in local files, run through `fastembed`.
//!
//! Nothing is downloaded, neither when it is built nor when it runs. The configuration names the
//! files of the model and the ONNX Runtime library:
//!
//! ```json
//! {"embedding": {"type": "fastembed", "config": {
//!     "model": "/models/all-MiniLM-L6-v2/model.onnx",
//!     "tokenizer_directory": "/models/all-MiniLM-L6-v2",
//!     "runtime_path": "/usr/lib/libonnxruntime.so"}}}
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `model` | the ONNX file |
//! | `tokenizer_directory` | where `tokenizer.json`, `config.json`, `special_tokens_map.json` and `tokenizer_config.json` lie; by default beside the model |
//! | `runtime_path` | the ONNX Runtime library, 1.24 or newer; by default what the environment variable `ORT_DYLIB_PATH` says. A program can load one; the first path given stays |
//! | `name` | part of the model's name in the collections; by default the name of the model's directory |
//! | `pooling` | `mean` (default) or `cls`, as the model was trained |
//! | `max_length` | tokens that the model is given at once, at most what the tokenizer allows; 256 by default. A longer document is split into passages |
//! | `chunk_overlap` | tokens that neighbouring passages share; 32 by default |
//! | `batch_size` | texts run through the model together; 1 by default. More is for models that are not dynamically quantized only (see below) |
//! | `document_prefix`, `query_prefix` | put before each text, for models trained with them (E5: `"passage: "`, `"query: "`) |
//! | `threads` | threads of one inference; by default one per processor |
//!
//! The model's name contains a hash of everything that changes its vectors, so that other files
//! under the same path are another embedding space, and are refused by the collections of the old
//! one. A text is run through the model alone unless `batch_size` says otherwise: the activations of
//! a dynamically quantized (int8) model are scaled over the batch, and the vector of a text would
//! depend on its neighbours. Vectors are of length 1.
//!
//! A document that is longer than the model sees at once is split into passages, between words and
//! where possible between sentences, each with the title above it and a vector of its own. A query
//! that is longer is cut at the end.

mod config;
mod model;
mod passages;

use std::{num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;
use dbmanager_core::{
    Runtime,
    backend::ServiceConfig,
    embed::{BlockingEmbedder, EmbedError, Embedder, EmbedderFactory},
};

use crate::{config::FastembedConfig, model::FastembedModel};

/// Opens embedders of the type `fastembed`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastembedFactory;

#[async_trait]
impl EmbedderFactory for FastembedFactory {
    fn name(&self) -> &str {
        "fastembed"
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        runtime: &Runtime,
    ) -> Result<Arc<dyn Embedder>, EmbedError> {
        let config = FastembedConfig::parse(config)?;
        let opening = runtime.blocking(move || FastembedModel::open(&config));
        let model = opening.await.map_err(|lost| {
            EmbedError::new("the ONNX Runtime panicked while it opened the model").with_source(lost)
        })??;
        // One inference at a time: each already takes the threads it was given.
        Ok(Arc::new(BlockingEmbedder::new(
            runtime.clone(),
            model,
            NonZeroUsize::MIN,
        )))
    }
}
