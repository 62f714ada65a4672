//! Access tokens that end before their consent does: renewed before a call, or after the bank rejected
//! one, at most once in a refresh.
//!
//! [`RecordTokens`] is what a record's bank is called with; [`TokenError`] tells a bank's fault from one of our own. The
//! rule: one refresh at a time spends a refresh token, and the answer is stored before it is used.

use std::time::Duration;

use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use okra_connectors::{
    AccountRef, ConsentSecret, FetchRequest,
    security::{client_secret_owner, requires_secret},
};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    snapshot::{AccountSnapshot, Product, Snapshot},
};
use okra_store::{Consent, Consistency, StoreError};
use okra_vault::{Vault, VaultError, generate_nonce};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher};

/// How long the claim of a renewal outlives the deadline of the call it is for.
const RENEWAL_CLAIM_MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// Times the consent is read again while another refresh renews its tokens.
const MAX_CLAIM_WAITS: usize = 10;

/// Pause before each of them.
const CLAIM_WAIT: Duration = Duration::from_millis(200);

/// The status of a token that is not accepted (RFC 6750).
const UNAUTHORIZED: u16 = 401;

/// Our client's secret at a bank; empty where the bank requires none.
///
/// # Errors
///
/// [`VaultError`] where it is missing or cannot be opened.
pub fn open_client_secret(
    vault: &Vault,
    bank: &BankConfig,
) -> Result<Zeroizing<String>, VaultError> {
    let Some(client) = bank.oauth.as_ref().filter(|client| requires_secret(client)) else {
        return Ok(Zeroizing::default());
    };
    let sealed = client
        .sealed_secret
        .as_deref()
        .ok_or(VaultError::UnknownFormat)?;
    let sealed = BASE64
        .decode(sealed.as_bytes())
        .map_err(|_| VaultError::UnknownFormat)?;
    let opened = vault.open_sealed(&client_secret_owner(bank.id), &sealed)?;
    let text = std::str::from_utf8(&opened).map_err(|_| VaultError::UnknownFormat)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Seals our client's secret for [`open_client_secret`] to open.
///
/// # Errors
///
/// [`VaultError`].
pub fn seal_client_secret(
    vault: &Vault,
    bank: okra_core::model::ids::BankId,
    secret: &str,
) -> Result<String, VaultError> {
    let sealed = vault.seal_secret(
        &client_secret_owner(bank),
        secret.as_bytes(),
        generate_nonce()?,
    )?;
    Ok(BASE64.encode(&sealed))
}

/// Why a record's tokens could not be renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The bank's authorisation server did not renew them.
    #[error("the bank did not renew the tokens")]
    Bank(#[from] BankFault),
    /// A fault of our own.
    #[error("the tokens could not be renewed")]
    Refresh(#[from] RefreshError),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Refresh(error.into())
    }
}

impl From<VaultError> for TokenError {
    fn from(error: VaultError) -> Self {
        Self::Refresh(error.into())
    }
}

/// What a record's bank is called with during one refresh.
pub(crate) struct RecordTokens {
    secret: ConsentSecret,
    is_renewed: bool,
}

impl RecordTokens {
    /// The secret as it is now.
    pub(crate) const fn consent_secret(&self) -> &ConsentSecret {
        &self.secret
    }

    fn can_renew(&self, bank: &BankConfig) -> bool {
        !self.is_renewed && bank.oauth.is_some() && self.secret.refresh_token.is_some()
    }
}

impl Refresher {
    /// Opens a consent.
    pub(crate) fn open_tokens(&self, consent: &Consent) -> Result<RecordTokens, RefreshError> {
        Ok(RecordTokens {
            secret: self.open_consent(consent)?,
            is_renewed: false,
        })
    }

    /// Opens a consent and renews its tokens where they are spent.
    pub(crate) async fn open_fresh_tokens(
        &self,
        bank: &BankConfig,
        consent: &Consent,
    ) -> Result<RecordTokens, TokenError> {
        let mut tokens = self.open_tokens(consent)?;
        if tokens.can_renew(bank) && tokens.secret.needs_renewal(self.clock.now()) {
            self.renew_tokens(bank, consent, &mut tokens).await?;
        }
        Ok(tokens)
    }

    fn open_consent(&self, consent: &Consent) -> Result<ConsentSecret, RefreshError> {
        let secret = self
            .vault
            .open_sealed(consent.record.as_bytes(), &consent.sealed_secret)?;
        serde_json::from_slice(&secret).map_err(RefreshError::Consent)
    }

    /// Fetches a snapshot, with renewed tokens where that takes it. A renewal that failed stands in the place of the
    /// rejection it was for: whether the user has to act is for the authorisation server to say.
    #[tracing::instrument(level = "debug", name = "bank_call", skip_all, fields(bank.id = %bank.id, record.id = %consent.record))]
    pub(crate) async fn fetch_with_renewal(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
        accounts: &[AccountRef<'_>],
        request: FetchRequest<'_>,
    ) -> Result<Snapshot, RefreshError> {
        if tokens.can_renew(bank) && tokens.secret.needs_renewal(request.now) {
            match self.renew_tokens(bank, consent, tokens).await {
                Ok(()) => {}
                Err(TokenError::Bank(fault)) => {
                    return Ok(snapshot_from_fault(&fault, accounts, request.products));
                }
                Err(TokenError::Refresh(error)) => return Err(error),
            }
        }
        let mut snapshot = self
            .connectors
            .fetch_snapshot(bank, &tokens.secret, accounts, request)
            .await;
        if !tokens.can_renew(bank) || unauthorized_faults(&mut snapshot).next().is_none() {
            return Ok(snapshot);
        }
        match self.renew_tokens(bank, consent, tokens).await {
            Ok(()) => Ok(self
                .connectors
                .fetch_snapshot(bank, &tokens.secret, accounts, request)
                .await),
            Err(TokenError::Bank(fault)) => {
                for rejection in unauthorized_faults(&mut snapshot) {
                    rejection.clone_from(&fault);
                }
                Ok(snapshot)
            }
            Err(TokenError::Refresh(error)) => Err(error),
        }
    }

    /// Renews the tokens and stores them; one refresh at a time does so for a record, and the others
    /// take what it stored.
    async fn renew_tokens(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
    ) -> Result<(), TokenError> {
        tokens.is_renewed = true;
        let lifetime =
            SignedDuration::from_millis(bank.limits.deadline_ms.into()) + RENEWAL_CLAIM_MARGIN;
        for _ in 0..MAX_CLAIM_WAITS {
            let now = self.clock.now();
            let until = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
            if self.store.claim_token_renewal(consent, now, until).await? {
                return self.exchange_refresh_token(bank, consent, tokens).await;
            }
            let current = self
                .store
                .find_consent(consent.record, Consistency::Strong)
                .await?;
            match current {
                None => {
                    return Err(unavailable("the consent was removed during the refresh").into());
                }
                Some(current) if current.sealed_secret != consent.sealed_secret => {
                    tokens.secret = self.open_consent(&current)?;
                    return Ok(());
                }
                Some(_) => tokio::time::sleep(CLAIM_WAIT).await,
            }
        }
        Err(unavailable("another refresh is renewing the tokens").into())
    }

    /// Spends the refresh token. The answer is stored before it is used: a bank that replaces refresh
    /// tokens knows only the new one from now on.
    async fn exchange_refresh_token(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
    ) -> Result<(), TokenError> {
        let client_secret = open_client_secret(&self.vault, bank)?;
        let now = self.clock.now();
        let renewed = self
            .connectors
            .renew_tokens(bank, &client_secret, &tokens.secret, now);
        let renewed = match renewed.await {
            Ok(renewed) => renewed,
            Err(fault) => {
                if fault.class == FaultClass::Internal {
                    tracing::error!(
                        bank.id = %bank.id,
                        fault.detail,
                        "A bank rejected our client credentials"
                    );
                }
                return Err(fault.into());
            }
        };
        let plain = Zeroizing::new(serde_json::to_vec(&renewed).map_err(RefreshError::Consent)?);
        let sealed =
            self.vault
                .seal_secret(consent.record.as_bytes(), &plain, generate_nonce()?)?;
        tokens.secret = renewed;
        if !self.store.store_renewed_tokens(consent, &sealed).await? {
            // The user authorised again meanwhile, or this write is the repetition of one that took effect.
            let current = self
                .store
                .find_consent(consent.record, Consistency::Strong)
                .await?;
            if let Some(current) = current {
                tokens.secret = self.open_consent(&current)?;
            }
        }
        Ok(())
    }
}

fn unavailable(detail: &str) -> BankFault {
    BankFault::new(FaultClass::BankUnavailable, detail)
}

/// The faults of a snapshot that say that the bank did not accept the token.
fn unauthorized_faults(snapshot: &mut Snapshot) -> impl Iterator<Item = &mut BankFault> {
    let faults = snapshot.accounts.iter_mut().flat_map(|account| {
        let balance = account.balance.as_mut().and_then(|it| it.as_mut().err());
        let transactions = account.transactions.as_mut();
        [balance, transactions.and_then(|it| it.as_mut().err())]
    });
    faults
        .flatten()
        .filter(|fault| fault.status == Some(UNAUTHORIZED))
}

/// A snapshot that holds nothing but a fault.
pub(crate) fn snapshot_from_fault(
    fault: &BankFault,
    accounts: &[AccountRef<'_>],
    products: &[Product],
) -> Snapshot {
    let (has_balance, has_transactions) = (
        products.contains(&Product::Balance),
        products.contains(&Product::Transactions),
    );
    let accounts = accounts.iter().map(|account| AccountSnapshot {
        account: account.id,
        balance: has_balance.then(|| Err(fault.clone())),
        transactions: has_transactions.then(|| Err(fault.clone())),
    });
    Snapshot {
        accounts: accounts.collect(),
    }
}
