//! Parts of bodies about a record's authorisation and about a linked account.

use okra_core::{
    model::{
        ids::{AccountId, BankId, CustomerId, RecordId},
        money::Currency,
        snapshot::{AccountFacts, Environment},
    },
    sync::feed::FeedEntry,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::context::EventContext;
use crate::scalar::IsoInstant;

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(super) struct AuthBody {
    #[serde(rename = "clientId")]
    client_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    status: bool,
    reauth: bool,
    record: RecordId,
    data: Map<String, Value>,
}

impl AuthBody {
    /// `status` says that the record is refreshed, `reauth` that the user should authorise it again.
    pub(super) fn new(entry: &FeedEntry, status: bool, reauth: bool) -> Self {
        Self {
            client_id: format!(
                "okr-{}-{}",
                entry.committed_at.as_millisecond(),
                entry.record
            ),
            kind: "validate",
            status,
            reauth,
            record: entry.record,
            data: Map::new(),
        }
    }
}

/// Both bodies that receivers were seen to read, in one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(super) struct AccountBody<'a> {
    _id: AccountId,
    account: AccountId,
    #[serde(rename = "accountId")]
    account_id: AccountId,
    bank: BankId,
    customer: CustomerId,
    env: Environment,
    name: &'a str,
    nuban: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    currency: Currency,
    status: &'static str,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

pub(super) fn account_body<'a>(
    context: &EventContext<'_>,
    entry: &FeedEntry,
    id: AccountId,
    facts: &'a AccountFacts,
) -> AccountBody<'a> {
    AccountBody {
        _id: id,
        account: id,
        account_id: id,
        bank: context.bank,
        customer: context.customer,
        env: context.env,
        name: &facts.name,
        nuban: &facts.number,
        kind: &facts.kind,
        currency: facts.currency,
        status: "Active",
        created_at: IsoInstant(entry.committed_at),
        last_updated: IsoInstant(entry.committed_at),
    }
}
