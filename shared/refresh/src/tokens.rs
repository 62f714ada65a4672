//! Access tokens that end before their consent does: renewed before a call, or after the bank refused
//! one, at most once in a refresh.

use std::time::Duration;

use data_encoding::BASE64;
use jiff::SignedDuration;
use okra_banks::{
    AccountRef, Ask, ConsentSecret,
    config::wants_secret,
    oauth::{Grant, secret_owner},
};
use okra_core::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    model::{AccountSnapshot, Product, Snapshot},
};
use okra_store::{Consent, Consistency};
use okra_vault::{Vault, VaultError, fresh_nonce};
use zeroize::Zeroizing;

use crate::{RefreshError, Refresher};

/// How long a claim outlives the deadline of the call it is for.
const CLAIM_MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// Times the consent is read again while another refresh renews its tokens.
const MAX_WAITS: usize = 10;

/// Pause before each of them.
const WAIT: Duration = Duration::from_millis(200);

/// The status of a token that is not accepted (RFC 6750).
const UNAUTHORIZED: u16 = 401;

/// Our client's secret at a bank; empty where the bank wants none.
///
/// # Errors
///
/// [`VaultError`] where it is missing or cannot be opened.
pub fn client_secret(vault: &Vault, bank: &BankConfig) -> Result<Zeroizing<String>, VaultError> {
    let Some(client) = bank.oauth.as_ref().filter(|client| wants_secret(client)) else {
        return Ok(Zeroizing::default());
    };
    let sealed = client.sealed_secret.as_deref().unwrap_or_default();
    let sealed = BASE64
        .decode(sealed.as_bytes())
        .map_err(|_| VaultError::UnknownForm)?;
    let opened = vault.open(&secret_owner(bank.id), &sealed)?;
    let text = std::str::from_utf8(&opened).map_err(|_| VaultError::UnknownForm)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Seals our client's secret for [`client_secret`] to open.
///
/// # Errors
///
/// [`VaultError`].
pub fn seal_client_secret(
    vault: &Vault,
    bank: okra_core::ids::BankId,
    secret: &str,
) -> Result<String, VaultError> {
    let sealed = vault.seal(&secret_owner(bank), secret.as_bytes(), fresh_nonce()?)?;
    Ok(BASE64.encode(&sealed))
}

/// What a record's bank is called with during one refresh.
pub(crate) struct Tokens {
    secret: ConsentSecret,
    renewed: bool,
}

impl Tokens {
    /// What the bank is called with as it is now.
    pub(crate) const fn secret(&self) -> &ConsentSecret {
        &self.secret
    }

    fn renewable(&self, bank: &BankConfig) -> bool {
        !self.renewed && bank.oauth.is_some() && self.secret.refresh_token.is_some()
    }
}

impl Refresher {
    /// Opens a consent.
    pub(crate) fn tokens(&self, consent: &Consent) -> Result<Tokens, RefreshError> {
        Ok(Tokens {
            secret: self.opened(consent)?,
            renewed: false,
        })
    }

    /// Opens a consent and renews its tokens where they are spent; a renewal that failed is the bank's
    /// fault.
    pub(crate) async fn fresh_tokens(
        &self,
        bank: &BankConfig,
        consent: &Consent,
    ) -> Result<Result<Tokens, BankFault>, RefreshError> {
        let mut tokens = self.tokens(consent)?;
        if tokens.renewable(bank)
            && tokens.secret.is_spent(self.clock.now())
            && let Err(fault) = self.renew(bank, consent, &mut tokens).await?
        {
            return Ok(Err(fault));
        }
        Ok(Ok(tokens))
    }

    fn opened(&self, consent: &Consent) -> Result<ConsentSecret, RefreshError> {
        let secret = self
            .vault
            .open(consent.record.as_bytes(), &consent.sealed)?;
        serde_json::from_slice(&secret).map_err(RefreshError::Consent)
    }

    /// What the bank says, with tokens that are renewed where it takes that. A renewal that failed
    /// stands in the place of the refusal it was for: whether the user has to act is for the
    /// authorisation server to say.
    pub(crate) async fn ask(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut Tokens,
        accounts: &[AccountRef<'_>],
        ask: Ask<'_>,
    ) -> Result<Snapshot, RefreshError> {
        if tokens.renewable(bank)
            && tokens.secret.is_spent(ask.now)
            && let Err(fault) = self.renew(bank, consent, tokens).await?
        {
            return Ok(none_but(&fault, accounts, ask.products));
        }
        let mut snapshot = self
            .connectors
            .fetch(bank, &tokens.secret, accounts, ask)
            .await;
        if tokens.renewable(bank) && refusals(&mut snapshot).next().is_some() {
            match self.renew(bank, consent, tokens).await? {
                Ok(()) => {
                    let secret = &tokens.secret;
                    return Ok(self.connectors.fetch(bank, secret, accounts, ask).await);
                }
                Err(fault) => {
                    for refusal in refusals(&mut snapshot) {
                        refusal.clone_from(&fault);
                    }
                }
            }
        }
        Ok(snapshot)
    }

    /// Renews the tokens and stores them; one refresh at a time does so for a record, and the others
    /// take what it stored.
    async fn renew(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut Tokens,
    ) -> Result<Result<(), BankFault>, RefreshError> {
        tokens.renewed = true;
        let unavailable = |detail: &str| {
            let class = FaultClass::BankUnavailable;
            Ok(Err(BankFault::new(class, detail)))
        };
        let life = SignedDuration::from_millis(bank.limits.deadline_ms.into()) + CLAIM_MARGIN;
        for _ in 0..MAX_WAITS {
            let now = self.clock.now();
            if self
                .store
                .claim_renewal(consent, now, now.saturating_add(life).unwrap_or(now))
                .await?
            {
                return self.exchange(bank, consent, tokens).await;
            }
            let current = self
                .store
                .consent(consent.record, Consistency::Strong)
                .await?;
            match current {
                None => return unavailable("the consent was removed during the refresh"),
                Some(current) if current.sealed != consent.sealed => {
                    tokens.secret = self.opened(&current)?;
                    return Ok(Ok(()));
                }
                Some(_) => tokio::time::sleep(WAIT).await,
            }
        }
        unavailable("another refresh is renewing the token")
    }

    /// Spends the refresh token. The answer is stored before it is used: a bank that replaces refresh
    /// tokens knows only the new one from now on.
    async fn exchange(
        &self,
        bank: &BankConfig,
        consent: &Consent,
        tokens: &mut Tokens,
    ) -> Result<Result<(), BankFault>, RefreshError> {
        let refresh_token = tokens.secret.refresh_token.as_deref().unwrap_or_default();
        let client_secret = client_secret(&self.vault, bank)?;
        let (grant, now) = (Grant::RefreshToken(refresh_token), self.clock.now());
        let renewed = self.connectors.token(bank, &client_secret, grant, now);
        let renewed = match renewed.await {
            Ok(mut renewed) => {
                renewed.consent_id.clone_from(&tokens.secret.consent_id);
                renewed
            }
            Err(fault) => {
                if fault.class == FaultClass::Internal {
                    tracing::error!(bank = %bank.id, fault.detail, "a bank refuses our client");
                }
                return Ok(Err(fault));
            }
        };
        let plain = Zeroizing::new(serde_json::to_vec(&renewed).map_err(RefreshError::Consent)?);
        let sealed = self
            .vault
            .seal(consent.record.as_bytes(), &plain, fresh_nonce()?)?;
        tokens.secret = renewed;
        if !self.store.renew_consent(consent, &sealed).await? {
            // The user linked again meanwhile, or this is the repetition of a write that had its effect.
            let current = self
                .store
                .consent(consent.record, Consistency::Strong)
                .await?;
            if let Some(current) = current {
                tokens.secret = self.opened(&current)?;
            }
        }
        Ok(Ok(()))
    }
}

/// The places of a snapshot where the token was refused.
fn refusals(snapshot: &mut Snapshot) -> impl Iterator<Item = &mut BankFault> {
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
pub(crate) fn none_but(
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
