//! The relational adapters of dbmanager, one folder and one Cargo feature per service.
