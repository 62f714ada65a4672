//! TLS with ring: for the SDK clients (`build_http_client`) and for everyone else ([`rustls_client_config`]). Gathering
//! entropy for the SDK's default provider and loading the platform's root certificates are most of a Lambda's cold
//! start; neither happens here.

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{box_error::BoxError, client::http::SharedHttpClient};

/// The roots that AWS service endpoints chain to: Amazon Root CA 1 to 4 and Starfield Services G2.
const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// The roots that a client of AWS trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrustedRoots {
    /// Amazon's own roots alone.
    Amazon,
    /// The platform's roots as well: an endpoint that an operator named may be signed by anyone.
    Platform,
}

/// The HTTP client of the SDK clients. Speaks `http` and `https`.
pub(crate) fn build_http_client(trust: TrustedRoots) -> Result<SharedHttpClient, BoxError> {
    let store = TrustStore::empty()
        .with_pem_certificate(AMAZON_ROOTS)
        .with_native_roots(trust == TrustedRoots::Platform);
    let context = TlsContext::builder().with_trust_store(store).build()?;
    Ok(Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// TLS for calls to banks and to webhook endpoints: TLS 1.2 and 1.3 by ring, Mozilla's roots
/// compiled in, no client certificate. Makes ring the process's provider where none was chosen.
pub fn rustls_client_config() -> rustls::ClientConfig {
    // It fails only where the process has a provider already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    rustls::ClientConfig::builder_with_protocol_versions(&versions)
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn the_amazon_roots_are_five_certificates_that_mozilla_trusts_too() {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(AMAZON_ROOTS.as_bytes())
            .map(|root| root.unwrap())
            .collect();
        assert_eq!(roots.len(), 5);
        for root in &roots {
            let mut store = rustls::RootCertStore::empty();
            store.add(root.clone()).unwrap();
            let subject = &store.roots[0].subject;
            assert!(
                webpki_roots::TLS_SERVER_ROOTS
                    .iter()
                    .any(|known| known.subject == *subject),
                "{subject:?}"
            );
        }
    }

    #[test]
    fn outbound_tls_has_roots_and_builds() {
        let config = rustls_client_config();
        assert!(config.alpn_protocols.is_empty());
        build_http_client(TrustedRoots::Amazon).unwrap();
    }
}
