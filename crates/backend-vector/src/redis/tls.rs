//! The encrypted connection, with the library's own choice of cryptography: no process-wide
//! provider is asked for or installed.

use std::{path::Path, sync::Arc};

use dbmanager_core::{Runtime, backend::BackendResult};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::config::{TlsFiles, wrong};

/// The client's side of TLS, from the files of the configuration; without `tls_ca_file` the
/// public authorities are trusted (Mozilla's list).
pub(super) async fn client_config(
    files: TlsFiles,
    runtime: &Runtime,
) -> BackendResult<Arc<ClientConfig>> {
    runtime
        .blocking(move || build(&files))
        .await
        .map_err(|lost| wrong(format!("the TLS files were not read: {lost}")))?
}

fn build(files: &TlsFiles) -> BackendResult<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(format!("tls: {error}")))?
        .with_root_certificates(authorities(files.authorities.as_deref())?);
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                certificates("tls_certificate_file", certificate)?,
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("tls_key_file", key, error))?,
            )
            .map_err(|error| unreadable("tls_key_file", key, error))?,
    };
    Ok(Arc::new(config))
}

fn authorities(file: Option<&Path>) -> BackendResult<RootCertStore> {
    let Some(file) = file else {
        return Ok(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        });
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates("tls_ca_file", file)? {
        store
            .add(certificate)
            .map_err(|error| unreadable("tls_ca_file", file, error))?;
    }
    Ok(store)
}

fn certificates(key: &str, file: &Path) -> BackendResult<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(key, file, error))?;
    if found.is_empty() {
        return Err(unreadable(key, file, "it holds no certificate"));
    }
    Ok(found)
}

fn unreadable(
    key: &str,
    file: &Path,
    reason: impl std::fmt::Display,
) -> dbmanager_core::backend::BackendError {
    wrong(format!("{key} {}: {reason}", file.display()))
}
