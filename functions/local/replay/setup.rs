//! Opening a replay: its folder, its system, bank and receiver, and what an interrupted replay left.

use std::{collections::HashMap, fs, io, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use jiff::civil::Date;
use okra_aws::Clock;
use okra_core::{
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        ids::{AppId, RecordId},
        snapshot::Environment,
    },
    resilience::rate_limiter::SendRate,
};
use okra_refresh::{ChunkReport, Refresher};
use okra_sandbox::{SandboxBank, pkdd::ReplayBank};
use okra_store::{Consistency, Store};
use okra_webhooks::Deliverer;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    days::noon_of_day,
    inject::Injector,
    progress::ReplayProgress,
    report::DeliveryLatencies,
    run::{REPLAY_BANK_ID, ReplayRun, UNLIMITED_RATE},
};
use crate::{
    api_client::ApiClient,
    apps::create_app,
    cli::{GlobalOptions, ReplayArgs},
    http_server::serve_router,
    keys::{read_private_file, write_private_file},
    output::print_line,
    receiver::WebhookReceiver,
    system::{LocalSystem, bind_local_port},
};

/// Webhooks a second to the replay's own receiver: as good as no limit.
const REPLAY_WEBHOOKS_PER_SECOND: u32 = 100_000;

/// Records on a page of an app's records.
const RECORDS_PER_PAGE: usize = 100;

/// The file that is played.
pub(super) struct ReplayFile {
    /// Its SHA-256.
    pub(super) digest: String,
    /// The day of its first row.
    pub(super) first_day: Date,
}

/// The replay's own app.
#[derive(Serialize, Deserialize)]
struct ReplayApp {
    app: AppId,
    secret_key: String,
    webhook_secret: String,
    #[serde(rename = "hook")]
    webhook_url: String,
}

/// The ports of a replay, bound.
struct ReplayPorts {
    api: TcpListener,
    bank: TcpListener,
    receiver: TcpListener,
}

/// Opens a replay of the file, or resumes the one that was interrupted.
pub(super) async fn open_or_resume(
    options: &GlobalOptions,
    args: &ReplayArgs,
    file: &ReplayFile,
    bank: ReplayBank,
    mut injector: Option<Injector>,
) -> anyhow::Result<ReplayRun> {
    let ports = ReplayPorts {
        api: bind_local_port(options.port).await?,
        bank: bind_local_port(options.port + 1).await?,
        receiver: bind_local_port(options.port + 2).await?,
    };
    let folder = options.data.join("replay");
    let clock = Clock::manual_at(noon_of_day(file.first_day));
    let (system, progress) = open_system(options, args, &folder, &clock).await?;
    if let Some(progress) = &progress {
        check_resumable(progress, args, file, &folder)?;
        let next_day = progress.next_day;
        print_line(&format!("Resuming an interrupted replay at {next_day}."));
    }
    let next_day = progress.map_or(file.first_day, |progress| progress.next_day);
    // The bank is new: what was injected before the interruption is injected again.
    if let Some(injector) = &mut injector {
        let mut date = file.first_day;
        while date < next_day {
            bank.advance_to(date);
            injector.play_day(date, &bank)?;
            date = date.tomorrow()?;
        }
    }
    store_replay_bank(&system, options.port + 1).await?;
    let receiver =
        WebhookReceiver::open_durable(&folder.join("received.jsonl"), Arc::new(|_, _, _| {}))?;
    let latencies = Arc::new(DeliveryLatencies::default());
    let mut tasks = JoinSet::new();
    let refresher = serve_system(&mut tasks, &system, ports, &bank, &receiver, &latencies)?;
    let webhook_url = format!("http://127.0.0.1:{}/hook", options.port + 2);
    let app = set_up_replay_app(
        &folder.join("app.json"),
        &system,
        options.port,
        &webhook_url,
    )
    .await?;
    receiver.set_signing_secret(&app.webhook_secret)?;
    let api = ApiClient::for_local_port(options.port, &app.secret_key)?;
    let records = load_linked_records(&system.environment.store, app.app).await?;
    Ok(ReplayRun {
        system,
        refresher,
        receiver,
        latencies,
        clock,
        bank,
        api,
        records,
        file_digest: file.digest.clone(),
        next_day,
        refresh_totals: ChunkReport::default(),
        injector,
        _tasks: tasks,
    })
}

/// Opens the replay's folder. One that is to be discarded, or whose replay is finished, is emptied first.
async fn open_system(
    options: &GlobalOptions,
    args: &ReplayArgs,
    folder: &Path,
    clock: &Clock,
) -> anyhow::Result<(LocalSystem, Option<ReplayProgress>)> {
    if args.fresh {
        remove_folder(folder)?;
    }
    let options = GlobalOptions {
        data: folder.to_owned(),
        ..options.clone()
    };
    let system = LocalSystem::open_data_folder(&options, clock.clone()).await?;
    let progress = ReplayProgress::load(&system.environment.store).await?;
    if !progress.as_ref().is_some_and(|it| it.is_finished) {
        return Ok((system, progress));
    }
    drop(system);
    remove_folder(folder)?;
    let system = LocalSystem::open_data_folder(&options, clock.clone()).await?;
    Ok((system, None))
}

fn check_resumable(
    progress: &ReplayProgress,
    args: &ReplayArgs,
    file: &ReplayFile,
    folder: &Path,
) -> anyhow::Result<()> {
    ensure!(
        progress.file_digest == file.digest,
        "{} holds an interrupted replay of another file; --fresh discards it",
        folder.display()
    );
    ensure!(
        progress.injection_seed == args.inject,
        "{} holds an interrupted replay with another --inject; --fresh discards it",
        folder.display()
    );
    Ok(())
}

async fn store_replay_bank(system: &LocalSystem, bank_port: u16) -> anyhow::Result<()> {
    let config = BankConfig {
        id: REPLAY_BANK_ID,
        name: "Replayed bank".to_owned(),
        slug: "replayed-bank".to_owned(),
        standard: BankStandard::Obie31,
        base_url: format!(
            "http://127.0.0.1:{bank_port}{}",
            SandboxBank::base_path(BankStandard::Obie31)
        ),
        financial_id: None,
        oauth: None,
        country: "CZ".to_owned(),
        limits: BankLimits {
            records_per_second: UNLIMITED_RATE,
            ..BankLimits::default()
        },
    };
    system.environment.store.put_bank(&config).await?;
    Ok(())
}

/// Starts the workers and serves the API, the bank and the receiver.
fn serve_system(
    tasks: &mut JoinSet<()>,
    system: &LocalSystem,
    ports: ReplayPorts,
    bank: &ReplayBank,
    receiver: &WebhookReceiver,
    latencies: &Arc<DeliveryLatencies>,
) -> anyhow::Result<Refresher> {
    let environment = &system.environment;
    let refresher = environment
        .build_refresher()
        .with_observer(latencies.clone());
    let mut delivery_environment = environment.clone();
    // Webhooks are signed and timed by the system's clock: receivers reject old signatures.
    delivery_environment.clock = Clock::system();
    let rate = SendRate::from_per_second(REPLAY_WEBHOOKS_PER_SECOND);
    let deliverer: Deliverer = delivery_environment.build_deliverer_with_rate(rate)?;
    let deliverer = Arc::new(deliverer.with_observer(latencies.clone()));
    system.start_workers(tasks, &refresher, &deliverer);
    system.serve_api(tasks, ports.api, None);
    serve_router(tasks, ports.bank, bank.sandbox_bank().api_router());
    serve_router(tasks, ports.receiver, receiver.webhook_router());
    Ok(refresher)
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The app of an interrupted replay, or a new one. Its endpoint contains the port, so the port must be the same.
async fn set_up_replay_app(
    path: &Path,
    system: &LocalSystem,
    port: u16,
    webhook_url: &str,
) -> anyhow::Result<ReplayApp> {
    if let Some(text) = read_private_file(path)? {
        let app: ReplayApp = serde_json::from_str(&text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        ensure!(
            app.webhook_url == webhook_url,
            "the interrupted replay delivered to {}: resume it with its --port, or discard it with --fresh",
            app.webhook_url
        );
        return Ok(app);
    }
    let environment = &system.environment;
    let created = create_app(
        &environment.store,
        "replay",
        Environment::Sandbox,
        &environment.clock,
    )
    .await?;
    let webhook_secret = ApiClient::for_local_port(port, &created.secret_key)?
        .set_webhook(webhook_url)
        .await?;
    let app = ReplayApp {
        app: created.id,
        secret_key: created.secret_key,
        webhook_secret,
        webhook_url: webhook_url.to_owned(),
    };
    write_private_file(path, &serde_json::to_vec(&app)?)?;
    Ok(app)
}

/// The records that an interrupted replay had linked, by the bank's account.
async fn load_linked_records(
    store: &Store,
    app: AppId,
) -> anyhow::Result<HashMap<String, RecordId>> {
    let (mut records, mut after) = (HashMap::new(), None);
    loop {
        let page = store
            .list_records_of_app(app, after, RECORDS_PER_PAGE)
            .await?;
        for head in &page.items {
            let consent = store.find_consent(head.record, Consistency::Strong).await?;
            let consent =
                consent.with_context(|| format!("record {} has no consent", head.record))?;
            for account in consent.accounts {
                records.insert(account.bank_account_id, head.record);
            }
        }
        after = page.next_cursor;
        if after.is_none() {
            return Ok(records);
        }
    }
}
