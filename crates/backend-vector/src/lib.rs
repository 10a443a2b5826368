//! The vector adapters of dbmanager, one folder and one Cargo feature per service.
