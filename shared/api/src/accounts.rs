//! Accounts.

use okra_core::{
    ids::AccountId,
    model::{BalanceFacts, date_of},
    money::Money,
};
use okra_store::Account;
use okra_wire::{account::Account as Shown, envelope::Pagination, origin::Times};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    names::Names,
    scope,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Accounts {
    pagination: Option<Pagination>,
    account: Vec<Shown>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedAccounts {
    pagination: (),
    accounts: Vec<Shown>,
}

/// When an account was linked, and when it or its balance last changed.
const fn times(account: &Account) -> Times {
    Times {
        created_at: account.created_at,
        last_updated: account.last_updated,
    }
}

/// Accounts in Okra's shape.
pub(crate) async fn shown(call: &Call, accounts: &[Account]) -> Result<Vec<Shown>, Refusal> {
    let names = Names::of_accounts(call, accounts).await?;
    accounts
        .iter()
        .map(|account| Ok(Shown::new(&names.origin(call, account)?, times(account))))
        .collect()
}

async fn answer(call: &Call, accounts: Vec<Account>) -> Answer {
    let pagination = call.input.page(accounts.len())?;
    let account = shown(call, &pagination.cut(accounts)).await?;
    let pagination = Some(pagination);
    let data = Accounts {
        pagination,
        account,
    };
    success("Accounts retrieved successfully", data)
}

async fn by_id(call: &Call) -> Result<Account, Refusal> {
    let id: AccountId =
        call.input
            .needed_id(&["id", "_id", "account", "account_id", "accountId"])?;
    call.own_account(id).await
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let account = by_id(call).await?;
    let (pagination, account) = (Pagination::of_one(), shown(call, &[account]).await?);
    let pagination = Some(pagination);
    let data = Accounts {
        pagination,
        account,
    };
    success("Accounts retrieved successfully", data)
}

/// The account alone, without a list around it.
pub(crate) async fn details(call: &Call) -> Answer {
    let account = by_id(call).await?;
    let shown = shown(call, std::slice::from_ref(&account)).await?;
    success("Account retrieved successfully", shown.first())
}

pub(crate) async fn get_by_customer(call: &Call) -> Answer {
    answer(call, scope::customer(call).await?).await
}

pub(crate) async fn get_by_bank(call: &Call) -> Answer {
    answer(call, scope::bank(call).await?).await
}

/// Those of accounts that were linked between two days.
async fn answer_dated(call: &Call, mut accounts: Vec<Account>) -> Answer {
    let within = call.input.within()?;
    accounts.retain(|account| within(date_of(account.created_at)));
    answer(call, accounts).await
}

pub(crate) async fn get_by_date(call: &Call) -> Answer {
    answer_dated(call, scope::app(call).await?).await
}

pub(crate) async fn get_by_customer_date(call: &Call) -> Answer {
    answer_dated(call, scope::customer(call).await?).await
}

/// Accounts whose holder's name has this in it, in any case.
pub(crate) async fn get_by_name(call: &Call) -> Answer {
    let name = call.input.needed_text(&["name"])?.to_lowercase();
    let mut accounts = scope::app(call).await?;
    accounts.retain(|account| account.facts.name.to_lowercase().contains(&name));
    answer(call, accounts).await
}

/// Accounts whose available or ledger balance is this.
pub(crate) async fn get_by_balance(call: &Call) -> Answer {
    const BALANCE: crate::input::Names<'_> = &["balance", "value", "amount"];
    let wanted = call.input.amount(BALANCE)?;
    let wanted = wanted.ok_or_else(|| Refusal::field("balance", "is required"))?;
    let mut accounts = scope::app(call).await?;
    accounts.retain(|account| {
        let wanted = Money::parse(&wanted, account.facts.currency).ok();
        let is = |balance: &BalanceFacts| [balance.available, balance.ledger].contains(&wanted);
        wanted.is_some() && account.balance.as_ref().is_some_and(is)
    });
    answer(call, accounts).await
}

/// `products/accounts`: all of the app's, in an envelope of their own.
pub(crate) async fn all(call: &Call) -> Answer {
    let end = call.input.page_end()?;
    let accounts = scope::app_until(call, |accounts| accounts.len() >= end).await?;
    let page = call.input.page(accounts.len())?.cut(accounts);
    let accounts = shown(call, &page).await?;
    let data = ListedAccounts {
        pagination: (),
        accounts,
    };
    success("Accounts retrieved successfully", data)
}

documented! {
    get_by_id(ID) -> Accounts: "One account, in a list.";
    details(ACCOUNT) -> Shown: "One account.";
    get_by_customer(CUSTOMER, PAGE) -> Accounts: "The accounts of a customer.";
    get_by_bank(BANK, optional(CUSTOMER), PAGE) -> Accounts: "The accounts at a bank.";
    get_by_date(optional(CUSTOMER), DATES, PAGE) -> Accounts: "Accounts linked between two days.";
    get_by_customer_date(CUSTOMER, DATES, PAGE) -> Accounts: "A customer's accounts linked between two days.";
    get_by_name(NAME, optional(CUSTOMER), PAGE) -> Accounts: "Accounts whose holder's name has this in it, in any case.";
    get_by_balance(BALANCE, optional(CUSTOMER), PAGE) -> Accounts: "Accounts whose available or ledger balance is this.";
    all(optional(CUSTOMER), PAGE) -> ListedAccounts: "All accounts of the app.";
}
