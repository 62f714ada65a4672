//! The names around records and accounts ([`DisplayNames`]): of their customers and banks, each read once for a request.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use okra_core::model::{
    ids::{BankId, CustomerId, RecordId},
    snapshot::{ByProduct, Product},
};
use okra_store::{Account, Customer, OwnedBank, RecordHead, RecordStatus};
use okra_wire::{
    account_context::{AccountContext, NamedReference, ResourceIds, ResourceTimes},
    availability::AvailabilityResource,
    record::RecordDetails,
};

use crate::http::{envelope::ApiError, request::ApiRequest};

/// Names by their ids.
#[derive(Default)]
pub(crate) struct DisplayNames {
    customers: HashMap<CustomerId, Arc<Customer>>,
    banks: HashMap<BankId, Arc<OwnedBank>>,
    /// Records whose consent the bank no longer accepts, and since when.
    ended_consents: HashMap<RecordId, Timestamp>,
}

impl DisplayNames {
    /// The names around these accounts.
    pub(crate) async fn load_for_accounts(
        request: &ApiRequest,
        accounts: &[Account],
    ) -> Result<Self, ApiError> {
        let mut names = Self::default();
        for account in accounts {
            names
                .load_names(request, account.customer, account.bank)
                .await?;
        }
        Ok(names)
    }

    /// The same names, with what is known of the accounts' records.
    #[must_use]
    pub(crate) fn with_record_states(mut self, heads: &[RecordHead]) -> Self {
        let waiting = heads.iter().filter(|it| it.status != RecordStatus::Active);
        self.ended_consents
            .extend(waiting.map(|head| (head.record, head.last_changed_at)));
        self
    }

    /// The names around these records.
    pub(crate) async fn load_for_records(
        request: &ApiRequest,
        heads: &[RecordHead],
    ) -> Result<Self, ApiError> {
        let mut names = Self::default();
        for head in heads {
            names.load_names(request, head.customer, head.bank).await?;
        }
        Ok(names)
    }

    async fn load_names(
        &mut self,
        request: &ApiRequest,
        customer: CustomerId,
        bank: BankId,
    ) -> Result<(), ApiError> {
        if !self.customers.contains_key(&customer)
            && let Some(known) = request.scope()?.load_cached_customer(customer).await?
        {
            self.customers.insert(customer, known);
        }
        if !self.banks.contains_key(&bank)
            && let Some(known) = request.services.load_cached_bank(bank).await?
        {
            self.banks.insert(bank, known);
        }
        Ok(())
    }

    /// An account with its names. A customer or bank that was removed has an empty name.
    pub(crate) fn build_origin<'a>(
        &'a self,
        request: &ApiRequest,
        account: &'a Account,
    ) -> Result<AccountContext<'a>, ApiError> {
        let (app, customer) = (
            request.require_app()?,
            self.customers.get(&account.customer),
        );
        let bank = self.banks.get(&account.bank);
        let mut availability = ByProduct::default();
        for (product, state) in account.product_states.iter() {
            *availability.get_mut(product) = AvailabilityResource::from_product_state(state);
        }
        let waiting = self.ended_consents.get(&account.record);
        if let Some(since) = waiting {
            for product in Product::ALL {
                *availability.get_mut(product) =
                    Some(AvailabilityResource::for_revoked_consent(*since));
            }
        }
        if let (None, Some(deletions)) =
            (availability.transactions, &account.checks.pending_deletions)
        {
            availability.transactions =
                Some(AvailabilityResource::for_missing_rows(deletions.since));
        }
        Ok(AccountContext {
            availability,
            is_connected: waiting.is_none(),
            needs_user_present: bank.is_some_and(|it| it.limits.user_present_only),
            ids: ResourceIds {
                app: app.id,
                env: app.environment,
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
    pub(crate) fn name_customer_and_bank(
        &self,
        customer: CustomerId,
        bank: BankId,
    ) -> (NamedReference<CustomerId>, NamedReference<BankId>) {
        let (of_customer, of_bank) = (self.customers.get(&customer), self.banks.get(&bank));
        (
            NamedReference::new(customer, of_customer.map_or("", |it| it.name.as_str())),
            NamedReference::new(bank, of_bank.map_or("", |it| it.name.as_str())),
        )
    }

    /// A record with its names.
    pub(crate) fn build_record_view(
        &self,
        request: &ApiRequest,
        head: &RecordHead,
    ) -> Result<RecordDetails, ApiError> {
        let app = request.require_app()?;
        let (customer, bank) = self.name_customer_and_bank(head.customer, head.bank);
        Ok(RecordDetails {
            record: head.record,
            app: app.id,
            env: app.environment,
            customer,
            bank,
            connection: head.status.as_str(),
            schedule: head.schedule,
            sequence: head.seq,
            is_initially_refreshed: head.is_first_fetched(),
            backfill_months: head.backfill_months,
            currency: None,
            options: head.options.clone(),
            times: ResourceTimes {
                created_at: head.created_at,
                last_updated: head.last_changed_at,
            },
        })
    }
}
