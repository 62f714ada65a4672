//! The codes of the two versions, and what they mean to us. This is all in which the versions differ,
//! and no code of one means something else in the other; so both spellings are read wherever a code
//! stands, which also serves banks that speak a mixture of the two.

use okra_core::model::snapshot::BookingStatus;
use serde::Deserialize;

/// What a row's `Status` makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusMeaning {
    /// It counts.
    Included(BookingStatus),
    /// It was rejected, lies in the future, or only informs.
    Excluded,
}

/// The meaning of a `Status`; `None` where the standard has no such code.
pub(super) fn status_meaning(code: &str) -> Option<StatusMeaning> {
    Some(match code {
        // 3.1  |  4.0
        "Booked" | "BOOK" => StatusMeaning::Included(BookingStatus::Booked),
        "Pending" | "PDNG" => StatusMeaning::Included(BookingStatus::Pending),
        "Rejected" | "RJCT" => StatusMeaning::Excluded,
        "FUTR" | "INFO" => StatusMeaning::Excluded,
        _ => return None,
    })
}

/// Spellings of one meaning: 3.1, then 4.0 where it has one.
type CodeSpellings = &'static [&'static str];

/// Types of balance that say what can be spent, best first: now, at the end of the day, on a later
/// day, at the start of the day.
pub(super) const AVAILABLE_BALANCE_TYPES: &[CodeSpellings] = &[
    &["InterimAvailable", "ITAV"],
    &["ClosingAvailable", "CLAV"],
    &["ForwardAvailable", "FWAV"],
    &["OpeningAvailable", "OPAV"],
];

/// Types of balance that say what is on the books, best first: now, at the end of the day, at its
/// start, at the end of the day before. What is cleared or expected counts only where nothing booked
/// is stated. `Information` (`INFO`) is neither this nor [`AVAILABLE`].
pub(super) const LEDGER_BALANCE_TYPES: &[CodeSpellings] = &[
    &["InterimBooked", "ITBD"],
    &["ClosingBooked", "CLBD"],
    &["OpeningBooked", "OPBD"],
    &["PreviouslyClosedBooked", "PRCD"],
    &["InterimCleared"],
    &["ClosingCleared"],
    &["OpeningCleared"],
    &["Expected", "XPCD"],
];

/// True for the `SubType` of an amount that was converted from the account's own currency.
pub(super) fn is_converted(sub_type: Option<&str>) -> bool {
    matches!(sub_type, Some("LocalCurrency" | "LCUR"))
}

/// True for an account that is no more.
pub(super) fn is_deleted(status: Option<&str>) -> bool {
    status == Some("Deleted")
}

/// Okra's word for `AccountSubType` (3.1) or `AccountTypeCode` (4.0, ISO 20022 cash account type).
pub(super) fn account_kind_from_code(code: &str) -> &'static str {
    match code {
        "CurrentAccount" | "CACC" | "TRAN" | "SACC" | "SLRY" | "ODFT" => "CURRENT",
        "Savings" | "SVGS" | "LLSV" | "ONDP" => "SAVINGS",
        "CreditCard" | "ChargeCard" | "PrePaidCard" | "CARD" => "CARD",
        "Loan" | "LOAN" => "LOAN",
        "Mortgage" | "MORT" => "MORTGAGE",
        "EMoney" | "WALT" | "MOMA" => "WALLET",
        _ => "OTHER",
    }
}

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

/// The first `ErrorCode` of a refusal, where it looks like one of the standard's: `UK.OBIE.` and words
/// (3.1), or a letter and three digits (4.0). Anything else is the bank's own text and is not shown.
pub(super) fn parse_error_code(body: &[u8]) -> Option<String> {
    let refusal: ObieErrorBody = serde_json::from_slice(body).ok()?;
    let code = refusal.errors.into_iter().next()?.error_code;
    let words = code.strip_prefix("UK.OBIE.").is_some_and(|words| {
        code.len() <= MAX_ERROR_CODE_CHARS
            && words
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'.')
    });
    let short = matches!(code.as_bytes(), [letter, digits @ ..]
        if letter.is_ascii_uppercase() && digits.len() == 3 && digits.iter().all(u8::is_ascii_digit));
    (words || short).then_some(code)
}
