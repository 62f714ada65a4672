//! Everything that can be done to the bank beside its API: a [`SandboxCommand`] and its parts.
//!
//! Rule: the journal keeps commands, so these shapes are stored. Fields are only ever added, with a default, and names
//! on disk stay.

use jiff::Timestamp;
use okra_core::model::{
    bank::BankStandard,
    snapshot::{BookingStatus, Direction},
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::{ConsentState, Faults},
    rows::movement::{RowKey, ShownTransactionId},
};

/// A login (consent) of the sandbox bank; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginId(pub u32);

/// How much history an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volume {
    /// 30 rows.
    Low,
    /// 100 rows.
    #[default]
    Medium,
    /// 300 rows.
    High,
}

impl Volume {
    /// Rows of history for each account.
    pub const fn history_rows(self) -> u32 {
        match self {
            Self::Low => 30,
            Self::Medium => 100,
            Self::High => 300,
        }
    }
}

/// Longest life of an access token, in seconds.
pub const MAX_TOKEN_LIFE_S: u32 = 86_400;

/// How long tokens of a grant live, and whether they rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTerms {
    /// Seconds an access token lives, 1 to [`MAX_TOKEN_LIFE_S`].
    pub life_s: u32,
    /// Whether each renewal replaces the refresh token. One that was replaced and is shown again
    /// revokes the grant (RFC 9700, 4.14.2).
    #[serde(default)]
    pub rotate: bool,
}

/// A login to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewLogin {
    /// The holder's name, 1 to 70 characters; generated where absent.
    pub name: Option<String>,
    /// Number of accounts, 1 to 5.
    pub accounts: u8,
    /// How much history each account has.
    pub volume: Volume,
    /// The version that its bank is configured with. Only informative: every login is served in both versions,
    /// as the standard demands of banks that run two.
    pub standard: BankStandard,
    /// Days the history reaches back, 1 to 365.
    pub history_days: u16,
    /// Rows of history for each account, at most 20,000; overrides `volume`.
    pub history_rows: Option<u32>,
    /// Seconds between new rows of the login; 0 means none, absent means the bank's.
    #[serde(rename = "pace_s")]
    pub row_interval_s: Option<u32>,
}

impl Default for NewLogin {
    fn default() -> Self {
        Self {
            name: None,
            accounts: 1,
            volume: Volume::default(),
            standard: BankStandard::Obie31,
            history_days: 60,
            history_rows: None,
            row_interval_s: None,
        }
    }
}

/// Which requests a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTarget {
    /// Every request.
    Bank,
    /// Requests with this login's tokens.
    Login(LoginId),
}

/// An account by its login and the bank's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAddress {
    /// The login.
    pub login: LoginId,
    /// `AccountId` as in the bank's URLs.
    #[serde(rename = "account")]
    pub account_id: String,
}

/// A row to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTransaction {
    /// Into or out of the account.
    #[serde(with = "direction")]
    pub direction: Direction,
    /// In major units of the account's currency, not negative: `12.50`; at most 1,000,000,000.
    pub amount: String,
    /// The bank's text, at most 500 characters; may be empty.
    #[serde(default)]
    pub text: String,
    /// Pending rows stay so until they are booked by request.
    #[serde(with = "status", default = "booked")]
    pub status: BookingStatus,
    /// The booking date shown, where it is not the present: a back-dated row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "dated")]
    pub booking_time: Option<Timestamp>,
    /// The bank's id; a new one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ShownTransactionId>,
}

/// How a pending row is booked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BookingDetails {
    /// Minor units by which the booked amount is larger than the pending one; negative for smaller.
    pub drift: i64,
    /// The booking date shown, where it is not the present.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "dated")]
    pub booking_time: Option<Timestamp>,
    /// The bank's id from now on; a new one where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ShownTransactionId>,
}

/// What to change about a row. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RowAmendment {
    /// The bank's text, at most 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// In major units, not negative; the direction stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// The bank's id: missing, blank, or that of another row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ShownTransactionId>,
}

/// One change of the bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxCommand {
    /// Makes a login.
    CreateLogin(NewLogin),
    /// Grants access to a login whose last grant is expired or revoked. Without effect otherwise.
    #[serde(rename = "link")]
    GrantAccess(LoginId),
    /// Grants access to a login with tokens that expire.
    #[serde(rename = "issue")]
    IssueTokens {
        /// The login.
        login: LoginId,
        /// How its tokens live.
        terms: TokenTerms,
        /// The consent that the login's user authorised, where the grant comes from one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[serde(rename = "consent")]
        consent_id: Option<String>,
    },
    /// Revokes a consent that a user authorised.
    #[serde(rename = "revoke")]
    RevokeConsent {
        /// Its id.
        #[serde(rename = "consent")]
        consent_id: String,
    },
    /// Spends a refresh token.
    #[serde(rename = "renew")]
    RenewTokens {
        /// The refresh token's login.
        login: LoginId,
        /// The number of the refresh token's grant.
        grant: u32,
        /// Renewals of the grant before the refresh token was issued.
        generation: u64,
    },
    /// Sets what goes wrong, in place of what was set before.
    SetFaults {
        /// Which requests they affect.
        target: FaultTarget,
        /// The faults.
        faults: Faults,
    },
    /// Sets the state of all grants that a login has so far.
    SetConsent {
        /// The login.
        login: LoginId,
        /// The state.
        state: ConsentState,
    },
    /// Adds a row.
    #[serde(rename = "add")]
    AddRow {
        /// The account.
        #[serde(rename = "place")]
        address: AccountAddress,
        /// The row.
        transaction: NewTransaction,
    },
    /// Books a pending row.
    #[serde(rename = "book")]
    BookRow {
        /// The account.
        #[serde(rename = "place")]
        address: AccountAddress,
        /// The row.
        row: RowKey,
        /// How it is booked.
        #[serde(rename = "how")]
        booking: BookingDetails,
    },
    /// Changes a row.
    #[serde(rename = "amend")]
    AmendRow {
        /// The account.
        #[serde(rename = "place")]
        address: AccountAddress,
        /// The row.
        row: RowKey,
        /// The change.
        #[serde(rename = "change")]
        amendment: RowAmendment,
    },
    /// Removes a row from the list.
    #[serde(rename = "remove")]
    RemoveRow {
        /// The account.
        #[serde(rename = "place")]
        address: AccountAddress,
        /// The row.
        row: RowKey,
    },
}

const fn booked() -> BookingStatus {
    BookingStatus::Booked
}

/// `credit` and `debit`: people write these requests, while the core's form is for storage.
pub(crate) mod direction {
    use okra_core::model::snapshot::Direction;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum DirectionName {
        Credit,
        Debit,
    }

    pub(crate) fn serialize<S: Serializer>(value: &Direction, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Direction::Credit => DirectionName::Credit,
            Direction::Debit => DirectionName::Debit,
        }
        .serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Direction, D::Error> {
        Ok(match DirectionName::deserialize(from)? {
            DirectionName::Credit => Direction::Credit,
            DirectionName::Debit => Direction::Debit,
        })
    }
}

/// `pending` and `booked`.
pub(crate) mod status {
    use okra_core::model::snapshot::BookingStatus;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum StatusName {
        Pending,
        Booked,
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &BookingStatus,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            BookingStatus::Pending => StatusName::Pending,
            BookingStatus::Booked => StatusName::Booked,
        }
        .serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BookingStatus, D::Error> {
        Ok(match StatusName::deserialize(from)? {
            StatusName::Pending => BookingStatus::Pending,
            StatusName::Booked => BookingStatus::Booked,
        })
    }
}
