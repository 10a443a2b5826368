//! Opens in-memory stores by configuration.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::{MemoryPlace, MemoryStore};
use crate::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig, parse_service_config,
    },
    model::Role,
};

const SERVICE: &str = "memory";

/// The service `memory` in one role. It takes no configuration.
///
/// A factory opens the same [`MemoryPlace`] each time, so that a store which was closed or lost is
/// found again; two factories have two places unless told otherwise with [`MemoryFactory::at`].
#[derive(Clone, Debug)]
pub struct MemoryFactory {
    role: Role,
    place: MemoryPlace,
}

impl MemoryFactory {
    /// Vector stores on a new place.
    pub fn vector() -> Self {
        Self::of(Role::Vector)
    }

    /// Graph stores on a new place.
    pub fn graph() -> Self {
        Self::of(Role::Graph)
    }

    /// Relational stores on a new place.
    pub fn relational() -> Self {
        Self::of(Role::Relational)
    }

    /// Stores of this role on a new place.
    pub fn of(role: Role) -> Self {
        Self {
            role,
            place: MemoryPlace::new(),
        }
    }

    /// Opens this place instead.
    pub fn at(mut self, place: &MemoryPlace) -> Self {
        self.place = place.clone();
        self
    }

    fn check(&self, config: &ServiceConfig) -> BackendResult<()> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NoSettings {}
        parse_service_config(self.role, SERVICE, config).map(|NoSettings {}| ())
    }
}

#[async_trait]
impl BackendFactory for MemoryFactory {
    fn role(&self) -> Role {
        self.role
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        self.check(config)?;
        Ok(self.place.location())
    }

    /// # Errors
    /// `Config` if the configuration is not empty, or if the place holds a store of another role.
    async fn open(
        &self,
        config: &ServiceConfig,
        _context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        self.check(config)?;
        Ok(match self.role {
            Role::Vector => AnyBackend::Vector(Arc::new(MemoryStore::open(&self.place)?)),
            Role::Graph => AnyBackend::Graph(Arc::new(MemoryStore::open(&self.place)?)),
            Role::Relational => AnyBackend::Relational(Arc::new(MemoryStore::open(&self.place)?)),
        })
    }
}
