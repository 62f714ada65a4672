//! A chunk: records of one bank, fetched with bounded concurrency.

use std::{collections::HashMap, net::IpAddr, ops::AddAssign};

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use okra_banks::{AccountRef, Ask};
use okra_core::{
    bank::BankConfig,
    breaker::Heard,
    decide::{Observed, observe, window_start},
    ids::RecordId,
    model::date_of,
    plan::{Chunk, DueEntry, Requested},
    trouble::Trouble,
};
use okra_store::Consent;

use crate::{
    ChunkReport, Outcome, RefreshError, Refreshed, Refresher, announce,
    reconcile::{Fetched, Reconciled},
    tokens::none_but,
    watch::Watch,
};

/// Times a record is fetched again because another refresh committed meanwhile.
const MAX_FETCHES: usize = 3;

/// One in so many unchanged scheduled refreshes takes the strong read all the same: an audit.
const AUDIT_ONE_IN: u32 = 128;

impl AddAssign for ChunkReport {
    fn add_assign(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.changed += other.changed;
        self.failed += other.failed;
        self.contended += other.contended;
        self.gone += other.gone;
        self.stale += other.stale;
        self.held += other.held;
    }
}

/// How the records of a chunk call their bank.
#[derive(Clone, Copy)]
struct Calls<'a> {
    bank: &'a BankConfig,
    watch: &'a Watch<'a>,
    /// The user, where he is there.
    user: Option<IpAddr>,
}

impl Refresher {
    /// Refreshes the records of a chunk. `redelivered` says that the message was received before: a
    /// crash may have left work half done, so each record takes the strong read. A fault of our own
    /// on one record does not stop the others; it is returned at the end, so that the message comes
    /// again.
    pub async fn chunk(
        &self,
        chunk: Chunk,
        redelivered: bool,
    ) -> Result<ChunkReport, RefreshError> {
        let mut report = ChunkReport::default();
        if self.clock.now() > chunk.not_after {
            report.stale = chunk.records.len();
            return Ok(report);
        }
        let ids: Vec<RecordId> = chunk.records.iter().map(|entry| entry.key.record).collect();
        let mut consents: HashMap<RecordId, Consent> = HashMap::with_capacity(ids.len());
        consents.extend(
            self.store
                .consents(&ids)
                .await?
                .into_iter()
                .map(|it| (it.record, it)),
        );

        if consents.is_empty() {
            report.gone = chunk.records.len();
            return Ok(report);
        }
        let bank = self.bank(chunk.bank).await?;
        let watch = self.watch(chunk.bank).await?;
        let (on_demand, user, wanted) = match chunk.requested {
            Requested::OnDemand { user, product } => (true, user, product),
            Requested::Scheduled { .. } => (false, None, None),
        };
        let job = chunk.id.as_str();
        let now = self.clock.now();
        let work = chunk.records.iter().map(|entry| {
            let consent = consents.get(&entry.key.record);
            // Who asks in person is not held.
            let held = !on_demand && entry.trouble.is_some_and(|it| it.held_until(now).is_some());
            let (bank, strong) = (&bank, redelivered || on_demand || self.audited(entry));
            let calls = Calls {
                bank,
                watch: &watch,
                user,
            };
            let work = async move {
                let Some(consent) = consent else {
                    return Ok(Outcome::Gone);
                };
                let mut over = false;
                if let Some(clock) = consent.clock.filter(|it| it.next_at() <= now) {
                    let (store, queues) = (&self.store, &self.queues);
                    let record = consent.record;
                    over = announce::consent_clock(store, queues, record, clock, now).await?;
                }
                // An ended consent is not used but for who asks in person: it may have been prolonged.
                // A bank that wants the user there is asked when he is.
                let alone = !on_demand && bank.limits.user_present_only;
                if held || alone || (over && !on_demand) {
                    return Ok(Outcome::Held);
                }
                let outcome = self.record(calls, consent, entry, strong).await?;
                if let Some(product) = wanted {
                    let (record, ended_at) = (consent.record, self.clock.now());
                    self.store
                        .end_job(record, product, job, outcome.as_str(), ended_at)
                        .await?;
                }
                if over && matches!(outcome, Outcome::Changed(_) | Outcome::Unchanged) {
                    self.store.stop_clock(consent.record).await?;
                }
                Ok(outcome)
            };
            work.boxed()
        });
        // Collected, because a borrowing closure inside the stream would make it not `Send`.
        let mut work = work.collect::<Vec<_>>().into_iter();
        let mut fault = None;
        let mut count = |outcome| match outcome {
            Ok(outcome) => report.count(&outcome),
            Err(error) => fault = Some(error),
        };
        while watch.is_probing()
            && let Some(work) = work.next()
        {
            count(work.await);
        }
        let concurrency = usize::from(bank.limits.concurrency.max(1));
        let mut outcomes = stream::iter(work).buffer_unordered(concurrency);
        while let Some(outcome) = outcomes.next().await {
            count(outcome);
        }
        watch.settle().await?;
        fault.map_or(Ok(report), Err)
    }

    /// A hash of record and minute, so that a record whose turn always comes in the same minute of the
    /// day is audited as often as any other.
    fn audited(&self, entry: &DueEntry) -> bool {
        let [.., a, b, c, d] = *entry.key.record.as_bytes();
        let minute = self.clock.now().as_second().div_euclid(60);
        let minute = u32::try_from(minute.rem_euclid(1 << 31)).unwrap_or(0);
        let mixed = (u32::from_be_bytes([a, b, c, d]) ^ minute).wrapping_mul(0x9E37_79B1);
        mixed < u32::MAX / AUDIT_ONE_IN
    }

    async fn record(
        &self,
        calls: Calls<'_>,
        consent: &Consent,
        entry: &DueEntry,
        mut strong: bool,
    ) -> Result<Outcome, RefreshError> {
        let Calls { bank, watch, user } = calls;
        let mut tokens = self.tokens(consent)?;
        let products = entry.marks.products();
        let accounts: Vec<AccountRef<'_>> = consent
            .accounts
            .iter()
            .map(|account| AccountRef {
                id: account.id,
                bank_account_id: &account.bank_account_id,
            })
            .collect();
        let started = self.clock.now();
        let (mut outcome, mut faults) = (Outcome::Contended, Vec::new());
        for _ in 0..MAX_FETCHES {
            let asked_at = self.clock.now();
            let from = window_start(date_of(asked_at));
            let ask = Ask {
                products: &products,
                from,
                now: asked_at,
                user_present: user,
            };
            let snapshot = if let Some(fault) = watch.refuses() {
                none_but(&fault, &accounts, &products)
            } else {
                let asked = self.ask(bank, consent, &mut tokens, &accounts, ask);
                let snapshot = asked.await?;
                watch.hear(Heard::of(&snapshot)).await?;
                snapshot
            };
            let observed = observe(&snapshot);
            faults.clone_from(&observed.faults);
            if !strong {
                if settled(entry, &observed) {
                    outcome = Outcome::Unchanged;
                    break;
                }
                if failing_as_before(entry, &observed, consent.accounts.len(), asked_at) {
                    outcome = Outcome::Failed;
                    break;
                }
            }
            let fetched = Fetched {
                bank,
                secret: tokens.secret(),
                consent,
                from,
                asked_at,
                snapshot: &snapshot,
                observed: &observed,
            };
            match self.reconcile(entry.key, fetched).await? {
                Reconciled::Done(done, disbelieved) => {
                    outcome = done;
                    faults.extend(disbelieved);
                    break;
                }
                // What we hold is older than what was committed; comparing it would undo that.
                Reconciled::Overtaken => strong = true,
            }
        }
        let elapsed_ms = self.clock.now().as_millisecond() - started.as_millisecond();
        let refreshed = Refreshed {
            record: entry.key.record,
            app: consent.app,
            bank: bank.id,
            products,
            outcome,
            faults,
            elapsed_ms,
        };
        self.observer.refreshed(&refreshed);
        Ok(refreshed.outcome)
    }
}

/// True where every product asked for reads as it did when it was last dispatched.
fn settled(entry: &DueEntry, observed: &Observed) -> bool {
    entry.trouble.is_none()
        && entry.marks.iter().all(|(product, mark)| {
            mark.digest.is_some() && mark.digest.as_ref() == observed.digests.get(product)
        })
}

/// True where what failed is what failed the last time, was told then, and where everything else reads
/// as before: a product of which no account answered changes nothing.
fn failing_as_before(
    entry: &DueEntry,
    observed: &Observed,
    accounts: usize,
    now: Timestamp,
) -> bool {
    let known = entry.trouble.is_some_and(Trouble::is_told)
        && Trouble::after(entry.trouble, &observed.faults, now) == entry.trouble;
    known
        && entry.marks.iter().all(|(product, mark)| {
            let failed = observed.faults.iter().filter(|(_, of, _)| *of == product);
            let silent = failed.count() == accounts;
            silent
                || (mark.digest.is_some() && mark.digest.as_ref() == observed.digests.get(product))
        })
}
