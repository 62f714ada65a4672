//! Banks: what they know, how they tell it (UK Open Banking, in every spelling a real one uses), and
//! how they fail.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_connectors::{BankTransportError, HttpClient, HttpResponseFuture};
use okra_core::model::snapshot::utc_date;

use crate::{
    gate::{EffectFate, EffectKind, EffectPhase, EffectScheduler},
    random::SimRandom,
};

/// A row as the bank has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimRow {
    /// Ours: which real-world purchase it is.
    pub(crate) purchase: u32,
    /// True where several rows read alike, so that nobody can tell which is which.
    pub(crate) has_twin: bool,
    pub(crate) id: Option<String>,
    pub(crate) is_pending: bool,
    /// Signed, in minor units.
    pub(crate) signed_minor: i64,
    pub(crate) booked_at: Timestamp,
    pub(crate) description: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimAccount {
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) ledger_minor: i64,
    pub(crate) rows: Vec<SimRow>,
    /// Answers nothing but an error, for good.
    pub(crate) always_fails: bool,
    /// An id of it stood for two payments: of an answer that lacks one of them nobody can tell whether it was edited.
    has_reused_id: bool,
    /// Purchases that no answer lacks: one that was pending, since another may be taken for its booking, and
    /// one that was lacking before, since nobody could tell it from one that is gone.
    never_omitted: HashSet<u32>,
    /// Its ids count from 1, as those of the login's other accounts do.
    own_id_counter: Option<u32>,
    /// What it showed once, for a bank that shows A, then B, then A again.
    saved_state: Option<(i64, Vec<SimRow>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimLogin {
    pub(crate) token: String,
    pub(crate) accounts: Vec<SimAccount>,
    /// The consent is over.
    pub(crate) is_revoked: bool,
    /// When it is over by itself.
    pub(crate) expires_at: Option<Timestamp>,
    /// When the bank let somebody with a token of this login not in, in milliseconds since 1970.
    pub(crate) rejected_at_ms: Vec<i64>,
}

impl SimLogin {
    /// True where the bank lets nobody in.
    pub(crate) fn is_consent_over(&self, now: Timestamp) -> bool {
        self.is_revoked || self.expires_at.is_some_and(|at| now >= at)
    }
}

/// How often a bank misbehaves, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BankFaultRates {
    /// Of calls.
    pub(crate) failure_permille: u16,
    /// Of answers that lack a row. Asked for its dates alone the bank shows it.
    pub(crate) omission_permille: u16,
}

#[derive(Debug)]
pub(crate) struct SimBankState {
    pub(crate) logins: Vec<SimLogin>,
    pub(crate) fault_rates: BankFaultRates,
    random: SimRandom,
    next_purchase: u32,
    next_id: u32,
    /// Purchases that a bank took back: their rows may get a new identity if they come again.
    pub(crate) retracted_purchases: HashSet<u32>,
    /// Answers that lacked a row.
    pub(crate) omission_count: u64,
}

/// All banks of a world. Clones are one.
#[derive(Clone)]
pub(crate) struct SimBanks {
    state: Arc<Mutex<SimBankState>>,
    scheduler: EffectScheduler,
    now: crate::cloud::NowMillis,
}

/// Rows of a page, where a bank pages at all.
const ROWS_PER_PAGE: usize = 5;

/// Accounts with enough rows to be paged, in a thousand.
const LONG_ACCOUNT_PERMILLE: u16 = 120;

/// Logins whose accounts use the same ids, in a thousand.
const SAME_IDS_PERMILLE: u16 = 150;

/// Rows from which on an answer may lack one: an empty answer is another matter.
const MIN_ROWS_TO_OMIT: usize = 2;

impl SimBanks {
    pub(crate) fn new(
        scheduler: EffectScheduler,
        now: crate::cloud::NowMillis,
        random: SimRandom,
    ) -> Self {
        let books = SimBankState {
            logins: Vec::new(),
            fault_rates: BankFaultRates::default(),
            random,
            next_purchase: 0,
            next_id: 0,
            retracted_purchases: HashSet::new(),
            omission_count: 0,
        };
        Self {
            state: Arc::new(Mutex::new(books)),
            scheduler,
            now,
        }
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, SimBankState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_time(&self) -> Timestamp {
        Timestamp::from_millisecond((self.now)()).unwrap_or_default()
    }

    /// A customer's login, with some history; its consent's token.
    pub(crate) fn open_login(&self, accounts: usize) -> String {
        let now = self.current_time();
        let mut books = self.lock_state();
        let n = books.logins.len();
        let own_ids = books.random.roll_permille(SAME_IDS_PERMILLE).then_some(0);
        let accounts = (0..accounts)
            .map(|m| {
                let mut account = SimAccount {
                    id: format!("acc-{n}-{m}"),
                    number: format!("{:010}", 10 * n + m),
                    ledger_minor: 100_000,
                    own_id_counter: own_ids,
                    ..SimAccount::default()
                };
                let rows = if books.random.roll_permille(LONG_ACCOUNT_PERMILLE) {
                    2 * ROWS_PER_PAGE + books.random.number_below(ROWS_PER_PAGE)
                } else {
                    books.random.number_below(4)
                };
                for _ in 0..rows {
                    books.add_purchase(&mut account, now);
                }
                account
            })
            .collect();
        let token = format!("token-{n}-0");
        books.logins.push(SimLogin {
            token: token.clone(),
            accounts,
            is_revoked: false,
            expires_at: None,
            rejected_at_ms: Vec::new(),
        });
        token
    }

    async fn serve_request(
        &self,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, BankTransportError> {
        let url = request.url().clone();
        let label = format!(
            "bank {}{}",
            url.path(),
            url.query().map(|it| format!("?{it}")).unwrap_or_default()
        );
        let fate = self
            .scheduler
            .await_release(EffectPhase::Before, EffectKind::Bank, label.clone())
            .await;
        let answered = match fate {
            EffectFate::Unreachable => Err(BankTransportError::ConnectFailed),
            _ => self
                .lock_state()
                .respond_to_request(&request, self.current_time()),
        };
        self.scheduler
            .await_release(EffectPhase::After, EffectKind::Bank, label)
            .await;
        answered.map(|(status, headers, body)| {
            let mut response = http::Response::new(body);
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            for (name, value) in headers {
                if let Ok(value) = http::HeaderValue::from_str(&value) {
                    response.headers_mut().insert(name, value);
                }
            }
            reqwest::Response::from(response)
        })
    }
}

impl HttpClient for SimBanks {
    fn execute_request(&self, request: reqwest::Request) -> HttpResponseFuture<'_> {
        Box::pin(self.serve_request(request))
    }
}

type SimBankResponse = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl SimBankState {
    fn next_transaction_id(&mut self, account: &mut SimAccount) -> String {
        let next = account.own_id_counter.as_mut().unwrap_or(&mut self.next_id);
        *next += 1;
        format!("T{next:06}")
    }

    fn add_purchase(&mut self, account: &mut SimAccount, now: Timestamp) -> u32 {
        self.next_purchase += 1;
        let truth = self.next_purchase;
        let minor = -self.random.number_between(100, 99_999);
        let back = self.random.number_between(0, 9 * 24 * 60);
        let at = now
            .saturating_sub(SignedDuration::from_mins(back))
            .unwrap_or(now);
        let row = SimRow {
            purchase: truth,
            has_twin: false,
            id: Some(self.next_transaction_id(account)),
            is_pending: false,
            signed_minor: minor,
            booked_at: at,
            description: format!("SHOP {truth}"),
        };
        account.ledger_minor += minor;
        account.rows.push(row);
        truth
    }

    /// Something happens at a bank; says what. `flips` allows it to show again what it showed before.
    pub(crate) fn change_random_account(&mut self, now: Timestamp, flips: bool) -> Option<String> {
        self.with_random_account(|books, account| books.change_account(account, now, flips))
    }

    /// Somebody pays at a bank; says who.
    pub(crate) fn purchase_at_random_account(&mut self, now: Timestamp) -> Option<String> {
        self.with_random_account(|books, account| {
            format!("spent {}", books.add_purchase(account, now))
        })
    }

    fn with_random_account(
        &mut self,
        operation: impl FnOnce(&mut Self, &mut SimAccount) -> String,
    ) -> Option<String> {
        if self.logins.is_empty() {
            return None;
        }
        let n = self.random.number_below(self.logins.len());
        let m = self.random.number_below(self.logins[n].accounts.len());
        let mut account = std::mem::take(&mut self.logins[n].accounts[m]);
        let what = operation(self, &mut account);
        self.logins[n].accounts[m] = account;
        Some(format!("bank moves acc-{n}-{m}: {what}"))
    }

    fn change_account(&mut self, account: &mut SimAccount, now: Timestamp, flips: bool) -> String {
        let pending: Vec<usize> = (0..account.rows.len())
            .filter(|&at| account.rows[at].is_pending)
            .collect();
        match self.random.number_below(if flips { 13 } else { 11 }) {
            0 | 1 => format!("spent {}", self.add_purchase(account, now)),
            2 | 3 => {
                let truth = self.add_purchase(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.is_pending = true;
                    row.booked_at = now;
                }
                format!("announced {truth}")
            }
            4 | 5 => {
                let Some(&at) = self.random.pick_one(&pending) else {
                    account.ledger_minor += 1;
                    return "interest".to_owned();
                };
                // Most banks give a booked row another id than the pending one had.
                let id = if self.random.roll_permille(700) {
                    Some(self.next_transaction_id(account))
                } else {
                    account.rows[at].id.clone()
                };
                let days = self.random.number_between(0, 2);
                let row = &mut account.rows[at];
                let before = std::mem::replace(&mut row.id, id);
                row.is_pending = false;
                let later = row
                    .booked_at
                    .saturating_add(SignedDuration::from_hours(24 * days));
                row.booked_at = later.unwrap_or(row.booked_at).min(now);
                let (booked, moved) = (row.purchase, row.id != before && before.is_some());
                account.never_omitted.insert(booked);
                // A few give the id of the pending row to another payment.
                if moved && self.random.roll_permille(200) {
                    let truth = self.add_purchase(account, now);
                    if let Some(row) = account.rows.last_mut() {
                        row.id = before;
                    }
                    account.has_reused_id = true;
                    return format!("booked {booked}, whose id went to {truth}");
                }
                format!("booked {booked}")
            }
            6 => {
                let Some(row) = (!account.rows.is_empty())
                    .then(|| self.random.number_below(account.rows.len()))
                    .and_then(|at| account.rows.get_mut(at))
                    .filter(|row| !row.has_twin && row.id.is_some())
                else {
                    return "nothing".to_owned();
                };
                row.description.push_str(" LAGOS");
                row.description = row.description.replace(" LAGOS LAGOS", "");
                format!("edited {}", row.purchase)
            }
            7 => {
                let Some(&at) = self.random.pick_one(&pending) else {
                    return "nothing".to_owned();
                };
                let row = account.rows.remove(at);
                account.ledger_minor -= row.signed_minor;
                self.retracted_purchases.insert(row.purchase);
                format!("took back {}", row.purchase)
            }
            8 => {
                // Two coffees: nobody can tell them apart but by their ids.
                for _ in 0..2 {
                    let truth = self.add_purchase(account, now);
                    if let Some(row) = account.rows.last_mut() {
                        row.has_twin = true;
                        row.booked_at = now;
                        row.signed_minor = -250;
                        row.description = "COFFEE".to_owned();
                    }
                    self.retracted_purchases.insert(truth);
                }
                "two coffees".to_owned()
            }
            9 => {
                let truth = self.add_purchase(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.id = None;
                }
                format!("spent {truth} without an id")
            }
            10 => {
                let known = account.rows.iter().filter(|row| !row.has_twin);
                let ids: Vec<String> = known.filter_map(|row| row.id.clone()).collect();
                let Some(id) = self.random.pick_one(&ids).cloned() else {
                    return "nothing".to_owned();
                };
                let truth = self.add_purchase(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.id = Some(id.clone());
                }
                account.has_reused_id = true;
                format!("spent {truth} under the id {id} of another")
            }
            _ => match account.saved_state.take() {
                None => {
                    account.saved_state = Some((account.ledger_minor, account.rows.clone()));
                    "will be remembered".to_owned()
                }
                Some((ledger, rows)) => {
                    let gone = account.rows.iter().chain(&rows).map(|row| row.purchase);
                    self.retracted_purchases.extend(gone);
                    account.ledger_minor = ledger;
                    account.rows = rows;
                    "shows what it showed before".to_owned()
                }
            },
        }
    }

    fn respond_to_request(
        &mut self,
        request: &reqwest::Request,
        now: Timestamp,
    ) -> Result<SimBankResponse, BankTransportError> {
        if self.random.roll_permille(self.fault_rates.failure_permille) {
            match self.random.number_below(9) {
                0 => {
                    return Ok((
                        429,
                        vec![("retry-after", self.random.number_between(1, 90).to_string())],
                        vec![],
                    ));
                }
                1 => return Ok((429, vec![], vec![])),
                2 => return Ok((500, vec![], b"<html>oops</html>".to_vec())),
                3 => return Ok((503, vec![("retry-after", "soon".to_owned())], vec![])),
                4 => return Err(BankTransportError::ConnectTimeout),
                5 => return Err(BankTransportError::ConnectionLost),
                6 => return Ok((200, vec![], b"<html>maintenance</html>".to_vec())),
                7 => {
                    return Ok((
                        200,
                        vec![],
                        br#"{"Data":{"Transaction":[{"TransactionId":"x"#.to_vec(),
                    ));
                }
                _ => return Ok((200, vec![], br#"{"Data":[[]]}"#.to_vec())),
            }
        }
        let bearer = request
            .headers()
            .get("authorization")
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        let known = self.logins.iter_mut().find(|login| login.token == token);
        let Some(login) = known else {
            // One that was replaced.
            let number = token.split('-').nth(1).and_then(|it| it.parse().ok());
            if let Some(login) = number.and_then(|n: usize| self.logins.get_mut(n)) {
                login.rejected_at_ms.push(now.as_millisecond());
            }
            return Ok((401, vec![], vec![]));
        };
        if login.is_consent_over(now) {
            login.rejected_at_ms.push(now.as_millisecond());
            return Ok((403, vec![], br#"{"Code":"403","Id":"x","Message":"consent","Errors":[{"ErrorCode":"UK.OBIE.Resource.ConsentMismatch","Message":"expired"}]}"#.to_vec()));
        }
        let path: Vec<&str> = request.url().path().split('/').collect();
        let mut random = self.random.fork_generator();
        let body = match path.as_slice() {
            [.., "accounts"] => render_accounts(login),
            [.., "accounts", id, resource] => {
                let Some(account) = login.accounts.iter_mut().find(|it| it.id == *id) else {
                    return Ok((404, vec![], vec![]));
                };
                if account.always_fails {
                    return Ok((500, vec![], vec![]));
                }
                if *resource == "balances" {
                    render_balances(account, &mut random)
                } else {
                    let question = SimTransactionsQuery::from_url(request.url());
                    let lacks = question.to.is_none()
                        && random.roll_permille(self.fault_rates.omission_permille);
                    let shown = account.select_rows(&question, lacks, &mut random);
                    self.omission_count += u64::from(shown.omits_row);
                    render_transactions(&shown, &question, &mut random)
                }
            }
            _ => return Ok((404, vec![], vec![])),
        };
        Ok((
            200,
            vec![("content-type", "application/json".to_owned())],
            body.into_bytes(),
        ))
    }
}

/// An amount as one bank writes it today and another tomorrow.
fn format_amount(minor: i64, random: &mut SimRandom) -> String {
    let (whole, rest) = (minor.abs() / 100, minor.abs() % 100);
    match random.number_below(3) {
        0 if rest == 0 => whole.to_string(),
        1 if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        _ => format!("{whole}.{rest:02}"),
    }
}

/// An object whose members stand in any order.
fn format_object(mut members: Vec<String>, random: &mut SimRandom) -> String {
    random.shuffle(&mut members);
    let separator = if random.roll_permille(500) {
        ","
    } else {
        " ,\n "
    };
    format!("{{{}}}", members.join(separator))
}

/// The same instant and day in one of the spellings that banks use.
fn spell_booking_time(at: Timestamp, random: &mut SimRandom) -> String {
    let east = at
        .saturating_add(SignedDuration::from_hours(1))
        .unwrap_or(at);
    match random.number_below(3) {
        // An hour east, where that is the same day: the day is what the bank writes.
        2 if utc_date(east) == utc_date(at) => east.to_string().replace('Z', "+01:00"),
        1 => at.to_string().replace('Z', "+00:00"),
        _ => at.to_string(),
    }
}

const fn credit_debit_indicator(minor: i64) -> &'static str {
    if minor < 0 { "Debit" } else { "Credit" }
}

fn render_accounts(login: &SimLogin) -> String {
    let mut text = String::from(r#"{"Data":{"Account":["#);
    for (at, account) in login.accounts.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(
            text,
            r#"{comma}{{"AccountId":"{}","Currency":"NGN","AccountSubType":"CurrentAccount","Nickname":"Main","Account":[{{"SchemeName":"NG.NUBAN","Identification":"{}","Name":"Ada Obi"}}]}}"#,
            account.id, account.number
        );
    }
    text.push_str("]}}");
    text
}

fn render_balances(account: &SimAccount, random: &mut SimRandom) -> String {
    let pending: i64 = account
        .rows
        .iter()
        .filter(|row| row.is_pending)
        .map(|row| row.signed_minor)
        .sum();
    let mut rows: Vec<String> = [
        ("InterimBooked", account.ledger_minor - pending),
        ("InterimAvailable", account.ledger_minor),
    ]
    .into_iter()
    .map(|(kind, minor)| {
        let money = format_object(
            vec![
                format!(r#""Amount":"{}""#, format_amount(minor, random)),
                r#""Currency":"NGN""#.to_owned(),
            ],
            random,
        );
        format_object(
            vec![
                format!(r#""Type":"{kind}""#),
                format!(
                    r#""CreditDebitIndicator":"{}""#,
                    credit_debit_indicator(minor)
                ),
                format!(r#""Amount":{money}"#),
                // Moves with every answer and means nothing.
                format!(
                    r#""DateTime":"2026-03-{:02}T00:00:00Z""#,
                    random.number_between(1, 28)
                ),
            ],
            random,
        )
    })
    .collect();
    random.shuffle(&mut rows);
    format!(
        r#"{{"Data":{{"Balance":[{}]}},"Meta":{{"RequestId":"{}"}}}}"#,
        rows.join(","),
        random.next()
    )
}

/// Which transactions are asked for. A bank answers with later ones too.
struct SimTransactionsQuery {
    from: String,
    to: Option<String>,
    page: usize,
}

impl SimTransactionsQuery {
    fn from_url(url: &url::Url) -> Self {
        let value = |name: &str| {
            let mut query = url.query_pairs();
            query.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        Self {
            from: value("fromBookingDateTime").unwrap_or_default(),
            to: value("toBookingDateTime"),
            page: value("page").and_then(|it| it.parse().ok()).unwrap_or(0),
        }
    }

    /// The link to the page after this one.
    fn render_next_link(&self) -> String {
        let to = self.to.as_ref();
        let to = to.map_or_else(String::new, |to| format!("&toBookingDateTime={to}"));
        let (from, page) = (&self.from, self.page + 1);
        format!(r#","Links":{{"Next":"?fromBookingDateTime={from}{to}&page={page}"}}"#)
    }
}

/// What an answer is made of: rows from the latest on.
struct ShownRows {
    rows: Vec<SimRow>,
    /// A row is not among them.
    omits_row: bool,
}

impl SimAccount {
    fn select_rows(
        &mut self,
        query: &SimTransactionsQuery,
        omits_row: bool,
        random: &mut SimRandom,
    ) -> ShownRows {
        let from = query.from.as_str();
        let inside =
            |row: &&SimRow| format!("{}T00:00:00Z", utc_date(row.booked_at)).as_str() >= from;
        let mut rows: Vec<SimRow> = self.rows.iter().filter(inside).cloned().collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.booked_at), row.purchase));
        // What the pages before showed is not lacking.
        let first = query.page * ROWS_PER_PAGE;
        let mut shown = ShownRows {
            rows,
            omits_row: false,
        };
        if omits_row && !self.has_reused_id && shown.rows.len() >= MIN_ROWS_TO_OMIT.max(first + 1) {
            let at = first + random.number_below(shown.rows.len() - first);
            let row = &shown.rows[at];
            let certain = !row.has_twin && !row.is_pending && row.id.is_some();
            if certain && self.never_omitted.insert(row.purchase) {
                shown.rows.remove(at);
                shown.omits_row = true;
            }
        }
        shown
    }
}

fn render_transactions(
    shown: &ShownRows,
    query: &SimTransactionsQuery,
    random: &mut SimRandom,
) -> String {
    let mut rows: Vec<&SimRow> = shown.rows.iter().collect();
    // A list that was begun in pages is read to its end in pages, though it has become short.
    let page = query.page;
    let paged = rows.len() > 2 * ROWS_PER_PAGE || page > 0;
    let (shown, next) = if paged {
        let rest = rows.get(page * ROWS_PER_PAGE..).unwrap_or_default();
        let shown: Vec<&SimRow> = rest.iter().take(ROWS_PER_PAGE).copied().collect();
        (shown, rest.len() > ROWS_PER_PAGE)
    } else {
        random.shuffle(&mut rows);
        (rows, false)
    };
    let rendered: Vec<String> = shown
        .into_iter()
        .map(|row| {
            let spaces = if random.roll_permille(300) { "  " } else { " " };
            let money = format_object(
                vec![
                    format!(r#""Amount":"{}""#, format_amount(row.signed_minor, random)),
                    r#""Currency":"NGN""#.to_owned(),
                ],
                random,
            );
            let at = spell_booking_time(row.booked_at, random);
            let mut members = vec![
                format!(
                    r#""Status":"{}""#,
                    if row.is_pending { "Pending" } else { "Booked" }
                ),
                format!(
                    r#""CreditDebitIndicator":"{}""#,
                    credit_debit_indicator(row.signed_minor)
                ),
                format!(r#""Amount":{money}"#),
                format!(r#""BookingDateTime":"{at}""#),
                format!(
                    r#""TransactionInformation":"{}""#,
                    row.description.replace(' ', spaces)
                ),
            ];
            match &row.id {
                Some(id) => members.push(format!(r#""TransactionId":"{id}""#)),
                None if random.roll_permille(500) => {
                    members.push(r#""TransactionId":"  ""#.to_owned());
                }
                None => {}
            }
            format_object(members, random)
        })
        .collect();
    let links = if next {
        query.render_next_link()
    } else {
        String::new()
    };
    format!(
        r#"{{"Data":{{"Transaction":[{}]}}{links}}}"#,
        rendered.join(",")
    )
}
