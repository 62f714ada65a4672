//! Transactions, in the form of `transactions/getBy*`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use okra_core::model::{
    ids::{BankId, CustomerId, EpochDay, RecordId, TransactionId},
    money::Money,
    snapshot::{Direction, Environment},
};
use okra_store::{Account, Consistency, OlderCursor, StoredTransaction};
use okra_wire::{
    account_context::{NamedReference, ResourceIds, ResourceTimes},
    envelope::{DEFAULT_PAGE_LIMIT, Pagination},
    transaction::TransactionResource,
};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope},
};

/// Rows that one call reads at most.
const MAX_ROWS: usize = 20_000;

/// Before any transaction.
const EARLIEST_DATE: Date = jiff::civil::date(1970, 1, 1);

/// A row, and the account it is of.
pub(crate) type AccountTransaction = (Account, StoredTransaction);

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TransactionsResponse {
    pagination: Pagination,
    transaction: Vec<TransactionResource>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TransactionCountsResponse {
    pagination: (),
    trans: Vec<CustomerTransactionCount>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct CustomerTransactionCount {
    bank: NamedReference<BankId>,
    customer: NamedReference<CustomerId>,
    count: usize,
    env: Environment,
}

/// Rows of accounts between the dates asked for, newest first.
pub(crate) async fn read_rows(
    request: &ApiRequest,
    accounts: Vec<Account>,
) -> Result<Vec<AccountTransaction>, ApiError> {
    let (from, to) = request.input.parse_date_range()?;
    request.input.reject_pdf()?;
    let mut rows: Vec<AccountTransaction> = Vec::new();
    for account in accounts {
        let stored = request
            .services
            .store
            .list_transactions(
                account.id,
                from.unwrap_or(EARLIEST_DATE),
                to,
                Consistency::Eventual,
            )
            .await?;
        rows.extend(stored.into_iter().map(|row| (account.clone(), row)));
        check_row_bound(&rows)?;
    }
    sort_newest_first(&mut rows);
    Ok(rows)
}

/// Rows of an account that are read at once where a page's are looked for, at least.
const MIN_BATCH: usize = 20;

/// How many of the newest rows of a page's accounts are read at once, at most.
const MAX_BATCH: usize = 500;

/// Accounts, and what is known of them.
pub(crate) enum AccountCoverage {
    /// They are all that their records have.
    Complete,
    /// Perhaps not.
    Unknown,
}

/// The page asked for of rows of accounts, newest first, `limit` to a page where none is given; and all rows
/// that were read for it, of which the page is to be cut.
///
/// Where no days are asked for, no more is read than it takes: the total is known from the records, which
/// count their rows. Where it is not, or the end is near, all rows are read.
pub(crate) async fn read_row_page(
    request: &ApiRequest,
    accounts: Vec<Account>,
    coverage: AccountCoverage,
    limit: usize,
) -> Result<(Pagination, Vec<AccountTransaction>), ApiError> {
    let of_all =
        |rows: &[AccountTransaction]| request.input.parse_page_with_limit(rows.len(), limit);
    if request.input.parse_date_range()? != (None, None) {
        let rows = read_rows(request, accounts).await?;
        return Ok((of_all(&rows)?, rows));
    }
    request.input.reject_pdf()?;
    let end = request.input.parse_page_end_with_limit(limit)?;
    let (mut rows, mut rest): (Vec<AccountTransaction>, Vec<(Account, OlderCursor)>) =
        (Vec::new(), Vec::new());
    for account in &accounts {
        let (newest, older) = read_newest_rows(request, account, end).await?;
        rows.extend(newest.into_iter().map(|row| (account.clone(), row)));
        rest.extend(older.map(|older| (account.clone(), older)));
        check_row_bound(&rows)?;
    }
    let total = match rest.is_empty() {
        true => None,
        false => count_total_rows(request, &accounts, coverage).await?,
    };
    if total.is_none() {
        for (account, older) in rest {
            let store = &request.services.store;
            let newest = store.list_newest_transactions(account.id, Some(&older), MAX_ROWS);
            let newest = newest.await?;
            rows.extend(
                newest
                    .transactions
                    .into_iter()
                    .map(|row| (account.clone(), row)),
            );
            if newest.next_page.is_some() {
                return Err(too_many_rows_error());
            }
            check_row_bound(&rows)?;
        }
    }
    sort_newest_first(&mut rows);
    let total = total.map_or(rows.len(), |total| total.max(rows.len()));
    Ok((request.input.parse_page_with_limit(total, limit)?, rows))
}

/// The newest rows of an account, `end` at least, but for its end; and where older ones begin.
async fn read_newest_rows(
    request: &ApiRequest,
    account: &Account,
    end: usize,
) -> Result<(Vec<StoredTransaction>, Option<OlderCursor>), ApiError> {
    let (mut rows, mut older): (Vec<StoredTransaction>, Option<OlderCursor>) = (Vec::new(), None);
    let at_once = end.clamp(MIN_BATCH, MAX_BATCH);
    // One more than the rows that may be there, for what is no row any more.
    for _ in 0..=2 * MAX_ROWS / at_once {
        let store = &request.services.store;
        let newest = store.list_newest_transactions(account.id, older.as_ref(), at_once);
        let newest = newest.await?;
        rows.extend(newest.transactions);
        let Some((next, latest)) = newest.next_page else {
            return Ok((rows, None));
        };
        older = Some(next);
        let settled = |row: &&StoredTransaction| {
            EpochDay::from_date(row.transaction.facts.booking_date()) > latest
        };
        if rows.iter().filter(settled).count() >= end {
            return Ok((rows, older));
        }
    }
    Err(too_many_rows_error())
}

/// How many rows these accounts have, where their records know it.
async fn count_total_rows(
    request: &ApiRequest,
    accounts: &[Account],
    coverage: AccountCoverage,
) -> Result<Option<usize>, ApiError> {
    let mut records: Vec<RecordId> = accounts.iter().map(|it| it.record).collect();
    records.sort_unstable();
    records.dedup();
    if matches!(coverage, AccountCoverage::Unknown) {
        for account in accounts {
            let all = request
                .scope()?
                .load_customer_accounts(account.customer)
                .await?;
            let of_record = all.iter().filter(|it| it.record == account.record);
            let known = |it: &Account| accounts.iter().any(|known| known.id == it.id);
            if !of_record.clone().all(known) {
                return Ok(None);
            }
        }
    }
    let heads = request
        .services
        .store
        .load_heads(&records, Consistency::Eventual);
    let heads = heads.await?;
    if heads.len() < records.len() {
        return Ok(None);
    }
    let rows: Option<u64> = heads.iter().map(|head| head.transaction_count).sum();
    Ok(rows.and_then(|rows| usize::try_from(rows).ok()))
}

fn too_many_rows_error() -> ApiError {
    let problem = format!("must be later: there are more than {MAX_ROWS} transactions");
    ApiError::invalid_field("from", problem)
}

fn check_row_bound(rows: &[AccountTransaction]) -> Result<(), ApiError> {
    match rows.len() > MAX_ROWS {
        true => Err(too_many_rows_error()),
        false => Ok(()),
    }
}

/// Newest first.
fn sort_newest_first(rows: &mut [AccountTransaction]) {
    rows.sort_by(|(_, a), (_, b)| {
        let (a, b) = (&a.transaction, &b.transaction);
        let newest = b.facts.booked_at.cmp(&a.facts.booked_at);
        newest.then_with(|| a.id.cmp(&b.id))
    });
}

const fn row_times(row: &StoredTransaction) -> ResourceTimes {
    ResourceTimes {
        created_at: row.created_at,
        last_updated: row.last_updated,
    }
}

/// Rows with plain ids, as callback data has them.
pub(crate) fn render_for_callback(
    request: &ApiRequest,
    rows: &[AccountTransaction],
) -> Result<Vec<TransactionResource>, ApiError> {
    let app = request.require_app()?;
    let resources = rows.iter().map(|(account, row)| {
        let ids = ResourceIds {
            app: app.id,
            env: app.environment,
            record: account.record,
            customer: account.customer,
            bank: account.bank,
            account: account.id,
        };
        TransactionResource::with_plain_ids(ids, &row.transaction, row_times(row))
    });
    Ok(resources.collect())
}

async fn respond_with_rows(request: &ApiRequest, rows: Vec<AccountTransaction>) -> ApiResponse {
    let pagination = request.input.parse_page(rows.len())?;
    respond_with_page(request, pagination, rows).await
}

async fn respond_with_page(
    request: &ApiRequest,
    pagination: Pagination,
    rows: Vec<AccountTransaction>,
) -> ApiResponse {
    let (accounts, rows): (Vec<_>, Vec<_>) = pagination.cut_page(rows).into_iter().unzip();
    let names = DisplayNames::load_for_accounts(request, &accounts).await?;
    let mut transaction = Vec::with_capacity(rows.len());
    for (account, row) in accounts.iter().zip(&rows) {
        let of = names.build_origin(request, account)?;
        transaction.push(TransactionResource::with_names(
            &of,
            &row.transaction,
            row_times(row),
        ));
    }
    let data = TransactionsResponse {
        pagination,
        transaction,
    };
    success_response("Transactions retrieved succesfully", data)
}

/// Of all accounts of records.
async fn respond_for_accounts(request: &ApiRequest, accounts: Vec<Account>) -> ApiResponse {
    respond_with_coverage(request, accounts, AccountCoverage::Complete).await
}

async fn respond_with_coverage(
    request: &ApiRequest,
    accounts: Vec<Account>,
    coverage: AccountCoverage,
) -> ApiResponse {
    let (pagination, rows) = read_row_page(request, accounts, coverage, DEFAULT_PAGE_LIMIT).await?;
    respond_with_page(request, pagination, rows).await
}

pub(crate) async fn get_transaction_by_id(request: &ApiRequest) -> ApiResponse {
    let missing = || ApiError::not_found("transaction");
    let id: TransactionId =
        request
            .input
            .require_id(&["id", "_id", "transaction", "transaction_id"])?;
    let row = request.services.store.find_transaction(id).await?;
    let row = row.ok_or_else(missing)?;
    let account = request.scope()?.load_own_account(row.account).await;
    let account = account.map_err(|error| error.for_resource("transaction"))?;
    respond_with_page(request, Pagination::single_document(), vec![(account, row)]).await
}

pub(crate) async fn get_transactions_by_account(request: &ApiRequest) -> ApiResponse {
    respond_with_coverage(
        request,
        scope::load_account(request).await?,
        AccountCoverage::Unknown,
    )
    .await
}

pub(crate) async fn get_transactions_by_customer(request: &ApiRequest) -> ApiResponse {
    respond_for_accounts(request, scope::load_customer_accounts(request).await?).await
}

pub(crate) async fn get_transactions_by_bank(request: &ApiRequest) -> ApiResponse {
    respond_for_accounts(request, scope::load_bank_accounts(request).await?).await
}

pub(crate) async fn get_transactions_by_date(request: &ApiRequest) -> ApiResponse {
    respond_for_accounts(request, scope::load_app_accounts(request).await?).await
}

pub(crate) async fn get_transactions_by_options(request: &ApiRequest) -> ApiResponse {
    respond_for_accounts(request, scope::load_accounts_by_options(request).await?).await
}

pub(crate) async fn get_transactions_by_record(request: &ApiRequest) -> ApiResponse {
    respond_for_accounts(request, scope::load_record_accounts(request).await?).await
}

/// The transactions of the account with this number.
pub(crate) async fn get_transactions_by_nuban(request: &ApiRequest) -> ApiResponse {
    let number = request.input.require_text(&["nuban"])?;
    let mut accounts = scope::load_app_accounts(request).await?;
    accounts.retain(|account| account.facts.number == number);
    respond_with_coverage(request, accounts, AccountCoverage::Unknown).await
}

/// `products/transactions`: how many there are of each customer at each bank.
pub(crate) async fn count_transactions(request: &ApiRequest) -> ApiResponse {
    let mut groups: BTreeMap<(CustomerId, BankId), Vec<Account>> = BTreeMap::new();
    for account in scope::load_app_accounts(request).await? {
        let group = groups.entry((account.customer, account.bank)).or_default();
        group.push(account);
    }
    let groups: Vec<_> = groups.into_iter().collect();
    let pagination = request.input.parse_page(groups.len())?;
    let env = request.require_app()?.environment;
    let (mut trans, mut left) = (Vec::new(), MAX_ROWS);
    for ((customer, bank), accounts) in pagination.cut_page(groups) {
        let names = DisplayNames::load_for_accounts(request, &accounts).await?;
        let rows = read_rows(request, accounts).await?;
        left = left.checked_sub(rows.len()).ok_or_else(|| {
            let problem = format!("must be fewer: they have more than {MAX_ROWS} transactions");
            ApiError::invalid_field("limit", problem)
        })?;
        let (customer, bank) = names.name_customer_and_bank(customer, bank);
        trans.push(CustomerTransactionCount {
            bank,
            customer,
            count: rows.len(),
            env,
        });
    }
    let pagination = ();
    success_response(
        "Transactions retrieved successfully",
        TransactionCountsResponse { pagination, trans },
    )
}

/// Credits or debits, of one amount where one is given.
pub(crate) async fn get_transactions_by_type(request: &ApiRequest) -> ApiResponse {
    let direction = match request.input.require_text(&["type"])?.as_str() {
        "credit" => Direction::Credit,
        "debit" => Direction::Debit,
        _ => return Err(ApiError::invalid_field("type", "must be credit or debit")),
    };
    let amount = request.input.parse_amount(&["value", "amount"])?;
    let mut rows = read_rows(request, scope::load_app_accounts(request).await?).await?;
    rows.retain(|(_, row)| {
        let facts = &row.transaction.facts;
        let same = |text: &String| Money::parse(text, facts.amount.currency) == Ok(facts.amount);
        facts.direction == direction && amount.as_ref().is_none_or(same)
    });
    respond_with_rows(request, rows).await
}

routes! {
    Post Key [
        Okra "transactions/getByNuban",
        Okra "transaction/getByNuban",
    ] => get_transactions_by_nuban(NUBAN, make_optional(CUSTOMER), DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions of the account with this number.";
    Post Key [
        Okra "products/transactions",
        Okra "products/transactions/get",
    ] => count_transactions(make_optional(CUSTOMER), PAGE) -> TransactionCountsResponse:
        "Returns the number of transactions of each customer at each bank.";
    Post Key [
        Okra "transactions/getById",
        Okra "transaction/getById",
    ] => get_transaction_by_id(ID) -> TransactionsResponse:
        "Returns one transaction, in a list.";
    Post Key [
        Okra "transactions/getByAccount",
        Okra "transaction/getByAccount",
        Okra "transactions/process",
        Okra "transaction/process",
    ] => get_transactions_by_account(ACCOUNT, DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions of an account.";
    Post Key [
        Okra "transactions/getByCustomer",
        Okra "transaction/getByCustomer",
        Okra "transactions/getByCustomerDate",
        Okra "transaction/getByCustomerDate",
    ] => get_transactions_by_customer(CUSTOMER, DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions of a customer.";
    Post Key [
        Okra "transactions/getByBank",
        Okra "transaction/getByBank",
    ] => get_transactions_by_bank(BANK, make_optional(CUSTOMER), DATES, PAGE) -> TransactionsResponse:
        "Lists the app's transactions at a bank.";
    Post Key [
        Okra "transactions/getByDate",
        Okra "transaction/getByDate",
    ] => get_transactions_by_date(make_optional(CUSTOMER), DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions between two days.";
    Post Key [
        Okra "transactions/byOptions",
        Okra "transaction/byOptions",
    ] => get_transactions_by_options(OPTIONS, make_optional(CUSTOMER), DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions of records that were linked with these options.";
    Post Key [
        Okra "transactions/byRecord",
        Okra "transaction/byRecord",
        Okra "records/transactions/get",
    ] => get_transactions_by_record(RECORD, DATES, PAGE) -> TransactionsResponse:
        "Lists the transactions of a record.";
    Post Key [
        Okra "transactions/getByType",
        Okra "transaction/getByType",
    ] => get_transactions_by_type(DIRECTION, VALUE, make_optional(CUSTOMER), DATES, PAGE) -> TransactionsResponse:
        "Lists the credits or the debits, of one amount where one is given.";
}
