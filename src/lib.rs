//! dbmanager
