//! Calls that are named with `Idempotency-Key`: repeated, they are answered alike and not run again.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use okra_store::{Claim, KeyHash, MAX_REPLY_BYTES, NamedCall};
use okra_vault::fresh_nonce;

use crate::{
    ApiState,
    envelope::{Answer, Refusal},
    input::Said,
};

/// The header that names a call.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header of an answer that was kept.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Characters of a name at most.
const MAX_NAME: usize = 255;

/// The name of a call, where it has one.
pub(crate) fn name(
    headers: &HeaderMap,
    app: okra_core::ids::AppId,
    path: &str,
    said: &Said,
) -> Result<Option<NamedCall>, Refusal> {
    let Some(name) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let name = name.to_str().ok().map(str::trim);
    let name = name.filter(|name| (1..=MAX_NAME).contains(&name.len()));
    let name = name.ok_or_else(|| {
        Refusal::field(
            "Idempotency-Key",
            format!("is 1 to {MAX_NAME} ASCII characters"),
        )
    })?;
    let mut asked = path.as_bytes().to_vec();
    if !said.query.is_empty() {
        // No path has a question mark.
        asked.push(b'?');
        asked.extend(serde_json::to_vec(&said.query)?);
    }
    asked.push(b'\n');
    asked.extend_from_slice(&said.body);
    Ok(Some(NamedCall {
        app,
        name: KeyHash::of(name),
        asked: KeyHash::of_bytes(&asked),
    }))
}

/// Runs a named call once.
pub(crate) async fn once(
    state: &ApiState,
    named: NamedCall,
    run: impl Future<Output = Answer>,
) -> Answer {
    let (store, now) = (&state.store, state.clock.now());
    match store.claim_call(named, now).await? {
        Claim::Ours => {}
        Claim::Running => {
            let message = "A call with this Idempotency-Key is still running";
            return Err(
                Refusal::new(StatusCode::CONFLICT, "DUPLICATED_QUEUE", message).retry_in(1),
            );
        }
        Claim::Mismatch => {
            let message = "This Idempotency-Key was used with another body, query or path";
            let kind = "IDEMPOTENCY_MISMATCH";
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                kind,
                message,
            ));
        }
        Claim::Answered(sealed) => {
            let plain = state.vault.open(&owner(named), &sealed)?;
            // Byte for byte: an amount that went through a float might be another.
            let headers = [(CONTENT_TYPE, "application/json"), (REPLAYED, "true")];
            return Ok((headers, plain.to_vec()).into_response());
        }
    }
    let answered = run.await;
    let kept = match answered {
        Ok(response) => keep(state, named, response).await,
        Err(refusal) => Err(refusal),
    };
    if kept.is_err() {
        // What was refused changed nothing: it may be called again, corrected or not.
        store.give_back(named).await?;
    }
    kept
}

/// Whom a kept answer is sealed for.
fn owner(named: NamedCall) -> Vec<u8> {
    [named.app.as_bytes().as_slice(), named.name.as_bytes()].concat()
}

/// Keeps an answer, sealed: it may hold a secret that is shown once.
async fn keep(state: &ApiState, named: NamedCall, response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_REPLY_BYTES / 2).await;
    let body = body.map_err(|_| Refusal::field("body", "asks for more than can be kept"))?;
    let sealed = state.vault.seal(&owner(named), &body, fresh_nonce()?)?;
    state
        .store
        .keep_reply(named, sealed, state.clock.now())
        .await?;
    debug_assert!(parts.headers.contains_key(CONTENT_TYPE));
    Ok(Response::from_parts(parts, Body::from(body)))
}
