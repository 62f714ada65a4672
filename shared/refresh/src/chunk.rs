//! A chunk: records of one bank, fetched with bounded concurrency.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::AddAssign,
};

use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use okra_banks::{AccountRef, Ask};
use okra_core::{
    bank::{BankConfig, BankLimits},
    breaker::Heard,
    decide::{Observed, observe, window_start},
    fault::{BankFault, FaultClass},
    ids::{AccountId, RecordId},
    model::{Product, Snapshot, date_of},
    plan::{Chunk, DueEntry, JOB_PREFIX, MAX_ASKED_AGAIN, MAX_DELAY_S, Requested, draw, spread_s},
    trouble::{Places, Told, Trouble},
};
use okra_queue::Lane;
use okra_store::{Consent, ConsentAccount, FAILED, Found, JobEnd};

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
        self.put_off += other.put_off;
    }
}

/// What is asked of a bank for a record: what is not left alone.
struct Asked<'a> {
    /// Accounts of which the same products are asked for; one group where nothing is left alone.
    groups: Vec<(Vec<Product>, Vec<AccountRef<'a>>)>,
    left_alone: Places,
}

impl<'a> Asked<'a> {
    fn of(consent: &'a Consent, products: &[Product], left_alone: Places) -> Self {
        let order = in_order(consent);
        let mut groups: Vec<(Vec<Product>, Vec<AccountRef<'a>>)> = Vec::with_capacity(1);
        for account in &consent.accounts {
            let nth = order.iter().position(|id| *id == account.id).unwrap_or(0);
            let mut asked = products.to_vec();
            asked.retain(|product| !left_alone.holds(Places::of(nth, *product)));
            let account = at_bank(account);
            match groups.iter_mut().find(|(group, _)| *group == asked) {
                Some((_, accounts)) => accounts.push(account),
                None if asked.is_empty() => {}
                None => groups.push((asked, vec![account])),
            }
        }
        Self { groups, left_alone }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// An account as its bank is asked for it.
pub(crate) fn at_bank(account: &ConsentAccount) -> AccountRef<'_> {
    AccountRef {
        id: account.id,
        bank_account_id: &account.bank_account_id,
    }
}

/// A record's accounts, in the order of their ids.
pub(crate) fn in_order(consent: &Consent) -> Vec<AccountId> {
    let mut order: Vec<AccountId> = consent.accounts.iter().map(|it| it.id).collect();
    order.sort_unstable();
    order
}

/// What came of a record, and after how many seconds it is asked again before its next turn.
type Turn<'a> = (Outcome, Option<(&'a DueEntry, u32)>);

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
    ///
    /// What comes late has no part in what the bank is planned to be asked: it takes places of its pace, one
    /// for each record, and what gets none is put off. So is what could not be asked because the bank
    /// is down, or was not answered, where the next turn is far off.
    pub async fn chunk(
        &self,
        mut chunk: Chunk,
        redelivered: bool,
    ) -> Result<ChunkReport, RefreshError> {
        let mut report = ChunkReport::default();
        let now = self.clock.now();
        if now > chunk.not_after {
            report.stale = chunk.records.len();
            return Ok(report);
        }
        let watch = self.watch(chunk.bank).await?;
        let refused = watch.refuses();
        if let Some(down) = &refused
            && chunk.is_worth_putting_off()
            && everyone_knows(&chunk)
        {
            report.held = chunk.records.len();
            let records = std::mem::take(&mut chunk.records);
            report.put_off = self.put_off(&chunk, records, wait_of(down)).await?;
            return Ok(report);
        }
        let late = refused.is_none() && chunk.is_late(now);
        if late && let Some(rate) = self.rate_of(chunk.bank).await? {
            let wanted = chunk.records.len();
            let places = self
                .store
                .take_places(chunk.bank, rate, now, wanted)
                .await?;
            // A probe that is claimed is made.
            let kept = places.max(watch.is_probing().into()).min(wanted);
            let rest = chunk.records.split_off(kept);
            report.held = rest.len();
            let in_vain = if places == 0 { chunk.again } else { 0 };
            let wait_s = rest
                .first()
                .map_or(0, |it| spread_s(it.key.record, now, in_vain));
            report.put_off = self.put_off(&chunk, rest, wait_s).await?;
            if chunk.records.is_empty() {
                return Ok(report);
            }
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
        let (on_demand, user) = match chunk.requested {
            Requested::OnDemand { user, .. } => (true, user),
            Requested::Scheduled { .. } => (false, None),
        };
        let job = chunk.id.as_str();
        let work = chunk.records.iter().map(|entry| {
            let consent = consents.get(&entry.key.record);
            // Who asks in person is not held.
            let held = entry.trouble.filter(|_| !on_demand);
            let held = held.map_or_else(Places::default, |it| it.left_alone(now));
            let seen_before = redelivered || chunk.again > 0;
            let (bank, strong) = (&bank, seen_before || on_demand || self.audited(entry));
            let calls = Calls {
                bank,
                watch: &watch,
                user,
            };
            let work = async move {
                let Some(consent) = consent else {
                    return Ok((Outcome::Gone, None));
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
                let products = entry.marks.products();
                let asked = Asked::of(consent, &products, held);
                if asked.is_empty() || alone || (over && !on_demand) {
                    return Ok((Outcome::Held, None));
                }
                let called = calls.watch.refuses().is_none();
                let refreshed = self.record(calls, consent, entry, (asked, strong)).await?;
                let called = called.then_some(&bank.limits);
                // A bank that does not answer this record alone is asked again when that is new, a few times.
                let new =
                    !entry.trouble.is_some_and(Trouble::is_told) && chunk.again < MAX_ASKED_AGAIN;
                let worth = new || calls.watch.refuses().is_some();
                let wait_s = passes_in(&refreshed, called).filter(|_| worth);
                if job.starts_with(JOB_PREFIX) {
                    let (record, ended_at) = (consent.record, self.clock.now());
                    let accounts = consent.accounts.len();
                    for product in entry.marks.products() {
                        let end = end_of(&refreshed, product, accounts, ended_at);
                        self.store
                            .end_job(record, product, job, end, ended_at)
                            .await?;
                    }
                }
                let outcome = refreshed.outcome;
                if over && matches!(outcome, Outcome::Changed(_) | Outcome::Unchanged) {
                    self.store.stop_clock(consent.record).await?;
                }
                Ok((outcome, wait_s.map(|wait_s| (entry, wait_s))))
            };
            work.boxed()
        });
        // Collected, because a borrowing closure inside the stream would make it not `Send`.
        let mut work = work.collect::<Vec<_>>().into_iter();
        let (mut fault, mut rest, mut wait_s) = (None, Vec::new(), 0);
        let mut count = |turn: Result<Turn<'_>, RefreshError>| match turn {
            Ok((outcome, again)) => {
                report.count(&outcome);
                rest.extend(again.map(|(entry, _)| entry.clone()));
                wait_s = wait_s.max(again.map_or(0, |(_, wait_s)| wait_s));
            }
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
        if chunk.is_worth_putting_off() {
            report.put_off += self.put_off(&chunk, rest, wait_s).await?;
        }
        fault.map_or(Ok(report), Err)
    }

    /// Sees to it that records of a chunk are asked again after `wait_s` seconds; says how many are.
    async fn put_off(
        &self,
        chunk: &Chunk,
        records: Vec<DueEntry>,
        wait_s: u32,
    ) -> Result<usize, RefreshError> {
        let count = records.len();
        match chunk.put_off(records, wait_s, self.clock.now()) {
            Some(later) => {
                self.queues.send_chunks(Lane::Scheduled, &[later]).await?;
                Ok(count)
            }
            None => Ok(0),
        }
    }

    /// Drawn anew each time, so that a record whose turn always comes in the same minute of the day is
    /// audited as often as any other.
    fn audited(&self, entry: &DueEntry) -> bool {
        draw(entry.key.record, self.clock.now()) < u32::MAX / AUDIT_ONE_IN
    }

    async fn record(
        &self,
        calls: Calls<'_>,
        consent: &Consent,
        entry: &DueEntry,
        (asked, mut strong): (Asked<'_>, bool),
    ) -> Result<Refreshed, RefreshError> {
        let Calls { bank, watch, user } = calls;
        let mut tokens = self.tokens(consent)?;
        let products = entry.marks.products();
        let started = self.clock.now();
        let (mut outcome, mut faults) = (Outcome::Contended, Vec::new());
        for _ in 0..MAX_FETCHES {
            let asked_at = self.clock.now();
            let from = window_start(date_of(asked_at));
            let mut snapshot = Snapshot::default();
            let refusal = watch.refuses();
            for (products, accounts) in &asked.groups {
                let ask = Ask {
                    products,
                    from,
                    now: asked_at,
                    user_present: user,
                };
                let answer = match &refusal {
                    Some(fault) => none_but(fault, accounts, products),
                    None => {
                        let asked = self.ask(bank, consent, &mut tokens, accounts, ask);
                        asked.await?
                    }
                };
                snapshot.accounts.extend(answer.accounts);
            }
            if refusal.is_none() {
                watch.hear(Heard::of(&snapshot)).await?;
            }
            let observed = observe(&snapshot);
            faults.clone_from(&observed.faults);
            if !strong {
                if settled(entry, &observed) {
                    outcome = Outcome::Unchanged;
                    break;
                }
                if asked.left_alone.is_empty()
                    && failing_as_before(entry, &observed, consent, asked_at)
                {
                    outcome = Outcome::Failed;
                    break;
                }
            }
            let fetched = Fetched {
                bank,
                secret: tokens.secret(),
                consent,
                user,
                left_alone: asked.left_alone,
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
        Ok(refreshed)
    }
}

/// Seconds to the next probe of a bank that is down.
fn wait_of(down: &BankFault) -> u32 {
    down.retry_after_s.unwrap_or(MAX_DELAY_S)
}

/// True where nobody has to be told of an outage any more: every app was, or two refreshes could tell them.
fn everyone_knows(chunk: &Chunk) -> bool {
    let told = |entry: &DueEntry| entry.trouble.is_some_and(Trouble::is_told);
    chunk.again >= 2 || chunk.records.iter().all(told)
}

/// Seconds after which a record is asked again that was not answered for a reason that passes by itself;
/// `None` where it waits for its next turn. Where the bank was `called`, a day's quota is not spent on it.
fn passes_in(refreshed: &Refreshed, called: Option<&BankLimits>) -> Option<u32> {
    let spends = called.is_some_and(|limits| limits.unattended_per_day.is_some());
    let failed = refreshed.outcome == Outcome::Failed && !refreshed.faults.is_empty();
    if !failed || spends {
        return None;
    }
    let waits = refreshed.faults.iter().map(|(_, _, fault)| {
        use FaultClass::{BankUnavailable, RateLimited};
        let passes = matches!(fault.class, BankUnavailable | RateLimited);
        let wait_s = fault.retry_after_s.unwrap_or(MAX_DELAY_S);
        (passes && wait_s <= MAX_DELAY_S).then_some(wait_s)
    });
    waits.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// What came of one product of a record with so many accounts, as its job says it: where none of them had
/// an answer it failed, whatever came of the other product.
fn end_of(
    refreshed: &Refreshed,
    product: Product,
    accounts: usize,
    ended_at: Timestamp,
) -> JobEnd<'static> {
    let faults = refreshed.faults.iter();
    let faults = || faults.clone().filter(|(_, of, _)| *of == product);
    let failed: HashSet<AccountId> = faults().map(|(account, ..)| *account).collect();
    let silent = !failed.is_empty() && failed.len() >= accounts;
    let classes = || faults().map(|(_, _, fault)| fault.class);
    // What the user has to mend comes before what passes by itself.
    let reason = classes().find(|class| class.needs_user());
    let wait_s = faults()
        .filter_map(|(_, _, fault)| fault.retry_after_s)
        .max();
    let retry_at = wait_s.and_then(|wait_s| {
        let wait = SignedDuration::from_secs(wait_s.into());
        ended_at.checked_add(wait).ok()
    });
    JobEnd {
        outcome: match silent {
            true => FAILED,
            false => refreshed.outcome.as_str(),
        },
        reason: reason.or_else(|| classes().next()),
        retry_at,
        found: found(&refreshed.outcome),
    }
}

/// What a refresh found, as its job says it.
fn found(outcome: &Outcome) -> Found {
    match outcome {
        Outcome::Changed(changes) => Found {
            balances: changes.balances,
            added: changes.added,
            modified: changes.modified,
            removed: changes.removed,
        },
        _ => Found::default(),
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
    consent: &Consent,
    now: Timestamp,
) -> bool {
    let order = in_order(consent);
    let told = Told {
        faults: &observed.faults,
        left_alone: Places::default(),
        accounts: &order,
    };
    let accounts = order.len();
    let known = entry.trouble.is_some_and(Trouble::is_told)
        && Trouble::after(entry.trouble, told, now) == entry.trouble;
    known
        && entry.marks.iter().all(|(product, mark)| {
            let failed = observed.faults.iter().filter(|(_, of, _)| *of == product);
            let silent = failed.count() == accounts;
            silent
                || (mark.digest.is_some() && mark.digest.as_ref() == observed.digests.get(product))
        })
}
