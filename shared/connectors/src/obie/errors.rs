//! The standard's error table: what a rejected request means, and the code that an operator is shown.

use okra_core::model::fault::{BankFault, FaultClass};
use serde::Deserialize;

use crate::{limit_errors::classify_limit_error, transport::BankResponse};

/// Characters of an error code shown at most; the longest of the standard has 38.
const MAX_ERROR_CODE_CHARS: usize = 48;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieErrorBody {
    errors: Vec<ObieErrorItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieErrorItem {
    error_code: String,
}

/// The body of a response to a call with a user's tokens. A rejection that speaks of a limit is classed as one,
/// whatever its status; the standard's error code joins the fault's detail.
pub(super) fn into_body(response: BankResponse) -> Result<Vec<u8>, BankFault> {
    let (status, mut fault, body) = match response {
        BankResponse::Success(body) => return Ok(body),
        BankResponse::Rejected {
            status,
            fault,
            body,
        } => (status, fault, body),
    };
    if let Some(class) = classify_limit_error(status, &body, fault.retry_after_s) {
        fault.class = class;
    }
    if let Some(code) = parse_error_code(&body) {
        fault.detail = format!("{}, {code}", fault.detail);
    }
    Err(fault)
}

/// The body of a response to a call with our own client's token. A rejection of that token is
/// [`FaultClass::Internal`]: no user can mend it.
pub(super) fn into_client_body(response: BankResponse) -> Result<Vec<u8>, BankFault> {
    match response {
        BankResponse::Success(body) => Ok(body),
        BankResponse::Rejected { mut fault, .. } => {
            if fault.class == FaultClass::ConsentRejected {
                fault.class = FaultClass::Internal;
            }
            fault.detail = format!("account-access-consents: {}", fault.detail);
            Err(fault)
        }
    }
}

/// The first `ErrorCode` of an error body, where it looks like one of the standard's: `UK.OBIE.` and words (3.1),
/// or a letter and three digits (4.0). Anything else is the bank's own text and is not shown.
fn parse_error_code(body: &[u8]) -> Option<String> {
    // Many error bodies are not JSON; then the status alone is shown.
    let error: ObieErrorBody = serde_json::from_slice(body).ok()?;
    let code = error.errors.into_iter().next()?.error_code;
    (is_named_code(&code) || is_numbered_code(&code)).then_some(code)
}

fn is_named_code(code: &str) -> bool {
    code.len() <= MAX_ERROR_CODE_CHARS
        && code.strip_prefix("UK.OBIE.").is_some_and(|rest| {
            rest.bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'.')
        })
}

fn is_numbered_code(code: &str) -> bool {
    matches!(code.as_bytes(), [letter, digits @ ..]
        if letter.is_ascii_uppercase() && digits.len() == 3 && digits.iter().all(u8::is_ascii_digit))
}
