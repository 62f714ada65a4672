//! The sandbox bank as several of Okra's banks, and the door through which the API makes logins there.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use okra_api::{Sandbox, SandboxAsk, SandboxLogin};
use okra_aws::Clock;
use okra_banks::ConsentSecret;
use okra_core::{
    bank::{BankConfig, BankLimits, ClientAuth, OAuthClient, Standard},
    ids::BankId,
};
use okra_handlers::Environment;
use okra_refresh::seal_client_secret;
use okra_sandbox::{
    AUTHORIZE_PATH, Bank, CLIENT_ID, CLIENT_SECRET, NewLogin, Options, TOKEN_PATH, Volume,
};

/// Okra's ids and names of banks, each with the version of the standard that it speaks here.
const BANKS: [(&str, &str, &str, Standard); 4] = [
    (
        "5d6fe57a4099cc4b210bbeb3",
        "Guaranty Trust Bank",
        "guaranty-trust-bank",
        Standard::Obie31,
    ),
    (
        "5d6fe57a4099cc4b210bbec0",
        "Access Bank",
        "access-bank",
        Standard::Obie31,
    ),
    (
        "5d6fe57a4099cc4b210bbec2",
        "Zenith Bank",
        "zenith-bank",
        Standard::Obie40,
    ),
    (
        "5f0cf73e8a8bcc18b8156ad7",
        "Kuda Bank",
        "kuda-bank",
        Standard::Obie40,
    ),
];

/// Seconds between two movements of one login, on average.
const PACE_S: u32 = 45;

/// Opens the sandbox bank, with what was played to it before.
pub(crate) fn open(folder: &Path, port: u16) -> anyhow::Result<Bank> {
    let options = Options {
        pace_s: Some(PACE_S),
        public_url: Some(format!("http://127.0.0.1:{port}")),
        ..Options::default()
    };
    let clock = Clock::system();
    let bank = Bank::open(options, Arc::new(move || clock.now()), folder);
    bank.context("the sandbox bank cannot be opened")
}

/// The sandbox's banks as configurations.
pub(crate) fn configurations(port: u16) -> anyhow::Result<Vec<BankConfig>> {
    let configure = |&(id, name, slug, standard): &(&str, &str, &str, Standard)| {
        Ok(BankConfig {
            id: id.parse()?,
            name: name.to_owned(),
            slug: slug.to_owned(),
            standard,
            base_url: format!("http://127.0.0.1:{port}{}", Bank::base_path(standard)),
            financial_id: None,
            oauth: Some(OAuthClient {
                token_url: format!("http://127.0.0.1:{port}{TOKEN_PATH}"),
                authorization_url: Some(format!("http://127.0.0.1:{port}{AUTHORIZE_PATH}/{slug}")),
                client_id: CLIENT_ID.to_owned(),
                client_auth: ClientAuth::default(),
                sealed_secret: None,
            }),
            country: "NG".to_owned(),
            limits: BankLimits::default(),
        })
    };
    BANKS.iter().map(configure).collect()
}

/// Stores the sandbox's banks, with our client's secret sealed.
pub(crate) async fn configure(environment: &Environment, port: u16) -> anyhow::Result<()> {
    for mut bank in configurations(port)? {
        let sealed = seal_client_secret(&environment.vault, bank.id, CLIENT_SECRET)?;
        if let Some(client) = &mut bank.oauth {
            client.sealed_secret = Some(sealed);
        }
        environment.store.put_bank(&bank).await?;
    }
    Ok(())
}

/// Makes logins at the sandbox bank for the API.
pub(crate) struct Door {
    pub(crate) bank: Bank,
}

impl Sandbox for Door {
    fn create(&self, ask: SandboxAsk) -> Result<SandboxLogin, String> {
        let wanted = ask.bank.map(|bank| bank.to_string());
        let (id, .., standard) = BANKS
            .iter()
            .find(|(id, ..)| wanted.as_deref().is_none_or(|wanted| wanted == *id))
            .ok_or("the sandbox has no bank with that id")?;
        let volume = match ask.volume.as_deref() {
            None | Some("low") => Volume::Low,
            Some("medium") => Volume::Medium,
            Some("high") => Volume::High,
            Some(_) => return Err("volume is low, medium or high".to_owned()),
        };
        let new = NewLogin {
            name: ask.name,
            accounts: ask.accounts,
            volume,
            standard: *standard,
            ..NewLogin::default()
        };
        let login = self
            .bank
            .create_login(new)
            .map_err(|error| error.to_string())?;
        let access_token = self
            .bank
            .link(login.id)
            .map_err(|error| error.to_string())?;
        let bank: BankId = id.parse().map_err(|_| "a bank's id is wrong".to_owned())?;
        Ok(SandboxLogin {
            bank,
            name: login.name,
            consent: ConsentSecret::bearer(access_token.into_string()),
        })
    }
}
