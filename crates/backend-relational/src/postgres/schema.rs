//! The tables of the relational store.

use super::migrate::Layout;

/// What every relational store has. Each collection has a table of its own besides, see
/// [`create_documents`].
pub(super) const LAYOUT: Layout = Layout {
    component: "relational store",
    migrations: &[&[
        "CREATE TABLE stamp (
             only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
             store_id   bytea NOT NULL,
             journal_id bytea NOT NULL,
             epoch      bigint NOT NULL,
             progress   bigint NOT NULL
         )",
        // An identity is never given twice, so the table of a dropped collection never names a new
        // one.
        "CREATE TABLE collection (
             key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             name       text COLLATE \"C\" NOT NULL,
             generation bigint NOT NULL,
             options    text NOT NULL,
             UNIQUE (name, generation)
         )",
        // Every word is indexed: the server's own `english` leaves out words such as "not".
        "CREATE TEXT SEARCH DICTIONARY english_stem_of_every_word (
             TEMPLATE = pg_catalog.snowball, LANGUAGE = 'english'
         );
         CREATE TEXT SEARCH CONFIGURATION english_words (COPY = pg_catalog.simple);
         ALTER TEXT SEARCH CONFIGURATION english_words
             ALTER MAPPING FOR asciiword, word, numword WITH english_stem_of_every_word",
        // What is ASCII throughout has nothing to fold. Composed again at the end: Korean
        // syllables come apart like accents.
        "CREATE FUNCTION fold_diacritics(words text) RETURNS text
             LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
         AS $$
             SELECT CASE WHEN octet_length(words) = char_length(words) THEN words
                    ELSE normalize(regexp_replace(normalize(words, NFD),
                                                  '[\\u0300-\\u036f]', '', 'g'), NFC) END
         $$",
    ]],
};

/// The table of a collection; nothing in it to quote.
pub(super) fn documents_table(key: i64, generation: i64) -> String {
    format!("document_{key}_generation_{generation}")
}

/// Makes the table of a collection. The bytes that only reads by id want lie out of line, so that
/// searches go through small rows; the words stay in the row.
pub(super) fn create_documents(table: &str) -> String {
    format!(
        "CREATE TABLE {table} (
             id            text COLLATE \"C\" PRIMARY KEY,
             version       bigint NOT NULL,
             deleted       boolean NOT NULL,
             title         text COLLATE \"C\",
             document_type text COLLATE \"C\",
             created_at    text COLLATE \"C\",
             file_path     text COLLATE \"C\",
             metadata      jsonb,
             length        integer,
             words         tsvector,
             vectors       bytea,
             canonical     bytea
         );
         ALTER TABLE {table}
             ALTER words SET STORAGE MAIN,
             ALTER vectors SET STORAGE EXTERNAL;
         CREATE INDEX ON {table} (version);
         CREATE INDEX ON {table} USING gin (words);
         CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops)"
    )
}
