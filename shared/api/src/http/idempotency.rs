//! Idempotency: a request that changes something and carries an `Idempotency-Key` runs once; repeated, it gets the response
//! that was cached.
//!
//! The rule: a key stands for one request, by path, query and body. A request that failed changed nothing and may be
//! repeated.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use okra_app::Services;
use okra_store::{IdempotencyClaim, IdempotentCall, KeyHash, MAX_CACHED_RESPONSE_BYTES};
use okra_vault::generate_nonce;

use crate::http::{
    envelope::{ApiError, ApiResponse},
    input::RequestContent,
};

/// The header that identifies a request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header of a response from the cache.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Most characters of a key.
const MAX_KEY_LENGTH: usize = 255;

/// The idempotency key of a request, where it has one.
pub(crate) fn parse_idempotency_key(
    headers: &HeaderMap,
    app: okra_core::model::ids::AppId,
    path: &str,
    content: &RequestContent,
) -> Result<Option<IdempotentCall>, ApiError> {
    let Some(name) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let name = name.to_str().ok().map(str::trim);
    let name = name.filter(|name| (1..=MAX_KEY_LENGTH).contains(&name.len()));
    let name = name.ok_or_else(|| {
        ApiError::invalid_field(
            "Idempotency-Key",
            format!("must be 1 to {MAX_KEY_LENGTH} ASCII characters"),
        )
    })?;
    let mut request = path.as_bytes().to_vec();
    if !content.query.is_empty() {
        // No path has a question mark.
        request.push(b'?');
        request.extend(serde_json::to_vec(&content.query)?);
    }
    request.push(b'\n');
    request.extend_from_slice(&content.body);
    Ok(Some(IdempotentCall {
        app,
        idempotency_key: KeyHash::hash_secret(name),
        request_hash: KeyHash::hash_bytes(&request),
    }))
}

/// Runs an idempotent request once.
pub(crate) async fn run_once(
    state: &Services,
    idempotent_call: IdempotentCall,
    run: impl Future<Output = ApiResponse>,
) -> ApiResponse {
    let (store, now) = (&state.store, state.clock.now());
    match store.claim_idempotent_call(idempotent_call, now).await? {
        IdempotencyClaim::Claimed => {}
        IdempotencyClaim::InProgress => {
            let message = "A request with this Idempotency-Key is still running";
            return Err(
                ApiError::new(StatusCode::CONFLICT, "DUPLICATED_QUEUE", message)
                    .with_retry_after(1),
            );
        }
        IdempotencyClaim::Conflict => {
            let message = "This Idempotency-Key was used with another body, query or path";
            let kind = "IDEMPOTENCY_MISMATCH";
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                kind,
                message,
            ));
        }
        IdempotencyClaim::Completed(sealed) => {
            let plain = state
                .vault
                .open_sealed(&sealing_context(idempotent_call), &sealed)?;
            // Byte for byte: an amount that went through a float might be another.
            let headers = [
                (CONTENT_TYPE, "application/json"),
                (REPLAYED_HEADER, "true"),
            ];
            return Ok((headers, plain.to_vec()).into_response());
        }
    }
    let cached = match run.await {
        Ok(response) => store_response(state, idempotent_call, response).await,
        Err(error) => Err(error),
    };
    if cached.is_err() {
        // A request that failed changed nothing: it may be repeated, corrected or not.
        store.release_claim(idempotent_call).await?;
    }
    cached
}

/// What a cached response is sealed for.
fn sealing_context(idempotent_call: IdempotentCall) -> Vec<u8> {
    [
        idempotent_call.app.as_bytes().as_slice(),
        idempotent_call.idempotency_key.as_bytes(),
    ]
    .concat()
}

/// Caches a response, sealed: it may hold a secret that is shown once.
async fn store_response(
    state: &Services,
    idempotent_call: IdempotentCall,
    response: Response,
) -> ApiResponse {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_CACHED_RESPONSE_BYTES / 2).await;
    let body = body.map_err(|_| {
        ApiError::invalid_field("body", "requests a response that is too large to be cached")
    })?;
    let sealed =
        state
            .vault
            .seal_secret(&sealing_context(idempotent_call), &body, generate_nonce()?)?;
    state
        .store
        .cache_response(idempotent_call, sealed, state.clock.now())
        .await?;
    debug_assert!(parts.headers.contains_key(CONTENT_TYPE));
    Ok(Response::from_parts(parts, Body::from(body)))
}
