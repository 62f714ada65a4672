//! The changed path: strong reads, decide, commit, project, dispatch, advance.

use std::{borrow::Cow, net::IpAddr};

use jiff::{Timestamp, civil::Date};
use okra_connectors::ConsentSecret;
use okra_core::{
    backfill::progress::Backfill,
    model::{
        bank::BankConfig,
        fault::{BankFault, FaultClass},
        ids::{AccountId, Seq},
        interval::DueKey,
        snapshot::{ByProduct, Product, Snapshot},
    },
    resilience::failure_state::{FailureState, RefreshFaults, SuspendedProducts},
    schedule::plan::DueEntry,
    sync::{
        decide::{RefreshDecision, SnapshotDigests, Watermark},
        feed::{Change, FeedEntry, FeedStream, MAX_ENTRIES_PER_COMMIT},
        state::{
            RecordStatus, StateChange, StatusTrigger, detect_product_change, next_record_status,
        },
    },
};
use okra_queue::FeedDispatch;
use okra_store::{CommitError, Consent, Consistency, RecordCommit, RecordHead};

use crate::{DispatchedChanges, RefreshError, RefreshOutcome, Refresher, history};

/// Feed entries read at once while healing.
const REPAIR_PAGE_SIZE: usize = 500;

/// Pages of undispatched feed entries that one refresh heals.
const MAX_REPAIR_PAGES: usize = 40;

/// Bytes of feed entries in one commit at most: a DynamoDB transaction holds 4 MB.
const MAX_COMMIT_BYTES: usize = 3_000_000;

/// What a bank answered, and when it was asked.
pub(crate) struct FetchedRecord<'a> {
    pub(crate) bank: &'a BankConfig,
    pub(crate) secret: &'a ConsentSecret,
    pub(crate) consent: &'a Consent,
    /// The bank's customer, where he is there.
    pub(crate) user_present: Option<IpAddr>,
    /// What was not asked for, because it is left alone.
    pub(crate) suspended_products: &'a SuspendedProducts,
    pub(crate) window_from: Date,
    pub(crate) requested_at: Timestamp,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) snapshot_digests: &'a SnapshotDigests,
}

impl FetchedRecord<'_> {
    /// True where the bank counts what it is asked: it is asked nothing beside.
    pub(crate) const fn has_call_quota(&self) -> bool {
        self.user_present.is_none() && self.bank.limits.unattended_per_day.is_some()
    }
}

pub(crate) enum CommitOutcome {
    Finished(RefreshOutcome, Vec<(AccountId, Product, BankFault)>),
    /// Another refresh committed after the bank was asked.
    Conflict,
}

impl Refresher {
    /// Brings the state of the record to what was fetched, and what was dispatched to the state.
    pub(crate) async fn commit_changes(
        &self,
        key: DueKey,
        fetched: FetchedRecord<'_>,
    ) -> Result<CommitOutcome, RefreshError> {
        // The due entry is read first: it can only be behind the head, never ahead of it.
        let due = self.store.find_due_entry(key, Consistency::Strong).await?;
        let head = self
            .store
            .find_head(key.record, Consistency::Strong)
            .await?;
        let (Some(due), Some(head)) = (due, head) else {
            return Ok(CommitOutcome::Finished(RefreshOutcome::Gone, Vec::new()));
        };
        if head.last_changed_at > fetched.requested_at {
            return Ok(CommitOutcome::Conflict);
        }
        let mut changes = self.repair_dispatch(&due, &head).await?;
        let (decision, observed, drifts) = self.decide_changes(&due, &head, &fetched).await?;
        let fetched = FetchedRecord {
            snapshot_digests: &observed,
            ..fetched
        };
        let marks = next_watermarks(&due, &head, &fetched, &decision);
        let mut faults = fetched.snapshot_digests.faults.clone();
        faults.extend(decision.faults.iter().cloned());
        let asked = requested_products(fetched.snapshot);
        let trouble = match &due.failure_state {
            // What is wrong may be wrong with what was not asked for now. What was left alone still is.
            Some(trouble)
                if faults.is_empty()
                    && fetched.suspended_products.is_empty()
                    && asked != due.watermarks.products() =>
            {
                Some(trouble.without_suspension())
            }
            before => {
                let told = RefreshFaults {
                    faults: &faults,
                    suspended: fetched.suspended_products,
                };
                FailureState::after_refresh(before.as_ref(), told, self.clock.now())
            }
        };
        let (status, change) =
            next_record_status(head.status, classify_responses(&asked, &fetched));
        let mut states: Vec<_> = change.map(|change| (None, change)).into_iter().collect();
        if status == RecordStatus::Active {
            let of_products = self
                .find_product_changes(&due, &fetched, (&asked, &faults), trouble.as_ref())
                .await?;
            states.extend(of_products);
            states.extend(drifts);
        }
        let status = (status != head.status).then_some(status);
        let answered = match decision.has_unconfirmed {
            true => Vec::new(),
            false => responding_accounts(fetched.snapshot),
        };
        let told = self.find_state_watermark(&due, &head, &states).await?;
        let states_empty = states.is_empty();
        let entries = number_entries(&head, decision.changes, states, self.clock.now());
        let recovered = status == Some(RecordStatus::Active);
        let (store, now) = (&self.store, self.clock.now());
        let pulled_before = has_committed_transactions(&head.watermarks);
        let noted = match pulled_before && !answered.is_empty() {
            true => {
                let answered = (answered.as_slice(), fetched.window_from);
                history::record_covered_window(store, head.record, answered, now).await?
            }
            false => None,
        };
        let mut state = head.state_seq;
        if !entries.is_empty()
            || marks
                .iter()
                .any(|(product, mark)| head.watermarks.get(product) != Some(mark))
        {
            match self
                .commit_entries(&head, &entries, marks, status, None)
                .await
            {
                Ok(committed) => state = committed.state_seq,
                Err(CommitError::Conflict) => return Ok(CommitOutcome::Conflict),
                Err(error) => return Err(RefreshError::Commit(error)),
            }
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                self.observer
                    .on_entries_committed(head.record, first.seq, last.seq);
            }
            self.store.project_entries(&entries).await?;
        }
        changes.count_entries(&entries);
        self.dispatch_changes(&due, marks, told.map(|told| (told.0, state)), &mut changes)
            .await?;
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        // Who was to dispatch the first of it may have crashed before its history's first step was sent.
        let unsettled = due
            .watermarks
            .transactions
            .is_some_and(|it| it.digest.is_none());
        if noted.is_none() && has_committed_transactions(&marks) && !answered.is_empty() {
            let answered = (answered.as_slice(), fetched.window_from);
            history::begin_backfill(store, queues, &head, answered, now).await?;
        } else if recovered {
            history::resume_backfill(store, queues, &head, now).await?;
        } else if pulled_before && head.status == RecordStatus::Active {
            history::maintain_backfill(store, queues, &head, (noted, unsettled), now).await?;
        }
        let behind = due.state_seq.is_some_and(|told| told < state);
        if due.watermarks != marks || behind || !states_empty || due.failure_state != trouble {
            let state = due.state_seq.map(|_| state);
            self.store
                .settle_due_entry(key, marks, state, trouble)
                .await?;
        }
        // The state stream's watermark lies on another of the record's due entries.
        if let Some((before, carrier)) = told
            && carrier != key
            && before < state
        {
            let nothing = ByProduct::default();
            self.store
                .advance_watermarks(carrier, nothing, Some(state))
                .await?;
        }
        let silent = fetched.snapshot_digests.digests.is_empty()
            && !fetched.snapshot_digests.faults.is_empty();
        let outcome = if silent && !changes.has_data_changes() {
            RefreshOutcome::Failed
        } else if changes.last_seq > Seq::ZERO {
            RefreshOutcome::Changed(changes)
        } else {
            RefreshOutcome::Unchanged
        };
        Ok(CommitOutcome::Finished(outcome, decision.faults))
    }

    /// Projects again what was committed but perhaps not dispatched.
    pub(crate) async fn repair_dispatch(
        &self,
        due: &DueEntry,
        head: &RecordHead,
    ) -> Result<DispatchedChanges, RefreshError> {
        let mut changes = DispatchedChanges::default();
        let behind = |product: Product| {
            let dispatched = due.watermarks.get(product)?.seq;
            let committed = head.watermarks.get(product)?.seq;
            (committed > dispatched).then_some(dispatched)
        };
        let states = due.state_seq.filter(|told| *told < head.state_seq);
        let products = Product::ALL.into_iter().filter_map(behind);
        let Some(mut after) = products.chain(states).min() else {
            return Ok(changes);
        };
        for _ in 0..MAX_REPAIR_PAGES {
            let page = self
                .store
                .read_feed(head.record, after, REPAIR_PAGE_SIZE, Consistency::Strong)
                .await?;
            let Some(last) = page.last().map(|entry| entry.seq) else {
                return Ok(changes);
            };
            let ours: Vec<FeedEntry> = page
                .into_iter()
                .filter(|entry| {
                    let dispatched = dispatched_seq(due, entry.change.stream());
                    dispatched.is_some_and(|dispatched| entry.seq > dispatched)
                })
                .collect();
            self.store.project_entries(&ours).await?;
            changes.count_entries(&ours);
            after = last;
            if after >= head.seq {
                return Ok(changes);
            }
        }
        Err(RefreshError::TooFarBehind(head.record))
    }

    /// Commits entries in as few transactions as their size allows. Only the last one carries the
    /// new digests: a crash before it leaves a head that no digest equals, so the rest is found.
    pub(crate) async fn commit_entries(
        &self,
        head: &RecordHead,
        entries: &[FeedEntry],
        watermarks: ByProduct<Watermark>,
        status: Option<RecordStatus>,
        backfill: Option<&Backfill>,
    ) -> Result<RecordHead, CommitError> {
        let now = self.clock.now();
        let mut head = Cow::Borrowed(head);
        let mut rest = entries;
        loop {
            let (part, later) = rest.split_at(count_fitting_entries(rest));
            let marks = if later.is_empty() {
                watermarks
            } else {
                interim_watermarks(head.watermarks, part)
            };
            let commit = RecordCommit {
                head: &head,
                entries: part,
                watermarks: marks,
                status: status.filter(|_| later.is_empty()),
                backfill: backfill.filter(|_| later.is_empty()),
                now,
            };
            let committed = self.store.commit_record(commit).await?;
            if later.is_empty() {
                return Ok(committed);
            }
            head = Cow::Owned(committed);
            rest = later;
        }
    }

    /// What became of the products of the accounts, as far as it is not recorded. Nothing is read where
    /// nothing is wrong, and nothing was; nor where something is wrong for the first time, because most
    /// of that passes.
    async fn find_product_changes(
        &self,
        due: &DueEntry,
        fetched: &FetchedRecord<'_>,
        (asked, faults): (&[Product], &[(AccountId, Product, BankFault)]),
        trouble: Option<&FailureState>,
    ) -> Result<Vec<(Option<AccountId>, StateChange)>, RefreshError> {
        let lasting = faults.iter().any(|(_, _, fault)| {
            matches!(
                fault.class,
                FaultClass::ConsentRejected
                    | FaultClass::QuotaSpent
                    | FaultClass::MalformedResponse
            )
        });
        match trouble {
            None if due.failure_state.is_none() => return Ok(Vec::new()),
            Some(trouble) if !trouble.is_reported() && !lasting => return Ok(Vec::new()),
            None | Some(_) => {}
        }
        let consistency = Consistency::Strong;
        let accounts = self
            .store
            .load_accounts_of_consent(fetched.consent, consistency)
            .await?;
        let mut changes = Vec::new();
        for account in &accounts {
            for &product in asked {
                if !was_requested(fetched.snapshot, account.id, product) {
                    continue;
                }
                let fault = faults
                    .iter()
                    .find(|(of, which, _)| *of == account.id && *which == product);
                let heard = fault.map(|(_, _, fault)| fault.class);
                let change =
                    detect_product_change(account.product_states.get(product), product, heard);
                let change = change.map(|it| (Some(account.id), StateChange::Product(it)));
                changes.extend(change);
            }
        }
        Ok(changes)
    }

    /// How far the state stream was dispatched and where that stands, where it concerns this refresh:
    /// its due entry is the one that says it, or there are `states` to commit. Before those are, that
    /// due entry is unsettled.
    pub(crate) async fn find_state_watermark(
        &self,
        due: &DueEntry,
        head: &RecordHead,
        states: &[(Option<AccountId>, StateChange)],
    ) -> Result<Option<(Seq, DueKey)>, RefreshError> {
        if states.is_empty() {
            return Ok(due.state_seq.map(|told| (told, due.key)));
        }
        let Some(carrier) = head.state_due_key() else {
            return Ok(None);
        };
        self.store.clear_due_digests(carrier).await?;
        if let Some(told) = due.state_seq {
            return Ok(Some((told, carrier)));
        }
        let entry = self
            .store
            .find_due_entry(carrier, Consistency::Strong)
            .await?;
        Ok(entry.and_then(|entry| Some((entry.state_seq?, carrier))))
    }

    /// Tells the delivery queue of everything after the due entry's marks, and of the changes of state
    /// after the first of `states` up to the second.
    pub(crate) async fn dispatch_changes(
        &self,
        due: &DueEntry,
        watermarks: ByProduct<Watermark>,
        state_seqs: Option<(Seq, Seq)>,
        changes: &mut DispatchedChanges,
    ) -> Result<(), RefreshError> {
        let products = watermarks.iter().map(|(product, mark)| {
            let dispatched = due.watermarks.get(product).copied().unwrap_or_default().seq;
            (FeedStream::from(product), dispatched, mark.seq)
        });
        let states = state_seqs.map(|(told, committed)| (FeedStream::State, told, committed));
        let mut dispatches = Vec::new();
        for (stream, dispatched, committed) in products.chain(states) {
            if committed > dispatched {
                let (from, to) = (dispatched.next(), committed);
                changes.last_seq = changes.last_seq.max(to);
                changes.first_seq = if changes.first_seq == Seq::ZERO {
                    from
                } else {
                    changes.first_seq.min(from)
                };
                dispatches.push(FeedDispatch {
                    record: due.key.record,
                    first_seq: from,
                    last_seq: to,
                    stream,
                });
            }
        }
        if !dispatches.is_empty() {
            self.queues.send_dispatches(&dispatches, 0).await?;
        }
        Ok(())
    }
}

/// True where the bank was asked for a product of an account.
fn was_requested(snapshot: &Snapshot, account: AccountId, product: Product) -> bool {
    let of = snapshot.accounts.iter().find(|it| it.account == account);
    of.is_some_and(|it| match product {
        Product::Balance => it.balance.is_some(),
        Product::Transactions => it.transactions.is_some(),
    })
}

/// The products that the bank was asked for.
fn requested_products(snapshot: &Snapshot) -> Vec<Product> {
    let asked = |product| {
        snapshot.accounts.iter().any(|account| match product {
            Product::Balance => account.balance.is_some(),
            Product::Transactions => account.transactions.is_some(),
        })
    };
    Product::ALL.into_iter().filter(|it| asked(*it)).collect()
}

/// What the answers say of the record as a whole.
fn classify_responses(requested: &[Product], fetched: &FetchedRecord<'_>) -> StatusTrigger {
    let faults = &fetched.snapshot_digests.faults;
    let accounts = fetched.snapshot.accounts.iter();
    let asked: usize = accounts
        .map(|of| {
            let each = requested.iter();
            let was = |product: &&Product| was_requested(fetched.snapshot, of.account, **product);
            each.filter(was).count()
        })
        .sum();
    if faults.len() < asked || faults.is_empty() {
        StatusTrigger::Responded
    } else if faults
        .iter()
        .all(|(_, _, fault)| fault.class == FaultClass::ConsentRejected)
    {
        StatusTrigger::ConsentRejected
    } else {
        StatusTrigger::Failed
    }
}

/// How far a stream was dispatched, where the due entry says so.
fn dispatched_seq(due: &DueEntry, stream: FeedStream) -> Option<Seq> {
    match stream {
        FeedStream::Balance => due.watermarks.balance.map(|mark| mark.seq),
        FeedStream::Transactions => due.watermarks.transactions.map(|mark| mark.seq),
        FeedStream::State => due.state_seq,
    }
}

/// The marks of the due entry's products after `decision`. A product that was not fully answered, or
/// not believed, keeps its digest where nothing changed and loses it where something did.
fn next_watermarks(
    due: &DueEntry,
    head: &RecordHead,
    fetched: &FetchedRecord<'_>,
    decision: &RefreshDecision,
) -> ByProduct<Watermark> {
    let mut marks = ByProduct::default();
    for (product, _) in due.watermarks.iter() {
        let old = head.watermarks.get(product).copied().unwrap_or_default();
        let disbelieved = decision
            .faults
            .iter()
            .any(|(_, faulty, _)| *faulty == product);
        let doubtful = decision.has_unconfirmed && product == Product::Transactions;
        let observed = fetched
            .snapshot_digests
            .digests
            .get(product)
            .copied()
            .filter(|_| !disbelieved && !doubtful);
        let before = decision
            .changes
            .iter()
            .take_while(|(_, change)| !change.concerns_product(product))
            .count();
        let ours = decision
            .changes
            .iter()
            .filter(|(_, change)| change.concerns_product(product))
            .count();
        let to_u64 = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mark = if ours > 0 {
            Watermark {
                digest: observed,
                seq: head.seq.plus(to_u64(before + ours)),
            }
        } else {
            Watermark {
                digest: observed.or_else(|| old.digest.filter(|_| !doubtful)),
                ..old
            }
        };
        *marks.get_mut(product) = Some(mark);
    }
    marks
}

/// True where transactions were committed, of any account.
fn has_committed_transactions(watermarks: &ByProduct<Watermark>) -> bool {
    watermarks
        .transactions
        .is_some_and(|mark| mark != Watermark::default())
}

/// The accounts that answered for their transactions.
fn responding_accounts(snapshot: &Snapshot) -> Vec<AccountId> {
    let answers = snapshot.accounts.iter();
    answers
        .filter(|it| matches!(it.transactions, Some(Ok(_))))
        .map(|it| it.account)
        .collect()
}

/// The marks after a part of a commit: how far each product has come, and no digest that an answer
/// could equal.
fn interim_watermarks(
    mut watermarks: ByProduct<Watermark>,
    part: &[FeedEntry],
) -> ByProduct<Watermark> {
    for product in Product::ALL {
        let mut ours = part
            .iter()
            .filter(|entry| entry.change.concerns_product(product));
        if let Some(last) = ours.next_back() {
            *watermarks.get_mut(product) = Some(Watermark {
                digest: None,
                seq: last.seq,
            });
        }
    }
    watermarks
}

/// The entries of a commit: the changes of the products, then those of the record's state.
pub(crate) fn number_entries(
    head: &RecordHead,
    changes: Vec<(AccountId, Change)>,
    state_changes: Vec<(Option<AccountId>, StateChange)>,
    at: Timestamp,
) -> Vec<FeedEntry> {
    let mut seq = head.seq;
    let record = head.record;
    let changes = changes
        .into_iter()
        .map(|(account, change)| (Some(account), change));
    let states = state_changes
        .into_iter()
        .map(|(account, change)| (account, Change::State(change)));
    changes
        .chain(states)
        .map(|(account, change)| {
            seq = seq.next();
            FeedEntry {
                record,
                seq,
                committed_at: at,
                account,
                change,
            }
        })
        .collect()
}

/// How many of the entries fit one transaction; at least one where there is one.
fn count_fitting_entries(entries: &[FeedEntry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&FeedEntry| {
        bytes += serde_json::to_vec(entry).map_or(MAX_COMMIT_BYTES, |json| json.len());
        bytes <= MAX_COMMIT_BYTES
    };
    entries
        .iter()
        .take(MAX_ENTRIES_PER_COMMIT)
        .take_while(fits)
        .count()
        .max(1)
        .min(entries.len())
}

impl DispatchedChanges {
    /// True where a balance or a transaction changed, and not a state alone.
    const fn has_data_changes(&self) -> bool {
        self.balances + self.added + self.modified + self.removed > 0
    }

    fn count_entries(&mut self, entries: &[FeedEntry]) {
        for entry in entries {
            match &entry.change {
                Change::Balance { .. } => self.balances += 1,
                Change::State(_) => self.state_changes += 1,
                Change::Transactions(diff) => {
                    self.added += diff.added.len();
                    self.modified += diff.modified.len();
                    self.removed += diff.removed.len();
                }
            }
        }
    }
}
