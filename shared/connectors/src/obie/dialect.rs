//! The codes of the two versions and what they mean to us. The versions differ in nothing else, and no code of one
//! means something else in the other: both spellings are read everywhere, which also serves banks that mix them.

use okra_core::model::snapshot::BookingStatus;

/// What the `Status` of a row means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusMeaning {
    /// The row counts.
    Included(BookingStatus),
    /// The row was rejected, lies in the future, or only informs.
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

/// Types of balance that state what can be spent, best first: now, at the end of the day, on a later day, at the
/// start of the day.
pub(super) const AVAILABLE_BALANCE_TYPES: &[CodeSpellings] = &[
    &["InterimAvailable", "ITAV"],
    &["ClosingAvailable", "CLAV"],
    &["ForwardAvailable", "FWAV"],
    &["OpeningAvailable", "OPAV"],
];

/// Types of balance that state what is booked, best first: now, at the end of the day, at its start, at the end of the
/// day before. Cleared and expected balances count only where no booked one is stated. `Information` (`INFO`) is
/// neither booked nor available.
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

/// True for an account that was closed and deleted at the bank.
pub(super) fn is_deleted(status: Option<&str>) -> bool {
    status == Some("Deleted")
}

/// Okra's name for an `AccountSubType` (3.1) or `AccountTypeCode` (4.0, ISO 20022 cash account type).
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
