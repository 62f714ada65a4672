//! The payload of a record's event: what its kind has beside the envelope.

use okra_core::{
    model::{
        fault::FaultClass,
        ids::{AccountId, BalanceId, TransactionId},
        snapshot::Product,
    },
    sync::{
        feed::{Change, FeedEntry, TransactionsDiff},
        state::{ProductChange, StateChange},
    },
};
use serde::Serialize;

use super::{
    account_bodies::{AccountBody, AuthBody, account_body},
    balance_body::{BalanceBody, balance_body},
    context::EventContext,
    transaction_bodies::ModifiedTransactionBody,
};
use crate::{
    account_context::{ResourceIds, ResourceTimes},
    drift::DriftResource,
    scalar::IsoInstant,
    transaction::TransactionResource,
};

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum EventPayload<'a> {
    Auth {
        auth: AuthBody,
    },
    Expiring {
        auth: AuthBody,
        expires_at: IsoInstant,
        days_left: u8,
    },
    Account {
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<AccountBody<'a>>,
    },
    Product {
        product: Product,
        data_status: &'static str,
        reason: Option<&'static str>,
        since: IsoInstant,
    },
    Drift {
        /// Null: they agree again.
        drift: Option<DriftResource>,
    },
    BackfillComplete {
        new_transactions: u64,
        #[serde(rename = "newTransactions")]
        new_transactions_camel: u64,
        oldest_date: String,
        history_end: &'static str,
    },
    Balance {
        #[serde(skip_serializing_if = "Option::is_none")]
        balance: Option<BalanceBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        balance_id: Option<BalanceId>,
    },
    Transactions {
        new_transactions: usize,
        #[serde(rename = "newTransactions")]
        new_transactions_camel: usize,
        added_transactions: Vec<TransactionId>,
        modified_transactions: Vec<ModifiedTransactionBody<'a>>,
        removed_transactions: Vec<TransactionId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        transactions: Option<Vec<TransactionResource>>,
    },
}

impl<'a> EventPayload<'a> {
    /// The payload of a feed entry's event.
    pub(super) fn for_entry(context: &EventContext<'a>, entry: &'a FeedEntry) -> Self {
        match &entry.change {
            Change::State(change) => Self::for_state_change(context, entry, change),
            Change::Balance { before, after } => Self::Balance {
                balance: context
                    .account_with_facts(entry)
                    .filter(|_| context.is_full())
                    .map(|(id, facts)| {
                        balance_body(context, entry, id, facts, before.as_ref(), after)
                    }),
                balance_id: entry.account.map(BalanceId::for_account),
            },
            Change::Transactions(diff) => Self::for_transactions(context, entry, diff),
        }
    }

    fn for_state_change(
        context: &EventContext<'a>,
        entry: &FeedEntry,
        change: &StateChange,
    ) -> Self {
        match change {
            StateChange::Linked | StateChange::Recovered => Self::Auth {
                auth: AuthBody::new(entry, true, false),
            },
            StateChange::ReauthorisationRequired { .. } => Self::Auth {
                auth: AuthBody::new(entry, false, true),
            },
            StateChange::Unlinked => Self::Auth {
                auth: AuthBody::new(entry, false, false),
            },
            StateChange::ConsentExpiring {
                expires_at,
                days_before,
            } => Self::Expiring {
                auth: AuthBody::new(entry, true, true),
                expires_at: IsoInstant(*expires_at),
                days_left: *days_before,
            },
            StateChange::AccountLinked => Self::Account {
                account: context
                    .account_with_facts(entry)
                    .map(|(id, facts)| account_body(context, entry, id, facts)),
            },
            StateChange::Product(ProductChange {
                product,
                availability,
                class,
            }) => Self::Product {
                product: *product,
                data_status: availability.as_str(),
                reason: class.map(FaultClass::as_str),
                since: IsoInstant(entry.committed_at),
            },
            StateChange::BackfillComplete(backfill) => Self::BackfillComplete {
                new_transactions: backfill.rows,
                new_transactions_camel: backfill.rows,
                oldest_date: backfill.oldest_date.to_string(),
                history_end: backfill.end_reason.as_str(),
            },
            StateChange::Drift { drift } => Self::Drift {
                drift: drift.as_ref().map(DriftResource::from),
            },
        }
    }

    fn for_transactions(
        context: &EventContext<'a>,
        entry: &'a FeedEntry,
        diff: &'a TransactionsDiff,
    ) -> Self {
        let modified = diff.modified.iter();
        Self::Transactions {
            new_transactions: diff.added.len(),
            new_transactions_camel: diff.added.len(),
            added_transactions: diff.added.iter().map(|row| row.id).collect(),
            modified_transactions: modified
                .map(|row| ModifiedTransactionBody::new(row, context.is_full()))
                .collect(),
            removed_transactions: diff.removed.iter().map(|row| row.id).collect(),
            transactions: entry
                .account
                .filter(|_| context.is_full())
                .map(|account| list_changed_rows(context, entry, diff, account)),
        }
    }
}

/// The added and the modified transactions, as they are now.
fn list_changed_rows(
    context: &EventContext<'_>,
    entry: &FeedEntry,
    diff: &TransactionsDiff,
    account: AccountId,
) -> Vec<TransactionResource> {
    let ids = ResourceIds {
        app: context.app,
        env: context.env,
        record: entry.record,
        customer: context.customer,
        bank: context.bank,
        account,
    };
    let times = ResourceTimes::at_instant(entry.committed_at);
    let modified = diff.modified.iter().map(|modified| &modified.after);
    diff.added
        .iter()
        .chain(modified)
        .map(|row| TransactionResource::with_plain_ids(ids, row, times))
        .collect()
}
