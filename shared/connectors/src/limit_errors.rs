//! How banks say that a rate limit or a quota is reached, whatever their standard: the error table that all
//! connectors share. Standards know status 429 and, in the Berlin Group's, `ACCESS_EXCEEDED`; banks also answer
//! 400, 401 and 403, and say it in their error texts alone. Taken for a rejected consent, each of these would
//! ask a user to link again for nothing.

use okra_core::model::fault::FaultClass;

/// Bytes of an error body that are searched at most.
const MAX_SCANNED_BYTES: usize = 8 * 1024;

/// Seconds from which a `Retry-After` means a quota and not a rate limit.
const MIN_QUOTA_WAIT_S: u32 = 3_600;

/// Error codes of a spent quota, in small letters and without punctuation.
const QUOTA_CODES: [&str; 6] = [
    "accessexceeded",
    "quotaexceeded",
    "quotaspent",
    "dailylimitexceeded",
    "frequencyperdayexceeded",
    "maximumnumberofaccesses",
];

/// Phrases of a spent quota: a text that holds all parts of one of them.
const QUOTA_PHRASES: [&[&str]; 7] = [
    &["daily", "limit"],
    &["limit", "per day"],
    &["quota"],
    &["exceeded", "requests", "24"],
    &["number of", "access", "exceeded"],
    &["too many", "today"],
    &["maximum", "calls", "day"],
];

/// Statuses whose bodies are searched for codes and phrases.
const QUOTA_STATUSES: [u16; 4] = [400, 401, 403, 429];

/// The class of an error response that means a rate limit or a quota; `None` where it means something else.
pub(crate) fn classify_limit_error(
    status: u16,
    body: &[u8],
    retry_after_s: Option<u32>,
) -> Option<FaultClass> {
    let is_long_wait =
        status == 429 && retry_after_s.is_some_and(|seconds| seconds >= MIN_QUOTA_WAIT_S);
    if is_long_wait || (QUOTA_STATUSES.contains(&status) && mentions_quota(body)) {
        Some(FaultClass::QuotaSpent)
    } else if status == 429 {
        Some(FaultClass::RateLimited)
    } else {
        None
    }
}

fn mentions_quota(body: &[u8]) -> bool {
    let body = body.get(..MAX_SCANNED_BYTES).unwrap_or(body);
    let text = String::from_utf8_lossy(body).to_lowercase();
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    QUOTA_CODES.iter().any(|code| letters.contains(code))
        || QUOTA_PHRASES
            .iter()
            .any(|parts| parts.iter().all(|part| text.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_quota_is_recognised_however_the_bank_says_it() {
        let spent = Some(FaultClass::QuotaSpent);
        let check = |status, body: &str, retry_after_s, expected| {
            let found = classify_limit_error(status, body.as_bytes(), retry_after_s);
            assert_eq!(found, expected, "{status} {body}");
        };
        check(429, "", None, Some(FaultClass::RateLimited));
        check(429, "", Some(30), Some(FaultClass::RateLimited));
        check(429, "", Some(40_000), spent);
        check(
            429,
            r#"{"tppMessages":[{"code":"ACCESS_EXCEEDED"}]}"#,
            None,
            spent,
        );
        check(
            403,
            r#"{"tppMessages":[{"code":"ACCESS_EXCEEDED"}]}"#,
            None,
            spent,
        );
        check(
            400,
            "Daily request limit reached for this consent",
            None,
            spent,
        );
        check(
            403,
            r#"{"detail":"You have exceeded the 4 requests allowed in 24 hours"}"#,
            None,
            spent,
        );
        check(
            401,
            "The number of accesses without PSU has been exceeded",
            None,
            spent,
        );
        check(
            429,
            r#"{"Errors":[{"Message":"Quota exceeded"}]}"#,
            None,
            spent,
        );
        // An error that only the user can mend, and one of another kind, keep their class.
        check(
            403,
            r#"{"Errors":[{"ErrorCode":"UK.OBIE.Reauthenticate"}]}"#,
            None,
            None,
        );
        check(401, "invalid_token", None, None);
        check(503, "daily limit", None, None);
        check(
            400,
            r#"{"Errors":[{"ErrorCode":"UK.OBIE.Field.Invalid"}]}"#,
            None,
            None,
        );
    }
}
