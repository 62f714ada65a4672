//! Apps and their secret keys.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_core::model::{ids::AppId, snapshot::Environment};
use okra_store::{ApiKey, App, KeyHash, Store};

use crate::{
    cli::{AppArgs, GlobalOptions, KeyAction, KeyArgs, LimitArgs},
    keys,
    process::LocalSystem,
    replay::print_line,
};

/// Makes an app, in the embedded table or in one on AWS, and prints its key.
pub(crate) async fn run_app_command(options: &GlobalOptions, args: &AppArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let env = if args.production {
        Environment::Production
    } else {
        Environment::Sandbox
    };
    let (id, key) = match &args.table {
        Some(table) => {
            let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
            create_app(
                &Store::new(aws.dynamodb_client(), table),
                &args.name,
                env,
                &clock,
            )
            .await?
        }
        None => {
            let process = LocalSystem::open_data_folder(options, clock.clone()).await?;
            create_app(&process.environment.store, &args.name, env, &clock).await?
        }
    };
    print_line(&format!(
        "app         {id}\nsecret key  {key}\nKeep the key: only its hash is stored."
    ));
    Ok(())
}

/// A secret key in the form `okra_sk_<48 hexadecimal digits>`.
fn generate_secret_key() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    keys::fill_random(&mut bytes)?;
    Ok(format!(
        "okra_sk_{}",
        data_encoding::HEXLOWER.encode(&bytes)
    ))
}

/// A public key, which is a UUID as Okra's were (RFC 9562, version 4).
fn generate_public_key() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    keys::fill_random(&mut bytes)?;
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}

/// Makes an app with a key. The table keeps the key's hash alone.
pub(crate) async fn create_app(
    store: &Store,
    name: &str,
    env: Environment,
    clock: &Clock,
) -> anyhow::Result<(AppId, String)> {
    let mut id = [0; 12];
    keys::fill_random(&mut id)?;
    let (id, key) = (AppId::from_bytes(id), generate_secret_key()?);
    let public_key = generate_public_key()?;
    let app = App {
        id,
        name: name.to_owned(),
        environment: env,
        created_at: clock.now(),
        widget_origins: vec![],
        public_key: Some(public_key.clone()),
        refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
    };
    store.put_app(&app).await?;
    store
        .put_public_key(KeyHash::hash_secret(&public_key), id)
        .await?;
    store
        .put_bare_api_key(KeyHash::hash_secret(&key), id)
        .await?;
    Ok((id, key))
}

/// Sets how many refreshes an app may ask for. Functions that know the app believe it within seconds.
pub(crate) async fn run_limit_command(
    options: &GlobalOptions,
    args: &LimitArgs,
) -> anyhow::Result<()> {
    match &args.table {
        Some(table) => {
            let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
            set_refresh_limit(&Store::new(aws.dynamodb_client(), table), args).await
        }
        None => {
            let process = LocalSystem::open_data_folder(options, Clock::system()).await?;
            set_refresh_limit(&process.environment.store, args).await
        }
    }
}

async fn set_refresh_limit(store: &Store, args: &LimitArgs) -> anyhow::Result<()> {
    let app = store.find_app(args.app).await?;
    let mut app = app.with_context(|| format!("there is no app {}", args.app))?;
    app.refreshes_per_minute = args.rate;
    store.put_app(&app).await?;
    print_line(&format!(
        "{} may ask for {} refreshes of one product in a minute",
        app.name, app.refreshes_per_minute
    ));
    Ok(())
}

/// Lists, rotates or revokes an app's keys.
pub(crate) async fn run_key_command(options: &GlobalOptions, args: &KeyArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    match &args.table {
        Some(table) => {
            let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
            change_keys(&Store::new(aws.dynamodb_client(), table), args, clock.now()).await
        }
        None => {
            let process = LocalSystem::open_data_folder(options, clock.clone()).await?;
            change_keys(&process.environment.store, args, clock.now()).await
        }
    }
}

async fn change_keys(store: &Store, args: &KeyArgs, now: Timestamp) -> anyhow::Result<()> {
    let app = store.find_app(args.app).await?;
    let app = app
        .with_context(|| format!("there is no app {}", args.app))?
        .id;
    let keys = store.list_api_keys(app).await?;
    match args.action {
        KeyAction::List => {}
        KeyAction::Rotate => {
            let secret = generate_secret_key()?;
            let made = ApiKey {
                hash: KeyHash::hash_secret(&secret),
                last_digits: secret[secret.len() - 4..].to_owned(),
                created_at: Some(now),
                expires_at: None,
            };
            store.put_api_key(app, &made).await?;
            let overlap = SignedDuration::from_hours(args.overlap_hours.into());
            let ends = now
                .checked_add(overlap)
                .context("the overlap is too long")?;
            for mut key in keys {
                if key.expires_at.is_none_or(|at| ends < at) {
                    key.expires_at = Some(ends);
                    store.put_api_key(app, &key).await?;
                }
            }
            print_line(&format!(
                "secret key  {secret}\nKeep the key: only its hash is stored."
            ));
        }
        KeyAction::Revoke => {
            let id = args.id.as_deref().unwrap_or_default();
            let key = keys.into_iter().find(|key| key.key_id() == id);
            let key = key.with_context(|| format!("the app has no key {id}"))?;
            store.delete_api_key(app, key.hash).await?;
        }
    }
    for key in store.list_api_keys(app).await? {
        let ends = match key.expires_at {
            Some(at) if at <= now => format!("expired {at}"),
            Some(at) => format!("expires {at}"),
            None => "valid".to_owned(),
        };
        print_line(&format!("{}  ..{}  {ends}", key.key_id(), key.last_digits));
    }
    Ok(())
}
