//! The banks of an app: those that it adds for itself ([`AddBankRequest`]) and removes.
//!
//! The rule: a bank that an app adds is that app's alone. Its customers are sent to the bank's page and its consents to
//! the bank's address, so an app that could set those for another would receive that app's. Client secrets are sealed.

use okra_connectors::security::requires_secret;
use okra_core::model::{bank::BankConfig, ids::BankId};
use okra_refresh::seal_client_secret;
use okra_store::RecordStatus;
use zeroize::Zeroizing;

use crate::{app_scope::AppScope, error::AppError};

/// Most records of the app that are looked through before one of its banks is removed.
const MAX_RECORDS_CHECKED: usize = 20_000;

/// Records of one read of the store.
const RECORDS_PER_READ: usize = 100;

const BANK_TAKEN: AppError = AppError::Conflict("There is another bank with that id or slug");

/// A bank to add, or to replace.
pub struct AddBankRequest {
    /// Its configuration, which the caller has checked, without a sealed secret.
    pub bank: BankConfig,
    /// The secret of our client there; empty where the client has none.
    pub client_secret: Zeroizing<String>,
}

impl AppScope {
    /// Adds a bank that only this app sees and uses, or replaces it. Returns it as it is stored.
    ///
    /// # Errors
    ///
    /// [`AppError::Conflict`] where another bank has its id or slug, [`AppError::LimitReached`] for one bank too many.
    pub async fn add_bank(&self, request: AddBankRequest) -> Result<BankConfig, AppError> {
        let (app, mut bank) = (self.app().id, request.bank);
        let banks = self.store().list_banks().await?;
        let is_taken = banks.iter().any(|it| {
            let is_of_other = it.app != Some(app);
            (it.id == bank.id && is_of_other)
                || (it.id != bank.id && it.slug == bank.slug && it.is_visible_to(Some(app)))
        });
        if is_taken {
            return Err(BANK_TAKEN);
        }
        let services = self.services();
        if let Some(client) = bank.oauth.as_mut().filter(|it| requires_secret(it)) {
            let sealed = seal_client_secret(&services.vault, bank.id, &request.client_secret)?;
            client.sealed_secret = Some(sealed);
        }
        // Another may have taken the id meanwhile.
        if !self.store().put_bank_of_app(app, &bank).await? {
            return Err(BANK_TAKEN);
        }
        services.cache().forget_banks();
        Ok(bank)
    }

    /// Removes a bank of the app at which none of its records is linked. Returns it as it was.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the bank is not the app's, [`AppError::Conflict`] where records are linked there.
    pub async fn remove_bank(&self, id: BankId) -> Result<BankConfig, AppError> {
        let (app, store) = (self.app().id, self.store());
        let bank = store.find_owned_bank(id).await?;
        let bank = bank.filter(|bank| bank.app == Some(app));
        let bank = bank.ok_or(AppError::NotFound { what: "bank" })?;
        self.check_no_linked_records(id).await?;
        if !store.delete_bank_of_app(app, id).await? {
            return Err(AppError::NotFound { what: "bank" });
        }
        self.services().cache().forget_banks();
        Ok(bank.config)
    }

    async fn check_no_linked_records(&self, bank: BankId) -> Result<(), AppError> {
        let mut after = None;
        for _ in 0..MAX_RECORDS_CHECKED / RECORDS_PER_READ {
            let page = self
                .store()
                .list_records_of_app(self.app().id, after, RECORDS_PER_READ)
                .await?;
            let mut heads = page.items.iter();
            if heads.any(|head| head.bank == bank && head.status != RecordStatus::Invalid) {
                return Err(AppError::Conflict(
                    "Records are linked at that bank: unlink them first",
                ));
            }
            after = page.next_cursor;
            if after.is_none() {
                return Ok(());
            }
        }
        Err(AppError::Conflict(
            "The app has too many records to check that none is linked at that bank",
        ))
    }
}
