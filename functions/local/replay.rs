//! `okra-sync replay`: real transactions, loaded into the sandbox bank and played day by day through the
//! whole system, with a verdict at the end.

mod inject;
mod report;
mod verdict;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use data_encoding::HEXLOWER;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{ToSpan, civil::Date, tz::Offset};
use okra_aws::Clock;
use okra_core::{
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        ids::{AppId, BankId, RecordId},
        interval::{Interval, Slot, Tick},
    },
    schedule::plan::{BankRate, plan_tick},
};
use okra_refresh::{ChunkReport, Refresher};
use okra_sandbox::{LoginId, SandboxBank, SandboxOptions as BankOptions, pkdd};
use okra_store::{Consistency, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{task::JoinSet, time::sleep};

use self::{
    inject::Injector,
    report::{DeliveryLatencies, ReplayReport},
};
use crate::{
    app::create_app,
    cli::{GlobalOptions, ReplayArgs},
    demo::{ApiClient, write_private_file},
    process::{LocalSystem, bind_local_port, serve_router},
    receiver::WebhookReceiver,
};

/// Webhooks a second to the replay's own receiver: as fast as it goes.
const REPLAY_WEBHOOKS_PER_SECOND: u32 = 100_000;

/// The bank that the file's accounts are at.
const REPLAY_BANK_ID: BankId = BankId::from_bytes([0x99; 12]);

/// Records refreshed per second at most: as good as no limit, the bank is ours.
const UNLIMITED_RATE: u32 = 1_000_000;

/// Chunks refreshed at once.
const CONCURRENT_CHUNKS: usize = 4;

/// Webhooks that may wait before the next day is played.
const MAX_WEBHOOK_BACKLOG: usize = 4_000;

/// How long the last webhooks are waited for while none arrives.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// What an interrupted replay goes on with.
const REPLAY_STATE: &str = "replay";

/// How far a replay has come.
#[derive(Serialize, Deserialize)]
struct ReplayProgress {
    /// SHA-256 of the file.
    file: String,
    /// The seed of what is injected.
    #[serde(default)]
    inject: Option<u64>,
    /// The day to play next.
    next: Date,
    /// True at the end.
    finished: bool,
}

/// The replay's own app.
#[derive(Serialize, Deserialize)]
struct ReplayApp {
    app: AppId,
    secret_key: String,
    webhook_secret: String,
    hook: String,
}

/// Runs a replay to its verdict.
pub(crate) async fn run_replay(options: &GlobalOptions, args: &ReplayArgs) -> anyhow::Result<()> {
    let bytes =
        fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let file = HEXLOWER.encode(&Sha256::digest(&bytes));
    let LoadedRows {
        rows,
        skipped_rows: skipped,
        stop_reason: stopped,
    } = load_rows(&bytes, args.skip_bad_rows)?;
    if let Some(problem) = &stopped {
        print_line(&format!(
            "{problem}: playing the {} rows before it (--skip-bad-rows goes on)",
            rows.len()
        ));
    }
    ensure!(
        !rows.is_empty(),
        "{}",
        stopped.unwrap_or_else(|| "the file has no rows".to_owned())
    );
    let mut expected = verdict::ExpectedAccounts::from_rows(&rows);
    let injector = args.inject.map(|seed| Injector::new(seed, &rows));
    let (first, last) = (
        rows.iter()
            .map(|row| row.date)
            .min()
            .context("a first day")?,
        rows.iter()
            .map(|row| row.date)
            .max()
            .context("a last day")?,
    );
    let bank_options = BankOptions {
        public_url: Some(format!("http://127.0.0.1:{}", options.port + 1)),
        ..BankOptions::default()
    };
    let bank = pkdd::ReplayBank::load_rows(rows, BankStandard::Obie31, bank_options)?;

    let mut replay = ReplayRun::open_or_resume(options, args, &file, first, bank, injector).await?;
    let last = args.days.map_or(last, |days| {
        first
            .saturating_add(i64::from(days.saturating_sub(1)).days())
            .min(last)
    });
    let started = Instant::now();
    replay.play_days(last, &file).await?;
    replay.drain_webhooks().await?;
    let played_s = started.elapsed().as_secs_f64();
    let finished = ReplayProgress {
        file,
        inject: args.inject,
        next: last.tomorrow().unwrap_or(last),
        finished: true,
    };
    replay
        .system
        .environment
        .store
        .put_system_state(REPLAY_STATE, &json!(finished))
        .await?;

    if let Some(injector) = &replay.injector {
        expected.apply_injected_changes(injector);
    }
    let verdict = verdict::judge_replay(
        &replay.system.environment.store,
        &replay.records,
        &expected,
        last,
        &replay.receiver,
        replay.injector.as_ref(),
    )
    .await?;
    let capacity = replay.system.environment.store.capacity_used();
    let report = ReplayReport {
        accounts: replay.records.len(),
        refreshes: replay.refresh_totals,
        feed_entries: verdict.feed_entries,
        latencies: &replay.latencies,
        receiver: &replay.receiver,
        capacity,
        played_s,
        skipped_rows: &skipped,
    };
    print_line(&report.to_string());
    if let (Some(injector), Some((missed, false_changes))) =
        (&replay.injector, verdict.change_errors)
    {
        let inject::InjectedCounts {
            pending,
            booked,
            edited,
            removed,
        } = injector.counts;
        print_line(&format!(
            "injected             {pending} pending rows, {booked} booked under another id, {edited} edits, {removed} removals"
        ));
        print_line(&format!(
            "changes              {missed} missed, {false_changes} false"
        ));
    }
    if !verdict.problems.is_empty() {
        for problem in verdict.problems.iter().take(20) {
            print_line(&format!("  wrong: {problem}"));
        }
        bail!(
            "the verdict is bad: {} things are wrong",
            verdict.problems.len()
        );
    }
    print_line(
        "Verdict: the stored state equals the file, and every transaction was announced exactly once.",
    );
    match stopped {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

pub(crate) fn print_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

struct LoadedRows {
    rows: Vec<pkdd::PkddRow>,
    skipped_rows: Vec<String>,
    stop_reason: Option<String>,
}

fn load_rows(bytes: &[u8], skip_bad_rows: bool) -> anyhow::Result<LoadedRows> {
    let mut loaded = LoadedRows {
        rows: Vec::new(),
        skipped_rows: Vec::new(),
        stop_reason: None,
    };
    for row in pkdd::PkddReader::new(bytes)? {
        match row {
            Ok(row) => loaded.rows.push(row),
            Err(error) if skip_bad_rows => loaded.skipped_rows.push(error.to_string()),
            Err(error) => {
                loaded.stop_reason = Some(error.to_string());
                break;
            }
        }
    }
    Ok(loaded)
}

struct ReplayRun {
    system: LocalSystem,
    refresher: Refresher,
    receiver: WebhookReceiver,
    latencies: Arc<DeliveryLatencies>,
    clock: Clock,
    bank: pkdd::ReplayBank,
    api: ApiClient,
    /// The record of each of the bank's accounts.
    records: HashMap<String, RecordId>,
    next_day: Date,
    refresh_totals: ChunkReport,
    injector: Option<Injector>,
    _tasks: JoinSet<()>,
}

impl ReplayRun {
    async fn open_or_resume(
        options: &GlobalOptions,
        args: &ReplayArgs,
        file: &str,
        first: Date,
        bank: pkdd::ReplayBank,
        mut injector: Option<Injector>,
    ) -> anyhow::Result<Self> {
        let folder = options.data.join("replay");
        let (api_port, bank_port, hook_port) = (
            bind_local_port(options.port).await?,
            bind_local_port(options.port + 1).await?,
            bind_local_port(options.port + 2).await?,
        );
        if args.fresh {
            remove_folder(&folder)?;
        }
        let clock = Clock::manual_at(noon_of_day(first));
        let own = GlobalOptions {
            data: folder.clone(),
            ..options.clone()
        };
        let mut process = LocalSystem::open_data_folder(&own, clock.clone()).await?;
        let mut progress = load_progress(&process.environment.store).await?;
        if progress.as_ref().is_some_and(|it| it.finished) {
            drop(process);
            remove_folder(&folder)?;
            process = LocalSystem::open_data_folder(&own, clock.clone()).await?;
            progress = None;
        }
        if let Some(progress) = &progress {
            ensure!(
                progress.file == file,
                "{} holds an interrupted replay of another file; --fresh forgets it",
                folder.display()
            );
            ensure!(
                progress.inject == args.inject,
                "{} holds an interrupted replay with another --inject; --fresh forgets it",
                folder.display()
            );
            print_line(&format!(
                "Going on with an interrupted replay, from {}.",
                progress.next
            ));
        }
        let next = progress.map_or(first, |progress| progress.next);
        // The bank is new; what was injected before the interruption is injected again.
        if let Some(injector) = &mut injector {
            let mut date = first;
            while date < next {
                bank.advance_to(date);
                injector.play_day(date, &bank)?;
                date = date.tomorrow()?;
            }
        }

        let environment = &process.environment;
        environment
            .store
            .put_bank(&BankConfig {
                id: REPLAY_BANK_ID,
                name: "Replayed bank".to_owned(),
                slug: "replayed-bank".to_owned(),
                standard: BankStandard::Obie31,
                base_url: format!(
                    "http://127.0.0.1:{}{}",
                    options.port + 1,
                    SandboxBank::base_path(BankStandard::Obie31)
                ),
                financial_id: None,
                oauth: None,
                country: "CZ".to_owned(),
                limits: BankLimits {
                    records_per_second: UNLIMITED_RATE,
                    ..BankLimits::default()
                },
            })
            .await?;
        let latencies = Arc::new(DeliveryLatencies::default());
        let refresher = environment
            .build_refresher()
            .with_observer(latencies.clone());
        let mut delivering = environment.clone();
        // Webhooks are signed and timed by the real clock: receivers refuse old signatures.
        delivering.clock = Clock::system();
        let deliverer = Arc::new(
            delivering
                .build_deliverer_with_rate(
                    okra_core::resilience::rate_limiter::SendRate::from_per_second(
                        REPLAY_WEBHOOKS_PER_SECOND,
                    ),
                )?
                .with_observer(latencies.clone()),
        );
        let mut tasks = JoinSet::new();
        process.start_workers(&mut tasks, &refresher, &deliverer);
        process.serve_api(&mut tasks, api_port, None);
        serve_router(&mut tasks, bank_port, bank.sandbox_bank().api_router());
        let receiver =
            WebhookReceiver::open_durable(&folder.join("received.jsonl"), Arc::new(|_, _, _| {}))?;
        serve_router(&mut tasks, hook_port, receiver.webhook_router());
        let hook = format!("http://127.0.0.1:{}/hook", options.port + 2);
        let app =
            set_up_replay_app(&folder.join("app.json"), &process, options.port, &hook).await?;
        receiver.set_signing_secret(&app.webhook_secret)?;
        let api = ApiClient::new(options.port, &app.secret_key)?;
        let records = load_linked_records(&process.environment.store, app.app).await?;
        Ok(Self {
            system: process,
            refresher,
            receiver,
            latencies,
            clock,
            bank,
            api,
            records,
            next_day: next,
            refresh_totals: ChunkReport::default(),
            injector,
            _tasks: tasks,
        })
    }

    /// Plays the days up to `last`.
    async fn play_days(&mut self, last: Date, file: &str) -> anyhow::Result<()> {
        let days = (last - self.next_day).get_days() + 1;
        let bar = ProgressBar::new(u64::try_from(days).unwrap_or(0));
        let style = "{bar:30} {pos}/{len} days  {msg}  ETA {eta}";
        bar.set_style(ProgressStyle::with_template(style)?);
        let started = Instant::now();
        let mut date = self.next_day;
        while date <= last {
            self.wait_for_backfill_steps().await?;
            self.clock.set_time(noon_of_day(date));
            let today = self.bank.advance_to(date);
            if let Some(injector) = &mut self.injector {
                injector.play_day(date, &self.bank)?;
            }
            self.link_new_logins(&today.new_logins).await?;
            self.refresh_day(date).await?;
            self.wait_for_backlog().await;
            date = date.tomorrow()?;
            let progress = ReplayProgress {
                file: file.to_owned(),
                inject: self.injector.as_ref().map(Injector::seed),
                next: date,
                finished: false,
            };
            self.system
                .environment
                .store
                .put_system_state(REPLAY_STATE, &json!(progress))
                .await?;
            bar.inc(1);
            let refreshes = self.refresh_totals.unchanged + self.refresh_totals.changed;
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = refreshes as f64 / started.elapsed().as_secs_f64();
            bar.set_message(format!(
                "{}  {refreshes} refreshes, {rate:.0}/s",
                date.strftime("%Y-%m-%d")
            ));
        }
        bar.finish();
        Ok(())
    }

    /// Links the accounts that appeared, through the API, refreshed every minute: one slot holds them
    /// all, so that one read finds what is due on a simulated day.
    async fn link_new_logins(&mut self, logins: &[LoginId]) -> anyhow::Result<()> {
        for &login in logins {
            let view = self
                .bank
                .sandbox_bank()
                .find_login(login)
                .context("a login")?;
            let account = view
                .accounts
                .first()
                .context("an account")?
                .account_id
                .clone();
            if self.records.contains_key(&account) {
                continue;
            }
            let body = json!({
                "name": view.name, "bank": REPLAY_BANK_ID, "interval": "one_minute",
                "access_token": self.bank.sandbox_bank().link_login(login)?.as_str(),
            });
            let linked = self.api.post_json("records/link", &body).await?;
            let record = linked["record_id"].as_str().context("a record")?.parse()?;
            self.records.insert(account, record);
        }
        Ok(())
    }

    /// Refreshes every record once.
    async fn refresh_day(&mut self, date: Date) -> anyhow::Result<()> {
        let interval = Interval::OneMinute;
        let due = self
            .system
            .environment
            .store
            .list_due_entries(interval, Slot(0))
            .await?;
        let tick = Tick {
            interval,
            at: noon_of_day(date),
        };
        let chunks = plan_tick(tick, due, |_| BankRate::from_per_second(UNLIMITED_RATE)).chunks;
        let refreshed = stream::iter(
            chunks
                .into_iter()
                .map(|chunk| self.refresher.refresh_chunk(chunk, false)),
        )
        .buffer_unordered(CONCURRENT_CHUNKS);
        let reports: Vec<ChunkReport> = refreshed
            .try_collect()
            .await
            .with_context(|| format!("{date} could not be played"))?;
        for report in reports {
            ensure!(
                report.failed == 0,
                "{date}: {} refreshes failed",
                report.failed
            );
            self.refresh_totals += report;
        }
        Ok(())
    }

    /// Waits until no step of a history is under way: one that saw the day change would find a bank's pace taken
    /// for a day ahead, and come again when nobody waits for it any more.
    async fn wait_for_backfill_steps(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        while let Some(depth) = self.system.emulator.queue_depth("fetch")
            && depth.visible + depth.in_flight > 0
        {
            ensure!(
                since.elapsed() < PROGRESS_TIMEOUT,
                "{} steps of histories are under way, for a minute",
                depth.in_flight
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Waits while too many webhooks are under way.
    async fn wait_for_backlog(&self) {
        while self.latencies.unacknowledged_count() > MAX_WEBHOOK_BACKLOG {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the last webhooks: each number of each feed is one event, and feeds grow until the
    /// histories are pulled.
    async fn drain_webhooks(&self) -> anyhow::Result<()> {
        let (mut arrived, mut since) = (self.receiver.len(), Instant::now());
        loop {
            // Looked at first: what is still fetched may commit more.
            let fetching = self
                .system
                .emulator
                .queue_depth("fetch")
                .is_some_and(|depth| depth.visible + depth.in_flight + depth.delayed > 0);
            let expected = self.count_feed_entries().await?;
            if !fetching && self.receiver.len() as u64 >= expected {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
            let now = self.receiver.len();
            if now > arrived {
                (arrived, since) = (now, Instant::now());
            }
            if since.elapsed() > PROGRESS_TIMEOUT {
                bail!("{arrived} of {expected} webhooks arrived, and no more for a minute");
            }
        }
    }

    /// Entries of all feeds.
    async fn count_feed_entries(&self) -> anyhow::Result<u64> {
        let mut committed = 0;
        for &record in self.records.values() {
            let store = &self.system.environment.store;
            let head = store.find_head(record, Consistency::Strong).await?;
            committed += head.context("a record")?.seq.0;
        }
        Ok(committed)
    }
}

/// 12:00 UTC of a day.
fn noon_of_day(date: Date) -> jiff::Timestamp {
    Offset::UTC
        .to_timestamp(date.at(12, 0, 0, 0))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn remove_folder(folder: &PathBuf) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn load_progress(store: &Store) -> anyhow::Result<Option<ReplayProgress>> {
    Ok(store
        .find_system_state(REPLAY_STATE)
        .await?
        .map(serde_json::from_value)
        .transpose()?)
}

/// The app of an interrupted replay, or a new one; its endpoint follows the port.
async fn set_up_replay_app(
    path: &PathBuf,
    system: &LocalSystem,
    port: u16,
    hook: &str,
) -> anyhow::Result<ReplayApp> {
    let environment = &system.environment;
    let known: Option<ReplayApp> = match fs::read(path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
        Err(_) => None,
    };
    if let Some(known) = known {
        ensure!(
            known.hook == hook,
            "the interrupted replay told {}: go on with its --port, or forget it with --fresh",
            known.hook
        );
        return Ok(known);
    }
    let (app, secret_key) = create_app(
        &environment.store,
        "replay",
        okra_core::model::snapshot::Environment::Sandbox,
        &environment.clock,
    )
    .await?;
    let set = ApiClient::new(port, &secret_key)?
        .post_json("webhooks/set", &json!({ "url": hook }))
        .await?;
    let webhook_secret = set["secret"]
        .as_str()
        .context("a signing secret")?
        .to_owned();
    let known = ReplayApp {
        app,
        secret_key,
        webhook_secret,
        hook: hook.to_owned(),
    };
    write_private_file(path, &serde_json::to_vec(&known)?)?;
    Ok(known)
}

/// The records that an interrupted replay had linked, by the bank's account.
async fn load_linked_records(
    store: &Store,
    app: AppId,
) -> anyhow::Result<HashMap<String, RecordId>> {
    let (mut records, mut after) = (HashMap::new(), None);
    loop {
        let page = store.list_records_of_app(app, after, 100).await?;
        for head in &page.items {
            let consent = store.find_consent(head.record, Consistency::Strong).await?;
            for account in consent.context("a consent")?.accounts {
                records.insert(account.bank_account_id, head.record);
            }
        }
        after = page.next_cursor;
        if after.is_none() {
            return Ok(records);
        }
    }
}
