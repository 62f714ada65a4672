//! Transactions, in the form of `transactions/getBy*`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use okra_core::{
    ids::{BankId, CustomerId, TransactionId},
    model::{Direction, Environment},
    money::Money,
};
use okra_store::{Account, Consistency, StoredTransaction};
use okra_wire::{
    envelope::Pagination,
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
        if rows.len() + stored.len() > MAX_ROWS {
            let problem = format!("has to be later: there are more than {MAX_ROWS} transactions");
            return Err(Refusal::field("from", problem));
        }
        rows.extend(stored.into_iter().map(|row| (account.clone(), row)));
    }
    rows.sort_by(|(_, a), (_, b)| {
        let (a, b) = (&a.transaction, &b.transaction);
        let newest = b.facts.booked_at.cmp(&a.facts.booked_at);
        newest.then_with(|| a.id.cmp(&b.id))
    });
    Ok(rows)
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

async fn answer_of(call: &Call, accounts: Vec<Account>) -> Answer {
    answer(call, rows_of(call, accounts).await?).await
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
    answer_of(call, scope::account(call).await?).await
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
    answer_of(call, accounts).await
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
