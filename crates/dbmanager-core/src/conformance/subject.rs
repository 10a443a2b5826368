//! What the suite is run on.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use crate::{
    Runtime,
    backend::{AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig},
};

/// One empty store that nobody else uses, and how to open it. It may be opened again after it was
/// closed.
#[derive(Clone)]
pub struct Instance {
    pub(super) factory: Arc<dyn BackendFactory>,
    pub(super) config: ServiceConfig,
    data_directory: Option<PathBuf>,
    keep: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Instance {
    /// The store that this factory opens with an empty configuration.
    pub fn new(factory: impl BackendFactory + 'static) -> Self {
        Self {
            factory: Arc::new(factory),
            config: ServiceConfig::new(),
            data_directory: None,
            keep: Vec::new(),
        }
    }

    /// Sets one key of the service's configuration.
    pub fn setting(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.config.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the data directory of [`OpenContext`].
    pub fn data_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_directory = Some(directory.into());
        self
    }

    /// Keeps a guard (a temporary directory, a server) alive as long as the store is used.
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keep.push(Arc::new(guard));
        self
    }

    pub(super) fn context(&self, runtime: &Runtime) -> OpenContext {
        let context = OpenContext::new(runtime.clone());
        match &self.data_directory {
            Some(directory) => context.data_directory(directory),
            None => context,
        }
    }
}

type Wrap = dyn Fn(AnyBackend, &Runtime) -> AnyBackend + Send + Sync;

/// An adapter under test: a name and a source of fresh stores, perhaps behind wrappers.
#[derive(Clone)]
pub struct Subject {
    name: Arc<str>,
    fresh: Arc<dyn Fn() -> Instance + Send + Sync>,
    wraps: Vec<Arc<Wrap>>,
}

impl Subject {
    /// The stores that `fresh` makes; each call must give an empty one of its own.
    pub fn new(
        name: impl Into<Arc<str>>,
        fresh: impl Fn() -> Instance + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            fresh: Arc::new(fresh),
            wraps: Vec::new(),
        }
    }

    /// The same stores, each behind a wrapper; the wrapper added last is outermost.
    pub fn wrapped(
        mut self,
        name: &str,
        wrap: impl Fn(AnyBackend, &Runtime) -> AnyBackend + Send + Sync + 'static,
    ) -> Self {
        self.name = format!("{} through {name}", self.name).into();
        self.wraps.push(Arc::new(wrap));
        self
    }

    /// The name, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn instance(&self) -> Instance {
        (self.fresh)()
    }

    pub(super) async fn open(
        &self,
        instance: &Instance,
        runtime: &Runtime,
    ) -> BackendResult<AnyBackend> {
        let opened = instance
            .factory
            .open(&instance.config, &instance.context(runtime))
            .await?;
        Ok(self
            .wraps
            .iter()
            .fold(opened, |backend, wrap| wrap(backend, runtime)))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.name).finish()
    }
}
