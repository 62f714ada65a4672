//! What spans products: lists of them, everything of a record, sums of transactions.

use std::collections::BTreeMap;

use okra_core::model::{
    money::{Currency, Money},
    snapshot::Direction,
};
use okra_store::RecordHead;
use okra_wire::{
    account::AccountResource,
    balance::CallbackBalanceResource,
    envelope::{DEFAULT_PAGE_LIMIT, Pagination},
    record::{ListedAuthResource, RecordDetails},
    scalar::MajorUnits,
    transaction::TransactionResource,
};
use serde::Serialize;

use crate::{
    data::{accounts, balances, transactions},
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::{ACCOUNT, CUSTOMER, RECORD},
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductsResponse {
    products: [ProductSummary; 4],
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductSummary {
    name: &'static str,
    status: bool,
}

/// What is kept of records here.
pub(crate) async fn list_products(_: &ApiRequest) -> ApiResponse {
    let products = ["auth", "accounts", "balance", "transactions"];
    let products = products.map(|name| ProductSummary { name, status: true });
    success_response(
        "Products retrieved successfully",
        ProductsResponse { products },
    )
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AllProductsResponse {
    pagination: Pagination,
    auth: Vec<ListedAuthResource>,
    accounts: Vec<AccountResource>,
    balance: Vec<CallbackBalanceResource>,
    transactions: Vec<TransactionResource>,
}

/// All products of these records; the page is of the transactions.
async fn respond_with_all_products(request: &ApiRequest, heads: &[RecordHead]) -> ApiResponse {
    let of = request.scope()?.load_accounts_of_records(heads).await?;
    let names = DisplayNames::load_for_records(request, heads).await?;
    let views: Result<Vec<RecordDetails>, ApiError> = heads
        .iter()
        .map(|head| names.build_record_view(request, head))
        .collect();
    let whole = transactions::AccountCoverage::Complete;
    let rows = transactions::read_row_page(request, of.clone(), whole, DEFAULT_PAGE_LIMIT);
    let (pagination, rows) = rows.await?;
    let data = AllProductsResponse {
        auth: views?.iter().map(ListedAuthResource::from).collect(),
        accounts: accounts::render_accounts(request, &of).await?,
        balance: balances::render_for_records(request, heads, &of).await?,
        transactions: transactions::render_for_callback(request, &pagination.cut_page(rows))?,
        pagination,
    };
    success_response("Products retrieved successfully", data)
}

pub(crate) async fn get_all_by_record(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    respond_with_all_products(request, &[head]).await
}

pub(crate) async fn get_all_by_customer(request: &ApiRequest) -> ApiResponse {
    let heads = scope::load_customer_records(request).await?;
    respond_with_all_products(request, &heads).await
}

/// The accounts asked for: of a customer, a record or an account.
async fn load_requested_accounts(
    request: &ApiRequest,
) -> Result<Vec<okra_store::Account>, ApiError> {
    if request.input.is_given(ACCOUNT) {
        scope::load_account(request).await
    } else if request.input.is_given(RECORD) {
        scope::load_record_accounts(request).await
    } else if request.input.is_given(CUSTOMER) {
        scope::load_customer_accounts(request).await
    } else {
        Err(ApiError::invalid_field("customer", "is required"))
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TotalsResponse {
    result: AmountTotals,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AmountTotals {
    credit: MajorUnits,
    debit: MajorUnits,
    currency: Currency,
}

/// Sums in one currency: credits, debits, rows.
#[derive(Clone, Copy, Default)]
struct CurrencySums {
    credit: i64,
    debit: i64,
    count: usize,
}

impl CurrencySums {
    fn add_amount(&mut self, direction: Direction, amount: Money) -> Result<(), ApiError> {
        let sum = match direction {
            Direction::Credit => &mut self.credit,
            Direction::Debit => &mut self.debit,
        };
        let added = sum.checked_add(amount.minor);
        *sum = added.ok_or_else(|| {
            ApiError::invalid_field("from", "must be later: the sum is too large")
        })?;
        self.count += 1;
        Ok(())
    }
}

/// The one currency of these accounts: sums over several would mean nothing.
fn require_single_currency(accounts: &[okra_store::Account]) -> Result<Currency, ApiError> {
    let mut currencies = accounts.iter().map(|account| account.facts.currency);
    let first = currencies.next().unwrap_or(Currency::NGN);
    match currencies.all(|it| it == first) {
        true => Ok(first),
        false => Err(ApiError::invalid_field(
            "account",
            "is required: the accounts have several currencies",
        )),
    }
}

/// What came in and what went out.
pub(crate) async fn get_totals(request: &ApiRequest) -> ApiResponse {
    let accounts = load_requested_accounts(request).await?;
    let (currency, mut sums) = (require_single_currency(&accounts)?, CurrencySums::default());
    for (_, row) in transactions::read_rows(request, accounts).await? {
        let facts = &row.transaction.facts;
        sums.add_amount(facts.direction, facts.amount)?;
    }
    let result = AmountTotals {
        credit: MajorUnits(Money::new(sums.credit, currency)),
        debit: MajorUnits(Money::new(sums.debit, currency)),
        currency,
    };
    success_response("Totals retrieved successfully", TotalsResponse { result })
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct SpendingPatternResponse {
    currency: Currency,
    months: Vec<MonthTotals>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct MonthTotals {
    /// Year and month: `2026-03`.
    month: String,
    credit: MajorUnits,
    debit: MajorUnits,
    count: usize,
}

/// Sums by month, newest first: what of a spending pattern follows from the rows alone. Their texts
/// are not interpreted.
pub(crate) async fn get_spending_pattern(request: &ApiRequest) -> ApiResponse {
    let accounts = load_requested_accounts(request).await?;
    let currency = require_single_currency(&accounts)?;
    let mut months: BTreeMap<(i16, i8), CurrencySums> = BTreeMap::new();
    for (_, row) in transactions::read_rows(request, accounts).await? {
        let facts = &row.transaction.facts;
        let month = (facts.booking_date().year(), facts.booking_date().month());
        let sums = months.entry(month).or_default();
        sums.add_amount(facts.direction, facts.amount)?;
    }
    let months = months
        .into_iter()
        .rev()
        .map(|((year, month), sums)| MonthTotals {
            month: format!("{year:04}-{month:02}"),
            credit: MajorUnits(Money::new(sums.credit, currency)),
            debit: MajorUnits(Money::new(sums.debit, currency)),
            count: sums.count,
        })
        .collect();
    success_response(
        "Spending pattern retrieved successfully",
        SpendingPatternResponse { currency, months },
    )
}

routes! {
    Post Key [Okra "products/list"] => list_products() -> ProductsResponse:
        "Lists the products that this installation keeps fresh.";
    Post Key [Okra "products/all/byRecord"] => get_all_by_record(RECORD, DATES, PAGE) -> AllProductsResponse:
        "Returns all products of a record.";
    Post Key [Okra "products/all/byCustomer"] => get_all_by_customer(CUSTOMER, DATES, PAGE) -> AllProductsResponse:
        "Returns all products of a customer.";
    Post Key [
        Okra "products/total-debits-credits",
        Okra "products/records/credit-debit/get",
    ] => get_totals(make_optional(CUSTOMER), make_optional(RECORD), make_optional(ACCOUNT), DATES) -> TotalsResponse:
        "Returns the totals of credits and debits.";
    Post Key [
        Okra "products/transactions/spending-pattern",
        Okra "products/spending-patterns/process",
    ] => get_spending_pattern(make_optional(CUSTOMER), make_optional(RECORD), make_optional(ACCOUNT), DATES) -> SpendingPatternResponse:
        "Returns credits and debits by month; the texts of transactions are not interpreted.";
}
