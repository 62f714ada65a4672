//! Accounts.

use okra_core::model::{
    ids::AccountId,
    money::Money,
    snapshot::{BalanceFacts, utc_date},
};
use okra_store::Account;
use okra_wire::{
    account::AccountResource as Shown, account_context::ResourceTimes, envelope::Pagination,
};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        request::ApiRequest,
    },
    records::{names::DisplayNames, scope},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AccountsResponse {
    pagination: Option<Pagination>,
    account: Vec<Shown>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedAccountsResponse {
    pagination: (),
    accounts: Vec<Shown>,
}

/// When an account was linked, and when it or its balance last changed.
const fn account_times(account: &Account) -> ResourceTimes {
    ResourceTimes {
        created_at: account.created_at,
        last_updated: account.last_updated,
    }
}

/// Accounts in Okra's shape.
pub(crate) async fn render_accounts(
    request: &ApiRequest,
    accounts: &[Account],
) -> Result<Vec<Shown>, ApiError> {
    let names = DisplayNames::load_for_accounts(request, accounts).await?;
    accounts
        .iter()
        .map(|account| {
            Ok(Shown::new(
                &names.build_origin(request, account)?,
                account_times(account),
            ))
        })
        .collect()
}

async fn respond_with_accounts(request: &ApiRequest, accounts: Vec<Account>) -> ApiResponse {
    let pagination = request.input.parse_page(accounts.len())?;
    let account = render_accounts(request, &pagination.cut_page(accounts)).await?;
    let pagination = Some(pagination);
    let data = AccountsResponse {
        pagination,
        account,
    };
    success_response("Accounts retrieved successfully", data)
}

async fn load_account_by_id(request: &ApiRequest) -> Result<Account, ApiError> {
    let id: AccountId =
        request
            .input
            .require_id(&["id", "_id", "account", "account_id", "accountId"])?;
    Ok(request.scope()?.load_own_account(id).await?)
}

pub(crate) async fn get_account_by_id(request: &ApiRequest) -> ApiResponse {
    let account = load_account_by_id(request).await?;
    let (pagination, account) = (
        Pagination::single_document(),
        render_accounts(request, &[account]).await?,
    );
    let pagination = Some(pagination);
    let data = AccountsResponse {
        pagination,
        account,
    };
    success_response("Accounts retrieved successfully", data)
}

/// The account alone, without a list around it.
pub(crate) async fn get_account_details(request: &ApiRequest) -> ApiResponse {
    let account = load_account_by_id(request).await?;
    let shown = render_accounts(request, std::slice::from_ref(&account)).await?;
    success_response("Account retrieved successfully", shown.first())
}

pub(crate) async fn get_accounts_by_customer(request: &ApiRequest) -> ApiResponse {
    respond_with_accounts(request, scope::load_customer_accounts(request).await?).await
}

pub(crate) async fn get_accounts_by_bank(request: &ApiRequest) -> ApiResponse {
    respond_with_accounts(request, scope::load_bank_accounts(request).await?).await
}

/// Those of accounts that were linked between two days.
async fn respond_by_link_date(request: &ApiRequest, mut accounts: Vec<Account>) -> ApiResponse {
    let within = request.input.parse_date_filter()?;
    accounts.retain(|account| within(utc_date(account.created_at)));
    respond_with_accounts(request, accounts).await
}

pub(crate) async fn get_accounts_by_date(request: &ApiRequest) -> ApiResponse {
    respond_by_link_date(request, scope::load_app_accounts(request).await?).await
}

pub(crate) async fn get_accounts_by_customer_date(request: &ApiRequest) -> ApiResponse {
    respond_by_link_date(request, scope::load_customer_accounts(request).await?).await
}

/// Accounts whose holder's name has this in it, in any case.
pub(crate) async fn get_accounts_by_name(request: &ApiRequest) -> ApiResponse {
    let name = request.input.require_text(&["name"])?.to_lowercase();
    let mut accounts = scope::load_app_accounts(request).await?;
    accounts.retain(|account| account.facts.name.to_lowercase().contains(&name));
    respond_with_accounts(request, accounts).await
}

/// Accounts whose available or ledger balance is this.
pub(crate) async fn get_accounts_by_balance(request: &ApiRequest) -> ApiResponse {
    const BALANCE: crate::http::input::FieldNames<'_> = &["balance", "value", "amount"];
    let wanted = request.input.parse_amount(BALANCE)?;
    let wanted = wanted.ok_or_else(|| ApiError::invalid_field("balance", "is required"))?;
    let mut accounts = scope::load_app_accounts(request).await?;
    accounts.retain(|account| {
        let wanted = Money::parse(&wanted, account.facts.currency).ok();
        let is = |balance: &BalanceFacts| [balance.available, balance.ledger].contains(&wanted);
        wanted.is_some() && account.balance.as_ref().is_some_and(is)
    });
    respond_with_accounts(request, accounts).await
}

/// `products/accounts`: all of the app's, in an envelope of their own.
pub(crate) async fn list_accounts(request: &ApiRequest) -> ApiResponse {
    let end = request.input.parse_page_end()?;
    let accounts =
        scope::load_app_accounts_until(request, |accounts| accounts.len() >= end).await?;
    let page = request.input.parse_page(accounts.len())?.cut_page(accounts);
    let accounts = render_accounts(request, &page).await?;
    let data = ListedAccountsResponse {
        pagination: (),
        accounts,
    };
    success_response("Accounts retrieved successfully", data)
}

routes! {
    Post Key [Okra "accounts/getById", Okra "account/getById"] => get_account_by_id(ID) -> AccountsResponse:
        "Returns one account, in a list.";
    Post Key [
        Okra "accounts/getAccountDetails",
        Okra "account/getAccountDetails",
    ] => get_account_details(ACCOUNT) -> Shown:
        "Returns one account.";
    Post Key [
        Okra "accounts/getByCustomer",
        Okra "account/getByCustomer",
    ] => get_accounts_by_customer(CUSTOMER, PAGE) -> AccountsResponse:
        "Lists the accounts of a customer.";
    Post Key [
        Okra "accounts/getByBank",
        Okra "account/getByBank",
    ] => get_accounts_by_bank(BANK, make_optional(CUSTOMER), PAGE) -> AccountsResponse:
        "Lists the app's accounts at a bank.";
    Post Key [
        Okra "accounts/getByDate",
        Okra "account/getByDate",
    ] => get_accounts_by_date(make_optional(CUSTOMER), DATES, PAGE) -> AccountsResponse:
        "Lists the accounts that were linked between two days.";
    Post Key [
        Okra "accounts/getByCustomerDate",
        Okra "account/getByCustomerDate",
    ] => get_accounts_by_customer_date(CUSTOMER, DATES, PAGE) -> AccountsResponse:
        "Lists a customer's accounts that were linked between two days.";
    Post Key [
        Okra "accounts/getByName",
        Okra "account/getByName",
    ] => get_accounts_by_name(NAME, make_optional(CUSTOMER), PAGE) -> AccountsResponse:
        "Lists the accounts whose holder's name contains a text, in any case.";
    Post Key [
        Okra "accounts/getByBalance",
        Okra "account/getByBalance",
    ] => get_accounts_by_balance(BALANCE, make_optional(CUSTOMER), PAGE) -> AccountsResponse:
        "Lists the accounts whose available or ledger balance is an amount.";
    Post Key [Okra "products/accounts"] => list_accounts(make_optional(CUSTOMER), PAGE) -> ListedAccountsResponse:
        "Lists all accounts of the app.";
}
