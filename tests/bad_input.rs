//! Bad input, and surroundings that turn bad: each has one stated answer, and nothing that was
//! acknowledged before is lost by it. All of it runs over the embedded stores, unless the table
//! names another file.
//!
//! | what | where |
//! |---|---|
//! | empty id | `ids::an_empty_id_is_rejected` |
//! | id above 512 bytes | `ids::an_id_of_512_bytes_is_stored_and_one_of_513_is_rejected` |
//! | collection name of 0 or above 255 bytes | `ids::a_collection_name_of_255_bytes_…` |
//! | ids that differ by case, Unicode form, space | `ids::ids_that_differ_by_…`, `ids::references_reach_the_exact_id_…` |
//! | NUL | `ids::nul_is_rejected_wherever_it_stands`, `ids::nul_in_a_query_…` |
//! | quotes, `..`, `}`, `\|`, `%`, backslash, newline, emoji | `ids::odd_ids_…`, `ids::odd_collection_names_…`, `ids::odd_metadata_keys_…` |
//! | ids and names of any text | `any_text::any_text_is_an_id_…` |
//! | empty document | `content::a_document_of_nothing_but_an_id_…` |
//! | NaN, infinite, wrong dimension | `content::vectors_that_are_not_finite_…`, `content::vectors_of_the_wrong_dimension_…` |
//! | zero vector | `content::a_zero_vector_…`; fusion with it: `search/tests` of the core |
//! | duplicate ids in a batch | `content::of_an_id_twice_in_a_batch_…`; `write_route/operations.rs::a_batch_has_an_outcome_per_document` |
//! | self, cyclic, dangling, 10,000 references | `content::self_cyclic_and_dangling_…`, `content::ten_thousand_references_…` |
//! | deep metadata | `content::metadata_of_…` |
//! | 16 MiB of text, and more | `content::a_text_of_16_mib_…` |
//! | limits of 0 and huge ones | `searching::a_search_limit_…`, `searching::a_list_limit_…` |
//! | unknown filter field | `searching::a_filter_on_an_unknown_field_…` |
//! | clock that goes back | `searching::while_the_clock_goes_back_…`; the journal's own tests |
//! | all stores disabled | `roster.rs::every_store_disabled_is_a_config_error` |
//! | unknown configuration key | `places::an_unknown_key_of_a_store_…`; the rest: `config/tests.rs` of the core |
//! | read-only directory | `places::a_data_directory_…`, `places::a_directory_without_the_right_…`, `places::a_store_that_cannot_be_made_…` |
//! | full disk | `journals::on_a_full_disk_…`; the journal's `tests/faults.rs` |
//! | damaged journal | `journals::a_journal_…`; every header bit: the journal's `tests/damage.rs` |
//! | damaged store | `places::a_store_file_that_is_no_database_…`; row by row: `damage.rs` |
//! | copied journal | `journals::a_copied_journal_…`; two managers at once: `roster.rs::a_manager_that_was_overtaken_stops` |
//! | store put back from a copy, wiped store | `places::…_put_back_from_a_copy_…`, `places::a_wiped_…` |
//! | one place for two stores | `places::one_file_for_two_stores_…`, `roster.rs::the_same_place_twice_is_a_config_error` |
//! | caller that goes away | `cancelling::…`, over stores in memory |
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

#[path = "bad_input/any_text.rs"]
mod any_text;
#[path = "bad_input/cancelling.rs"]
mod cancelling;
#[path = "bad_input/content.rs"]
mod content;
#[path = "bad_input/ids.rs"]
mod ids;
#[path = "bad_input/journals.rs"]
mod journals;
#[path = "bad_input/numbered.rs"]
mod numbered;
#[path = "bad_input/places.rs"]
mod places;
#[path = "bad_input/searching.rs"]
mod searching;
