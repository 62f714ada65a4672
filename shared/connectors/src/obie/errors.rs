//! The standard's error table: what a rejected request means, and the code that an operator is shown.

use okra_core::model::fault::{BankFault, FaultClass};
use serde::Deserialize;

use crate::{limit_errors::classify_limit_error, transport::BankResponse};

/// Statuses that say that a resource does not exist; each that is read with a user's tokens is of an account.
const GONE_STATUSES: [u16; 2] = [404, 410];

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
    let code = parse_error_code(&body);
    if let Some(class) = classify_limit_error(status, &body, fault.retry_after_s) {
        fault.class = class;
    } else if let Some(class) = code
        .as_deref()
        .and_then(|code| classify_error_code(code, fault.class))
    {
        fault.class = class;
    } else if GONE_STATUSES.contains(&status) {
        fault.class = FaultClass::AccountGone;
    } else if fault.class == FaultClass::ConsentRejected && !is_explained_rejection(&body) {
        // A firewall's page, or a gateway that is out of order: no word of this consent.
        fault.class = FaultClass::BankUnavailable;
    }
    if let Some(code) = code {
        fault.detail = format!("{}, {code}", fault.detail);
    }
    Err(fault)
}

/// The class of an error that the standard has a code for, of 3.1 and of 4.0 (`OBErrorResponseError1Code`); `None` where
/// the status says all there is to say, which means `status_class`. The codes of payments are not in the table.
fn classify_error_code(code: &str, status_class: FaultClass) -> Option<FaultClass> {
    Some(match code {
        // The consent is over, or its user has to confirm it.
        "UK.OBIE.Resource.InvalidConsentStatus" | "U009" | "UK.OBIE.Reauthenticate" | "U028" => {
            FaultClass::ConsentRejected
        }
        // A header that is rejected with 401 is that of the access token.
        _ if status_class == FaultClass::ConsentRejected => return None,
        // We are wrong: the user has no part in it, and the bank is not down.
        "UK.OBIE.Header.Invalid"
        | "U006"
        | "UK.OBIE.Header.Missing"
        | "U007"
        | "UK.OBIE.Signature.Invalid"
        | "U015"
        | "UK.OBIE.Signature.InvalidClaim"
        | "U016"
        | "UK.OBIE.Signature.MissingClaim"
        | "U017"
        | "UK.OBIE.Signature.Malformed"
        | "U018"
        | "UK.OBIE.Signature.Missing"
        | "U019"
        | "UK.OBIE.Signature.Unexpected"
        | "U020" => FaultClass::Internal,
        "UK.OBIE.Resource.NotFound" | "U011" => FaultClass::AccountGone,
        // The bank is in trouble, whatever status it says so with.
        "UK.OBIE.UnexpectedError" | "U000" => FaultClass::BankUnavailable,
        _ => return None,
    })
}

/// True where a rejection is one of the standard or of OAuth: its body names an error. One that has another body, such
/// as a page for people, is of something in front of the bank.
fn is_explained_rejection(body: &[u8]) -> bool {
    let text = body.trim_ascii();
    // RFC 6750 lets a resource say it in a header alone, and many banks send nothing at all.
    text.is_empty()
        || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(status: u16, status_class: FaultClass, body: &str) -> FaultClass {
        let rejected = BankResponse::Rejected {
            status,
            fault: BankFault::new(status_class, format!("status {status}")),
            body: body.as_bytes().to_vec(),
        };
        into_body(rejected).unwrap_err().class
    }

    fn error_body(code: &str) -> String {
        format!(r#"{{"Code":"400 BadRequest","Errors":[{{"ErrorCode":"{code}","Message":"x"}}]}}"#)
    }

    #[test]
    fn each_code_of_the_standard_has_its_class_in_both_versions() {
        use FaultClass::{
            AccountGone, BankUnavailable, ConsentRejected, Internal, MalformedResponse,
        };
        for (class, codes) in [
            (
                ConsentRejected,
                ["UK.OBIE.Resource.InvalidConsentStatus", "U009"],
            ),
            (ConsentRejected, ["UK.OBIE.Reauthenticate", "U028"]),
            (AccountGone, ["UK.OBIE.Resource.NotFound", "U011"]),
            (Internal, ["UK.OBIE.Signature.Invalid", "U015"]),
            (Internal, ["UK.OBIE.Header.Missing", "U007"]),
            (BankUnavailable, ["UK.OBIE.UnexpectedError", "U000"]),
            (MalformedResponse, ["UK.OBIE.Field.Invalid", "U002"]),
            (
                MalformedResponse,
                ["UK.OBIE.Resource.InvalidFormat", "U010"],
            ),
        ] {
            for code in codes {
                let found = class_of(400, MalformedResponse, &error_body(code));
                assert_eq!(found, class, "{code}");
            }
        }
    }

    #[test]
    fn a_rejection_that_nobody_of_the_standard_wrote_is_the_banks_trouble() {
        use FaultClass::{BankUnavailable, ConsentRejected};
        let check = |body: &str, expected| {
            for status in [401, 403] {
                let found = class_of(status, ConsentRejected, body);
                assert_eq!(found, expected, "{status} {body}");
            }
        };
        check("<html><h1>Request blocked</h1></html>", BankUnavailable);
        check("Access denied by policy", BankUnavailable);
        check(&error_body("UK.OBIE.Header.Invalid"), ConsentRejected);
        check("", ConsentRejected);
        check(r#"{"error":"invalid_token"}"#, ConsentRejected);
        check(&error_body("UK.OBIE.Reauthenticate"), ConsentRejected);
    }

    #[test]
    fn an_account_that_the_bank_does_not_have_any_more_is_gone() {
        for status in [404, 410] {
            let found = class_of(status, FaultClass::MalformedResponse, "");
            assert_eq!(found, FaultClass::AccountGone, "{status}");
        }
    }
}
