//! The ways in which banks say that a quota is spent. The standards know 429 and, in the Berlin Group's,
//! `ACCESS_EXCEEDED`; banks also answer 400, 401 and 403, and say it in words alone. Taken for a
//! refused consent, each of these would ask a user to link again for nothing.

use okra_core::model::fault::FaultClass;

/// Bytes of a refusal that are looked through at most.
const MAX_SCANNED_BYTES: usize = 8 * 1024;

/// Seconds from which a `Retry-After` speaks of a quota and not of a rate.
const MIN_QUOTA_WAIT_S: u32 = 3_600;

/// Codes that say it, whatever the status: in small letters, without signs.
const QUOTA_CODES: [&str; 6] = [
    "accessexceeded",
    "quotaexceeded",
    "quotaspent",
    "dailylimitexceeded",
    "frequencyperdayexceeded",
    "maximumnumberofaccesses",
];

/// Words that say it, all of a line, in a refusal of any of [`STATUSES`].
const QUOTA_PHRASES: [&[&str]; 7] = [
    &["daily", "limit"],
    &["limit", "per day"],
    &["quota"],
    &["exceeded", "requests", "24"],
    &["number of", "access", "exceeded"],
    &["too many", "today"],
    &["maximum", "calls", "day"],
];

/// Statuses in whose texts words are looked for.
const QUOTA_STATUSES: [u16; 4] = [400, 401, 403, 429];

/// The class of a refusal that speaks of a rate or a quota; `None` where it speaks of something else.
pub(crate) fn classify_limit_error(
    status: u16,
    body: &[u8],
    retry_after_s: Option<u32>,
) -> Option<FaultClass> {
    let body = body.get(..MAX_SCANNED_BYTES).unwrap_or(body);
    let text = String::from_utf8_lossy(body).to_lowercase();
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let coded =
        QUOTA_STATUSES.contains(&status) && QUOTA_CODES.iter().any(|code| letters.contains(code));
    let said = QUOTA_STATUSES.contains(&status)
        && QUOTA_PHRASES
            .iter()
            .any(|words| words.iter().all(|word| text.contains(word)));
    let long = status == 429 && retry_after_s.is_some_and(|seconds| seconds >= MIN_QUOTA_WAIT_S);
    if coded || said || long {
        Some(FaultClass::QuotaSpent)
    } else if status == 429 {
        Some(FaultClass::RateLimited)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_of_saying_that_a_quota_is_spent() {
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
        // What is for the user, and what is not a refusal of that kind, stays what it is.
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
