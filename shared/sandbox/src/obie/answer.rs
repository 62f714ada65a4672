//! What the bank answers to a request, decided under the locks and without waiting.

use axum::extract::Query as FromQuery;
use bytes::Bytes;
use http::Uri;
use jiff::{civil::Date, tz::Offset};
use okra_core::bank::Standard;
use serde::Serialize;

use super::{
    problem::Problem,
    shape::{
        AccountList, AccountShape, Answer, BalanceList, Iso, Links, Meta, TransactionList,
        TransactionShape,
    },
    spoil::spoil,
    window::{Query, Window},
};
use crate::{
    account::{Account, Listed},
    bank::{Bank, timestamp},
    fault::{ConsentState, Faults, Malformed, Outage, RateLimit, Resource},
    movement::Second,
};

/// A request.
pub(super) struct Ask<'a> {
    pub(super) standard: Standard,
    pub(super) resource: Resource,
    pub(super) account: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) uri: &'a Uri,
    /// The URL that was asked for, whole: what answers are kept under.
    pub(super) url: &'a str,
}

/// An answer, and how long to hold it back.
pub(super) struct Outcome {
    pub(super) slow_ms: u32,
    pub(super) reply: Reply,
}

pub(super) enum Reply {
    Json(Bytes),
    Html(Bytes),
    Problem(Problem),
    TooMany(RateLimit),
    Unavailable,
    Drop,
}

/// What goes wrong with one request, of the bank's faults and the login's together.
#[derive(Clone, Copy, Default)]
struct Upset {
    slow_ms: u32,
    outage: Option<Outage>,
    refused: Option<RateLimit>,
    malformed: Option<Malformed>,
    malformed_date: Option<Date>,
    empty: bool,
    page_shift: i32,
    history_days: Option<u16>,
}

impl Upset {
    fn meet(&mut self, faults: &mut Faults, ask: &Ask<'_>) {
        if !faults.concern(ask.resource, ask.account) {
            return;
        }
        self.slow_ms = self.slow_ms.max(faults.slow_ms);
        self.outage = self.outage.or(faults.outage);
        if self.outage.is_none() {
            self.refused = self.refused.or_else(|| faults.refuse());
        }
        self.malformed = self.malformed.or(faults.malformed);
        self.malformed_date = self.malformed_date.or(faults.malformed_date);
        self.empty |= faults.empty;
        self.history_days = self.history_days.or(faults.history_days);
        if self.page_shift == 0 {
            self.page_shift = faults.page_shift;
        }
    }

    fn refusal(&self) -> Option<Reply> {
        match self.outage {
            Some(Outage::Unavailable) => Some(Reply::Unavailable),
            Some(Outage::Drop) => Some(Reply::Drop),
            None => self.refused.map(Reply::TooMany),
        }
    }

    /// True where an answer is as it would be without faults, and may be kept.
    const fn is_plain(&self) -> bool {
        !self.empty
            && self.page_shift == 0
            && self.history_days.is_none()
            && self.malformed_date.is_none()
    }
}

pub(super) fn answer(bank: &Bank, ask: &Ask<'_>) -> Outcome {
    let mut upset = Upset::default();
    let reply = reply(bank, ask, &mut upset).unwrap_or_else(Reply::Problem);
    Outcome {
        slow_ms: upset.slow_ms,
        reply,
    }
}

fn reply(bank: &Bank, ask: &Ask<'_>, upset: &mut Upset) -> Result<Reply, Problem> {
    upset.meet(&mut bank.faults(), ask);
    if let Some(refusal) = upset.refusal() {
        return Ok(refusal);
    }
    let token = ask.token.ok_or(Problem::TokenMissing)?;
    let grant = bank.grant(token).ok_or(Problem::TokenInvalid)?;
    let mut state = grant.login.state();
    match grant.consent(&state) {
        ConsentState::Active if grant.is_over(bank.now()) => return Err(Problem::TokenInvalid),
        ConsentState::Active => {}
        ConsentState::Expired => return Err(Problem::Reauthenticate),
        ConsentState::Revoked => return Err(Problem::TokenInvalid),
    }
    upset.meet(&mut state.faults, ask);
    if let Some(refusal) = upset.refusal() {
        return Ok(refusal);
    }
    let now = bank.now();
    let mut open = state
        .accounts
        .iter_mut()
        .filter(|account| account.is_open(now));
    let body = match ask.account {
        None => {
            let open: Vec<_> = open.collect();
            accounts(open.iter().map(|account| &**account), ask)?
        }
        Some(id) => {
            let account = open
                .find(|account| account.facts.id == id)
                .ok_or(Problem::NoSuchAccount)?;
            match ask.resource {
                // No request of an account's is for the token endpoint.
                Resource::Token => return Err(Problem::Unexpected),
                Resource::Accounts => accounts(std::iter::once(&*account), ask)?,
                Resource::Balances => kept(account, ask, now, true, |account| {
                    balances(account, ask, now)
                })?,
                Resource::Transactions => kept(account, ask, now, upset.is_plain(), |account| {
                    transactions(account, ask, now, bank.options().page_size as usize, upset)
                })?,
            }
        }
    };
    drop(state);
    Ok(match upset.malformed {
        Some(Malformed::Html) => Reply::Html(spoil(&body, Malformed::Html)),
        Some(malformed) => Reply::Json(spoil(&body, malformed)),
        None => Reply::Json(body),
    })
}

/// The kept answer to the URL or, where there is none that holds, a new one.
fn kept(
    account: &mut Account,
    ask: &Ask<'_>,
    now: Second,
    may_keep: bool,
    make: impl FnOnce(&mut Account) -> Result<Bytes, Problem>,
) -> Result<Bytes, Problem> {
    if !may_keep {
        return make(account);
    }
    if let Some(body) = account.answers.get(ask.url, now) {
        return Ok(body);
    }
    let body = make(account)?;
    let until = account.standing(now).next;
    account.answers.put(ask.url, now, until, &body);
    Ok(body)
}

fn accounts<'a>(
    accounts: impl Iterator<Item = &'a Account>,
    ask: &Ask<'_>,
) -> Result<Bytes, Problem> {
    write(&Answer {
        data: AccountList {
            account: accounts
                .map(|account| AccountShape::of(account, ask.standard))
                .collect(),
        },
        links: Links::only(ask.url),
        meta: Meta::ONE_PAGE,
    })
}

fn balances(account: &mut Account, ask: &Ask<'_>, now: Second) -> Result<Bytes, Problem> {
    let standing = account.standing(now);
    write(&Answer {
        data: BalanceList::of(account, &standing, ask.standard),
        links: Links::only(ask.url),
        meta: Meta::ONE_PAGE,
    })
}

fn transactions(
    account: &mut Account,
    ask: &Ask<'_>,
    now: Second,
    page_size: usize,
    upset: &mut Upset,
) -> Result<Bytes, Problem> {
    let FromQuery(query) = FromQuery::<Query>::try_from_uri(ask.uri).map_err(|_| Problem::Page)?;
    let window = Window::of(&query)?;
    if let Some(days) = upset.history_days
        && window.from < now - Second::from(days) * 86_400
    {
        return Err(Problem::TooOld);
    }
    let standing = account.standing(now);
    let rows = if upset.empty {
        Vec::new()
    } else {
        account.listed(now, window.from, window.to)
    };
    let start = match window.offset {
        0 => 0,
        offset => shifted(offset, upset.page_shift),
    };
    let page = rows.get(start.min(rows.len())..).unwrap_or_default();
    let page = &page[..page.len().min(page_size)];
    if let Some(date) = upset.malformed_date {
        let dated = |row: &Listed| Offset::UTC.to_datetime(timestamp(row.stage.dated)).date();
        let concerned = page.iter().any(|row| dated(row) == date);
        upset.malformed = upset.malformed.filter(|_| concerned);
    }
    let total_pages = rows.len().div_ceil(page_size).max(1);
    let path = ask.url.split_once('?').map_or(ask.url, |(path, _)| path);
    let link = |offset| format!("{path}?page={}", window.page(offset));
    let (last, next) = ((total_pages - 1) * page_size, window.offset + page_size);
    let links = Links {
        this: ask.url,
        first: (total_pages > 1).then(|| link(0)),
        prev: (window.offset > 0).then(|| link(window.offset.saturating_sub(page_size))),
        next: (next < rows.len()).then(|| link(next)),
        last: (total_pages > 1).then(|| link(last)),
    };
    write(&Answer {
        data: TransactionList {
            transaction: page
                .iter()
                .map(|row| TransactionShape::of(row, account, ask.standard))
                .collect(),
        },
        links,
        meta: Meta {
            total_pages,
            first_available_date_time: Some(Iso::new(account.first_available())),
            last_available_date_time: Some(Iso::new(standing.changed)),
        },
    })
}

/// The row a page starts at when rows moved since the page before.
fn shifted(offset: usize, shift: i32) -> usize {
    let rows = shift.unsigned_abs() as usize;
    if shift > 0 {
        offset.saturating_sub(rows)
    } else {
        offset.saturating_add(rows)
    }
}

fn write(answer: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(answer)
        .map(Bytes::from)
        .map_err(|_| Problem::Unexpected)
}
