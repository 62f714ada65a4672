//! The state of a record as `products/records/get` shows it beside Okra's fields: an extension. What the states mean
//! and how they are worked out is in [`okra_app::record_state`].

use okra_app::record_state::{
    AccountBackfillEnd, AccountDataState, BackfillSummary, NextRefreshTimes as AppRefreshTimes,
    ProductDataState as AppProductDataState, RecordState as AppRecordState,
};
use okra_core::{model::ids::AccountId, sync::state::AvailabilityReason};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

/// What is available of a record now.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct RecordState {
    accounts: Vec<AccountProductState>,
    #[serde(rename = "history")]
    backfill: Option<BackfillState>,
    next_refresh_at: Option<IsoInstant>,
    /// From when on a refresh may be requested without the user; null where the bank requires the user to be present
    /// or the user must re-authorise.
    next_refresh_available_at: Option<NextRefreshTimes>,
    /// True where the bank requires the user to be present for every refresh. Then there is no `next_refresh_at`, and
    /// a refresh on demand needs `customer_ip`.
    needs_user: bool,
    /// How the bank does: `HEALTHY`, `DEGRADED` or `DOWN`.
    bank_status: &'static str,
    /// When the consent ends, where that is known.
    consent_expires_at: Option<IsoInstant>,
}

/// From when on a refresh of each product may be requested: now, unless the bank is down or its daily quota is spent.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct NextRefreshTimes {
    balance: IsoInstant,
    transactions: IsoInstant,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AccountProductState {
    account: AccountId,
    balance: ProductDataState,
    transactions: ProductDataState,
}

/// Whether a product is available, why not, since when, and when it is refreshed next.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductDataState {
    /// `AVAILABLE`, `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// Where it is not available: the class of the failure, or `not_shared`. Where it is partial: `rows_missing` (the
    /// last response lacks transactions whose deletion is not confirmed), `rows_unreadable` (some could not be read),
    /// `history_gap`, `history_unreadable`, `history_refused` or `history_gave_up`.
    reason: Option<&'static str>,
    since: Option<IsoInstant>,
    next_refresh_at: Option<IsoInstant>,
}

/// How far the backfill has come.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BackfillState {
    complete: bool,
    accounts_done: usize,
    accounts: usize,
    oldest_date: Option<String>,
    rows: u64,
    percent: u8,
    /// For each account whose backfill has ended: why it goes no further back.
    ends: Vec<BackfillEndState>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BackfillEndState {
    account: AccountId,
    oldest_date: String,
    rows: u64,
    history_end: &'static str,
    /// Days that could not be read, each with what is wrong in the bank's response.
    unreadable: Vec<UnreadableDaySummary>,
    /// Where something is missing that may be available later: from when on a refresh requests it again.
    retries_at: Option<IsoInstant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct UnreadableDaySummary {
    date: String,
    #[serde(rename = "why")]
    reason: String,
}

impl From<AppRecordState> for RecordState {
    fn from(state: AppRecordState) -> Self {
        Self {
            accounts: state.accounts.into_iter().map(Into::into).collect(),
            backfill: state.backfill.map(Into::into),
            next_refresh_at: state.next_refresh_at.map(IsoInstant),
            next_refresh_available_at: state.next_refresh_available_at.map(Into::into),
            needs_user: state.requires_user_present,
            bank_status: state.bank_status.as_str(),
            consent_expires_at: state.consent_expires_at.map(IsoInstant),
        }
    }
}

impl From<AppRefreshTimes> for NextRefreshTimes {
    fn from(times: AppRefreshTimes) -> Self {
        Self {
            balance: IsoInstant(times.balance),
            transactions: IsoInstant(times.transactions),
        }
    }
}

impl From<AccountDataState> for AccountProductState {
    fn from(state: AccountDataState) -> Self {
        Self {
            account: state.account,
            balance: state.balance.into(),
            transactions: state.transactions.into(),
        }
    }
}

impl From<AppProductDataState> for ProductDataState {
    fn from(state: AppProductDataState) -> Self {
        Self {
            data_status: state.availability.as_str(),
            reason: state.reason.map(AvailabilityReason::as_str),
            since: state.since.map(IsoInstant),
            next_refresh_at: state.next_refresh_at.map(IsoInstant),
        }
    }
}

impl From<BackfillSummary> for BackfillState {
    fn from(backfill: BackfillSummary) -> Self {
        Self {
            complete: backfill.is_complete,
            accounts_done: backfill.accounts_done,
            accounts: backfill.accounts,
            oldest_date: backfill.oldest_date.map(|date| date.to_string()),
            rows: backfill.rows,
            percent: backfill.percent,
            ends: backfill.ends.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<AccountBackfillEnd> for BackfillEndState {
    fn from(end: AccountBackfillEnd) -> Self {
        let unreadable_days = end.unreadable_days.into_iter();
        let unreadable = unreadable_days.map(|day| UnreadableDaySummary {
            date: day.date.to_string(),
            reason: day.reason,
        });
        Self {
            account: end.account,
            oldest_date: end.oldest_date.to_string(),
            rows: end.rows,
            history_end: end.end.as_str(),
            unreadable: unreadable.collect(),
            retries_at: end.retries_at.map(IsoInstant),
        }
    }
}
