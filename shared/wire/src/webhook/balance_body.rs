//! The balance of a `balance.success`.

use okra_core::{
    model::{
        ids::{AccountId, AppId, BalanceId, CustomerId, RecordId},
        money::Currency,
        snapshot::{AccountFacts, BalanceFacts, Environment},
    },
    sync::feed::FeedEntry,
};
use serde::Serialize;

use super::context::EventContext;
use crate::{
    balance::{PeriodicBalance, balance_amounts},
    scalar::{EmptyList, IsoInstant, MajorUnits},
};

/// Both bodies that receivers were seen to read, in one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(super) struct BalanceBody<'a> {
    _id: BalanceId,
    __v: u8,
    #[serde(rename = "accountId")]
    account_id: AccountId,
    account: AccountId,
    customer: CustomerId,
    name: &'a str,
    nuban: &'a str,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_available_balance: Option<MajorUnits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ledger_balance: Option<MajorUnits>,
    currency: Currency,
    status: &'static str,
    env: Environment,
    periodic: PeriodicBalance,
    connected: EmptyList,
    owner: [AppId; 1],
    record: [RecordId; 1],
    projects: EmptyList,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

pub(super) fn balance_body<'a>(
    context: &EventContext<'a>,
    entry: &FeedEntry,
    id: AccountId,
    facts: &'a AccountFacts,
    before: Option<&BalanceFacts>,
    after: &BalanceFacts,
) -> BalanceBody<'a> {
    let (available, ledger) = balance_amounts(after, facts.currency);
    let before = before.map(|before| balance_amounts(before, facts.currency));
    BalanceBody {
        _id: BalanceId::for_account(id),
        __v: 0,
        account_id: id,
        account: id,
        customer: context.customer,
        name: &facts.name,
        nuban: &facts.number,
        available_balance: available,
        ledger_balance: ledger,
        previous_available_balance: before.map(|before| before.0),
        previous_ledger_balance: before.map(|before| before.1),
        currency: facts.currency,
        status: "Active",
        env: context.env,
        periodic: PeriodicBalance::default(),
        connected: EmptyList,
        owner: [context.app],
        record: [entry.record],
        projects: EmptyList,
        created_at: IsoInstant(entry.committed_at),
        last_updated: IsoInstant(entry.committed_at),
    }
}
