//! A rule's call: what is due this minute is planned ([`plan_tick`]) and refreshed or enqueued.
//!
//! The rule: a tick that is delivered twice plans the same chunks, and all intervals together never plan more than a
//! bank's rate (law 9).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    error_chain::error_chain,
    model::{
        ids::BankId,
        interval::{Interval, Tick},
    },
    schedule::plan::{BankRate, Chunk, DueEntry, divide_fairly, is_long_interval, plan_tick},
};
use okra_queue::ChunkQueue;
use tokio::time::timeout;

use crate::{ChunkReport, RefreshError, Refresher, TickReport};

/// Records refreshed in the planner's own process at most; more go through the fetch queue. Below
/// this a message, and another function's start, cost more than the calls.
const MAX_INLINE_RECORDS: usize = 25;

/// The longest deadline of a bank's calls, in milliseconds, with which its records are refreshed in the planner's own
/// process: a slower bank's go through the fetch queue, whose messages do not wait for each other.
const MAX_INLINE_DEADLINE_MS: u32 = 15_000;

/// How long one chunk may take in the planner's own process: less than the function has for the whole tick.
const INLINE_CHUNK_TIME: Duration = Duration::from_secs(45);

/// The time in which the chunks of a tick begin.
const TICK_DURATION: SignedDuration = SignedDuration::from_mins(1);

impl Refresher {
    /// Refreshes what is due in the minute of `tick`, or enqueues it. A tick that comes after the next one is dropped. A
    /// rule whose interval has no records is disabled.
    #[tracing::instrument(name = "tick", skip_all, fields(tick.interval = %tick.interval, tick.at = %tick.at))]
    pub async fn run_tick(&self, tick: Tick) -> Result<TickReport, RefreshError> {
        if self.clock.now() > tick.not_after() {
            return Ok(TickReport::default());
        }
        let mut due = self
            .store
            .list_due_entries(tick.interval, tick.slot())
            .await?;
        if due.is_empty() {
            self.disable_idle_rule(tick.interval).await?;
            return Ok(TickReport::default());
        }
        let total = due.len();
        let skipped = self.skip_known_outages(tick, &mut due).await?;
        let rates = self.bank_rates_for_tick(tick, &due).await?;
        let slowest = BankRate::from_per_second(1);
        let plan = plan_tick(tick, due, |bank| {
            rates.get(&bank).copied().unwrap_or(slowest)
        });
        let mut report = TickReport {
            due: total,
            down: skipped,
            unattainable: plan.unreachable_records,
            ..TickReport::default()
        };
        let (mut inline, mut queued) = (Vec::new(), plan.chunks);
        if total <= MAX_INLINE_RECORDS {
            let slow_banks = self.find_slow_banks(rates.keys()).await;
            (inline, queued) = queued
                .into_iter()
                .partition(|chunk| chunk.delay_s == 0 && !slow_banks.contains(&chunk.bank));
        }
        // What the queue carries is handed over first: it does not wait for the rest.
        if !queued.is_empty() {
            self.queues
                .send_chunks(ChunkQueue::Scheduled, &queued)
                .await?;
            report.chunks = queued.len();
        }
        if !inline.is_empty() {
            report.inline = Some(self.refresh_inline(inline).await?);
        }
        Ok(report)
    }

    /// Refreshes chunks side by side, so that no bank waits for another's, each within its own time.
    async fn refresh_inline(&self, chunks: Vec<Chunk>) -> Result<ChunkReport, RefreshError> {
        let work = chunks
            .into_iter()
            .map(|chunk| self.refresh_inline_chunk(chunk));
        // Each to its end, before the first that could not be handed over is returned.
        let mut total = ChunkReport::default();
        for report in join_all(work).await {
            total += report?;
        }
        Ok(total)
    }

    /// Refreshes a chunk of the tick. One that fails for a fault of our own, or takes too long, comes again through the
    /// fetch queue where its next tick is far off; the other chunks are not concerned (law 7).
    async fn refresh_inline_chunk(&self, chunk: Chunk) -> Result<ChunkReport, RefreshError> {
        let mut later = chunk.clone();
        match timeout(INLINE_CHUNK_TIME, self.refresh_chunk(chunk, false)).await {
            Ok(Ok(report)) => return Ok(report),
            Ok(Err(error)) => tracing::error!(
                error = %error_chain(&error),
                chunk.id = later.id,
                bank.id = %later.bank,
                "A chunk of a tick failed"
            ),
            Err(_) => tracing::warn!(
                chunk.id = later.id,
                bank.id = %later.bank,
                "A chunk of a tick took too long"
            ),
        }
        let records = std::mem::take(&mut later.records);
        Ok(ChunkReport {
            failed: records.len(),
            requeued: self.requeue_records(&later, records, 0).await?,
            ..ChunkReport::default()
        })
    }

    /// Leaves out the records of banks that are down until after the tick and whose apps know it; returns how many. Those
    /// of long intervals are planned all the same: their chunks are requeued until the bank is back.
    async fn skip_known_outages(
        &self,
        tick: Tick,
        due: &mut Vec<DueEntry>,
    ) -> Result<usize, RefreshError> {
        if is_long_interval(tick.interval) {
            return Ok(0);
        }
        let breakers = self.store.list_bank_breakers().await?;
        // The last minute that there is has no end.
        let end = tick
            .at
            .saturating_add(TICK_DURATION)
            .unwrap_or(Timestamp::MAX);
        let total = due.len();
        due.retain(|entry| {
            let breaker = breakers.get(&entry.key.bank);
            !breaker.is_some_and(|breaker| breaker.skips_record(entry.failure_state.as_ref(), end))
        });
        Ok(total - due.len())
    }

    /// The banks whose calls may take so long that their records go through the fetch queue. One whose configuration
    /// cannot be read is none: its chunk fails with the reason.
    async fn find_slow_banks(&self, banks: impl Iterator<Item = &BankId>) -> HashSet<BankId> {
        let mut slow = HashSet::new();
        for &bank in banks {
            let config = self.bank_config(bank).await;
            if config.is_ok_and(|config| config.limits.deadline_ms > MAX_INLINE_DEADLINE_MS) {
                slow.insert(bank);
            }
        }
        slow
    }

    /// The rate of each bank that has something due.
    async fn bank_rates_for_tick(
        &self,
        tick: Tick,
        due: &[DueEntry],
    ) -> Result<HashMap<BankId, BankRate>, RefreshError> {
        let mut counts: BTreeMap<BankId, usize> = BTreeMap::new();
        for entry in due {
            *counts.entry(entry.key.bank).or_default() += 1;
        }
        let mut rates = HashMap::with_capacity(counts.len());
        for (bank, count) in counts {
            rates.insert(bank, self.bank_rate_for_tick(tick, bank, count).await?);
        }
        Ok(rates)
    }

    /// What this tick may fetch of a bank: all that the bank allows, or a fair share where several
    /// intervals want more than that in one minute. Ticks do not talk to each other; each sees the same
    /// entries and comes to the same division.
    async fn bank_rate_for_tick(
        &self,
        tick: Tick,
        bank: BankId,
        due_count: usize,
    ) -> Result<BankRate, RefreshError> {
        // A bank whose configuration is missing or cannot be read must not stop the tick for all others: it is planned
        // at the slowest rate, and its chunk fails with the reason.
        let rate = match self.bank_config(bank).await {
            Ok(config) => config.limits.records_per_second.max(1),
            Err(_) => 1,
        };
        let whole = BankRate::from_per_second(rate);
        if to_demand(due_count) <= whole.guaranteed_per_minute() {
            return Ok(whole);
        }
        let mut demands = Vec::with_capacity(Interval::ALL.len());
        for interval in Interval::ALL {
            let count = if interval == tick.interval {
                due_count
            } else {
                let slot = interval.slot_at(tick.at);
                self.store.count_due_of_bank(interval, slot, bank).await?
            };
            demands.push(to_demand(count));
        }
        let shares = divide_fairly(&demands, whole.per_minute);
        let ours = Interval::ALL.iter().zip(shares);
        let ours = ours.filter(|(interval, _)| **interval == tick.interval);
        Ok(whole.with_per_minute(ours.map(|(_, share)| share).sum()))
    }

    /// Disables the rule of an interval that has no records at all. A record linked at the same
    /// moment may have enabled it just before, so the count is read again afterwards.
    async fn disable_idle_rule(&self, interval: Interval) -> Result<(), RefreshError> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        if self.store.count_interval_entries(interval).await? > 0 {
            return Ok(());
        }
        rules.disable_rule(interval).await?;
        if self.store.count_interval_entries(interval).await? > 0 {
            rules.enable_rule(interval).await?;
        }
        Ok(())
    }
}

/// A count as a demand on a rate: more than `u32::MAX` records a minute is more than any rate grants.
fn to_demand(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
