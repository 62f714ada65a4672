//! Whose key a call carries.

use std::sync::Arc;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use okra_store::{App, KeyHash};

use crate::{ApiState, envelope::Refusal};

/// The app of a call's key.
pub(crate) async fn app_of(state: &ApiState, headers: &HeaderMap) -> Result<Arc<App>, Refusal> {
    // Looked up by its hash: how long that takes says nothing about any key.
    let app = known_app(state, headers).await?;
    app.ok_or_else(Refusal::unauthorised)
}

/// The app of a call's key, where it carries one that is known: a route that is open refuses no other.
pub(crate) async fn known_app(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Option<Arc<App>>, Refusal> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(key) = header.and_then(key_of) else {
        return Ok(None);
    };
    let (hash, now) = (KeyHash::of(key), state.clock.now());
    Ok(state.kept.app(&state.store, hash, now).await?)
}

/// The key in a header: `Bearer <key>`, or the key alone, with or without stray spaces.
fn key_of(header: &str) -> Option<&str> {
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
            assert_eq!(key_of(header), Some("k"), "{header:?}");
        }
        for header in ["", " ", "Bearer", "Bearer "] {
            assert_eq!(key_of(header), None, "{header:?}");
        }
    }
}
