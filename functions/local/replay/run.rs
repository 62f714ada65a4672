//! A running replay: [`ReplayRun`] plays the days, each refreshed and delivered before the next.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;
use okra_aws::Clock;
use okra_core::{
    model::{
        ids::{BankId, RecordId},
        interval::{Interval, Slot, Tick},
    },
    schedule::plan::{BankRate, plan_tick},
};
use okra_emulator::{QueueDepth, QueueDepthError};
use okra_refresh::{ChunkReport, Refresher};
use okra_sandbox::{LoginId, pkdd::ReplayBank};
use okra_store::Consistency;
use serde::Deserialize;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{
    days::noon_of_day,
    inject::Injector,
    progress::ReplayProgress,
    report::{DeliveryLatencies, rate_per_second},
};
use crate::{api_client::ApiClient, receiver::WebhookReceiver, system::LocalSystem};

/// The bank that the file's accounts are at.
pub(super) const REPLAY_BANK_ID: BankId = BankId::from_bytes([0x99; 12]);

/// Most records refreshed per second: as good as no limit, for the bank is ours.
pub(super) const UNLIMITED_RATE: u32 = 1_000_000;

/// Chunks refreshed at once.
const CONCURRENT_CHUNKS: usize = 4;

/// Most webhooks under way when the next day is played.
const MAX_WEBHOOK_BACKLOG: usize = 4_000;

/// How long the replay waits for backfill steps and webhooks while there is no progress.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct LinkedRecord {
    record_id: RecordId,
}

/// A replay that is open.
pub(super) struct ReplayRun {
    pub(super) system: LocalSystem,
    pub(super) refresher: Refresher,
    pub(super) receiver: WebhookReceiver,
    pub(super) latencies: Arc<DeliveryLatencies>,
    pub(super) clock: Clock,
    pub(super) bank: ReplayBank,
    pub(super) api: ApiClient,
    /// The record of each of the bank's accounts.
    pub(super) records: HashMap<String, RecordId>,
    /// SHA-256 of the file.
    pub(super) file_digest: String,
    pub(super) next_day: Date,
    pub(super) refresh_totals: ChunkReport,
    pub(super) injector: Option<Injector>,
    pub(super) _tasks: JoinSet<()>,
}

impl ReplayRun {
    /// Plays the days up to and including `last_day`.
    pub(super) async fn play_days(&mut self, last_day: Date) -> anyhow::Result<()> {
        let days = (last_day - self.next_day).get_days() + 1;
        // A resumed replay may have no days left.
        let bar = ProgressBar::new(u64::try_from(days).unwrap_or(0));
        let style = "{bar:30} {pos}/{len} days  {msg}  ETA {eta}";
        bar.set_style(ProgressStyle::with_template(style)?);
        let started = Instant::now();
        let mut date = self.next_day;
        while date <= last_day {
            self.play_day(date).await?;
            date = date.tomorrow()?;
            let progress = ReplayProgress {
                file_digest: self.file_digest.clone(),
                injection_seed: self.injector.as_ref().map(Injector::seed),
                next_day: date,
                is_finished: false,
            };
            progress.save(&self.system.environment.store).await?;
            bar.inc(1);
            let refreshes = self.refresh_totals.unchanged + self.refresh_totals.changed;
            bar.set_message(format!(
                "{}  {refreshes} refreshes, {}/s",
                date.strftime("%Y-%m-%d"),
                rate_per_second(refreshes, started.elapsed())
            ));
        }
        bar.finish();
        Ok(())
    }

    /// Moves the clock and the bank to a day, and refreshes every record once.
    async fn play_day(&mut self, date: Date) -> anyhow::Result<()> {
        self.wait_for_backfill_steps().await?;
        self.clock.set_time(noon_of_day(date));
        let report = self.bank.advance_to(date);
        if let Some(injector) = &mut self.injector {
            injector.play_day(date, &self.bank)?;
        }
        self.link_new_logins(&report.new_logins).await?;
        self.refresh_day(date).await?;
        self.wait_for_backlog().await;
        Ok(())
    }

    /// Links the accounts that appeared, through the API, with an interval of one minute: one slot then holds all records,
    /// so that one read finds what is due on a simulated day.
    async fn link_new_logins(&mut self, logins: &[LoginId]) -> anyhow::Result<()> {
        let bank = self.bank.sandbox_bank();
        for &login in logins {
            let view = bank
                .find_login(login)
                .context("the bank lacks a login of the day")?;
            let account = view
                .accounts
                .first()
                .context("a login of the day has no account")?;
            if self.records.contains_key(&account.account_id) {
                continue;
            }
            let body = json!({
                "name": view.name, "bank": REPLAY_BANK_ID, "interval": "one_minute",
                "access_token": bank.link_login(login)?.as_str(),
            });
            let linked: LinkedRecord = self.api.post_json("records/link", &body).await?;
            self.records
                .insert(account.account_id.clone(), linked.record_id);
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

    /// How many chunks and backfill steps are queued; `None` where the queues are not the embedded ones.
    fn fetch_queue_depth(&self) -> anyhow::Result<Option<QueueDepth>> {
        match self.system.emulator.queue_depth("fetch") {
            Ok(depth) => Ok(Some(depth)),
            Err(QueueDepthError::NoQueue) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until no backfill step is under way. A step that saw the day change would find the bank's rate limit reserved
    /// for a day ahead, and would be requeued past the end of the replay.
    async fn wait_for_backfill_steps(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Some(depth) = self.fetch_queue_depth()?
            && depth.visible + depth.in_flight > 0
        {
            ensure!(
                started.elapsed() < PROGRESS_TIMEOUT,
                "{} backfill steps did not finish within a minute",
                depth.visible + depth.in_flight
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

    /// Waits for the last webhooks: each entry of each feed is one event, and feeds grow until all backfills are complete.
    pub(super) async fn drain_webhooks(&self) -> anyhow::Result<()> {
        let (mut received, mut progressed_at) = (self.receiver.len(), Instant::now());
        loop {
            // Read before the feeds: what is still queued may commit more.
            let is_fetching = self
                .fetch_queue_depth()?
                .is_some_and(|depth| depth.visible + depth.in_flight + depth.delayed > 0);
            let expected = self.count_feed_entries().await?;
            if !is_fetching && self.receiver.len() as u64 >= expected {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
            let now = self.receiver.len();
            if now > received {
                (received, progressed_at) = (now, Instant::now());
            }
            if progressed_at.elapsed() > PROGRESS_TIMEOUT {
                bail!("{received} of {expected} webhooks arrived, and none within the last minute");
            }
        }
    }

    /// Counts the entries of all feeds.
    async fn count_feed_entries(&self) -> anyhow::Result<u64> {
        let mut committed = 0;
        for &record in self.records.values() {
            let store = &self.system.environment.store;
            let head = store.find_head(record, Consistency::Strong).await?;
            let head = head.with_context(|| format!("record {record} has no head"))?;
            committed += head.seq.0;
        }
        Ok(committed)
    }
}
