//! The cases, by what they are about.

mod batches;
mod collections;
mod filtering;
mod graph_edges;
mod graph_paths;
mod graph_random;
mod graph_search;
mod graph_titles;
mod identity;
mod lifecycle;
mod listing;
mod races;
mod relational;
mod text_search;
mod vector_search;
mod vector_sets;
mod versions;

use super::suite::Case;
use crate::model::Role;

/// Makes the list of a module's cases; a case has the name of its function.
macro_rules! cases {
    ($roles:expr; $($name:ident $(needs $needs:expr)?),* $(,)?) => {
        pub(super) const CASES: &[$crate::conformance::suite::Case] = &[$(
            $crate::conformance::suite::Case {
                name: stringify!($name),
                roles: $roles,
                needs: cases!(@needs $($needs)?),
                run: |trial| Box::pin($name(trial)),
            }
        ),*];
    };
    (@needs) => { |_| true };
    (@needs $needs:expr) => { $needs };
}
use cases;

/// Every case of every role.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [
        identity::CASES,
        collections::CASES,
        versions::CASES,
        batches::CASES,
        listing::CASES,
        lifecycle::CASES,
        races::CASES,
        filtering::CASES,
        vector_search::CASES,
        vector_sets::CASES,
        graph_edges::CASES,
        graph_search::CASES,
        graph_paths::CASES,
        graph_random::CASES,
        graph_titles::CASES,
        relational::CASES,
        text_search::CASES,
    ]
    .into_iter()
    .flatten()
}

const EVERY_ROLE: &[Role] = &Role::ALL;
const VECTOR: &[Role] = &[Role::Vector];
const GRAPH: &[Role] = &[Role::Graph];
const RELATIONAL: &[Role] = &[Role::Relational];
const FILTERING: &[Role] = &[Role::Vector, Role::Relational];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
