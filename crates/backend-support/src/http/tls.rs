//! What is trusted.

use std::{path::Path, sync::Arc};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

fn config_error(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

/// A configuration of its own, on the ring provider: the Mozilla roots and the certificates of
/// `ca_file` (PEM) are trusted. Reads the file: to be called where blocking is allowed.
///
/// # Errors
/// `Config`, naming the file.
pub(super) fn client_config(ca_file: Option<&Path>) -> BackendResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| config_error(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> BackendResult<()> {
    let wrong =
        |what: String| config_error(format!("tls_ca_file {:?}: {what}", path.to_string_lossy()));
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        for content in [None, Some("no certificate")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = client_config(Some(&path)).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains("ca.pem"), "{error}");
        }
        assert!(client_config(None).is_ok());
    }
}
