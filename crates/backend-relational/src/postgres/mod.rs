//! The relational store on PostgreSQL, as the service `postgres` (or `postgresql`).
//!
//! # What is needed
//! PostgreSQL 14 or newer, a database with the encoding UTF-8, and a user who may create a schema
//! in it (or who owns the schema, if it is there). No extension. A connection pooler in between
//! must keep a session's settings and prepared statements (PgBouncer: session pooling).
//!
//! # Options
//! | key | meaning | default |
//! |---|---|---|
//! | `url` | `postgres://username:password@host:port/database?sslmode=…&application_name=…`; any other parameter is an error | – |
//! | `host`, `port` | the server; a host that starts with `/` is the directory of its Unix socket | `localhost`, 5432 |
//! | `username`, `password` | as whom | `postgres`, none |
//! | `database` | the database, which must be there | the user's name |
//! | `schema` | everything lies in this schema, which is created; one for each store | `dbmanager` |
//! | `tls` | `true` (the same as `"verify-full"`), `false`, or `"require"`, `"verify-ca"`, `"verify-full"` as PostgreSQL's `sslmode` | `false` |
//! | `tls_ca_file` | a PEM file of authorities that are trusted besides the public ones | – |
//! | `allow_plain_text` | lets an unencrypted connection leave the machine | `false` |
//! | `application_name` | how the server names the sessions | `dbmanager` |
//!
//! A key and the same part of the `url` may both be given if they agree. `"allow"` and `"prefer"`
//! are refused: they fall back to plain text unnoticed. The client reads `PGSSLROOTCERT`,
//! `PGSSLCERT` and `PGSSLKEY` from the environment; no other variable and no file counts. The
//! number of connections and the time for a statement come from `performance`
//! (`connection_pool_size`, `query_timeout`).
//!
//! Every session has `synchronous_commit` on, `statement_timeout` at the time for an attempt,
//! `idle_in_transaction_session_timeout` at 60 s, and read committed transactions. Connections are opened when they are needed and again after the
//! server was restarted. If all are in use for half the time of an attempt, the answer is
//! `Overloaded`.
//!
//! # What it can do
//! Everything: every filter, full text, durable without `sync`, the epoch checked in the statement
//! that writes. On a server that runs with `fsync = off`, nothing is durable, and the capabilities
//! say so.
//!
//! **Full text** is Okapi BM25 (k1 = 1.2, b = 0.75) over title and text, computed in SQL with what
//! every server has: a `tsvector` column and its GIN index. PostgreSQL's own `ts_rank` is not BM25
//! (it knows nothing of rare words or lengths); here it only serves to find out how often a word
//! occurs in a document. What differs from a textbook's BM25:
//! - Numbers of documents are exact up to 2,000; above that those of common words and of the
//!   whole collection may be 5 s old (longer if counting takes longer), and from about 20,000 on
//!   they are estimated from a sample. Scores move by as little as such numbers do.
//! - A word counts at most 256 times in a document, and words behind the 16,383rd count at most
//!   once, as the server keeps no more positions. Of a text whose distinct words need more than
//!   about 1 MB, later new words are left out of the index; the document itself is whole.
//! - A query for common words only ranks every document that has one of them. If it has rare words
//!   too, common ones are looked up only where they could still matter.
//!
//! Words are runs of letters and digits, in lower case, without diacritics. `English` stems them
//! with the server's Snowball stemmer and leaves none out; `Unicode` takes them as they are;
//! `Trigram` cuts each into runs of three.
//!
//! # Limits of the server
//! Text cannot hold NUL (the manager refuses it everywhere). A batch is sent in statements of about
//! 16 MB; if the server refuses a statement for its content, it is split until the item to blame is
//! alone. An id has at most 512 bytes, within what an index row takes (about 2,700).
//!
//! CockroachDB speaks the same protocol but lacks what is used here (text-search configurations,
//! among others). It is recognised and refused at opening. It was not tested.
//!
//! # What is stored
//! | table | holds |
//! |---|---|
//! | `format` | the format number of each component in the schema; a newer one than this program knows is refused |
//! | `stamp` | one row: whose store this is, epoch, progress |
//! | `collection` | name, generation and options of each collection |
//! | `document_<key>_generation_<generation>` | the documents of one collection, `key` as in `collection` |
//!
//! A row of a document: `id`, `version` (an integer that grows in the order of writes), `deleted`;
//! for a live one `title`, `document_type`, `created_at`, `file_path`, `metadata` (its numbers
//! written so that decimals compare as the numbers do), `words` and their number `length`, all for
//! searches and filters; and what counts: `canonical`, the exact bytes of the document as JSON, and
//! `vectors`. To read a document by hand: `SELECT convert_from(canonical, 'UTF8') FROM …`.
//! A fingerprint is worked out from `canonical` and `vectors`, and differs if any other column does
//! not agree with them. It does not look into indexes: for those the server has `amcheck`.
//!
//! Dropping a collection drops its table.
//!
//! # How it was tested
//! Against PostgreSQL 18.6: the conformance suite; wrong password, database, port, rights and
//! layout; TLS with the right and a wrong authority and a wrong name; a server restarted while it
//! is written to; a read-only session; slow statements and all connections in use; writes given up
//! half-way; one poison item among 100; wiped and restored data; BM25 against its formula. Not
//! tested: versions 14 to 17, client certificates, Unix sockets, poolers, a physical standby.

mod address;
mod apply;
mod catalogue;
mod check;
mod config;
mod connect;
mod convert;
mod filter;
pub mod journal;
mod migrate;
mod pool;
mod read;
mod row;
mod schema;
mod search;
mod stamp;
mod statistics;
mod store;
mod words;

pub use journal::PostgresJournalFactory;
pub use store::PostgresFactory;
