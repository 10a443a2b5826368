//! What several dbmanager adapters share. Not public API.
