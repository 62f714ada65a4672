//! `okra-sync banks` and `--banks`: banks from a TOML file, for the embedded table or one on AWS.

use std::path::Path;

use anyhow::Context;
use okra_aws::AwsConfig;
use okra_connectors::config::{BankFileEntry, parse_bank_files};
use okra_core::model::bank::BankConfig;
use okra_refresh::seal_client_secret;
use okra_store::Store;
use okra_vault::Vault;

use crate::{cli::BanksArgs, output::print_line};

/// Puts the banks of a file into a table on AWS, in place of those with the same ids. Client secrets are sealed with the
/// stack's key, which must be in `OKRA_VAULT_KEY`.
pub(crate) async fn run_banks_command(args: &BanksArgs) -> anyhow::Result<()> {
    let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
    let vault = Vault::from_env().context("the stack's key is needed to seal client secrets")?;
    let store = Store::new(aws.dynamodb_client(), &args.table);
    for bank in store_banks_file(&args.file, &store, &vault).await? {
        print_line(&format!("{}  {}", bank.id, bank.name));
    }
    print_line("The functions use them within a minute.");
    Ok(())
}

/// Stores the banks of a file: all of them or, where one is invalid, none.
pub(crate) async fn store_banks_file(
    file: &Path,
    store: &Store,
    vault: &Vault,
) -> anyhow::Result<Vec<BankConfig>> {
    let toml =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut banks = Vec::new();
    for bank in parse_bank_files(&toml)? {
        banks.push(seal_bank_secret(bank, vault)?);
    }
    for bank in &banks {
        store.put_bank(bank).await?;
    }
    Ok(banks)
}

/// The bank with its client's secret, read from the environment and sealed.
fn seal_bank_secret(bank: BankFileEntry, vault: &Vault) -> anyhow::Result<BankConfig> {
    let BankFileEntry {
        mut config,
        secret_env,
    } = bank;
    if let (Some(client), Some(name)) = (config.oauth.as_mut(), secret_env) {
        let secret = std::env::var(&name)
            .ok()
            .filter(|secret| !secret.is_empty());
        let secret = secret.with_context(|| {
            format!(
                "bank {}: the environment variable {name} is not set",
                config.slug
            )
        })?;
        client.sealed_secret = Some(seal_client_secret(vault, config.id, &secret)?);
    }
    Ok(config)
}
