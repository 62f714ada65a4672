//! The commit pipeline, once for everything that enters a record's feed: a refresh, a step of a backfill, a change of
//! state.
//!
//! ```text
//! unsettle the state stream -> commit -> project -> dispatch -> advance
//! |-------------------- publish ---------------------------|   |- advance -|
//! ```
//!
//! [`CommitPipeline::publish`] takes a [`CommitRequest`] as far as the delivery queue; [`CommitPipeline::advance`] then
//! says in the due entries that it was dispatched. The rule: each effect can be repeated, and a due entry never says more
//! than was done. So a crash between any two of them leaves a due entry that is behind its head, and
//! [`CommitPipeline::repair_dispatch`] projects and dispatches what lies between again.

use std::borrow::Cow;

use jiff::Timestamp;
use okra_core::{
    backfill::progress::Backfill,
    model::{
        ids::{RecordId, Seq},
        interval::DueKey,
        snapshot::ByProduct,
    },
    refresh::{
        commit_plan::{
            DispatchRange, DueSettlement, dispatched_seq, interim_watermarks, last_settled_seq,
            undispatched_ranges,
        },
        outcome::DispatchedChanges,
    },
    schedule::{consent_clock::ConsentClock, plan::DueEntry},
    sync::{
        decide::Watermark,
        feed::{Change, FeedEntry, FeedStream, MAX_ENTRIES_PER_COMMIT},
        state::RecordStatus,
    },
};
use okra_queue::{FeedDispatch, Queues};
use okra_store::{CommitError, Consistency, RecordCommit, RecordHead, Store};

use crate::{RefreshError, report::RefreshObserver};

/// Feed entries that a repair reads at once.
const REPAIR_PAGE_SIZE: usize = 500;

/// Pages of undispatched feed entries that one refresh repairs.
const MAX_REPAIR_PAGES: usize = 40;

/// Bytes of feed entries in one commit at most: a DynamoDB transaction holds 4 MB.
const MAX_COMMIT_BYTES: usize = 3_000_000;

/// The pipeline with what it writes to.
#[derive(Clone, Copy)]
pub(crate) struct CommitPipeline<'a> {
    pub(crate) store: &'a Store,
    pub(crate) queues: &'a Queues,
    pub(crate) observer: &'a dyn RefreshObserver,
}

/// What is stored in the transaction that moves the head.
#[derive(Clone, Copy)]
pub(crate) enum CommitExtra<'a> {
    /// Nothing.
    None,
    /// How far the backfill has come.
    Backfill(&'a Backfill),
    /// That notices of the consent's end were given.
    ConsentNotices {
        before: ConsentClock,
        after: ConsentClock,
    },
}

/// What is to be committed and dispatched.
#[derive(Clone, Copy)]
pub(crate) struct CommitRequest<'a> {
    /// The head as it was read.
    pub(crate) head: &'a RecordHead,
    /// The due entry whose products the entries are of; `None` for changes of state alone.
    pub(crate) due: Option<&'a DueEntry>,
    /// The entries, numbered from the head's on.
    pub(crate) entries: &'a [FeedEntry],
    /// What is committed of the due entry's products after them.
    pub(crate) watermarks: ByProduct<Watermark>,
    /// The record's status, where it is another.
    pub(crate) status: Option<RecordStatus>,
    pub(crate) extra: CommitExtra<'a>,
    /// The time of the commit.
    pub(crate) now: Timestamp,
}

impl CommitRequest<'_> {
    pub(crate) fn has_state_changes(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| matches!(entry.change, Change::State(_)))
    }

    /// True where the head says something else, so that it has to be written.
    fn changes_head(&self) -> bool {
        let mut watermarks = self.watermarks.iter();
        !self.entries.is_empty()
            || self.status.is_some()
            || watermarks
                .any(|(product, watermark)| self.head.watermarks.get(product) != Some(watermark))
    }
}

/// How far the state stream was dispatched, and the due entry that says so.
#[derive(Clone, Copy)]
struct StateWatermark {
    dispatched: Seq,
    /// `None` where no due entry of the record holds the state stream.
    carrier: Option<DueKey>,
}

/// What was committed, projected and dispatched.
pub(crate) struct PublishedCommit {
    /// The head after the commit; `None` where nothing had to be committed.
    pub(crate) head: Option<RecordHead>,
    /// The number of the record's last change of state.
    pub(crate) state_seq: Seq,
    pub(crate) has_state_changes: bool,
    pub(crate) changes: DispatchedChanges,
    state_watermark: Option<StateWatermark>,
}

/// How a commit ended.
pub(crate) enum PublishOutcome {
    Published(Box<PublishedCommit>),
    /// Another commit came first; nothing was written.
    Conflict,
}

/// What becomes of the due entry of a published commit.
pub(crate) enum DueUpdate<'a> {
    /// The commit is of no due entry.
    None,
    /// The watermarks move forward; what was wrong stays.
    Advance {
        due: &'a DueEntry,
        watermarks: ByProduct<Watermark>,
    },
    /// All of it is replaced, where it says something else.
    Settle {
        due: &'a DueEntry,
        settlement: DueSettlement,
    },
}

impl CommitPipeline<'_> {
    /// Commits, projects and dispatches. `repaired` is what the refresh dispatched before.
    #[tracing::instrument(level = "debug", name = "commit", skip_all, fields(record.id = %request.head.record, entries = request.entries.len()))]
    pub(crate) async fn publish(
        &self,
        request: CommitRequest<'_>,
        repaired: DispatchedChanges,
    ) -> Result<PublishOutcome, RefreshError> {
        let state_watermark = self.unsettle_state_stream(&request).await?;
        let mut head = None;
        if request.changes_head() {
            match self.commit_entries(&request).await {
                Ok(committed) => head = Some(committed),
                Err(CommitError::Conflict) => return Ok(PublishOutcome::Conflict),
                Err(error) => return Err(RefreshError::Commit(error)),
            }
            if let (Some(first), Some(last)) = (request.entries.first(), request.entries.last()) {
                let record = request.head.record;
                self.observer
                    .on_entries_committed(record, first.seq, last.seq);
            }
            self.store.project_entries(request.entries).await?;
        }
        let state_seq = head.as_ref().unwrap_or(request.head).state_seq;
        let mut changes = repaired;
        changes.count_entries(request.entries);
        let states = state_watermark.and_then(|watermark| {
            DispatchRange::between(FeedStream::State, watermark.dispatched, state_seq)
        });
        let products = request
            .due
            .into_iter()
            .flat_map(|due| undispatched_ranges(due, &request.watermarks));
        let ranges: Vec<DispatchRange> = products.chain(states).collect();
        for range in &ranges {
            changes.include_range(range);
        }
        self.dispatch_ranges(request.head.record, &ranges).await?;
        Ok(PublishOutcome::Published(Box::new(PublishedCommit {
            head,
            state_seq,
            has_state_changes: request.has_state_changes(),
            changes,
            state_watermark,
        })))
    }

    /// Says in the due entries that a commit was dispatched.
    pub(crate) async fn advance(
        &self,
        published: &PublishedCommit,
        update: DueUpdate<'_>,
    ) -> Result<(), RefreshError> {
        let state_seq = published.state_seq;
        let advanced = match update {
            DueUpdate::None => None,
            DueUpdate::Advance { due, watermarks } => {
                let state = due.state_seq.map(|_| state_seq);
                self.store
                    .advance_watermarks(due.key, watermarks, state)
                    .await?;
                Some(due.key)
            }
            DueUpdate::Settle { due, settlement } => {
                if settlement.changes_entry(due) {
                    let state = due.state_seq.map(|_| state_seq);
                    let DueSettlement {
                        watermarks,
                        failure_state,
                        ..
                    } = settlement;
                    self.store
                        .settle_due_entry(due.key, watermarks, state, failure_state)
                        .await?;
                }
                Some(due.key)
            }
        };
        // The state stream may be on another of the record's due entries.
        if let Some(watermark) = published.state_watermark
            && let Some(carrier) = watermark.carrier
            && advanced != Some(carrier)
            && watermark.dispatched < state_seq
        {
            let products = ByProduct::default();
            self.store
                .advance_watermarks(carrier, products, Some(state_seq))
                .await?;
        }
        Ok(())
    }

    /// Projects and dispatches again what was committed but perhaps not dispatched. Returns what that changes; the
    /// numbers are added by the [`publish`](Self::publish) that follows.
    pub(crate) async fn repair_dispatch(
        &self,
        due: &DueEntry,
        head: &RecordHead,
    ) -> Result<DispatchedChanges, RefreshError> {
        let mut changes = DispatchedChanges::default();
        let settled = last_settled_seq(due, &head.watermarks, head.state_seq);
        let Some(mut after) = settled else {
            return Ok(changes);
        };
        for _ in 0..MAX_REPAIR_PAGES {
            let mut page = self
                .store
                .read_feed(head.record, after, REPAIR_PAGE_SIZE, Consistency::Strong)
                .await?;
            let Some(last) = page.last().map(|entry| entry.seq) else {
                return Ok(changes);
            };
            page.retain(|entry| {
                dispatched_seq(due, entry.change.stream()).is_some_and(|seq| entry.seq > seq)
            });
            self.store.project_entries(&page).await?;
            changes.count_entries(&page);
            after = last;
            if after >= head.seq {
                return Ok(changes);
            }
        }
        Err(RefreshError::TooFarBehind(head.record))
    }

    /// Dispatches the record's changes of state that were committed elsewhere and perhaps not dispatched.
    pub(crate) async fn dispatch_states(&self, head: &RecordHead) -> Result<(), RefreshError> {
        let before_last = Seq(head.state_seq.0.saturating_sub(1));
        let watermark = match head.state_due_key() {
            Some(carrier) => self.read_state_watermark(carrier, before_last).await?,
            // Nothing says how far the stream was dispatched: the last change is dispatched.
            None => StateWatermark {
                dispatched: before_last,
                carrier: None,
            },
        };
        let range = DispatchRange::between(FeedStream::State, watermark.dispatched, head.state_seq);
        let Some(range) = range else {
            return Ok(());
        };
        self.dispatch_ranges(head.record, &[range]).await?;
        let published = PublishedCommit {
            head: None,
            state_seq: head.state_seq,
            has_state_changes: false,
            changes: DispatchedChanges::default(),
            state_watermark: Some(watermark),
        };
        self.advance(&published, DueUpdate::None).await
    }

    /// Prepares the commit of changes of state: the due entry that holds the state stream loses its digests, so that
    /// after a crash its next refresh reads strongly and finds what was not dispatched.
    async fn unsettle_state_stream(
        &self,
        request: &CommitRequest<'_>,
    ) -> Result<Option<StateWatermark>, RefreshError> {
        let held = request.due.and_then(|due| {
            Some(StateWatermark {
                dispatched: due.state_seq?,
                carrier: Some(due.key),
            })
        });
        if !request.has_state_changes() {
            return Ok(held);
        }
        let Some(carrier) = request.head.state_due_key() else {
            return Ok(Some(StateWatermark {
                dispatched: request.head.state_seq,
                carrier: None,
            }));
        };
        self.store.clear_due_digests(carrier).await?;
        if let Some(held) = held {
            return Ok(Some(StateWatermark {
                carrier: Some(carrier),
                ..held
            }));
        }
        let committed = request.head.state_seq;
        self.read_state_watermark(carrier, committed)
            .await
            .map(Some)
    }

    /// How far the state stream was dispatched by its due entry; up to `otherwise` where that does not say.
    async fn read_state_watermark(
        &self,
        carrier: DueKey,
        otherwise: Seq,
    ) -> Result<StateWatermark, RefreshError> {
        let entry = self
            .store
            .find_due_entry(carrier, Consistency::Strong)
            .await?;
        Ok(match entry.and_then(|entry| entry.state_seq) {
            Some(dispatched) => StateWatermark {
                dispatched,
                carrier: Some(carrier),
            },
            None => StateWatermark {
                dispatched: otherwise,
                carrier: None,
            },
        })
    }

    /// Commits entries in as few transactions as their size allows. Only the last one carries the new digests: a crash
    /// before it leaves a head that no digest equals, so that the rest is found.
    async fn commit_entries(&self, request: &CommitRequest<'_>) -> Result<RecordHead, CommitError> {
        let mut head = Cow::Borrowed(request.head);
        let mut rest = request.entries;
        loop {
            let (part, later) = rest.split_at(count_fitting_entries(rest));
            let is_last = later.is_empty();
            let backfill = match request.extra {
                CommitExtra::Backfill(backfill) if is_last => Some(backfill),
                _ => None,
            };
            let commit = RecordCommit {
                head: &head,
                entries: part,
                watermarks: match is_last {
                    true => request.watermarks,
                    false => interim_watermarks(head.watermarks, part),
                },
                status: request.status.filter(|_| is_last),
                backfill,
                now: request.now,
            };
            let committed = match request.extra {
                CommitExtra::ConsentNotices { before, after } if is_last => {
                    self.store
                        .commit_consent_notices(commit, before, after)
                        .await?
                }
                _ => self.store.commit_record(commit).await?,
            };
            if is_last {
                return Ok(committed);
            }
            head = Cow::Owned(committed);
            rest = later;
        }
    }

    async fn dispatch_ranges(
        &self,
        record: RecordId,
        ranges: &[DispatchRange],
    ) -> Result<(), RefreshError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let dispatches = ranges.iter().map(|range| FeedDispatch {
            record,
            first_seq: range.first_seq,
            last_seq: range.last_seq,
            stream: range.stream,
        });
        let dispatches: Vec<FeedDispatch> = dispatches.collect();
        Ok(self.queues.send_dispatches(&dispatches, 0).await?)
    }
}

/// How many of the entries fit one transaction; at least one where there is one.
fn count_fitting_entries(entries: &[FeedEntry]) -> usize {
    let mut bytes = 0;
    let mut fitting = 0;
    for entry in entries.iter().take(MAX_ENTRIES_PER_COMMIT) {
        // An entry that cannot be written is left to the commit, which says why.
        bytes += serde_json::to_vec(entry).map_or(MAX_COMMIT_BYTES, |json| json.len());
        if bytes > MAX_COMMIT_BYTES {
            break;
        }
        fitting += 1;
    }
    fitting.max(1).min(entries.len())
}
