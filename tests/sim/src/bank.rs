//! Banks: what they know, how they tell it (UK Open Banking, in every spelling a real one uses), and
//! how they fail.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_banks::{Answering, Http, Unreached};
use okra_core::model::date_of;

use crate::{
    gate::{Fate, Gate, Kind, Side},
    random::Random,
};

/// A row as the bank has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Ours: which real-world purchase it is.
    pub(crate) truth: u32,
    /// True where several rows read alike, so that nobody can tell which is which.
    pub(crate) twin: bool,
    pub(crate) id: Option<String>,
    pub(crate) pending: bool,
    /// Signed, in minor units.
    pub(crate) minor: i64,
    pub(crate) at: Timestamp,
    pub(crate) text: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) ledger: i64,
    pub(crate) rows: Vec<Row>,
    /// Answers nothing but an error, for good.
    pub(crate) broken: bool,
    /// An id of it stood for two payments: of an answer that lacks one of them nobody can tell whether it was edited.
    reused: bool,
    /// Purchases that no answer lacks: one that was pending, since another may be taken for its booking, and
    /// one that was lacking before, since nobody could tell it from one that is gone.
    never_lacking: HashSet<u32>,
    /// Its ids count from 1, as those of the login's other accounts do.
    own_ids: Option<u32>,
    /// What it showed once, for a bank that shows A, then B, then A again.
    saved: Option<(i64, Vec<Row>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    pub(crate) token: String,
    pub(crate) accounts: Vec<Account>,
    /// The consent is over.
    pub(crate) refused: bool,
    /// When it is over by itself.
    pub(crate) expires_at: Option<Timestamp>,
    /// When the bank let somebody with a token of this login not in, in milliseconds since 1970.
    pub(crate) refusals: Vec<i64>,
}

impl Login {
    /// True where the bank lets nobody in.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.refused || self.expires_at.is_some_and(|at| now >= at)
    }
}

/// How often a bank misbehaves, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moods {
    /// Of calls.
    pub(crate) failing: u16,
    /// Of answers that lack a row. Asked for its dates alone the bank shows it.
    pub(crate) lacking: u16,
}

#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) logins: Vec<Login>,
    pub(crate) moods: Moods,
    random: Random,
    next_truth: u32,
    next_id: u32,
    /// Purchases that a bank took back: their rows may get a new identity if they come again.
    pub(crate) vanished: HashSet<u32>,
    /// Answers that lacked a row.
    pub(crate) lacking: u64,
}

/// All banks of a world. Clones are one.
#[derive(Clone)]
pub(crate) struct Banks {
    books: Arc<Mutex<Books>>,
    gate: Gate,
    now: crate::cloud::Now,
}

/// Rows of a page, where a bank pages at all.
const PAGE: usize = 5;

/// Accounts with enough rows to be paged, in a thousand.
const LONG: u16 = 120;

/// Logins whose accounts use the same ids, in a thousand.
const SAME_IDS: u16 = 150;

/// Rows from which on an answer may lack one: an empty answer is another matter.
const LACKING_FROM: usize = 2;

impl Banks {
    pub(crate) fn new(gate: Gate, now: crate::cloud::Now, random: Random) -> Self {
        let books = Books {
            logins: Vec::new(),
            moods: Moods::default(),
            random,
            next_truth: 0,
            next_id: 0,
            vanished: HashSet::new(),
            lacking: 0,
        };
        Self {
            books: Arc::new(Mutex::new(books)),
            gate,
            now,
        }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond((self.now)()).unwrap_or_default()
    }

    /// A customer's login, with some history; its consent's token.
    pub(crate) fn open(&self, accounts: usize) -> String {
        let now = self.time();
        let mut books = self.books();
        let n = books.logins.len();
        let own_ids = books.random.chance(SAME_IDS).then_some(0);
        let accounts = (0..accounts)
            .map(|m| {
                let mut account = Account {
                    id: format!("acc-{n}-{m}"),
                    number: format!("{:010}", 10 * n + m),
                    ledger: 100_000,
                    own_ids,
                    ..Account::default()
                };
                let rows = if books.random.chance(LONG) {
                    2 * PAGE + books.random.below(PAGE)
                } else {
                    books.random.below(4)
                };
                for _ in 0..rows {
                    books.spend(&mut account, now);
                }
                account
            })
            .collect();
        let token = format!("token-{n}-0");
        books.logins.push(Login {
            token: token.clone(),
            accounts,
            refused: false,
            expires_at: None,
            refusals: Vec::new(),
        });
        token
    }

    async fn serve(&self, request: reqwest::Request) -> Result<reqwest::Response, Unreached> {
        let url = request.url().clone();
        let label = format!(
            "bank {}{}",
            url.path(),
            url.query().map(|it| format!("?{it}")).unwrap_or_default()
        );
        let fate = self
            .gate
            .pass(Side::Before, Kind::Bank, label.clone())
            .await;
        let answered = match fate {
            Fate::Unreachable => Err(Unreached::Refused),
            _ => self.books().answer(&request, self.time()),
        };
        self.gate.pass(Side::After, Kind::Bank, label).await;
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

impl Http for Banks {
    fn execute(&self, request: reqwest::Request) -> Answering<'_> {
        Box::pin(self.serve(request))
    }
}

type Answered = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl Books {
    fn fresh_id(&mut self, account: &mut Account) -> String {
        let next = account.own_ids.as_mut().unwrap_or(&mut self.next_id);
        *next += 1;
        format!("T{next:06}")
    }

    fn spend(&mut self, account: &mut Account, now: Timestamp) -> u32 {
        self.next_truth += 1;
        let truth = self.next_truth;
        let minor = -self.random.between(100, 99_999);
        let back = self.random.between(0, 9 * 24 * 60);
        let at = now
            .saturating_sub(SignedDuration::from_mins(back))
            .unwrap_or(now);
        let row = Row {
            truth,
            twin: false,
            id: Some(self.fresh_id(account)),
            pending: false,
            minor,
            at,
            text: format!("SHOP {truth}"),
        };
        account.ledger += minor;
        account.rows.push(row);
        truth
    }

    /// Something happens at a bank; says what. `flips` allows it to show again what it showed before.
    pub(crate) fn move_something(&mut self, now: Timestamp, flips: bool) -> Option<String> {
        self.somewhere(|books, account| books.change(account, now, flips))
    }

    /// Somebody pays at a bank; says who.
    pub(crate) fn spend_something(&mut self, now: Timestamp) -> Option<String> {
        self.somewhere(|books, account| format!("spent {}", books.spend(account, now)))
    }

    fn somewhere(
        &mut self,
        what: impl FnOnce(&mut Self, &mut Account) -> String,
    ) -> Option<String> {
        if self.logins.is_empty() {
            return None;
        }
        let n = self.random.below(self.logins.len());
        let m = self.random.below(self.logins[n].accounts.len());
        let mut account = std::mem::take(&mut self.logins[n].accounts[m]);
        let what = what(self, &mut account);
        self.logins[n].accounts[m] = account;
        Some(format!("bank moves acc-{n}-{m}: {what}"))
    }

    fn change(&mut self, account: &mut Account, now: Timestamp, flips: bool) -> String {
        let pending: Vec<usize> = (0..account.rows.len())
            .filter(|&at| account.rows[at].pending)
            .collect();
        match self.random.below(if flips { 13 } else { 11 }) {
            0 | 1 => format!("spent {}", self.spend(account, now)),
            2 | 3 => {
                let truth = self.spend(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.pending = true;
                    row.at = now;
                }
                format!("announced {truth}")
            }
            4 | 5 => {
                let Some(&at) = self.random.pick(&pending) else {
                    account.ledger += 1;
                    return "interest".to_owned();
                };
                // Most banks give a booked row another id than the pending one had.
                let id = if self.random.chance(700) {
                    Some(self.fresh_id(account))
                } else {
                    account.rows[at].id.clone()
                };
                let days = self.random.between(0, 2);
                let row = &mut account.rows[at];
                let before = std::mem::replace(&mut row.id, id);
                row.pending = false;
                let later = row.at.saturating_add(SignedDuration::from_hours(24 * days));
                row.at = later.unwrap_or(row.at).min(now);
                let (booked, moved) = (row.truth, row.id != before && before.is_some());
                account.never_lacking.insert(booked);
                // A few give the id of the pending row to another payment.
                if moved && self.random.chance(200) {
                    let truth = self.spend(account, now);
                    if let Some(row) = account.rows.last_mut() {
                        row.id = before;
                    }
                    account.reused = true;
                    return format!("booked {booked}, whose id went to {truth}");
                }
                format!("booked {booked}")
            }
            6 => {
                let Some(row) = (!account.rows.is_empty())
                    .then(|| self.random.below(account.rows.len()))
                    .and_then(|at| account.rows.get_mut(at))
                    .filter(|row| !row.twin && row.id.is_some())
                else {
                    return "nothing".to_owned();
                };
                row.text.push_str(" LAGOS");
                row.text = row.text.replace(" LAGOS LAGOS", "");
                format!("edited {}", row.truth)
            }
            7 => {
                let Some(&at) = self.random.pick(&pending) else {
                    return "nothing".to_owned();
                };
                let row = account.rows.remove(at);
                account.ledger -= row.minor;
                self.vanished.insert(row.truth);
                format!("took back {}", row.truth)
            }
            8 => {
                // Two coffees: nobody can tell them apart but by their ids.
                for _ in 0..2 {
                    let truth = self.spend(account, now);
                    if let Some(row) = account.rows.last_mut() {
                        row.twin = true;
                        row.at = now;
                        row.minor = -250;
                        row.text = "COFFEE".to_owned();
                    }
                    self.vanished.insert(truth);
                }
                "two coffees".to_owned()
            }
            9 => {
                let truth = self.spend(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.id = None;
                }
                format!("spent {truth} without an id")
            }
            10 => {
                let known = account.rows.iter().filter(|row| !row.twin);
                let ids: Vec<String> = known.filter_map(|row| row.id.clone()).collect();
                let Some(id) = self.random.pick(&ids).cloned() else {
                    return "nothing".to_owned();
                };
                let truth = self.spend(account, now);
                if let Some(row) = account.rows.last_mut() {
                    row.id = Some(id.clone());
                }
                account.reused = true;
                format!("spent {truth} under the id {id} of another")
            }
            _ => match account.saved.take() {
                None => {
                    account.saved = Some((account.ledger, account.rows.clone()));
                    "will be remembered".to_owned()
                }
                Some((ledger, rows)) => {
                    let gone = account.rows.iter().chain(&rows).map(|row| row.truth);
                    self.vanished.extend(gone);
                    account.ledger = ledger;
                    account.rows = rows;
                    "shows what it showed before".to_owned()
                }
            },
        }
    }

    fn answer(
        &mut self,
        request: &reqwest::Request,
        now: Timestamp,
    ) -> Result<Answered, Unreached> {
        if self.random.chance(self.moods.failing) {
            match self.random.below(9) {
                0 => {
                    return Ok((
                        429,
                        vec![("retry-after", self.random.between(1, 90).to_string())],
                        vec![],
                    ));
                }
                1 => return Ok((429, vec![], vec![])),
                2 => return Ok((500, vec![], b"<html>oops</html>".to_vec())),
                3 => return Ok((503, vec![("retry-after", "soon".to_owned())], vec![])),
                4 => return Err(Unreached::Late),
                5 => return Err(Unreached::Broken),
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
                login.refusals.push(now.as_millisecond());
            }
            return Ok((401, vec![], vec![]));
        };
        if login.is_over(now) {
            login.refusals.push(now.as_millisecond());
            return Ok((403, vec![], br#"{"Code":"403","Id":"x","Message":"consent","Errors":[{"ErrorCode":"UK.OBIE.Resource.ConsentMismatch","Message":"expired"}]}"#.to_vec()));
        }
        let path: Vec<&str> = request.url().path().split('/').collect();
        let mut random = self.random.fork();
        let body = match path.as_slice() {
            [.., "accounts"] => accounts(login),
            [.., "accounts", id, resource] => {
                let Some(account) = login.accounts.iter_mut().find(|it| it.id == *id) else {
                    return Ok((404, vec![], vec![]));
                };
                if account.broken {
                    return Ok((500, vec![], vec![]));
                }
                if *resource == "balances" {
                    balances(account, &mut random)
                } else {
                    let question = Question::of(request.url());
                    let lacks = question.to.is_none() && random.chance(self.moods.lacking);
                    let shown = account.shown(&question, lacks, &mut random);
                    self.lacking += u64::from(shown.lacks);
                    transactions(&shown, &question, &mut random)
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
fn amount(minor: i64, random: &mut Random) -> String {
    let (whole, rest) = (minor.abs() / 100, minor.abs() % 100);
    match random.below(3) {
        0 if rest == 0 => whole.to_string(),
        1 if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        _ => format!("{whole}.{rest:02}"),
    }
}

/// An object whose members stand in any order.
fn object(mut members: Vec<String>, random: &mut Random) -> String {
    random.shuffle(&mut members);
    let separator = if random.chance(500) { "," } else { " ,\n " };
    format!("{{{}}}", members.join(separator))
}

const fn side(minor: i64) -> &'static str {
    if minor < 0 { "Debit" } else { "Credit" }
}

fn accounts(login: &Login) -> String {
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

fn balances(account: &Account, random: &mut Random) -> String {
    let pending: i64 = account
        .rows
        .iter()
        .filter(|row| row.pending)
        .map(|row| row.minor)
        .sum();
    let mut rows: Vec<String> = [
        ("InterimBooked", account.ledger - pending),
        ("InterimAvailable", account.ledger),
    ]
    .into_iter()
    .map(|(kind, minor)| {
        let money = object(
            vec![
                format!(r#""Amount":"{}""#, amount(minor, random)),
                r#""Currency":"NGN""#.to_owned(),
            ],
            random,
        );
        object(
            vec![
                format!(r#""Type":"{kind}""#),
                format!(r#""CreditDebitIndicator":"{}""#, side(minor)),
                format!(r#""Amount":{money}"#),
                // Moves with every answer and means nothing.
                format!(
                    r#""DateTime":"2026-03-{:02}T00:00:00Z""#,
                    random.between(1, 28)
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
struct Question {
    from: String,
    to: Option<String>,
    page: usize,
}

impl Question {
    fn of(url: &url::Url) -> Self {
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
    fn next(&self) -> String {
        let to = self.to.as_ref();
        let to = to.map_or_else(String::new, |to| format!("&toBookingDateTime={to}"));
        let (from, page) = (&self.from, self.page + 1);
        format!(r#","Links":{{"Next":"?fromBookingDateTime={from}{to}&page={page}"}}"#)
    }
}

/// What an answer is made of: rows from the latest on.
struct Shown {
    rows: Vec<Row>,
    /// A row is not among them.
    lacks: bool,
}

impl Account {
    fn shown(&mut self, question: &Question, lacks: bool, random: &mut Random) -> Shown {
        let from = question.from.as_str();
        let inside = |row: &&Row| format!("{}T00:00:00Z", date_of(row.at)).as_str() >= from;
        let mut rows: Vec<Row> = self.rows.iter().filter(inside).cloned().collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.at), row.truth));
        // What the pages before showed is not lacking.
        let first = question.page * PAGE;
        let mut shown = Shown { rows, lacks: false };
        if lacks && !self.reused && shown.rows.len() >= LACKING_FROM.max(first + 1) {
            let at = first + random.below(shown.rows.len() - first);
            let row = &shown.rows[at];
            let certain = !row.twin && !row.pending && row.id.is_some();
            if certain && self.never_lacking.insert(row.truth) {
                shown.rows.remove(at);
                shown.lacks = true;
            }
        }
        shown
    }
}

fn transactions(shown: &Shown, question: &Question, random: &mut Random) -> String {
    let mut rows: Vec<&Row> = shown.rows.iter().collect();
    // A list that was begun in pages is read to its end in pages, though it has become short.
    let page = question.page;
    let paged = rows.len() > 2 * PAGE || page > 0;
    let (shown, next) = if paged {
        let rest = rows.get(page * PAGE..).unwrap_or_default();
        let shown: Vec<&Row> = rest.iter().take(PAGE).copied().collect();
        (shown, rest.len() > PAGE)
    } else {
        random.shuffle(&mut rows);
        (rows, false)
    };
    let rendered: Vec<String> = shown
        .into_iter()
        .map(|row| {
            let spaces = if random.chance(300) { "  " } else { " " };
            let money = object(
                vec![
                    format!(r#""Amount":"{}""#, amount(row.minor, random)),
                    r#""Currency":"NGN""#.to_owned(),
                ],
                random,
            );
            let at = match random.below(3) {
                0 => row.at.to_string(),
                1 => row.at.to_string().replace('Z', "+00:00"),
                // The same instant, an hour east.
                _ => row
                    .at
                    .saturating_add(SignedDuration::from_hours(1))
                    .unwrap_or(row.at)
                    .to_string()
                    .replace('Z', "+01:00"),
            };
            let mut members = vec![
                format!(
                    r#""Status":"{}""#,
                    if row.pending { "Pending" } else { "Booked" }
                ),
                format!(r#""CreditDebitIndicator":"{}""#, side(row.minor)),
                format!(r#""Amount":{money}"#),
                format!(r#""BookingDateTime":"{at}""#),
                format!(
                    r#""TransactionInformation":"{}""#,
                    row.text.replace(' ', spaces)
                ),
            ];
            match &row.id {
                Some(id) => members.push(format!(r#""TransactionId":"{id}""#)),
                None if random.chance(500) => members.push(r#""TransactionId":"  ""#.to_owned()),
                None => {}
            }
            object(members, random)
        })
        .collect();
    let links = if next { question.next() } else { String::new() };
    format!(
        r#"{{"Data":{{"Transaction":[{}]}}{links}}}"#,
        rendered.join(",")
    )
}
