//! `okra-sync app`, `key` and `limit`: apps and their secret keys, in the embedded table or in one on AWS.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_core::model::{ids::AppId, snapshot::Environment};
use okra_store::{ApiKey, App, KeyHash, Store};

use crate::{
    cli::{AppArgs, GlobalOptions, KeyAction, KeyArgs, LimitArgs},
    keys,
    output::print_line,
    system::LocalSystem,
};

/// The store of a table on AWS or, where none is named, of the embedded one.
async fn open_store(
    options: &GlobalOptions,
    table: Option<&str>,
    clock: Clock,
) -> anyhow::Result<Store> {
    match table {
        Some(table) => {
            let aws = AwsConfig::from_env().context("the AWS environment is not usable")?;
            Ok(Store::new(aws.dynamodb_client(), table))
        }
        None => {
            let system = LocalSystem::open_data_folder(options, clock).await?;
            Ok(system.environment.store)
        }
    }
}

/// Creates an app and prints its key.
pub(crate) async fn run_app_command(options: &GlobalOptions, args: &AppArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let environment = if args.production {
        Environment::Production
    } else {
        Environment::Sandbox
    };
    let store = open_store(options, args.table.as_deref(), clock.clone()).await?;
    let created = create_app(&store, &args.name, environment, &clock).await?;
    print_line(&format!(
        "app         {}\nsecret key  {}\nKeep the key: only its hash is stored.",
        created.id, created.secret_key
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

/// An app that was created, with its secret key.
pub(crate) struct CreatedApp {
    pub(crate) id: AppId,
    pub(crate) secret_key: String,
}

/// Creates an app with a key. Only the key's hash is stored.
pub(crate) async fn create_app(
    store: &Store,
    name: &str,
    environment: Environment,
    clock: &Clock,
) -> anyhow::Result<CreatedApp> {
    let mut id = [0; 12];
    keys::fill_random(&mut id)?;
    let (id, secret_key) = (AppId::from_bytes(id), generate_secret_key()?);
    let public_key = generate_public_key()?;
    let app = App {
        id,
        name: name.to_owned(),
        environment,
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
        .put_bare_api_key(KeyHash::hash_secret(&secret_key), id)
        .await?;
    Ok(CreatedApp { id, secret_key })
}

/// Sets how many refreshes an app may request. Running functions apply it within seconds.
pub(crate) async fn run_limit_command(
    options: &GlobalOptions,
    args: &LimitArgs,
) -> anyhow::Result<()> {
    let store = open_store(options, args.table.as_deref(), Clock::system()).await?;
    let app = store.find_app(args.app).await?;
    let mut app = app.with_context(|| format!("there is no app {}", args.app))?;
    app.refreshes_per_minute = args.rate;
    store.put_app(&app).await?;
    print_line(&format!(
        "{} may request {} refreshes of one product in a minute",
        app.name, app.refreshes_per_minute
    ));
    Ok(())
}

/// Lists, rotates or revokes an app's keys.
pub(crate) async fn run_key_command(options: &GlobalOptions, args: &KeyArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let store = open_store(options, args.table.as_deref(), clock.clone()).await?;
    change_keys(&store, args, clock.now()).await
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
            let overlap = SignedDuration::from_hours(args.overlap_hours.into());
            let expires_at = now
                .checked_add(overlap)
                .context("the overlap is too long")?;
            rotate_keys(store, app, keys, now, expires_at).await?;
        }
        KeyAction::Revoke => {
            let id = args.id.as_deref().context("--id names the key to revoke")?;
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

/// Creates a new key, and lets those before expire at `expires_at`, unless they expire earlier.
async fn rotate_keys(
    store: &Store,
    app: AppId,
    earlier_keys: Vec<ApiKey>,
    now: Timestamp,
    expires_at: Timestamp,
) -> anyhow::Result<()> {
    let secret = generate_secret_key()?;
    let created = ApiKey {
        hash: KeyHash::hash_secret(&secret),
        last_digits: secret[secret.len() - 4..].to_owned(),
        created_at: Some(now),
        expires_at: None,
    };
    store.create_api_key(app, &created).await?;
    for mut key in earlier_keys {
        if key.expires_at.is_none_or(|at| expires_at < at) {
            key.expires_at = Some(expires_at);
            store.replace_api_key(app, &key).await?;
        }
    }
    print_line(&format!(
        "secret key  {secret}\nKeep the key: only its hash is stored."
    ));
    Ok(())
}
