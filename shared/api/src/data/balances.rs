//! Balances, in the form of `balance/getBy*`.

use okra_core::model::{
    ids::{BalanceId, CustomerId, RecordId},
    money::Money,
    snapshot::{BalanceFacts, utc_date},
};
use okra_store::{Account, Consistency, RecordHead};
use okra_wire::{
    account_context::{AccountContext, ResourceTimes},
    balance::{
        BalanceByTypeResource, BalanceResource, CallbackBalanceResource, ListedBalanceResource,
    },
    envelope::Pagination,
};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::CUSTOMER,
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BalancesResponse {
    pagination: Pagination,
    balance: Vec<BalanceResource>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TypedBalancesResponse {
    pagination: Pagination,
    balance: Vec<BalanceByTypeResource>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedBalancesResponse {
    pagination: (),
    balances: Vec<ListedBalanceResource>,
}

/// Balances in one of Okra's forms; accounts whose bank has not stated one yet have none.
async fn render_balances<T>(
    request: &ApiRequest,
    accounts: &[Account],
    heads: &[RecordHead],
    render: fn(&AccountContext<'_>, &BalanceFacts, ResourceTimes) -> T,
) -> Result<Vec<T>, ApiError> {
    let names = DisplayNames::load_for_accounts(request, accounts)
        .await?
        .with_record_states(heads);
    let mut balances = Vec::with_capacity(accounts.len());
    for account in accounts {
        if let Some(facts) = &account.balance {
            let times = ResourceTimes {
                created_at: account.created_at,
                last_updated: account.balance_at.unwrap_or(account.last_updated),
            };
            balances.push(render(&names.build_origin(request, account)?, facts, times));
        }
    }
    Ok(balances)
}

/// Balances as callback data has them, of a record that the bank has just answered.
pub(crate) async fn render_for_callback(
    request: &ApiRequest,
    accounts: &[Account],
) -> Result<Vec<CallbackBalanceResource>, ApiError> {
    render_for_records(request, &[], accounts).await
}

/// Balances of records as callback data has them.
pub(crate) async fn render_for_records(
    request: &ApiRequest,
    heads: &[RecordHead],
    accounts: &[Account],
) -> Result<Vec<CallbackBalanceResource>, ApiError> {
    render_balances(request, accounts, heads, CallbackBalanceResource::new).await
}

fn retain_with_balance(mut accounts: Vec<Account>) -> Vec<Account> {
    accounts.retain(|account| account.balance.is_some());
    accounts
}

async fn respond_with_balances(request: &ApiRequest, accounts: Vec<Account>) -> ApiResponse {
    let accounts = retain_with_balance(accounts);
    let pagination = request.input.parse_page(accounts.len())?;
    respond_with_page(request, pagination, accounts).await
}

async fn respond_with_page(
    request: &ApiRequest,
    pagination: Pagination,
    accounts: Vec<Account>,
) -> ApiResponse {
    request.input.reject_pdf()?;
    let mut balance = render_balances(
        request,
        &pagination.cut_page(accounts),
        &[],
        BalanceResource::new,
    )
    .await?;
    if request.input.is_false("includePeriodic") {
        balance = balance
            .into_iter()
            .map(BalanceResource::without_periodic)
            .collect();
    }
    let data = BalancesResponse {
        pagination,
        balance,
    };
    success_response("Balance retrieved succesfully", data)
}

/// Balances that last changed between two dates.
async fn respond_by_change_date(request: &ApiRequest, mut accounts: Vec<Account>) -> ApiResponse {
    let within = request.input.parse_date_filter()?;
    accounts.retain(|account| account.balance_at.map(utc_date).is_some_and(&within));
    respond_with_balances(request, accounts).await
}

pub(crate) async fn get_balance_by_id(request: &ApiRequest) -> ApiResponse {
    let id: BalanceId = request.input.require_id(&["id", "_id", "balance"])?;
    let account = request.scope()?.load_own_account(id.account_id()).await;
    let account = account.map_err(|error| error.for_resource("balance"))?;
    if account.balance.is_none() {
        return Err(ApiError::not_found("balance"));
    }
    respond_with_page(request, Pagination::single_document(), vec![account]).await
}

pub(crate) async fn get_balances_by_customer(request: &ApiRequest) -> ApiResponse {
    respond_with_balances(request, scope::load_customer_accounts(request).await?).await
}

pub(crate) async fn get_balance_by_account(request: &ApiRequest) -> ApiResponse {
    respond_with_balances(request, scope::load_account(request).await?).await
}

pub(crate) async fn get_balances_by_bank(request: &ApiRequest) -> ApiResponse {
    respond_with_balances(request, scope::load_bank_accounts(request).await?).await
}

pub(crate) async fn get_balances_by_options(request: &ApiRequest) -> ApiResponse {
    respond_with_balances(request, scope::load_accounts_by_options(request).await?).await
}

pub(crate) async fn get_balances_by_date(request: &ApiRequest) -> ApiResponse {
    respond_by_change_date(request, scope::load_app_accounts(request).await?).await
}

pub(crate) async fn get_balances_by_customer_date(request: &ApiRequest) -> ApiResponse {
    respond_by_change_date(request, scope::load_customer_accounts(request).await?).await
}

/// Balances of which the one named in `type` is `value`; all where there is no value.
pub(crate) async fn get_balances_by_type(request: &ApiRequest) -> ApiResponse {
    request.input.reject_pdf()?;
    let of: fn(&BalanceFacts) -> Option<Money> =
        match request.input.require_text(&["type"])?.as_str() {
            "available_balance" => |facts| facts.available.or(facts.ledger),
            "ledger_balance" => |facts| facts.ledger.or(facts.available),
            _ => {
                let problem = "must be available_balance or ledger_balance";
                return Err(ApiError::invalid_field("type", problem));
            }
        };
    let value = request.input.parse_amount(&["value", "amount"])?;
    let mut accounts = retain_with_balance(scope::load_app_accounts(request).await?);
    accounts.retain(|account| {
        value.as_ref().is_none_or(|value| {
            let wanted = Money::parse(value, account.facts.currency).ok();
            wanted.is_some() && account.balance.as_ref().and_then(of) == wanted
        })
    });
    let pagination = request.input.parse_page(accounts.len())?;
    let balance = render_balances(
        request,
        &pagination.cut_page(accounts),
        &[],
        BalanceByTypeResource::new,
    )
    .await?;
    let data = TypedBalancesResponse {
        pagination,
        balance,
    };
    success_response("Balance retrieved succesfully", data)
}

/// Okra's *enhanced* balance of an account. Nothing is derived here: it is the balance itself, of the
/// account asked for, where it last changed between the dates.
pub(crate) async fn get_processed_balance(request: &ApiRequest) -> ApiResponse {
    let account = request.load_requested_account().await?;
    if let Some(customer) = request.input.parse_id::<CustomerId>(CUSTOMER)?
        && customer != account.customer
    {
        return Err(ApiError::not_found("account"));
    }
    respond_by_change_date(request, vec![account]).await
}

/// `products/balances`: all of the app's, in an envelope of their own.
pub(crate) async fn list_balances(request: &ApiRequest) -> ApiResponse {
    request.input.reject_pdf()?;
    let end = request.input.parse_page_end()?;
    let known_count =
        |accounts: &[Account]| accounts.iter().filter(|it| it.balance.is_some()).count();
    let accounts = scope::load_app_accounts_until(request, |accounts| known_count(accounts) >= end);
    let accounts = retain_with_balance(accounts.await?);
    let page = request.input.parse_page(accounts.len())?.cut_page(accounts);
    // Whether they are connected is a matter of their records.
    let mut records: Vec<RecordId> = page.iter().map(|account| account.record).collect();
    records.sort_unstable();
    records.dedup();
    let heads = request
        .services
        .store
        .load_heads(&records, Consistency::Eventual);
    let heads = heads.await?;
    let balances = render_balances(request, &page, &heads, ListedBalanceResource::new).await?;
    let data = ListedBalancesResponse {
        pagination: (),
        balances,
    };
    success_response("Balances retrieved successfully", data)
}

routes! {
    Post Key [Okra "balance/getById", Okra "balance/getBalanceById"] => get_balance_by_id(ID) -> BalancesResponse:
        "Returns one balance, in a list.";
    Post Key [Okra "balance/getByCustomer"] => get_balances_by_customer(CUSTOMER, PERIODIC, PAGE) -> BalancesResponse:
        "Lists the balances of a customer.";
    Post Key [Okra "balance/getByAccount"] => get_balance_by_account(ACCOUNT, PAGE) -> BalancesResponse:
        "Returns the balance of an account, in a list.";
    Post Key [Okra "balance/getByBank"] => get_balances_by_bank(BANK, make_optional(CUSTOMER), PAGE) -> BalancesResponse:
        "Lists the app's balances at a bank.";
    Post Key [Okra "balance/byOptions"] => get_balances_by_options(OPTIONS, make_optional(CUSTOMER), PAGE) -> BalancesResponse:
        "Lists the balances of records that were linked with these options.";
    Post Key [Okra "balance/getByDate"] => get_balances_by_date(make_optional(CUSTOMER), DATES, PAGE) -> BalancesResponse:
        "Lists the balances that last changed between two days.";
    Post Key [Okra "balance/getByCustomerDate"] => get_balances_by_customer_date(CUSTOMER, DATES, PAGE) -> BalancesResponse:
        "Lists a customer's balances that last changed between two days.";
    Post Key [Okra "balance/getByType"] => get_balances_by_type(BALANCE_TYPE, VALUE, make_optional(CUSTOMER), PAGE) -> TypedBalancesResponse:
        "Lists the balances whose available or ledger amount has this value.";
    Post Key [
        Okra "balance/process",
        Okra "transactions/balance/process",
        Okra "transaction/balance/process",
    ] => get_processed_balance(ACCOUNT, make_optional(CUSTOMER), DATES, PAGE) -> BalancesResponse:
        "Returns the balance of an account as the bank stated it; nothing is derived from it.";
    Post Key [Okra "products/balances"] => list_balances(make_optional(CUSTOMER), PAGE) -> ListedBalancesResponse:
        "Lists all balances of the app.";
}
