//! The calls to a bank about a consent that a link needs: an access token that is valid, the accounts that the consent
//! covers, and its terms.
//!
//! The rule: a link does not fail because the terms cannot be read; a consent that ends unannounced is noticed when it
//! has ended. Secrets are sealed before they are stored.

use jiff::{Timestamp, ToSpan};
use okra_connectors::{ConsentSecret, ConsentTerms};
use okra_core::{
    model::{
        bank::BankConfig,
        ids::RecordId,
        snapshot::{AccountFacts, utc_date},
    },
    schedule::consent_clock::ConsentClock,
};
use okra_refresh::open_client_secret;
use okra_store::MAX_ACCOUNTS_PER_RECORD;
use okra_vault::generate_nonce;
use zeroize::Zeroizing;

use crate::{app_scope::AppScope, error::AppError};

impl AppScope {
    /// The consent with an access token that is valid: one that has ended is renewed.
    pub(crate) async fn ensure_access_token(
        &self,
        bank: &BankConfig,
        consent: ConsentSecret,
    ) -> Result<ConsentSecret, AppError> {
        if consent.refresh_token.is_none() {
            return Ok(consent);
        }
        if bank.oauth.is_none() {
            let problem = "cannot be used: the bank is configured without oauth";
            return Err(AppError::invalid_field("refresh_token", problem));
        }
        if !consent.needs_renewal(self.now()) {
            return Ok(consent);
        }
        let services = self.services();
        let client_secret = open_client_secret(&services.vault, bank)?;
        let renewed = services
            .connectors
            .renew_tokens(bank, &client_secret, &consent, self.now());
        Ok(renewed.await?)
    }

    /// What the bank says of the accounts that a consent covers; 1 to [`MAX_ACCOUNTS_PER_RECORD`].
    pub(crate) async fn fetch_account_facts(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
    ) -> Result<Vec<AccountFacts>, AppError> {
        let connectors = &self.services().connectors;
        let facts = connectors.fetch_accounts(bank, consent, self.now()).await?;
        if facts.is_empty() || facts.len() > MAX_ACCOUNTS_PER_RECORD {
            let problem = format!(
                "covers {} accounts; 1 to {MAX_ACCOUNTS_PER_RECORD} can be linked",
                facts.len()
            );
            return Err(AppError::invalid_field("access_token", problem));
        }
        Ok(facts)
    }

    /// The terms of a consent, where the bank can be asked for them.
    pub(crate) async fn fetch_consent_terms(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
    ) -> Result<Option<ConsentTerms>, AppError> {
        let Some(id) = consent.consent_id.as_ref().filter(|_| bank.oauth.is_some()) else {
            return Ok(None);
        };
        let (services, now) = (self.services(), self.now());
        let client_secret = open_client_secret(&services.vault, bank)?;
        let terms = services
            .connectors
            .fetch_consent_terms(bank, &client_secret, id, now);
        match terms.await {
            Ok(terms) => Ok(Some(terms)),
            Err(fault) => {
                tracing::warn!(
                    bank.id = %bank.id,
                    fault.class = fault.class.as_str(),
                    fault.detail,
                    "the terms of a consent could not be read; the record is linked without them"
                );
                Ok(None)
            }
        }
    }

    /// A consent, sealed for its record.
    pub(crate) fn seal_consent(
        &self,
        record: RecordId,
        consent: &ConsentSecret,
    ) -> Result<Vec<u8>, AppError> {
        let plain = Zeroizing::new(serde_json::to_vec(consent)?);
        let vault = &self.services().vault;
        Ok(vault.seal_secret(record.as_bytes(), &plain, generate_nonce()?)?)
    }
}

/// The clock of a consent that begins now: it ends when the bank says, or else when the app says.
pub(crate) fn start_consent_clock(
    bank_terms: Option<ConsentTerms>,
    app_expiry: Option<Timestamp>,
    now: Timestamp,
) -> Option<ConsentClock> {
    let expires_at = bank_terms
        .and_then(|terms| terms.expires_at)
        .or(app_expiry)?;
    Some(ConsentClock::start_at(expires_at, now))
}

/// Months of backfill that a consent allows, `requested_months` at most.
pub(crate) fn limit_backfill_months(
    bank_terms: Option<ConsentTerms>,
    requested_months: u8,
    now: Timestamp,
) -> u8 {
    let Some(from) = bank_terms.and_then(|terms| terms.transactions_from) else {
        return requested_months;
    };
    let today = utc_date(now);
    // Dates saturate at the beginning of the calendar.
    let allowed = (0..requested_months)
        .find(|&months| today.saturating_sub(i32::from(months).months()) <= from);
    allowed.unwrap_or(requested_months)
}
