//! The sandbox bank as several of Okra's banks, and [`LocalSandbox`], through which the API creates logins there.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use okra_app::{CreateLoginRequest, LinkableLogin, SandboxLoginFactory};
use okra_aws::Clock;
use okra_connectors::ConsentSecret;
use okra_core::model::{
    bank::{BankConfig, BankLimits, BankStandard, ClientAuth, OAuthClient},
    ids::BankId,
};
use okra_handlers::RuntimeContext;
use okra_refresh::seal_client_secret;
use okra_sandbox::{
    AUTHORIZE_PATH, CLIENT_ID, CLIENT_SECRET, NewLogin, SandboxBank, SandboxOptions, TOKEN_PATH,
    Volume,
};

/// One of Okra's banks, with the version of the standard that it speaks here.
struct SandboxBankEntry {
    id: &'static str,
    name: &'static str,
    slug: &'static str,
    standard: BankStandard,
}

/// Okra's ids and names of banks.
const SANDBOX_BANKS: [SandboxBankEntry; 4] = [
    SandboxBankEntry {
        id: "5d6fe57a4099cc4b210bbeb3",
        name: "Guaranty Trust Bank",
        slug: "guaranty-trust-bank",
        standard: BankStandard::Obie31,
    },
    SandboxBankEntry {
        id: "5d6fe57a4099cc4b210bbec0",
        name: "Access Bank",
        slug: "access-bank",
        standard: BankStandard::Obie31,
    },
    SandboxBankEntry {
        id: "5d6fe57a4099cc4b210bbec2",
        name: "Zenith Bank",
        slug: "zenith-bank",
        standard: BankStandard::Obie40,
    },
    SandboxBankEntry {
        id: "5f0cf73e8a8bcc18b8156ad7",
        name: "Kuda Bank",
        slug: "kuda-bank",
        standard: BankStandard::Obie40,
    },
];

/// Seconds between two movements of one login, on average.
const SECONDS_BETWEEN_MOVEMENTS: u32 = 45;

/// Opens the sandbox bank, with the commands of earlier runs.
pub(crate) fn open_sandbox_bank(folder: &Path, port: u16) -> anyhow::Result<SandboxBank> {
    let options = SandboxOptions {
        row_interval_s: Some(SECONDS_BETWEEN_MOVEMENTS),
        public_url: Some(format!("http://127.0.0.1:{port}")),
        ..SandboxOptions::default()
    };
    let clock = Clock::system();
    let bank = SandboxBank::open_folder(options, Arc::new(move || clock.now()), folder);
    bank.context("the sandbox bank cannot be opened")
}

/// The configurations of the sandbox's banks.
pub(crate) fn sandbox_bank_configs(port: u16) -> anyhow::Result<Vec<BankConfig>> {
    let configs = SANDBOX_BANKS.iter().map(|bank| {
        Ok(BankConfig {
            id: bank.id.parse()?,
            name: bank.name.to_owned(),
            slug: bank.slug.to_owned(),
            standard: bank.standard,
            base_url: format!(
                "http://127.0.0.1:{port}{}",
                SandboxBank::base_path(bank.standard)
            ),
            financial_id: None,
            oauth: Some(OAuthClient {
                token_url: format!("http://127.0.0.1:{port}{TOKEN_PATH}"),
                authorization_url: Some(format!(
                    "http://127.0.0.1:{port}{AUTHORIZE_PATH}/{}",
                    bank.slug
                )),
                client_id: CLIENT_ID.to_owned(),
                client_auth: ClientAuth::default(),
                sealed_secret: None,
            }),
            country: "NG".to_owned(),
            limits: BankLimits::default(),
        })
    });
    configs.collect()
}

/// Stores the sandbox's banks, with the client's secret sealed.
pub(crate) async fn store_sandbox_banks(
    environment: &RuntimeContext,
    port: u16,
) -> anyhow::Result<()> {
    for mut bank in sandbox_bank_configs(port)? {
        let sealed = seal_client_secret(&environment.vault, bank.id, CLIENT_SECRET)?;
        if let Some(client) = &mut bank.oauth {
            client.sealed_secret = Some(sealed);
        }
        environment.store.put_bank(&bank).await?;
    }
    Ok(())
}

/// Creates logins at the sandbox bank for the API.
pub(crate) struct LocalSandbox {
    pub(crate) bank: SandboxBank,
}

impl SandboxLoginFactory for LocalSandbox {
    fn create_login(&self, request: CreateLoginRequest) -> Result<LinkableLogin, String> {
        let requested_bank = request.bank.map(|bank| bank.to_string());
        let bank = SANDBOX_BANKS
            .iter()
            .find(|bank| requested_bank.as_deref().is_none_or(|id| id == bank.id))
            .ok_or("the sandbox has no bank with that id")?;
        let volume = match request.volume.as_deref() {
            None | Some("low") => Volume::Low,
            Some("medium") => Volume::Medium,
            Some("high") => Volume::High,
            Some(_) => return Err("volume must be low, medium or high".to_owned()),
        };
        let new = NewLogin {
            name: request.name,
            accounts: request.accounts,
            volume,
            standard: bank.standard,
            ..NewLogin::default()
        };
        let login = self
            .bank
            .create_login(new)
            .map_err(|error| error.to_string())?;
        let access_token = self
            .bank
            .link_login(login.id)
            .map_err(|error| error.to_string())?;
        let bank: BankId = bank
            .id
            .parse()
            .map_err(|_| "the sandbox bank's id is not valid".to_owned())?;
        Ok(LinkableLogin {
            bank,
            name: login.name,
            consent: ConsentSecret::from_bearer_token(access_token.into_string()),
        })
    }
}
