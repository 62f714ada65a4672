//! Access tokens that end before their consent does: renewed before a call, or after the bank refused
//! one, at most once in a refresh.

use std::time::Duration;

use data_encoding::BASE64;
use jiff::SignedDuration;
use okra_connectors::{
    AccountRef, ConsentSecret, FetchRequest,
    security::{client_secret_owner, requires_secret},
};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    snapshot::{AccountSnapshot, Product, Snapshot},
};
use okra_store::{Consent, Consistency};
use okra_vault::{Vault, VaultError, generate_nonce};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher};

/// How long a claim outlives the deadline of the call it is for.
const RENEWAL_CLAIM_MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// Times the consent is read again while another refresh renews its tokens.
const MAX_CLAIM_WAITS: usize = 10;

/// Pause before each of them.
const CLAIM_WAIT: Duration = Duration::from_millis(200);

/// The status of a token that is not accepted (RFC 6750).
const UNAUTHORIZED: u16 = 401;

/// Our client's secret at a bank; empty where the bank wants none.
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
    let sealed = client.sealed_secret.as_deref().unwrap_or_default();
    let sealed = BASE64
        .decode(sealed.as_bytes())
        .map_err(|_| VaultError::UnknownFormat)?;
    let opened = vault.open_sealed(&client_secret_owner(bank.id), &sealed)?;
    let text = std::str::from_utf8(&opened).map_err(|_| VaultError::UnknownFormat)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Seals our client's secret for [`client_secret`] to open.
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

/// What a record's bank is called with during one refresh.
pub(crate) struct RecordTokens {
    secret: ConsentSecret,
    is_renewed: bool,
}

impl RecordTokens {
    /// What the bank is called with as it is now.
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

    /// Opens a consent and renews its tokens where they are spent; a renewal that failed is the bank's
    /// fault.
    pub(crate) async fn open_fresh_tokens(
        &self,
        bank: &BankConfig,
        consent: &Consent,
    ) -> Result<Result<RecordTokens, BankFault>, RefreshError> {
        let mut tokens = self.open_tokens(consent)?;
        if tokens.can_renew(bank)
            && tokens.secret.needs_renewal(self.clock.now())
            && let Err(fault) = self.renew_tokens(bank, consent, &mut tokens).await?
        {
            return Ok(Err(fault));
        }
        Ok(Ok(tokens))
    }

    fn open_consent(&self, consent: &Consent) -> Result<ConsentSecret, RefreshError> {
        let secret = self
            .vault
            .open_sealed(consent.record.as_bytes(), &consent.sealed_secret)?;
        serde_json::from_slice(&secret).map_err(RefreshError::Consent)
    }

    /// What the bank says, with tokens that are renewed where it takes that. A renewal that failed
    /// stands in the place of the refusal it was for: whether the user has to act is for the
    /// authorisation server to say.
    pub(crate) async fn fetch_with_renewal(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
        accounts: &[AccountRef<'_>],
        request: FetchRequest<'_>,
    ) -> Result<Snapshot, RefreshError> {
        if tokens.can_renew(bank)
            && tokens.secret.needs_renewal(request.now)
            && let Err(fault) = self.renew_tokens(bank, consent, tokens).await?
        {
            return Ok(snapshot_from_fault(&fault, accounts, request.products));
        }
        let mut snapshot = self
            .connectors
            .fetch_snapshot(bank, &tokens.secret, accounts, request)
            .await;
        if tokens.can_renew(bank) && unauthorized_faults(&mut snapshot).next().is_some() {
            match self.renew_tokens(bank, consent, tokens).await? {
                Ok(()) => {
                    let secret = &tokens.secret;
                    return Ok(self
                        .connectors
                        .fetch_snapshot(bank, secret, accounts, request)
                        .await);
                }
                Err(fault) => {
                    for refusal in unauthorized_faults(&mut snapshot) {
                        refusal.clone_from(&fault);
                    }
                }
            }
        }
        Ok(snapshot)
    }

    /// Renews the tokens and stores them; one refresh at a time does so for a record, and the others
    /// take what it stored.
    async fn renew_tokens(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
    ) -> Result<Result<(), BankFault>, RefreshError> {
        tokens.is_renewed = true;
        let unavailable = |detail: &str| {
            let class = FaultClass::BankUnavailable;
            Ok(Err(BankFault::new(class, detail)))
        };
        let life =
            SignedDuration::from_millis(bank.limits.deadline_ms.into()) + RENEWAL_CLAIM_MARGIN;
        for _ in 0..MAX_CLAIM_WAITS {
            let now = self.clock.now();
            if self
                .store
                .claim_token_renewal(consent, now, now.saturating_add(life).unwrap_or(now))
                .await?
            {
                return self.exchange_refresh_token(bank, consent, tokens).await;
            }
            let current = self
                .store
                .find_consent(consent.record, Consistency::Strong)
                .await?;
            match current {
                None => return unavailable("the consent was removed during the refresh"),
                Some(current) if current.sealed_secret != consent.sealed_secret => {
                    tokens.secret = self.open_consent(&current)?;
                    return Ok(Ok(()));
                }
                Some(_) => tokio::time::sleep(CLAIM_WAIT).await,
            }
        }
        unavailable("another refresh is renewing the token")
    }

    /// Spends the refresh token. The answer is stored before it is used: a bank that replaces refresh
    /// tokens knows only the new one from now on.
    async fn exchange_refresh_token(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut RecordTokens,
    ) -> Result<Result<(), BankFault>, RefreshError> {
        let client_secret = open_client_secret(&self.vault, bank)?;
        let now = self.clock.now();
        let renewed = self
            .connectors
            .renew_tokens(bank, &client_secret, &tokens.secret, now);
        let renewed = match renewed.await {
            Ok(renewed) => renewed,
            Err(fault) => {
                if fault.class == FaultClass::Internal {
                    tracing::error!(bank = %bank.id, fault.detail, "a bank refuses our client");
                }
                return Ok(Err(fault));
            }
        };
        let plain = Zeroizing::new(serde_json::to_vec(&renewed).map_err(RefreshError::Consent)?);
        let sealed =
            self.vault
                .seal_secret(consent.record.as_bytes(), &plain, generate_nonce()?)?;
        tokens.secret = renewed;
        if !self.store.store_renewed_tokens(consent, &sealed).await? {
            // The user linked again meanwhile, or this is the repetition of a write that had its effect.
            let current = self
                .store
                .find_consent(consent.record, Consistency::Strong)
                .await?;
            if let Some(current) = current {
                tokens.secret = self.open_consent(&current)?;
            }
        }
        Ok(Ok(()))
    }
}

/// The places of a snapshot where the token was refused.
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
    let asked = |product| products.contains(&product);
    let accounts = accounts.iter().map(|account| AccountSnapshot {
        account: account.id,
        balance: asked(Product::Balance).then(|| Err(fault.clone())),
        transactions: asked(Product::Transactions).then(|| Err(fault.clone())),
    });
    Snapshot {
        accounts: accounts.collect(),
    }
}
