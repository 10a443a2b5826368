//! Stores that have drifted from what they should hold: each kind of drift is made by another hand,
//! `check_consistency` finds exactly it and changes nothing, its repair or a rebuild mends it, a
//! second check is clean, nothing acknowledged is lost and nothing deleted comes back.
//!
//! | drift | where |
//! |---|---|
//! | 97 % of a store deleted | `loss::…`; files: `files::most_of_…`; single rows in files: `damage.rs::a_deleted_row_…` |
//! | a vector or graph store put back from an older copy | `copies::a_store_put_back_…`; files: `bad_input/places.rs`; idle: `roster.rs` |
//! | the authority put back from an older copy, lost, or from a backup | `copies::an_authority_…`, `copies::an_empty_authority_…`; files: `files::an_authority_…`, `bad_input/places.rs` |
//! | the journal put back from an older copy | refused: `roster.rs::a_copied_journal_…`, `bad_input/journals.rs`; adopted: `copies::stores_adopted_…` |
//! | foreign documents and collections | `strangers::…`; single rows in files: `damage.rs::a_foreign_row_…` |
//! | a version edited: lower, issued, above the mark | `damage.rs::a_version_edited_…`, `damage.rs::a_version_above_…`; in the authority: `strangers::a_version_in_the_authority_…` |
//! | embedding missing | `damage.rs::a_changed_vector_…`, `damage.rs::a_deleted_row_…` |
//! | edge missing | `damage.rs::a_changed_edge_…` |
//! | a deleted document alive again | `damage.rs::a_deleted_document_made_live_again_…`; in the authority: `strangers::a_deleted_document_alive_again_…` |
//! | an unreadable row | `damage.rs`, module `authority` |
//! | another vector service | `services::another_vector_service_…`; servers: `live/scenarios/swap.rs` |
//! | a store disabled for a while | `services::a_store_disabled_…`; idle: `roster.rs::a_disabled_store_…` |
//! | no authority for a while: what only it knows | `services::without_the_authority_…` |
//! | a collection created again while a store was down | `generations::…` |
//! | drift while writes go on | `strangers::drift_is_found_while_…` |
//! | another content at the same version | `strangers::another_content_…` |
//! | an outage while stores are compared or filled: no drift | `outages::…`, `rebuilds::…` |
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

#[path = "drift/copies.rs"]
mod copies;
#[path = "drift/corpus.rs"]
mod corpus;
#[cfg(feature = "sqlite")]
#[path = "drift/files.rs"]
mod files;
#[path = "drift/generations.rs"]
mod generations;
#[path = "drift/hand.rs"]
mod hand;
#[path = "drift/loss.rs"]
mod loss;
#[path = "drift/outages.rs"]
mod outages;
#[path = "drift/rebuilds.rs"]
mod rebuilds;
#[path = "drift/services.rs"]
mod services;
#[path = "drift/strangers.rs"]
mod strangers;
