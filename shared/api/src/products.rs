//! What spans products: lists of them, everything of a record, sums of transactions.

use std::collections::BTreeMap;

use okra_core::{
    model::Direction,
    money::{Currency, Money},
};
use okra_store::Head;
use okra_wire::{
    account::Account,
    balance::CallbackBalance,
    envelope::{DEFAULT_LIMIT, Pagination},
    record::{ListedAuth, RecordView},
    scalar::Number,
    transaction::Transaction,
};
use serde::Serialize;

use crate::{
    accounts, balances,
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{ACCOUNT, CUSTOMER, RECORD},
    names::Names,
    scope, transactions,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductList {
    products: [ProductName; 4],
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductName {
    name: &'static str,
    status: bool,
}

/// What is kept of records here.
pub(crate) async fn list(_: &Call) -> Answer {
    let products = ["auth", "accounts", "balance", "transactions"];
    let products = products.map(|name| ProductName { name, status: true });
    success("Products retrieved successfully", ProductList { products })
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Everything {
    pagination: Pagination,
    auth: Vec<ListedAuth>,
    accounts: Vec<Account>,
    balance: Vec<CallbackBalance>,
    transactions: Vec<Transaction>,
}

/// All products of these records; the page is of the transactions.
async fn everything(call: &Call, heads: &[Head]) -> Answer {
    let of = scope::accounts_of(call, heads).await?;
    let names = Names::of_records(call, heads).await?;
    let views: Result<Vec<RecordView>, Refusal> =
        heads.iter().map(|head| names.record(call, head)).collect();
    let whole = transactions::Whole::Yes;
    let rows = transactions::page_of_rows(call, of.clone(), whole, DEFAULT_LIMIT);
    let (pagination, rows) = rows.await?;
    let data = Everything {
        auth: views?.iter().map(ListedAuth::from).collect(),
        accounts: accounts::shown(call, &of).await?,
        balance: balances::of_records(call, heads, &of).await?,
        transactions: transactions::for_callback(call, &pagination.cut(rows))?,
        pagination,
    };
    success("Products retrieved successfully", data)
}

pub(crate) async fn all_by_record(call: &Call) -> Answer {
    let head = call.record().await?;
    everything(call, &[head]).await
}

pub(crate) async fn all_by_customer(call: &Call) -> Answer {
    let heads = scope::records_of_customer(call).await?;
    everything(call, &heads).await
}

/// The accounts asked for: of a customer, a record or an account.
async fn asked(call: &Call) -> Result<Vec<okra_store::Account>, Refusal> {
    if call.input.is_given(ACCOUNT) {
        scope::account(call).await
    } else if call.input.is_given(RECORD) {
        scope::record(call).await
    } else if call.input.is_given(CUSTOMER) {
        scope::customer(call).await
    } else {
        Err(Refusal::field("customer", "is required"))
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Totals {
    result: Total,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Total {
    credit: Number,
    debit: Number,
    currency: Currency,
}

/// Sums in one currency: credits, debits, rows.
#[derive(Clone, Copy, Default)]
struct Sums {
    credit: i64,
    debit: i64,
    count: usize,
}

impl Sums {
    fn add(&mut self, direction: Direction, amount: Money) -> Result<(), Refusal> {
        let sum = match direction {
            Direction::Credit => &mut self.credit,
            Direction::Debit => &mut self.debit,
        };
        let added = sum.checked_add(amount.minor);
        *sum =
            added.ok_or_else(|| Refusal::field("from", "has to be later: the sum is too large"))?;
        self.count += 1;
        Ok(())
    }
}

/// The one currency of these accounts: sums over several would mean nothing.
fn currency(accounts: &[okra_store::Account]) -> Result<Currency, Refusal> {
    let mut currencies = accounts.iter().map(|account| account.facts.currency);
    let first = currencies.next().unwrap_or(Currency::NGN);
    match currencies.all(|it| it == first) {
        true => Ok(first),
        false => Err(Refusal::field(
            "account",
            "is required: the accounts have several currencies",
        )),
    }
}

/// What came in and what went out.
pub(crate) async fn totals(call: &Call) -> Answer {
    let accounts = asked(call).await?;
    let (currency, mut sums) = (currency(&accounts)?, Sums::default());
    for (_, row) in transactions::rows_of(call, accounts).await? {
        let facts = &row.transaction.facts;
        sums.add(facts.direction, facts.amount)?;
    }
    let result = Total {
        credit: Number(Money::new(sums.credit, currency)),
        debit: Number(Money::new(sums.debit, currency)),
        currency,
    };
    success("Totals retrieved successfully", Totals { result })
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Spending {
    currency: Currency,
    months: Vec<Month>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Month {
    /// Year and month: `2026-03`.
    month: String,
    credit: Number,
    debit: Number,
    count: usize,
}

/// Sums by month, newest first: what of a spending pattern follows from the rows alone. Their texts
/// are not interpreted.
pub(crate) async fn spending(call: &Call) -> Answer {
    let accounts = asked(call).await?;
    let currency = currency(&accounts)?;
    let mut months: BTreeMap<(i16, i8), Sums> = BTreeMap::new();
    for (_, row) in transactions::rows_of(call, accounts).await? {
        let facts = &row.transaction.facts;
        let month = (facts.date().year(), facts.date().month());
        let sums = months.entry(month).or_default();
        sums.add(facts.direction, facts.amount)?;
    }
    let shown = |((year, month), sums): ((i16, i8), Sums)| Month {
        month: format!("{year:04}-{month:02}"),
        credit: Number(Money::new(sums.credit, currency)),
        debit: Number(Money::new(sums.debit, currency)),
        count: sums.count,
    };
    let months = months.into_iter().rev().map(shown).collect();
    success(
        "Spending pattern retrieved successfully",
        Spending { currency, months },
    )
}

documented! {
    list() -> ProductList: "What is kept of records here.";
    all_by_record(RECORD, DATES, PAGE) -> Everything: "All products of a record.";
    all_by_customer(CUSTOMER, DATES, PAGE) -> Everything: "All products of a customer.";
    totals(optional(CUSTOMER), optional(RECORD), optional(ACCOUNT), DATES) -> Totals: "What came in and what went out.";
    spending(optional(CUSTOMER), optional(RECORD), optional(ACCOUNT), DATES) -> Spending: "Credits and debits by month; texts are not interpreted.";
}
