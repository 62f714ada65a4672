//! The changed path: strong reads, decide, commit, project, dispatch, advance.

use std::{borrow::Cow, net::IpAddr};

use jiff::{Timestamp, civil::Date};
use okra_banks::ConsentSecret;
use okra_core::{
    bank::BankConfig,
    decide::{Decision, Mark, Observed},
    fault::{BankFault, FaultClass},
    feed::{Change, FeedEntry, MAX_ENTRIES_PER_COMMIT, Stream},
    history::History,
    ids::{AccountId, Seq},
    model::{ByProduct, Product, Snapshot},
    plan::DueEntry,
    schedule::DueKey,
    state::{Happening, RecordStatus, StateChange, product_after, status_after},
    trouble::{Places, Told, Trouble},
};
use okra_queue::Dispatch;
use okra_store::{Commit, CommitError, Consent, Consistency, Head};

use crate::{Changes, Outcome, RefreshError, Refresher, chunk::in_order, history};

/// Feed entries read at once while healing.
const HEAL_PAGE: usize = 500;

/// Pages of undispatched feed entries that one refresh heals.
const MAX_HEAL_PAGES: usize = 40;

/// Bytes of feed entries in one commit at most: a DynamoDB transaction holds 4 MB.
const MAX_COMMIT_BYTES: usize = 3_000_000;

/// What a bank answered, and when it was asked.
pub(crate) struct Fetched<'a> {
    pub(crate) bank: &'a BankConfig,
    pub(crate) secret: &'a ConsentSecret,
    pub(crate) consent: &'a Consent,
    /// The bank's customer, where he is there.
    pub(crate) user: Option<IpAddr>,
    /// What was not asked for, because it is left alone.
    pub(crate) left_alone: Places,
    pub(crate) from: Date,
    pub(crate) asked_at: Timestamp,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) observed: &'a Observed,
}

impl Fetched<'_> {
    /// True where the bank counts what it is asked: it is asked nothing beside.
    pub(crate) const fn counts_calls(&self) -> bool {
        self.user.is_none() && self.bank.limits.unattended_per_day.is_some()
    }
}

pub(crate) enum Reconciled {
    Done(Outcome, Vec<(AccountId, Product, BankFault)>),
    /// Another refresh committed after the bank was asked.
    Overtaken,
}

impl Refresher {
    /// Brings the state of the record to what was fetched, and what was dispatched to the state.
    pub(crate) async fn reconcile(
        &self,
        key: DueKey,
        fetched: Fetched<'_>,
    ) -> Result<Reconciled, RefreshError> {
        // The due entry is read first: it can only be behind the head, never ahead of it.
        let due = self.store.due_entry(key, Consistency::Strong).await?;
        let head = self.store.head(key.record, Consistency::Strong).await?;
        let (Some(due), Some(head)) = (due, head) else {
            return Ok(Reconciled::Done(Outcome::Gone, Vec::new()));
        };
        if head.last_changed_at > fetched.asked_at {
            return Ok(Reconciled::Overtaken);
        }
        let mut changes = self.heal(&due, &head).await?;
        let (decision, observed, drifts) = self.decided(&due, &head, &fetched).await?;
        let fetched = Fetched {
            observed: &observed,
            ..fetched
        };
        let marks = new_marks(&due, &head, &fetched, &decision);
        let mut faults = fetched.observed.faults.clone();
        faults.extend(decision.faults.iter().cloned());
        let asked = asked(fetched.snapshot);
        let trouble = match due.trouble {
            // What is wrong may be wrong with what was not asked for now. What was left alone still is.
            Some(trouble)
                if faults.is_empty()
                    && fetched.left_alone.is_empty()
                    && asked != due.marks.products() =>
            {
                Some(trouble.released())
            }
            before => {
                let told = Told {
                    faults: &faults,
                    left_alone: fetched.left_alone,
                    accounts: &in_order(fetched.consent),
                };
                Trouble::after(before, told, self.clock.now())
            }
        };
        let (status, change) = status_after(head.status, happening(&asked, &fetched));
        let mut states: Vec<_> = change.map(|change| (None, change)).into_iter().collect();
        if status == RecordStatus::Active {
            let of_products = self
                .product_changes(&due, &fetched, (&asked, &faults), trouble)
                .await?;
            states.extend(of_products);
            states.extend(drifts);
        }
        let status = (status != head.status).then_some(status);
        let answered = match decision.doubtful {
            true => Vec::new(),
            false => answered(fetched.snapshot),
        };
        let told = self.told(&due, &head, &states).await?;
        let states_empty = states.is_empty();
        let entries = number(&head, decision.changes, states, self.clock.now());
        let recovered = status == Some(RecordStatus::Active);
        let (store, now) = (&self.store, self.clock.now());
        let pulled_before = pulled(&head.marks);
        let noted = match pulled_before && !answered.is_empty() {
            true => {
                let answered = (answered.as_slice(), fetched.from);
                history::note_window(store, head.record, answered, now).await?
            }
            false => None,
        };
        let mut state = head.state;
        if !entries.is_empty()
            || marks
                .iter()
                .any(|(product, mark)| head.marks.get(product) != Some(mark))
        {
            match self.commit(&head, &entries, marks, status, None).await {
                Ok(committed) => state = committed.state,
                Err(CommitError::Lost) => return Ok(Reconciled::Overtaken),
                Err(error) => return Err(RefreshError::Commit(error)),
            }
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                self.observer.committed(head.record, first.seq, last.seq);
            }
            self.store.project(&entries).await?;
        }
        changes.count(&entries);
        self.dispatch(&due, marks, told.map(|told| (told.0, state)), &mut changes)
            .await?;
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        // Who was to dispatch the first of it may have crashed before its history's first step was sent.
        let unsettled = due.marks.transactions.is_some_and(|it| it.digest.is_none());
        if noted.is_none() && pulled(&marks) && !answered.is_empty() {
            let answered = (answered.as_slice(), fetched.from);
            history::begin(store, queues, &head, answered, now).await?;
        } else if recovered {
            history::resume(store, queues, &head, now).await?;
        } else if pulled_before && head.status == RecordStatus::Active {
            history::tend(store, queues, &head, (noted, unsettled), now).await?;
        }
        let behind = due.state.is_some_and(|told| told < state);
        if due.marks != marks || behind || !states_empty || due.trouble != trouble {
            let state = due.state.map(|_| state);
            self.store.settle(key, marks, state, trouble).await?;
        }
        // The state stream's watermark lies on another of the record's due entries.
        if let Some((before, carrier)) = told
            && carrier != key
            && before < state
        {
            let nothing = ByProduct::default();
            self.store.advance(carrier, nothing, Some(state)).await?;
        }
        let silent = fetched.observed.digests.is_empty() && !fetched.observed.faults.is_empty();
        let outcome = if silent && !changes.has_rows() {
            Outcome::Failed
        } else if changes.to > Seq::ZERO {
            Outcome::Changed(changes)
        } else {
            Outcome::Unchanged
        };
        Ok(Reconciled::Done(outcome, decision.faults))
    }

    /// Projects again what was committed but perhaps not dispatched.
    pub(crate) async fn heal(&self, due: &DueEntry, head: &Head) -> Result<Changes, RefreshError> {
        let mut changes = Changes::default();
        let behind = |product: Product| {
            let dispatched = due.marks.get(product)?.seq;
            let committed = head.marks.get(product)?.seq;
            (committed > dispatched).then_some(dispatched)
        };
        let states = due.state.filter(|told| *told < head.state);
        let products = Product::ALL.into_iter().filter_map(behind);
        let Some(mut after) = products.chain(states).min() else {
            return Ok(changes);
        };
        for _ in 0..MAX_HEAL_PAGES {
            let page = self
                .store
                .feed(head.record, after, HEAL_PAGE, Consistency::Strong)
                .await?;
            let Some(last) = page.last().map(|entry| entry.seq) else {
                return Ok(changes);
            };
            let ours: Vec<FeedEntry> = page
                .into_iter()
                .filter(|entry| {
                    let dispatched = dispatched(due, entry.change.stream());
                    dispatched.is_some_and(|dispatched| entry.seq > dispatched)
                })
                .collect();
            self.store.project(&ours).await?;
            changes.count(&ours);
            after = last;
            if after >= head.seq {
                return Ok(changes);
            }
        }
        Err(RefreshError::TooFarBehind(head.record))
    }

    /// Commits entries in as few transactions as their size allows. Only the last one carries the
    /// new digests: a crash before it leaves a head that no digest equals, so the rest is found.
    pub(crate) async fn commit(
        &self,
        head: &Head,
        entries: &[FeedEntry],
        marks: ByProduct<Mark>,
        status: Option<RecordStatus>,
        history: Option<&History>,
    ) -> Result<Head, CommitError> {
        let now = self.clock.now();
        let mut head = Cow::Borrowed(head);
        let mut rest = entries;
        loop {
            let (part, later) = rest.split_at(fitting(rest));
            let marks = if later.is_empty() {
                marks
            } else {
                on_the_way(head.marks, part)
            };
            let commit = Commit {
                head: &head,
                entries: part,
                marks,
                status: status.filter(|_| later.is_empty()),
                history: history.filter(|_| later.is_empty()),
                now,
            };
            let committed = self.store.commit(commit).await?;
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
    async fn product_changes(
        &self,
        due: &DueEntry,
        fetched: &Fetched<'_>,
        (asked, faults): (&[Product], &[(AccountId, Product, BankFault)]),
        trouble: Option<Trouble>,
    ) -> Result<Vec<(Option<AccountId>, StateChange)>, RefreshError> {
        let lasting = faults.iter().any(|(_, _, fault)| {
            matches!(
                fault.class,
                FaultClass::ConsentRefused | FaultClass::QuotaSpent | FaultClass::Nonsense
            )
        });
        match trouble {
            None if due.trouble.is_none() => return Ok(Vec::new()),
            Some(trouble) if !trouble.is_told() && !lasting => return Ok(Vec::new()),
            None | Some(_) => {}
        }
        let consistency = Consistency::Strong;
        let accounts = self.store.accounts_of(fetched.consent, consistency).await?;
        let mut changes = Vec::new();
        for account in &accounts {
            for &product in asked {
                if !was_asked(fetched.snapshot, account.id, product) {
                    continue;
                }
                let fault = faults
                    .iter()
                    .find(|(of, which, _)| *of == account.id && *which == product);
                let heard = fault.map(|(_, _, fault)| fault.class);
                let change = product_after(account.states.get(product), product, heard);
                let change = change.map(|it| (Some(account.id), StateChange::Product(it)));
                changes.extend(change);
            }
        }
        Ok(changes)
    }

    /// How far the state stream was dispatched and where that stands, where it concerns this refresh:
    /// its due entry is the one that says it, or there are `states` to commit. Before those are, that
    /// due entry is unsettled.
    pub(crate) async fn told(
        &self,
        due: &DueEntry,
        head: &Head,
        states: &[(Option<AccountId>, StateChange)],
    ) -> Result<Option<(Seq, DueKey)>, RefreshError> {
        if states.is_empty() {
            return Ok(due.state.map(|told| (told, due.key)));
        }
        let Some(carrier) = head.state_key() else {
            return Ok(None);
        };
        self.store.unsettle(carrier).await?;
        if let Some(told) = due.state {
            return Ok(Some((told, carrier)));
        }
        let entry = self.store.due_entry(carrier, Consistency::Strong).await?;
        Ok(entry.and_then(|entry| Some((entry.state?, carrier))))
    }

    /// Tells the delivery queue of everything after the due entry's marks, and of the changes of state
    /// after the first of `states` up to the second.
    pub(crate) async fn dispatch(
        &self,
        due: &DueEntry,
        marks: ByProduct<Mark>,
        states: Option<(Seq, Seq)>,
        changes: &mut Changes,
    ) -> Result<(), RefreshError> {
        let products = marks.iter().map(|(product, mark)| {
            let dispatched = due.marks.get(product).copied().unwrap_or_default().seq;
            (Stream::from(product), dispatched, mark.seq)
        });
        let states = states.map(|(told, committed)| (Stream::State, told, committed));
        let mut dispatches = Vec::new();
        for (stream, dispatched, committed) in products.chain(states) {
            if committed > dispatched {
                let (from, to) = (dispatched.next(), committed);
                changes.to = changes.to.max(to);
                changes.from = if changes.from == Seq::ZERO {
                    from
                } else {
                    changes.from.min(from)
                };
                dispatches.push(Dispatch {
                    record: due.key.record,
                    from,
                    to,
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
fn was_asked(snapshot: &Snapshot, account: AccountId, product: Product) -> bool {
    let of = snapshot.accounts.iter().find(|it| it.account == account);
    of.is_some_and(|it| match product {
        Product::Balance => it.balance.is_some(),
        Product::Transactions => it.transactions.is_some(),
    })
}

/// The products that the bank was asked for.
fn asked(snapshot: &Snapshot) -> Vec<Product> {
    let asked = |product| {
        snapshot.accounts.iter().any(|account| match product {
            Product::Balance => account.balance.is_some(),
            Product::Transactions => account.transactions.is_some(),
        })
    };
    Product::ALL.into_iter().filter(|it| asked(*it)).collect()
}

/// What the answers say of the record as a whole.
fn happening(asked: &[Product], fetched: &Fetched<'_>) -> Happening {
    let faults = &fetched.observed.faults;
    let accounts = fetched.snapshot.accounts.iter();
    let asked: usize = accounts
        .map(|of| {
            let each = asked.iter();
            let was = |product: &&Product| was_asked(fetched.snapshot, of.account, **product);
            each.filter(was).count()
        })
        .sum();
    if faults.len() < asked || faults.is_empty() {
        Happening::Answered
    } else if faults
        .iter()
        .all(|(_, _, fault)| fault.class == FaultClass::ConsentRefused)
    {
        Happening::Refused
    } else {
        Happening::Troubled
    }
}

/// How far a stream was dispatched, where the due entry says so.
fn dispatched(due: &DueEntry, stream: Stream) -> Option<Seq> {
    match stream {
        Stream::Balance => due.marks.balance.map(|mark| mark.seq),
        Stream::Transactions => due.marks.transactions.map(|mark| mark.seq),
        Stream::State => due.state,
    }
}

/// The marks of the due entry's products after `decision`. A product that was not fully answered, or
/// not believed, keeps its digest where nothing changed and loses it where something did.
fn new_marks(
    due: &DueEntry,
    head: &Head,
    fetched: &Fetched<'_>,
    decision: &Decision,
) -> ByProduct<Mark> {
    let mut marks = ByProduct::default();
    for (product, _) in due.marks.iter() {
        let old = head.marks.get(product).copied().unwrap_or_default();
        let disbelieved = decision
            .faults
            .iter()
            .any(|(_, faulty, _)| *faulty == product);
        let doubtful = decision.doubtful && product == Product::Transactions;
        let observed = fetched
            .observed
            .digests
            .get(product)
            .copied()
            .filter(|_| !disbelieved && !doubtful);
        let before = decision
            .changes
            .iter()
            .take_while(|(_, change)| !change.is_of(product))
            .count();
        let ours = decision
            .changes
            .iter()
            .filter(|(_, change)| change.is_of(product))
            .count();
        let to_u64 = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mark = if ours > 0 {
            Mark {
                digest: observed,
                seq: head.seq.plus(to_u64(before + ours)),
            }
        } else {
            Mark {
                digest: observed.or_else(|| old.digest.filter(|_| !doubtful)),
                ..old
            }
        };
        *marks.slot(product) = Some(mark);
    }
    marks
}

/// True where transactions were committed, of any account.
fn pulled(marks: &ByProduct<Mark>) -> bool {
    marks
        .transactions
        .is_some_and(|mark| mark != Mark::default())
}

/// The accounts that answered for their transactions.
fn answered(snapshot: &Snapshot) -> Vec<AccountId> {
    let answers = snapshot.accounts.iter();
    answers
        .filter(|it| matches!(it.transactions, Some(Ok(_))))
        .map(|it| it.account)
        .collect()
}

/// The marks after a part of a commit: how far each product has come, and no digest that an answer
/// could equal.
fn on_the_way(mut marks: ByProduct<Mark>, part: &[FeedEntry]) -> ByProduct<Mark> {
    for product in Product::ALL {
        let mut ours = part.iter().filter(|entry| entry.change.is_of(product));
        if let Some(last) = ours.next_back() {
            *marks.slot(product) = Some(Mark {
                digest: None,
                seq: last.seq,
            });
        }
    }
    marks
}

/// The entries of a commit: the changes of the products, then those of the record's state.
pub(crate) fn number(
    head: &Head,
    changes: Vec<(AccountId, Change)>,
    states: Vec<(Option<AccountId>, StateChange)>,
    at: Timestamp,
) -> Vec<FeedEntry> {
    let mut seq = head.seq;
    let record = head.record;
    let changes = changes
        .into_iter()
        .map(|(account, change)| (Some(account), change));
    let states = states
        .into_iter()
        .map(|(account, change)| (account, Change::State(change)));
    changes
        .chain(states)
        .map(|(account, change)| {
            seq = seq.next();
            FeedEntry {
                record,
                seq,
                at,
                account,
                change,
            }
        })
        .collect()
}

/// How many of the entries fit one transaction; at least one where there is one.
fn fitting(entries: &[FeedEntry]) -> usize {
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

impl Changes {
    /// True where a balance or a transaction changed, and not a state alone.
    const fn has_rows(&self) -> bool {
        self.balances + self.added + self.modified + self.removed > 0
    }

    fn count(&mut self, entries: &[FeedEntry]) {
        for entry in entries {
            match &entry.change {
                Change::Balance { .. } => self.balances += 1,
                Change::State(_) => self.states += 1,
                Change::Transactions(diff) => {
                    self.added += diff.added.len();
                    self.modified += diff.modified.len();
                    self.removed += diff.removed.len();
                }
            }
        }
    }
}
