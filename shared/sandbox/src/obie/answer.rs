//! What the bank answers to a request, decided under the locks and without waiting.

use axum::extract::Query as FromQuery;
use bytes::Bytes;
use http::Uri;
use jiff::{civil::Date, tz::Offset};
use okra_core::model::bank::BankStandard;
use serde::Serialize;

use super::{
    problem::AccountApiError,
    shape::{
        AccountList, AccountShape, BalanceList, IsoTimestamp, SandboxEnvelope, SandboxLinks,
        SandboxMeta, TransactionList, TransactionShape,
    },
    spoil::malform_body,
    window::{BookingDateWindow, TransactionsQuery},
};
use crate::{
    account::{ListedRow, SandboxAccount},
    bank::{SandboxBank, to_timestamp},
    fault::{ConsentState, Faults, MalformedFault, Outage, RateLimitFault, SandboxResource},
    movement::UnixSeconds,
};

/// A request.
pub(super) struct AccountApiRequest<'a> {
    pub(super) standard: BankStandard,
    pub(super) resource: SandboxResource,
    pub(super) account: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) uri: &'a Uri,
    /// The URL that was asked for, whole: what answers are kept under.
    pub(super) url: &'a str,
}

/// An answer, and how long to hold it back.
pub(super) struct DelayedResponse {
    pub(super) delay_ms: u32,
    pub(super) response: AccountApiResponse,
}

pub(super) enum AccountApiResponse {
    Json(Bytes),
    Html(Bytes),
    Error(AccountApiError),
    RateLimited(RateLimitFault),
    Unavailable,
    BrokenConnection,
}

/// What goes wrong with one request, of the bank's faults and the login's together.
#[derive(Clone, Copy, Default)]
struct ActiveFaults {
    slow_ms: u32,
    outage: Option<Outage>,
    rate_limited: Option<RateLimitFault>,
    malformed: Option<MalformedFault>,
    malformed_date: Option<Date>,
    empty: bool,
    page_shift: i32,
    history_days: Option<u16>,
}

impl ActiveFaults {
    fn merge_faults(&mut self, faults: &mut Faults, request: &AccountApiRequest<'_>) {
        if !faults.affects_request(request.resource, request.account) {
            return;
        }
        self.slow_ms = self.slow_ms.max(faults.slow_ms);
        self.outage = self.outage.or(faults.outage);
        if self.outage.is_none() {
            self.rate_limited = self.rate_limited.or_else(|| faults.consume_rate_limit());
        }
        self.malformed = self.malformed.or(faults.malformed);
        self.malformed_date = self.malformed_date.or(faults.malformed_date);
        self.empty |= faults.empty;
        self.history_days = self.history_days.or(faults.history_days);
        if self.page_shift == 0 {
            self.page_shift = faults.page_shift;
        }
    }

    fn failure_response(&self) -> Option<AccountApiResponse> {
        match self.outage {
            Some(Outage::Unavailable) => Some(AccountApiResponse::Unavailable),
            Some(Outage::Drop) => Some(AccountApiResponse::BrokenConnection),
            None => self.rate_limited.map(AccountApiResponse::RateLimited),
        }
    }

    /// True where an answer is as it would be without faults, and may be kept.
    const fn allows_caching(&self) -> bool {
        !self.empty
            && self.page_shift == 0
            && self.history_days.is_none()
            && self.malformed_date.is_none()
    }
}

pub(super) fn respond_to_request(
    bank: &SandboxBank,
    request: &AccountApiRequest<'_>,
) -> DelayedResponse {
    let mut upset = ActiveFaults::default();
    let reply = build_response(bank, request, &mut upset).unwrap_or_else(AccountApiResponse::Error);
    DelayedResponse {
        delay_ms: upset.slow_ms,
        response: reply,
    }
}

fn build_response(
    bank: &SandboxBank,
    request: &AccountApiRequest<'_>,
    active_faults: &mut ActiveFaults,
) -> Result<AccountApiResponse, AccountApiError> {
    active_faults.merge_faults(&mut bank.lock_faults(), request);
    if let Some(refusal) = active_faults.failure_response() {
        return Ok(refusal);
    }
    let token = request.token.ok_or(AccountApiError::MissingToken)?;
    let grant = bank
        .find_grant(token)
        .ok_or(AccountApiError::InvalidToken)?;
    let mut state = grant.login.lock_state();
    match grant.consent_state(&state) {
        ConsentState::Active if grant.is_expired_at(bank.current_second()) => {
            return Err(AccountApiError::InvalidToken);
        }
        ConsentState::Active => {}
        ConsentState::Expired => return Err(AccountApiError::ConsentExpired),
        ConsentState::Revoked => return Err(AccountApiError::InvalidToken),
    }
    active_faults.merge_faults(&mut state.faults, request);
    if let Some(refusal) = active_faults.failure_response() {
        return Ok(refusal);
    }
    let now = bank.current_second();
    let mut open = state
        .accounts
        .iter_mut()
        .filter(|account| account.is_open(now));
    let body = match request.account {
        None => {
            let open: Vec<_> = open.collect();
            render_accounts(open.iter().map(|account| &**account), request)?
        }
        Some(id) => {
            let account = open
                .find(|account| account.profile.id == id)
                .ok_or(AccountApiError::NoSuchAccount)?;
            match request.resource {
                // No request of an account's is for the token endpoint.
                SandboxResource::Token => return Err(AccountApiError::Unexpected),
                SandboxResource::Accounts => render_accounts(std::iter::once(&*account), request)?,
                SandboxResource::Balances => {
                    cached_or_built(account, request, now, true, |account| {
                        render_balances(account, request, now)
                    })?
                }
                SandboxResource::Transactions => cached_or_built(
                    account,
                    request,
                    now,
                    active_faults.allows_caching(),
                    |account| {
                        render_transactions(
                            account,
                            request,
                            now,
                            bank.options().page_size as usize,
                            active_faults,
                        )
                    },
                )?,
            }
        }
    };
    drop(state);
    Ok(match active_faults.malformed {
        Some(MalformedFault::Html) => {
            AccountApiResponse::Html(malform_body(&body, MalformedFault::Html))
        }
        Some(malformed) => AccountApiResponse::Json(malform_body(&body, malformed)),
        None => AccountApiResponse::Json(body),
    })
}

/// The kept answer to the URL or, where there is none that holds, a new one.
fn cached_or_built(
    account: &mut SandboxAccount,
    request: &AccountApiRequest<'_>,
    now: UnixSeconds,
    is_cacheable: bool,
    build_body: impl FnOnce(&mut SandboxAccount) -> Result<Bytes, AccountApiError>,
) -> Result<Bytes, AccountApiError> {
    if !is_cacheable {
        return build_body(account);
    }
    if let Some(body) = account.response_cache.get_body(request.url, now) {
        return Ok(body);
    }
    let body = build_body(account)?;
    let until = account.balance_at(now).next_change_at;
    account
        .response_cache
        .insert_body(request.url, now, until, &body);
    Ok(body)
}

fn render_accounts<'a>(
    accounts: impl Iterator<Item = &'a SandboxAccount>,
    request: &AccountApiRequest<'_>,
) -> Result<Bytes, AccountApiError> {
    serialize_body(&SandboxEnvelope {
        data: AccountList {
            account: accounts
                .map(|account| AccountShape::from_account(account, request.standard))
                .collect(),
        },
        links: SandboxLinks::single_page(request.url),
        meta: SandboxMeta::ONE_PAGE,
    })
}

fn render_balances(
    account: &mut SandboxAccount,
    request: &AccountApiRequest<'_>,
    now: UnixSeconds,
) -> Result<Bytes, AccountApiError> {
    let standing = account.balance_at(now);
    serialize_body(&SandboxEnvelope {
        data: BalanceList::from_balance(account, &standing, request.standard),
        links: SandboxLinks::single_page(request.url),
        meta: SandboxMeta::ONE_PAGE,
    })
}

fn render_transactions(
    account: &mut SandboxAccount,
    request: &AccountApiRequest<'_>,
    now: UnixSeconds,
    page_size: usize,
    active_faults: &mut ActiveFaults,
) -> Result<Bytes, AccountApiError> {
    let FromQuery(query) = FromQuery::<TransactionsQuery>::try_from_uri(request.uri)
        .map_err(|_| AccountApiError::NoSuchPage)?;
    let window = BookingDateWindow::from_query(&query)?;
    if let Some(days) = active_faults.history_days
        && window.from < now - UnixSeconds::from(days) * 86_400
    {
        return Err(AccountApiError::DateTooOld);
    }
    let standing = account.balance_at(now);
    let rows = if active_faults.empty {
        Vec::new()
    } else {
        account.list_rows(now, window.from, window.to)
    };
    let start = match window.offset {
        0 => 0,
        offset => shift_offset(offset, active_faults.page_shift),
    };
    let page = rows.get(start.min(rows.len())..).unwrap_or_default();
    let page = &page[..page.len().min(page_size)];
    if let Some(date) = active_faults.malformed_date {
        let dated = |row: &ListedRow| {
            Offset::UTC
                .to_datetime(to_timestamp(row.stage.booking_time))
                .date()
        };
        let concerned = page.iter().any(|row| dated(row) == date);
        active_faults.malformed = active_faults.malformed.filter(|_| concerned);
    }
    let total_pages = rows.len().div_ceil(page_size).max(1);
    let path = request
        .url
        .split_once('?')
        .map_or(request.url, |(path, _)| path);
    let link = |offset| format!("{path}?page={}", window.page_parameter(offset));
    let (last, next) = ((total_pages - 1) * page_size, window.offset + page_size);
    let links = SandboxLinks {
        self_url: request.url,
        first: (total_pages > 1).then(|| link(0)),
        prev: (window.offset > 0).then(|| link(window.offset.saturating_sub(page_size))),
        next: (next < rows.len()).then(|| link(next)),
        last: (total_pages > 1).then(|| link(last)),
    };
    serialize_body(&SandboxEnvelope {
        data: TransactionList {
            transaction: page
                .iter()
                .map(|row| TransactionShape::from_listed_row(row, account, request.standard))
                .collect(),
        },
        links,
        meta: SandboxMeta {
            total_pages,
            first_available_date_time: Some(IsoTimestamp::new(account.first_available_at())),
            last_available_date_time: Some(IsoTimestamp::new(standing.changed_at)),
        },
    })
}

/// The row a page starts at when rows moved since the page before.
fn shift_offset(offset: usize, shift: i32) -> usize {
    let rows = shift.unsigned_abs() as usize;
    if shift > 0 {
        offset.saturating_sub(rows)
    } else {
        offset.saturating_add(rows)
    }
}

fn serialize_body(envelope: &impl Serialize) -> Result<Bytes, AccountApiError> {
    serde_json::to_vec(envelope)
        .map(Bytes::from)
        .map_err(|_| AccountApiError::Unexpected)
}
