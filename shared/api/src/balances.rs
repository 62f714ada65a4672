//! Balances, in the form of `balance/getBy*`.

use okra_core::{
    ids::{BalanceId, CustomerId, RecordId},
    model::{BalanceFacts, date_of},
    money::Money,
};
use okra_store::{Account, Consistency, Head};
use okra_wire::{
    balance::{Balance, CallbackBalance, ListedBalance, TypedBalance},
    envelope::Pagination,
    origin::{Origin, Times},
};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::CUSTOMER,
    names::Names,
    scope,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Balances {
    pagination: Pagination,
    balance: Vec<Balance>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TypedBalances {
    pagination: Pagination,
    balance: Vec<TypedBalance>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ListedBalances {
    pagination: (),
    balances: Vec<ListedBalance>,
}

/// Balances in one of Okra's forms; accounts whose bank has not stated one yet have none.
async fn shown<T>(
    call: &Call,
    accounts: &[Account],
    heads: &[Head],
    form: fn(&Origin<'_>, &BalanceFacts, Times) -> T,
) -> Result<Vec<T>, Refusal> {
    let names = Names::of_accounts(call, accounts).await?.with_states(heads);
    let mut balances = Vec::with_capacity(accounts.len());
    for account in accounts {
        if let Some(facts) = &account.balance {
            let times = Times {
                created_at: account.created_at,
                last_updated: account.balance_at.unwrap_or(account.last_updated),
            };
            balances.push(form(&names.origin(call, account)?, facts, times));
        }
    }
    Ok(balances)
}

/// Balances as callback data has them, of a record that the bank has just answered.
pub(crate) async fn for_callback(
    call: &Call,
    accounts: &[Account],
) -> Result<Vec<CallbackBalance>, Refusal> {
    of_records(call, &[], accounts).await
}

/// Balances of records as callback data has them.
pub(crate) async fn of_records(
    call: &Call,
    heads: &[Head],
    accounts: &[Account],
) -> Result<Vec<CallbackBalance>, Refusal> {
    shown(call, accounts, heads, CallbackBalance::new).await
}

fn known(mut accounts: Vec<Account>) -> Vec<Account> {
    accounts.retain(|account| account.balance.is_some());
    accounts
}

async fn answer(call: &Call, accounts: Vec<Account>) -> Answer {
    let accounts = known(accounts);
    let pagination = call.input.page(accounts.len())?;
    answer_page(call, pagination, accounts).await
}

async fn answer_page(call: &Call, pagination: Pagination, accounts: Vec<Account>) -> Answer {
    call.input.refuse_pdf()?;
    let mut balance = shown(call, &pagination.cut(accounts), &[], Balance::new).await?;
    if call.input.denies("includePeriodic") {
        balance = balance.into_iter().map(Balance::without_periodic).collect();
    }
    let data = Balances {
        pagination,
        balance,
    };
    success("Balance retrieved succesfully", data)
}

/// Balances that last changed between two dates.
async fn answer_dated(call: &Call, mut accounts: Vec<Account>) -> Answer {
    let within = call.input.within()?;
    accounts.retain(|account| account.balance_at.map(date_of).is_some_and(&within));
    answer(call, accounts).await
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let id: BalanceId = call.input.needed_id(&["id", "_id", "balance"])?;
    let account = call.own_account(id.account()).await;
    let account = account.map_err(|refusal| refusal.about("balance"))?;
    if account.balance.is_none() {
        return Err(Refusal::not_found("balance"));
    }
    answer_page(call, Pagination::of_one(), vec![account]).await
}

pub(crate) async fn get_by_customer(call: &Call) -> Answer {
    answer(call, scope::customer(call).await?).await
}

pub(crate) async fn get_by_account(call: &Call) -> Answer {
    answer(call, scope::account(call).await?).await
}

pub(crate) async fn get_by_bank(call: &Call) -> Answer {
    answer(call, scope::bank(call).await?).await
}

pub(crate) async fn get_by_options(call: &Call) -> Answer {
    answer(call, scope::options(call).await?).await
}

pub(crate) async fn get_by_date(call: &Call) -> Answer {
    answer_dated(call, scope::app(call).await?).await
}

pub(crate) async fn get_by_customer_date(call: &Call) -> Answer {
    answer_dated(call, scope::customer(call).await?).await
}

/// Balances of which the one named in `type` is `value`; all where there is no value.
pub(crate) async fn get_by_type(call: &Call) -> Answer {
    call.input.refuse_pdf()?;
    let of: fn(&BalanceFacts) -> Option<Money> = match call.input.needed_text(&["type"])?.as_str() {
        "available_balance" => |facts| facts.available.or(facts.ledger),
        "ledger_balance" => |facts| facts.ledger.or(facts.available),
        _ => {
            let problem = "is available_balance or ledger_balance";
            return Err(Refusal::field("type", problem));
        }
    };
    let value = call.input.amount(&["value", "amount"])?;
    let mut accounts = known(scope::app(call).await?);
    accounts.retain(|account| {
        value.as_ref().is_none_or(|value| {
            let wanted = Money::parse(value, account.facts.currency).ok();
            wanted.is_some() && account.balance.as_ref().and_then(of) == wanted
        })
    });
    let pagination = call.input.page(accounts.len())?;
    let balance = shown(call, &pagination.cut(accounts), &[], TypedBalance::new).await?;
    let data = TypedBalances {
        pagination,
        balance,
    };
    success("Balance retrieved succesfully", data)
}

/// Okra's *enhanced* balance of an account. Nothing is derived here: it is the balance itself, of the
/// account asked for, where it last changed between the dates.
pub(crate) async fn process(call: &Call) -> Answer {
    let account = call.account().await?;
    if let Some(customer) = call.input.id::<CustomerId>(CUSTOMER)?
        && customer != account.customer
    {
        return Err(Refusal::not_found("account"));
    }
    answer_dated(call, vec![account]).await
}

/// `products/balances`: all of the app's, in an envelope of their own.
pub(crate) async fn all(call: &Call) -> Answer {
    call.input.refuse_pdf()?;
    let end = call.input.page_end()?;
    let known_count =
        |accounts: &[Account]| accounts.iter().filter(|it| it.balance.is_some()).count();
    let accounts = scope::app_until(call, |accounts| known_count(accounts) >= end);
    let accounts = known(accounts.await?);
    let page = call.input.page(accounts.len())?.cut(accounts);
    // Whether they are connected is a matter of their records.
    let mut records: Vec<RecordId> = page.iter().map(|account| account.record).collect();
    records.sort_unstable();
    records.dedup();
    let heads = call.state.store.heads(&records, Consistency::Eventual);
    let heads = heads.await?;
    let balances = shown(call, &page, &heads, ListedBalance::new).await?;
    let data = ListedBalances {
        pagination: (),
        balances,
    };
    success("Balances retrieved successfully", data)
}

documented! {
    get_by_id(ID) -> Balances: "One balance, in a list.";
    get_by_customer(CUSTOMER, PERIODIC, PAGE) -> Balances: "The balances of a customer.";
    get_by_account(ACCOUNT, PAGE) -> Balances: "The balance of an account.";
    get_by_bank(BANK, optional(CUSTOMER), PAGE) -> Balances: "The balances at a bank.";
    get_by_options(OPTIONS, optional(CUSTOMER), PAGE) -> Balances: "The balances of records linked with these options.";
    get_by_date(optional(CUSTOMER), DATES, PAGE) -> Balances: "Balances that last changed between two days.";
    get_by_customer_date(CUSTOMER, DATES, PAGE) -> Balances: "A customer's balances that last changed between two days.";
    get_by_type(BALANCE_TYPE, VALUE, optional(CUSTOMER), PAGE) -> TypedBalances: "Balances of which one kind has this value.";
    process(ACCOUNT, optional(CUSTOMER), DATES, PAGE) -> Balances: "The balance of an account; nothing is derived from it.";
    all(optional(CUSTOMER), PAGE) -> ListedBalances: "All balances of the app.";
}
