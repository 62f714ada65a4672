//! The names around accounts: of their customers and banks, each read once for a call.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use okra_core::{
    ids::{BankId, CustomerId, RecordId},
    model::{ByProduct, Product},
};
use okra_store::{Account, Customer, Head, OwnedBank, RecordStatus};
use okra_wire::{
    lack::Lack,
    origin::{Ids, Named, Origin, Times},
    record::RecordView,
};

use crate::{call::Call, envelope::Refusal};

/// Names by their ids.
#[derive(Default)]
pub(crate) struct Names {
    customers: HashMap<CustomerId, Arc<Customer>>,
    banks: HashMap<BankId, Arc<OwnedBank>>,
    /// Records whose consent the bank takes no more, and since when.
    waiting: HashMap<RecordId, Timestamp>,
}

impl Names {
    /// The names around these accounts.
    pub(crate) async fn of_accounts(call: &Call, accounts: &[Account]) -> Result<Self, Refusal> {
        let mut names = Self::default();
        for account in accounts {
            names.learn(call, account.customer, account.bank).await?;
        }
        Ok(names)
    }

    /// The same names, with what is known of the accounts' records.
    #[must_use]
    pub(crate) fn with_states(mut self, heads: &[Head]) -> Self {
        let waiting = heads.iter().filter(|it| it.status != RecordStatus::Active);
        self.waiting
            .extend(waiting.map(|head| (head.record, head.last_changed_at)));
        self
    }

    /// The names around these records.
    pub(crate) async fn of_records(call: &Call, heads: &[Head]) -> Result<Self, Refusal> {
        let mut names = Self::default();
        for head in heads {
            names.learn(call, head.customer, head.bank).await?;
        }
        Ok(names)
    }

    async fn learn(
        &mut self,
        call: &Call,
        customer: CustomerId,
        bank: BankId,
    ) -> Result<(), Refusal> {
        if !self.customers.contains_key(&customer)
            && let Some(known) = call.named_customer(customer).await?
        {
            self.customers.insert(customer, known);
        }
        if !self.banks.contains_key(&bank)
            && let Some(known) = call.named_bank(bank).await?
        {
            self.banks.insert(bank, known);
        }
        Ok(())
    }

    /// An account with its names. What has none, because it is gone, has empty ones.
    pub(crate) fn origin<'a>(
        &'a self,
        call: &Call,
        account: &'a Account,
    ) -> Result<Origin<'a>, Refusal> {
        let (app, customer) = (call.app()?, self.customers.get(&account.customer));
        let bank = self.banks.get(&account.bank);
        let mut lacks = ByProduct::default();
        for (product, state) in account.states.iter() {
            *lacks.slot(product) = Lack::of(state);
        }
        let waiting = self.waiting.get(&account.record);
        if let Some(since) = waiting {
            for product in Product::ALL {
                *lacks.slot(product) = Some(Lack::of_consent(*since));
            }
        }
        if let (None, Some(doubt)) = (lacks.transactions, &account.checks.doubt) {
            lacks.transactions = Some(Lack::of_rows(doubt.since));
        }
        Ok(Origin {
            lacks,
            connected: waiting.is_none(),
            needs_user: bank.is_some_and(|it| it.limits.user_present_only),
            ids: Ids {
                app: app.id,
                env: app.env,
                record: account.record,
                customer: account.customer,
                bank: account.bank,
                account: account.id,
            },
            customer_name: customer.map_or("", |it| it.name.as_str()),
            customer_email: customer.and_then(|it| it.email.as_deref()),
            bank_name: bank.map_or("", |it| it.name.as_str()),
            bank_slug: bank.map_or("", |it| it.slug.as_str()),
            facts: &account.facts,
            drift: account
                .checks
                .tie_out
                .as_ref()
                .and_then(|tie| tie.drift.as_ref()),
        })
    }

    /// A customer and a bank with their names.
    pub(crate) fn named(
        &self,
        customer: CustomerId,
        bank: BankId,
    ) -> (Named<CustomerId>, Named<BankId>) {
        let (of_customer, of_bank) = (self.customers.get(&customer), self.banks.get(&bank));
        (
            Named::new(customer, of_customer.map_or("", |it| it.name.as_str())),
            Named::new(bank, of_bank.map_or("", |it| it.name.as_str())),
        )
    }

    /// A record with its names.
    pub(crate) fn record(&self, call: &Call, head: &Head) -> Result<RecordView, Refusal> {
        let app = call.app()?;
        let (customer, bank) = self.named(head.customer, head.bank);
        Ok(RecordView {
            record: head.record,
            app: app.id,
            env: app.env,
            customer,
            bank,
            connection: head.status.as_str(),
            schedule: head.schedule,
            sequence: head.seq,
            pulled: head.is_pulled(),
            months: head.months,
            currency: None,
            options: head.options.clone(),
            times: Times {
                created_at: head.created_at,
                last_updated: head.last_changed_at,
            },
        })
    }
}
