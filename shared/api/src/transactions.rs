//! Transactions, in the form of `transactions/getBy*`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use okra_core::{
    ids::{BankId, CustomerId, Day, RecordId, TransactionId},
    model::{Direction, Environment},
    money::Money,
};
use okra_store::{Account, Consistency, Older, StoredTransaction};
use okra_wire::{
    envelope::{DEFAULT_LIMIT, Pagination},
    origin::{Ids, Named, Times},
    transaction::Transaction,
};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    names::Names,
    scope,
};

/// Rows that one call reads at most.
const MAX_ROWS: usize = 20_000;

/// Before any transaction.
const EVER: Date = jiff::civil::date(1970, 1, 1);

/// A row, and the account it is of.
pub(crate) type Row = (Account, StoredTransaction);

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Transactions {
    pagination: Pagination,
    transaction: Vec<Transaction>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Counts {
    pagination: (),
    trans: Vec<CustomerCount>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct CustomerCount {
    bank: Named<BankId>,
    customer: Named<CustomerId>,
    count: usize,
    env: Environment,
}

/// Rows of accounts between the dates asked for, newest first.
pub(crate) async fn rows_of(call: &Call, accounts: Vec<Account>) -> Result<Vec<Row>, Refusal> {
    let (from, to) = call.input.dates()?;
    call.input.refuse_pdf()?;
    let mut rows: Vec<Row> = Vec::new();
    for account in accounts {
        let stored = call
            .state
            .store
            .transactions(account.id, from.unwrap_or(EVER), to, Consistency::Eventual)
            .await?;
        rows.extend(stored.into_iter().map(|row| (account.clone(), row)));
        bounded(&rows)?;
    }
    sort(&mut rows);
    Ok(rows)
}

/// Rows of an account that are read at once where a page's are looked for, at least.
const AT_ONCE: usize = 20;

/// How many of the newest rows of a page's accounts are read at once, at most.
const MAX_AT_ONCE: usize = 500;

/// Accounts, and what is known of them.
pub(crate) enum Whole {
    /// They are all that their records have.
    Yes,
    /// Perhaps not.
    Unknown,
}

/// The page asked for of rows of accounts, newest first, `limit` to a page where none is given; and all rows
/// that were read for it, of which the page is to be cut.
///
/// Where no days are asked for, no more is read than it takes: the total is known from the records, which
/// count their rows. Where it is not, or the end is near, all rows are read.
pub(crate) async fn page_of_rows(
    call: &Call,
    accounts: Vec<Account>,
    whole: Whole,
    limit: usize,
) -> Result<(Pagination, Vec<Row>), Refusal> {
    let of_all = |rows: &[Row]| call.input.page_of(rows.len(), limit);
    if call.input.dates()? != (None, None) {
        let rows = rows_of(call, accounts).await?;
        return Ok((of_all(&rows)?, rows));
    }
    call.input.refuse_pdf()?;
    let end = call.input.page_end_of(limit)?;
    let (mut rows, mut rest): (Vec<Row>, Vec<(Account, Older)>) = (Vec::new(), Vec::new());
    for account in &accounts {
        let (newest, older) = newest_of(call, account, end).await?;
        rows.extend(newest.into_iter().map(|row| (account.clone(), row)));
        rest.extend(older.map(|older| (account.clone(), older)));
        bounded(&rows)?;
    }
    let total = match rest.is_empty() {
        true => None,
        false => total_of(call, &accounts, whole).await?,
    };
    if total.is_none() {
        for (account, older) in rest {
            let store = &call.state.store;
            let newest = store.newest_transactions(account.id, Some(&older), MAX_ROWS);
            let newest = newest.await?;
            rows.extend(newest.rows.into_iter().map(|row| (account.clone(), row)));
            if newest.rest.is_some() {
                return Err(too_many());
            }
            bounded(&rows)?;
        }
    }
    sort(&mut rows);
    let total = total.map_or(rows.len(), |total| total.max(rows.len()));
    Ok((call.input.page_of(total, limit)?, rows))
}

/// The newest rows of an account, `end` at least, but for its end; and where older ones begin.
async fn newest_of(
    call: &Call,
    account: &Account,
    end: usize,
) -> Result<(Vec<StoredTransaction>, Option<Older>), Refusal> {
    let (mut rows, mut older): (Vec<StoredTransaction>, Option<Older>) = (Vec::new(), None);
    let at_once = end.clamp(AT_ONCE, MAX_AT_ONCE);
    // One more than the rows that may be there, for what is no row any more.
    for _ in 0..=2 * MAX_ROWS / at_once {
        let store = &call.state.store;
        let newest = store.newest_transactions(account.id, older.as_ref(), at_once);
        let newest = newest.await?;
        rows.extend(newest.rows);
        let Some((next, latest)) = newest.rest else {
            return Ok((rows, None));
        };
        older = Some(next);
        let settled = |row: &&StoredTransaction| Day::of(row.transaction.facts.date()) > latest;
        if rows.iter().filter(settled).count() >= end {
            return Ok((rows, older));
        }
    }
    Err(too_many())
}

/// How many rows these accounts have, where their records know it.
async fn total_of(
    call: &Call,
    accounts: &[Account],
    whole: Whole,
) -> Result<Option<usize>, Refusal> {
    let mut records: Vec<RecordId> = accounts.iter().map(|it| it.record).collect();
    records.sort_unstable();
    records.dedup();
    if matches!(whole, Whole::Unknown) {
        for account in accounts {
            let all = call.accounts_of_customer(account.customer).await?;
            let of_record = all.iter().filter(|it| it.record == account.record);
            let known = |it: &Account| accounts.iter().any(|known| known.id == it.id);
            if !of_record.clone().all(known) {
                return Ok(None);
            }
        }
    }
    let heads = call.state.store.heads(&records, Consistency::Eventual);
    let heads = heads.await?;
    if heads.len() < records.len() {
        return Ok(None);
    }
    let rows: Option<u64> = heads.iter().map(|head| head.rows).sum();
    Ok(rows.and_then(|rows| usize::try_from(rows).ok()))
}

fn too_many() -> Refusal {
    let problem = format!("has to be later: there are more than {MAX_ROWS} transactions");
    Refusal::field("from", problem)
}

fn bounded(rows: &[Row]) -> Result<(), Refusal> {
    match rows.len() > MAX_ROWS {
        true => Err(too_many()),
        false => Ok(()),
    }
}

/// Newest first.
fn sort(rows: &mut [Row]) {
    rows.sort_by(|(_, a), (_, b)| {
        let (a, b) = (&a.transaction, &b.transaction);
        let newest = b.facts.booked_at.cmp(&a.facts.booked_at);
        newest.then_with(|| a.id.cmp(&b.id))
    });
}

const fn times(row: &StoredTransaction) -> Times {
    Times {
        created_at: row.created_at,
        last_updated: row.last_updated,
    }
}

/// Rows with plain ids, as callback data has them.
pub(crate) fn for_callback(call: &Call, rows: &[Row]) -> Result<Vec<Transaction>, Refusal> {
    let app = call.app()?;
    let plain = |(account, row): &Row| {
        let ids = Ids {
            app: app.id,
            env: app.env,
            record: account.record,
            customer: account.customer,
            bank: account.bank,
            account: account.id,
        };
        Transaction::plain(ids, &row.transaction, times(row))
    };
    Ok(rows.iter().map(plain).collect())
}

async fn answer(call: &Call, rows: Vec<Row>) -> Answer {
    let pagination = call.input.page(rows.len())?;
    answer_page(call, pagination, rows).await
}

async fn answer_page(call: &Call, pagination: Pagination, rows: Vec<Row>) -> Answer {
    let (accounts, rows): (Vec<_>, Vec<_>) = pagination.cut(rows).into_iter().unzip();
    let names = Names::of_accounts(call, &accounts).await?;
    let mut transaction = Vec::with_capacity(rows.len());
    for (account, row) in accounts.iter().zip(&rows) {
        let of = names.origin(call, account)?;
        transaction.push(Transaction::populated(&of, &row.transaction, times(row)));
    }
    let data = Transactions {
        pagination,
        transaction,
    };
    success("Transactions retrieved succesfully", data)
}

/// Of all accounts of records.
async fn answer_of(call: &Call, accounts: Vec<Account>) -> Answer {
    answer_page_of(call, accounts, Whole::Yes).await
}

async fn answer_page_of(call: &Call, accounts: Vec<Account>, whole: Whole) -> Answer {
    let (pagination, rows) = page_of_rows(call, accounts, whole, DEFAULT_LIMIT).await?;
    answer_page(call, pagination, rows).await
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let missing = || Refusal::not_found("transaction");
    let id: TransactionId =
        call.input
            .needed_id(&["id", "_id", "transaction", "transaction_id"])?;
    let row = call.state.store.transaction(id).await?;
    let row = row.ok_or_else(missing)?;
    let account = call.own_account(row.account).await;
    let account = account.map_err(|refusal| refusal.about("transaction"))?;
    answer_page(call, Pagination::of_one(), vec![(account, row)]).await
}

pub(crate) async fn get_by_account(call: &Call) -> Answer {
    answer_page_of(call, scope::account(call).await?, Whole::Unknown).await
}

pub(crate) async fn get_by_customer(call: &Call) -> Answer {
    answer_of(call, scope::customer(call).await?).await
}

pub(crate) async fn get_by_bank(call: &Call) -> Answer {
    answer_of(call, scope::bank(call).await?).await
}

pub(crate) async fn get_by_date(call: &Call) -> Answer {
    answer_of(call, scope::app(call).await?).await
}

pub(crate) async fn get_by_options(call: &Call) -> Answer {
    answer_of(call, scope::options(call).await?).await
}

pub(crate) async fn by_record(call: &Call) -> Answer {
    answer_of(call, scope::record(call).await?).await
}

/// The transactions of the account with this number.
pub(crate) async fn get_by_nuban(call: &Call) -> Answer {
    let number = call.input.needed_text(&["nuban"])?;
    let mut accounts = scope::app(call).await?;
    accounts.retain(|account| account.facts.number == number);
    answer_page_of(call, accounts, Whole::Unknown).await
}

/// `products/transactions`: how many there are of each customer at each bank.
pub(crate) async fn counts(call: &Call) -> Answer {
    let mut groups: BTreeMap<(CustomerId, BankId), Vec<Account>> = BTreeMap::new();
    for account in scope::app(call).await? {
        let group = groups.entry((account.customer, account.bank)).or_default();
        group.push(account);
    }
    let groups: Vec<_> = groups.into_iter().collect();
    let pagination = call.input.page(groups.len())?;
    let env = call.app()?.env;
    let (mut trans, mut left) = (Vec::new(), MAX_ROWS);
    for ((customer, bank), accounts) in pagination.cut(groups) {
        let names = Names::of_accounts(call, &accounts).await?;
        let rows = rows_of(call, accounts).await?;
        left = left.checked_sub(rows.len()).ok_or_else(|| {
            let problem = format!("is too many: they have more than {MAX_ROWS} transactions");
            Refusal::field("limit", problem)
        })?;
        let (customer, bank) = names.named(customer, bank);
        trans.push(CustomerCount {
            bank,
            customer,
            count: rows.len(),
            env,
        });
    }
    let pagination = ();
    success(
        "Transactions retrieved successfully",
        Counts { pagination, trans },
    )
}

/// Credits or debits, of one amount where one is given.
pub(crate) async fn get_by_type(call: &Call) -> Answer {
    let direction = match call.input.needed_text(&["type"])?.as_str() {
        "credit" => Direction::Credit,
        "debit" => Direction::Debit,
        _ => return Err(Refusal::field("type", "is credit or debit")),
    };
    let amount = call.input.amount(&["value", "amount"])?;
    let mut rows = rows_of(call, scope::app(call).await?).await?;
    rows.retain(|(_, row)| {
        let facts = &row.transaction.facts;
        let same = |text: &String| Money::parse(text, facts.amount.currency) == Ok(facts.amount);
        facts.direction == direction && amount.as_ref().is_none_or(same)
    });
    answer(call, rows).await
}

documented! {
    get_by_nuban(NUBAN, optional(CUSTOMER), DATES, PAGE) -> Transactions: "The transactions of the account with this number.";
    counts(optional(CUSTOMER), PAGE) -> Counts: "How many transactions there are of each customer at each bank.";
    get_by_id(ID) -> Transactions: "One transaction, in a list.";
    get_by_account(ACCOUNT, DATES, PAGE) -> Transactions: "The transactions of an account.";
    get_by_customer(CUSTOMER, DATES, PAGE) -> Transactions: "The transactions of a customer.";
    get_by_bank(BANK, optional(CUSTOMER), DATES, PAGE) -> Transactions: "The transactions at a bank.";
    get_by_date(optional(CUSTOMER), DATES, PAGE) -> Transactions: "The transactions between two days.";
    get_by_options(OPTIONS, optional(CUSTOMER), DATES, PAGE) -> Transactions: "The transactions of records linked with these options.";
    by_record(RECORD, DATES, PAGE) -> Transactions: "The transactions of a record.";
    get_by_type(DIRECTION, VALUE, optional(CUSTOMER), DATES, PAGE) -> Transactions: "Credits or debits, of one amount where one is given.";
}
