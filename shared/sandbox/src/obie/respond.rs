//! What the bank responds with to an [`AccountApiRequest`], decided under the locks and without waiting: an
//! [`AccountApiResponse`], and how long it is delayed. [`ActiveFaults`] are the bank's and the login's faults together.

use axum::extract::Query as FromQuery;
use bytes::Bytes;
use http::Uri;
use jiff::{civil::Date, tz::Offset};
use okra_core::model::bank::BankStandard;
use serde::Serialize;

use super::{
    error::AccountApiError,
    malform::malform_body,
    shape::{
        AccountList, AccountShape, BalanceList, IsoTimestamp, SandboxEnvelope, SandboxLinks,
        SandboxMeta, TransactionList, TransactionShape,
    },
    window::{BookingDateWindow, TransactionsQuery},
};
use crate::{
    account::{ListedRow, SandboxAccount},
    bank::{
        login::{LoginState, SandboxGrant},
        state::SandboxBank,
    },
    fault::{ConsentState, Faults, MalformedFault, Outage, RateLimitFault, SandboxResource},
    rows::movement::{SECONDS_PER_DAY, UnixSeconds, to_timestamp},
};

/// A request to the API.
pub(super) struct AccountApiRequest<'a> {
    pub(super) standard: BankStandard,
    pub(super) resource: SandboxResource,
    pub(super) account: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) uri: &'a Uri,
    /// The request's whole URL: responses are cached under it.
    pub(super) url: &'a str,
}

/// A response, and how many milliseconds to delay it.
pub(super) struct DelayedResponse {
    pub(super) delay_ms: u32,
    pub(super) response: AccountApiResponse,
}

/// What the bank responds with.
pub(super) enum AccountApiResponse {
    Json(Bytes),
    Html(Bytes),
    Error(AccountApiError),
    RateLimited(RateLimitFault),
    Unavailable,
    BrokenConnection,
}

/// What goes wrong with one request: the bank's faults and the login's together.
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

    /// True where a response is as it would be without faults, and may be cached.
    const fn allows_caching(&self) -> bool {
        !self.empty
            && self.page_shift == 0
            && self.history_days.is_none()
            && self.malformed_date.is_none()
    }

    /// Where only lists with a row of a date are malformed: leaves a page without one as it is.
    fn limit_to_malformed_date(&mut self, page: &[ListedRow]) {
        if let Some(date) = self.malformed_date
            && !page.iter().any(|row| booking_date(row) == date)
        {
            self.malformed = None;
        }
    }
}

pub(super) fn respond_to_request(
    bank: &SandboxBank,
    request: &AccountApiRequest<'_>,
) -> DelayedResponse {
    let mut active_faults = ActiveFaults::default();
    let response =
        build_response(bank, request, &mut active_faults).unwrap_or_else(AccountApiResponse::Error);
    DelayedResponse {
        delay_ms: active_faults.slow_ms,
        response,
    }
}

fn build_response(
    bank: &SandboxBank,
    request: &AccountApiRequest<'_>,
    active_faults: &mut ActiveFaults,
) -> Result<AccountApiResponse, AccountApiError> {
    // The bank's own faults come before it looks at the token.
    active_faults.merge_faults(&mut bank.lock_faults(), request);
    if let Some(failure) = active_faults.failure_response() {
        return Ok(failure);
    }
    let now = bank.current_second();
    let token = request.token.ok_or(AccountApiError::MissingToken)?;
    let grant = bank
        .find_grant(token)
        .ok_or(AccountApiError::InvalidToken)?;
    let mut state = grant.login.lock_state();
    check_grant(&grant, &state, now)?;
    // Then come the login's.
    active_faults.merge_faults(&mut state.faults, request);
    if let Some(failure) = active_faults.failure_response() {
        return Ok(failure);
    }
    let page_size = bank.options().page_size as usize;
    let body = render_body(&mut state.accounts, request, now, page_size, active_faults)?;
    drop(state);
    let Some(malformed) = active_faults.malformed else {
        return Ok(AccountApiResponse::Json(body));
    };
    let body = malform_body(&body, malformed).map_err(|_| AccountApiError::Unexpected)?;
    Ok(match malformed {
        MalformedFault::Html => AccountApiResponse::Html(body),
        _ => AccountApiResponse::Json(body),
    })
}

fn check_grant(
    grant: &SandboxGrant,
    state: &LoginState,
    now: UnixSeconds,
) -> Result<(), AccountApiError> {
    match grant.consent_state(state) {
        ConsentState::Active if grant.is_expired_at(now) => Err(AccountApiError::InvalidToken),
        ConsentState::Active => Ok(()),
        ConsentState::Expired => Err(AccountApiError::ConsentExpired),
        ConsentState::Revoked => Err(AccountApiError::InvalidToken),
    }
}

/// The body of a response about the accounts that are open.
fn render_body(
    accounts: &mut [SandboxAccount],
    request: &AccountApiRequest<'_>,
    now: UnixSeconds,
    page_size: usize,
    active_faults: &mut ActiveFaults,
) -> Result<Bytes, AccountApiError> {
    let Some(id) = request.account else {
        let open = accounts.iter().filter(|account| account.is_open(now));
        return render_accounts(open, request);
    };
    let account = accounts
        .iter_mut()
        .find(|account| account.is_open(now) && account.profile.id == id)
        .ok_or(AccountApiError::NoSuchAccount)?;
    match request.resource {
        // The token endpoint has no requests about accounts.
        SandboxResource::Token => Err(AccountApiError::Unexpected),
        SandboxResource::Accounts => render_accounts(std::iter::once(&*account), request),
        SandboxResource::Balances => cached_or_built(account, request, now, true, |account| {
            render_balances(account, request, now)
        }),
        SandboxResource::Transactions => {
            let is_cacheable = active_faults.allows_caching();
            cached_or_built(account, request, now, is_cacheable, |account| {
                render_transactions(account, request, now, page_size, active_faults)
            })
        }
    }
}

/// The cached response to the URL or, where there is no valid one, a new one.
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
    let balance = account.balance_at(now);
    serialize_body(&SandboxEnvelope {
        data: BalanceList::from_balance(account, &balance, request.standard),
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
        && window.from < now - UnixSeconds::from(days) * SECONDS_PER_DAY
    {
        return Err(AccountApiError::DateTooOld);
    }
    let balance = account.balance_at(now);
    let rows = if active_faults.empty {
        Vec::new()
    } else {
        account.list_rows(now, window.from, window.to)
    };
    let page = cut_page(&rows, window.offset, page_size, active_faults.page_shift);
    active_faults.limit_to_malformed_date(page);
    let total_pages = rows.len().div_ceil(page_size).max(1);
    serialize_body(&SandboxEnvelope {
        data: TransactionList {
            transaction: page
                .iter()
                .map(|row| TransactionShape::from_listed_row(row, account, request.standard))
                .collect(),
        },
        links: build_links(request.url, window, rows.len(), page_size),
        meta: SandboxMeta {
            total_pages,
            first_available_date_time: Some(IsoTimestamp::new(account.first_available_at())),
            last_available_date_time: Some(IsoTimestamp::new(balance.changed_at)),
        },
    })
}

/// The rows of the page that starts at `offset`; none past the end. The first page never moves.
fn cut_page(rows: &[ListedRow], offset: usize, page_size: usize, page_shift: i32) -> &[ListedRow] {
    let start = match offset {
        0 => 0,
        offset => shift_offset(offset, page_shift),
    };
    let rest = rows.get(start..).unwrap_or_default();
    &rest[..rest.len().min(page_size)]
}

/// Links to the pages around the one that starts at the window's offset.
fn build_links(
    url: &str,
    window: BookingDateWindow,
    row_count: usize,
    page_size: usize,
) -> SandboxLinks<'_> {
    let total_pages = row_count.div_ceil(page_size).max(1);
    let last = (total_pages - 1) * page_size;
    let next = window.offset.saturating_add(page_size);
    SandboxLinks {
        self_url: url,
        first: (total_pages > 1).then(|| page_link(url, window, 0)),
        // The page before the first rows is the first page.
        prev: (window.offset > 0)
            .then(|| page_link(url, window, window.offset.saturating_sub(page_size))),
        next: (next < row_count).then(|| page_link(url, window, next)),
        last: (total_pages > 1).then(|| page_link(url, window, last)),
    }
}

fn page_link(url: &str, window: BookingDateWindow, offset: usize) -> String {
    let path = url.split_once('?').map_or(url, |(path, _)| path);
    format!("{path}?page={}", window.page_parameter(offset))
}

/// The booking date in UTC.
fn booking_date(row: &ListedRow) -> Date {
    Offset::UTC
        .to_datetime(to_timestamp(row.stage.booking_time))
        .date()
}

/// The row that a page starts at when rows moved since the page before. Saturates at both ends of the list.
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
