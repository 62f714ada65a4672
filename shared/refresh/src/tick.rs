//! A rule's call: what is due this minute, planned and sent off.

use std::collections::{BTreeSet, HashMap};

use okra_core::{
    plan::{Pace, plan},
    schedule::{Interval, Tick},
};
use okra_queue::Lane;

use crate::{ChunkReport, RefreshError, Refresher, TickReport};

/// Records refreshed in the planner's own process at most; more go through the fetch queue. Below
/// this a message, and another function's start, cost more than the calls.
const MAX_INLINE_RECORDS: usize = 25;

impl Refresher {
    /// Refreshes what is due in the minute of `tick`, or enqueues it. Called twice for one tick it
    /// plans the same chunks, which does no harm. A rule whose interval has no records is disabled.
    pub async fn tick(&self, tick: Tick) -> Result<TickReport, RefreshError> {
        if self.clock.now() > tick.not_after() {
            return Ok(TickReport::default());
        }
        let mut due = self.store.due(tick.interval, tick.slot()).await?;
        if due.is_empty() {
            self.rest(tick.interval).await?;
            return Ok(TickReport::default());
        }
        let (mut paces, mut attended) = (HashMap::new(), BTreeSet::new());
        for bank in due
            .iter()
            .map(|entry| entry.key.bank)
            .collect::<BTreeSet<_>>()
        {
            // An unconfigured bank is planned at the slowest pace; its chunk says what is wrong.
            let limits = self.bank(bank).await.map(|config| config.limits);
            if limits.as_ref().is_ok_and(|it| it.user_present_only) {
                attended.insert(bank);
            }
            let rate = limits.map_or(1, |limits| limits.records_per_second);
            paces.insert(
                bank,
                Pace {
                    records_per_second: rate,
                },
            );
        }
        // A bank that wants the user there is asked when he is.
        due.retain(|entry| !attended.contains(&entry.key.bank));
        let total = due.len();
        let slowest = Pace {
            records_per_second: 1,
        };
        let plan = plan(tick, due, |bank| {
            paces.get(&bank).copied().unwrap_or(slowest)
        });
        let mut report = TickReport {
            due: total,
            unattainable: plan.unattainable,
            ..TickReport::default()
        };
        if total <= MAX_INLINE_RECORDS && plan.chunks.iter().all(|chunk| chunk.delay_s == 0) {
            let mut inline = ChunkReport::default();
            for chunk in plan.chunks {
                inline += self.chunk(chunk, false).await?;
            }
            report.inline = Some(inline);
        } else {
            self.queues
                .send_chunks(Lane::Scheduled, &plan.chunks)
                .await?;
            report.chunks = plan.chunks.len();
        }
        Ok(report)
    }

    /// Disables the rule of an interval that has no records at all. A record linked at the same
    /// moment may have enabled it just before, so the count is read again afterwards.
    async fn rest(&self, interval: Interval) -> Result<(), RefreshError> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        if self.store.interval_count(interval).await? > 0 {
            return Ok(());
        }
        rules.disable(interval).await?;
        if self.store.interval_count(interval).await? > 0 {
            rules.enable(interval).await?;
        }
        Ok(())
    }
}
