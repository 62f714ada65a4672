//! Apps and their secret keys.

use anyhow::Context;
use okra_aws::{AwsConfig, Clock};
use okra_core::{ids::AppId, model::Environment};
use okra_store::{App, KeyHash, Store};

use crate::{
    cli::{AppArgs, Options},
    keys,
    process::Process,
    replay::say,
};

/// Makes an app, in the embedded table or in one on AWS, and prints its key.
pub(crate) async fn run(options: &Options, args: &AppArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let env = if args.production {
        Environment::Production
    } else {
        Environment::Sandbox
    };
    let (id, key) = match &args.table {
        Some(table) => {
            let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
            make_app(&Store::new(aws.dynamodb(), table), &args.name, env, &clock).await?
        }
        None => {
            let process = Process::open(options, clock.clone()).await?;
            make_app(&process.environment.store, &args.name, env, &clock).await?
        }
    };
    say(&format!(
        "app         {id}\nsecret key  {key}\nKeep the key: only its hash is stored."
    ));
    Ok(())
}

/// A secret key in the form `okra_sk_<48 hexadecimal digits>`.
fn secret_key() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    keys::random(&mut bytes)?;
    Ok(format!(
        "okra_sk_{}",
        data_encoding::HEXLOWER.encode(&bytes)
    ))
}

/// Makes an app with a key. The table keeps the key's hash alone.
pub(crate) async fn make_app(
    store: &Store,
    name: &str,
    env: Environment,
    clock: &Clock,
) -> anyhow::Result<(AppId, String)> {
    let mut id = [0; 12];
    keys::random(&mut id)?;
    let (id, key) = (AppId::from_bytes(id), secret_key()?);
    let app = App {
        id,
        name: name.to_owned(),
        env,
        created_at: clock.now(),
    };
    store.put_app(&app).await?;
    store.put_key(KeyHash::of(&key), id).await?;
    Ok((id, key))
}
