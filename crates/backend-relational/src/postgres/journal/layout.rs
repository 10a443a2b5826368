//! The journal's tables.

use super::super::migrate::Layout;

/// What the journal keeps in its schema; see the module's page.
pub(super) const LAYOUT: Layout = Layout {
    component: "journal",
    migrations: &[
        &[
            "CREATE TABLE journal (
             single      boolean PRIMARY KEY DEFAULT true CHECK (single),
             journal_id  uuid NOT NULL,
             mark        bigint NOT NULL DEFAULT 0,
             epoch       bigint NOT NULL DEFAULT 0,
             generation  bigint NOT NULL DEFAULT 0,
             horizon     bigint NOT NULL DEFAULT 0,
             sequence    bigint NOT NULL DEFAULT 0,
             pruned      bigint NOT NULL DEFAULT 0,
             catalogue   bigint NOT NULL DEFAULT 0,
             entries     bigint NOT NULL DEFAULT 0,
             bytes       bigint NOT NULL DEFAULT 0,
             operations  bigint NOT NULL DEFAULT 0,
             keys        bigint NOT NULL DEFAULT 0,
             parked      bigint NOT NULL DEFAULT 0,
             holder      uuid,
             holder_name text,
             lease_until timestamptz
         ) WITH (fillfactor = 10)",
            "CREATE TABLE journal_entry (
             version      bigint PRIMARY KEY,
             operation_id uuid NOT NULL,
             collection   text COLLATE \"C\" NOT NULL,
             generation   bigint NOT NULL,
             id           text COLLATE \"C\" NOT NULL,
             kind         smallint NOT NULL,
             bytes        bigint NOT NULL,
             appended_at  bigint NOT NULL,
             canonical    bytea,
             vectors      bytea
         )",
            "CREATE TABLE journal_operation (
             operation_id uuid PRIMARY KEY,
             claimed      bigint NOT NULL,
             version      bigint,
             collection   text COLLATE \"C\",
             generation   bigint,
             id           text COLLATE \"C\",
             kind         smallint,
             key          bytea,
             ended        bigint
         )",
            "CREATE INDEX journal_operation_document
             ON journal_operation (generation, id, version)",
            "CREATE INDEX journal_operation_ended
             ON journal_operation (ended) WHERE ended IS NOT NULL",
            "CREATE TABLE journal_key (
             place        bytea PRIMARY KEY,
             input_hash   bytea NOT NULL,
             operation_id uuid NOT NULL
         )",
            "CREATE TABLE journal_collection (
             name    text COLLATE \"C\" PRIMARY KEY,
             content text NOT NULL
         )",
            "CREATE TABLE journal_store (
             store_id uuid PRIMARY KEY,
             content  text NOT NULL,
             progress bigint NOT NULL
         )",
            "CREATE TABLE journal_parked (
             version  bigint NOT NULL,
             store_id uuid NOT NULL,
             error    text NOT NULL,
             PRIMARY KEY (version, store_id)
         )",
            "CREATE TABLE journal_change (
             sequence bigint PRIMARY KEY,
             kind     smallint NOT NULL,
             epoch    bigint NOT NULL,
             mark     bigint NOT NULL,
             store_id uuid,
             versions bigint[] NOT NULL,
             content  text
         )",
        ],
        &[
            "ALTER TABLE journal ADD COLUMN adoptions bigint NOT NULL DEFAULT 0",
            // As it was when the entry was let go of.
            "ALTER TABLE journal_operation ADD COLUMN adoptions bigint NOT NULL DEFAULT 0",
        ],
    ],
};
