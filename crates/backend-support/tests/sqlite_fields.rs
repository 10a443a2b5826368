//! What documents with long paths cost: the memory of the whole process is looked at, so this test
//! has it for itself.
#![cfg(all(feature = "sqlite", target_os = "linux"))]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use dbmanager_backend_support::sqlite::fields;
use dbmanager_core::model::Document;
use rusqlite::Connection;
use serde_json::json;

const COLLECTION: i64 = 7;

fn rows(connection: &Connection) -> i64 {
    connection
        .query_row("SELECT count(*) FROM field", [], |row| row.get(0))
        .unwrap()
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

#[test]
fn a_long_list_under_a_long_key_holds_its_path_once() {
    let key = "k".repeat(10_000);
    // The path for each element would make 500 MB.
    let equal = Document::new("equal").metadata(key.as_str(), json!(vec![0; 50_000]));
    let numbers: Vec<i32> = (0..50_000).collect();
    let different = Document::new("different").metadata(key.as_str(), json!(numbers));
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(fields::SCHEMA).unwrap();
    let before = peak_memory();
    for (key, document) in [(1, &equal), (2, &different)] {
        fields::insert(&connection, COLLECTION, key, document).unwrap();
        assert!(fields::agree(&connection, COLLECTION, key, Some(document)).unwrap());
    }
    assert!(!fields::agree(&connection, COLLECTION, 1, Some(&different)).unwrap());
    let grown = peak_memory() - before;
    assert!(grown < 100_000_000, "{grown} bytes");
    // Beside the values each has its id and title.
    assert_eq!(rows(&connection), (1 + 2) + (50_000 + 2));
}
