//! Whose key a call carries.

use std::sync::Arc;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use okra_app::Services;
use okra_store::{App, KeyHash};

use crate::http::envelope::ApiError;

/// The app of a call's key.
pub(crate) async fn authenticate_app(
    services: &Services,
    headers: &HeaderMap,
) -> Result<Arc<App>, ApiError> {
    // Looked up by its hash: how long that takes says nothing about any key.
    let app = find_app_by_key(services, headers).await?;
    app.ok_or_else(ApiError::unauthorised)
}

/// The app of a call's key, where it carries one that is known: a route that is open refuses no other.
pub(crate) async fn find_app_by_key(
    services: &Services,
    headers: &HeaderMap,
) -> Result<Option<Arc<App>>, ApiError> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(key) = header.and_then(parse_bearer_key) else {
        return Ok(None);
    };
    Ok(services.find_app_by_key(KeyHash::hash_secret(key)).await?)
}

/// The key in a header: `Bearer <key>`, or the key alone, with or without stray spaces.
fn parse_bearer_key(header: &str) -> Option<&str> {
    const SCHEME: &str = "bearer";
    let header = header.trim();
    let key = match header.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(SCHEME) => key.trim(),
        _ => header,
    };
    (!key.is_empty() && !key.eq_ignore_ascii_case(SCHEME)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_with_and_without_their_scheme() {
        for header in ["Bearer k", " Bearer k", "bearer  k ", "k", " k"] {
            assert_eq!(parse_bearer_key(header), Some("k"), "{header:?}");
        }
        for header in ["", " ", "Bearer", "Bearer "] {
            assert_eq!(parse_bearer_key(header), None, "{header:?}");
        }
    }
}
