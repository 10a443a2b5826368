//! What a comparison left different, for whoever watches: the gauge `dbmanager_drift_documents` and
//! the counter `dbmanager_drift_repairs_total`.

use std::{collections::BTreeMap, sync::Arc};

use metrics::SharedString;

use super::report::{Difference, DifferenceKind};
use crate::roster::Store;

/// The differences of one store by kind, as they are found.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Found and not mended.
    left: BTreeMap<DifferenceKind, u64>,
    mended: BTreeMap<DifferenceKind, u64>,
}

impl Drift {
    pub(super) fn count(&mut self, difference: &Difference) {
        let counts = match difference.repaired {
            true => &mut self.mended,
            false => &mut self.left,
        };
        *counts.entry(difference.kind).or_default() += 1;
    }

    /// Counts what was mended; if the whole store was compared, also sets what is left. A kind of
    /// which nothing is left is set to zero, so that an alert ends; a comparison of some
    /// collections says nothing of the others and leaves the gauge alone.
    pub(super) fn publish(&self, store: &Store, whole: bool) {
        for kind in DifferenceKind::ALL {
            let labels = labels(store, kind);
            let of = |counts: &BTreeMap<_, u64>| counts.get(&kind).copied().unwrap_or(0);
            metrics::counter!("dbmanager_drift_repairs_total", &labels).increment(of(&self.mended));
            if whole {
                metrics::gauge!("dbmanager_drift_documents", &labels).set(of(&self.left) as f64);
            }
        }
    }
}

fn labels(store: &Store, kind: DifferenceKind) -> [(&'static str, SharedString); 3] {
    [
        ("role", SharedString::const_str(store.role.as_str())),
        ("service", Arc::clone(&store.service).into()),
        ("kind", SharedString::const_str(kind.as_str())),
    ]
}
