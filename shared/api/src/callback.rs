//! The pull half of webhooks and refreshes: `callback?record=..&method=..`.

use axum::http::StatusCode;
use okra_core::{ids::Seq, model::Product};
use okra_store::{Account, RecordStatus};
use okra_wire::{
    callback::{Callback, Family, Resource},
    envelope::MAX_LIMIT,
    record::{Auth, Status},
    scalar::Instant,
};

use crate::{
    accounts, balances,
    call::Call,
    envelope::{Answer, Refusal, success},
    jobs::Last,
    names::Names,
    scope, transactions,
};

/// Methods that Okra had and this system does not.
const NOT_HERE: [&str; 2] = ["IDENTITY", "INCOME"];

/// What is known of a record, of one of Okra's methods. Receivers read all of it in one go, so a page
/// is as long as it can be unless they ask for less; transactions come newest first.
pub(crate) async fn callback(call: &Call) -> Answer {
    let head = call.record().await?;
    let method = call.input.needed_text(&["method"])?;
    if NOT_HERE.iter().any(|it| method.eq_ignore_ascii_case(it)) {
        let message = format!("{method} is not part of this system, which syncs bank data");
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "NOT_IMPLEMENTED",
            message,
        ));
    }
    let (method, family) = Family::of_method(&method).ok_or_else(|| {
        let known = Family::METHODS.map(|(name, _)| name).join(", ");
        Refusal::field("method", format!("is one of {known}"))
    })?;
    let accounts = || scope::accounts_of(call, std::slice::from_ref(&head));
    let page = |total| call.input.page_of(total, MAX_LIMIT);
    let pulled = |product| {
        let mark = head.marks.get(product).copied().unwrap_or_default();
        mark.digest.is_some() || mark.seq > Seq::ZERO
    };
    let product = match family {
        Family::Balance => Some(Product::Balance),
        Family::Transactions => Some(Product::Transactions),
        Family::Auth | Family::Accounts => None,
    };
    // Before the data, so that a refresh that is told to be done is in it. None asks for the accounts.
    let last = match family {
        Family::Accounts => Last::default(),
        _ => Last::of(call, head.record, product).await?,
    };
    let (mut had, mut lacking) = (last.answered_at, last.failed_at);
    let mut of_accounts = |accounts: &[Account], product| {
        let states = accounts.iter().filter_map(|it| it.states.get(product));
        let lacks = states.filter(|state| !state.is_available());
        lacking = lacking.max(lacks.map(|state| state.since).max());
    };
    let (completed, latest, resource) = match family {
        Family::Auth => {
            let names = Names::of_records(call, std::slice::from_ref(&head)).await?;
            let auth = Auth::from(&names.record(call, &head)?);
            (true, None, Resource::Auth { auth })
        }
        Family::Accounts => {
            let accounts = accounts().await?;
            let page = page(accounts.len())?;
            let shown = accounts::shown(call, &page.cut(accounts)).await?;
            (true, None, Resource::accounts(shown, page))
        }
        Family::Balance => {
            let accounts = accounts().await?;
            of_accounts(&accounts, Product::Balance);
            had = had.max(accounts.iter().filter_map(|it| it.balance_at).max());
            let page = page(accounts.len())?;
            let shown =
                balances::of_records(call, std::slice::from_ref(&head), &page.cut(accounts))
                    .await?;
            let resource = Resource::balances(shown, page);
            (pulled(Product::Balance), None, resource)
        }
        Family::Transactions => {
            let accounts = accounts().await?;
            of_accounts(&accounts, Product::Transactions);
            let whole = transactions::Whole::Yes;
            let page = transactions::page_of_rows(call, accounts, whole, MAX_LIMIT);
            let (pagination, rows) = page.await?;
            had = had.max(rows.iter().map(|(_, row)| row.last_updated).max());
            let latest = rows.first().map(|(_, row)| row.transaction.facts.booked_at);
            let transactions = transactions::for_callback(call, &pagination.cut(rows))?;
            let resource = Resource::Transactions {
                transactions,
                pagination,
            };
            (pulled(Product::Transactions), latest.map(Instant), resource)
        }
    };
    let status = Status::new(completed, head.status == RecordStatus::Active);
    let status = status.with_runs(had, lacking);
    let status = match last.job {
        Some(job) => status.after(job),
        None => status,
    };
    let data = Callback::new(method, head.record, status, latest, resource);
    success("Data retrieved successfully", data)
}

documented! {
    callback(RECORD, METHOD, PAGE) -> Callback: "What is known of a record, of one of Okra's methods.";
}
