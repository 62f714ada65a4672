//! What a refresh commits, and how far a record's feed is dispatched.
//!
//! [`plan_commit`] turns what was fetched and decided into a [`CommitPlan`]: the record's status and its failure state.
//! [`number_entries`] makes feed entries of changes, [`plan_watermarks`] says what is committed of each product with
//! them, and [`undispatched_ranges`] says which entries ([`DispatchRange`]) are still to be dispatched.
//!
//! The rule: *due entry = dispatched, head = committed, feed = truth*. A due entry is never ahead of its head, so that
//! whoever finds it behind projects and dispatches what lies between again.

use jiff::Timestamp;

use crate::{
    model::{
        fault::{BankFault, FaultClass},
        ids::{AccountId, RecordId, Seq},
        snapshot::{AccountSnapshot, ByProduct, Product, Snapshot},
    },
    resilience::failure_state::{FailureState, RefreshFaults, SuspendedProducts},
    schedule::plan::DueEntry,
    sync::{
        decide::{RefreshDecision, SnapshotDigests, Watermark},
        feed::{Change, FeedEntry, FeedStream},
        state::{
            ProductState, RecordStatus, StateChange, StatusTrigger, detect_product_change,
            next_record_status,
        },
    },
};

/// What failed in a refresh: the account, the product, and why.
pub type AccountFault = (AccountId, Product, BankFault);

/// A change of state and the account it is of; `None` where it is the record's.
pub type AccountStateChange = (Option<AccountId>, StateChange);

/// What a commit is planned from.
#[derive(Clone, Copy, Debug)]
pub struct CommitInputs<'a> {
    /// The due entry, read strongly.
    pub due: &'a DueEntry,
    /// The committed status of the record.
    pub status: RecordStatus,
    /// What the bank answered.
    pub snapshot: &'a Snapshot,
    /// What that comes to for each product.
    pub digests: &'a SnapshotDigests,
    /// What it changes.
    pub decision: &'a RefreshDecision,
    /// What was not fetched because it is suspended.
    pub suspended: &'a SuspendedProducts,
    /// The time.
    pub now: Timestamp,
}

/// What a refresh makes of a record, beside the changes of its data.
#[derive(Clone, Debug)]
pub struct CommitPlan {
    /// The products that were fetched.
    pub requested: Vec<Product>,
    /// What could not be read, and what was read and not accepted.
    pub faults: Vec<AccountFault>,
    /// What the due entry is to remember of the failures.
    pub failure_state: Option<FailureState>,
    /// The status of the record after the refresh.
    pub status: RecordStatus,
    /// The change of state that the status brings.
    pub status_change: Option<StateChange>,
}

/// Plans the commit of a refresh.
pub fn plan_commit(inputs: &CommitInputs<'_>) -> CommitPlan {
    let mut faults = inputs.digests.faults.clone();
    faults.extend(inputs.decision.faults.iter().cloned());
    let requested = requested_products(inputs.snapshot);
    let trigger = status_trigger(inputs.snapshot, &inputs.digests.faults);
    let (status, status_change) = next_record_status(inputs.status, trigger);
    CommitPlan {
        failure_state: plan_failure_state(inputs, &requested, &faults),
        requested,
        faults,
        status,
        status_change,
    }
}

/// The failure state after a refresh. A refresh of only some of the products that finds nothing wrong proves nothing of
/// the others: the state stays, but nothing is suspended any more.
fn plan_failure_state(
    inputs: &CommitInputs<'_>,
    requested: &[Product],
    faults: &[AccountFault],
) -> Option<FailureState> {
    let is_partial = requested != inputs.due.watermarks.products();
    match &inputs.due.failure_state {
        Some(before) if faults.is_empty() && inputs.suspended.is_empty() && is_partial => {
            Some(before.clone().without_suspension())
        }
        before => {
            let refresh_faults = RefreshFaults {
                faults,
                suspended: inputs.suspended,
            };
            FailureState::after_refresh(before.as_ref(), refresh_faults, inputs.now)
        }
    }
}

/// What the answers say of the record as a whole: the user is needed only where the bank rejects the consent for
/// everything that was requested (law 8).
pub fn status_trigger(snapshot: &Snapshot, faults: &[AccountFault]) -> StatusTrigger {
    let requested: usize = snapshot.accounts.iter().map(count_requested).sum();
    if faults.len() < requested || faults.is_empty() {
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

fn count_requested(account: &AccountSnapshot) -> usize {
    Product::ALL
        .into_iter()
        .filter(|product| has_product(account, *product))
        .count()
}

const fn has_product(account: &AccountSnapshot, product: Product) -> bool {
    match product {
        Product::Balance => account.balance.is_some(),
        Product::Transactions => account.transactions.is_some(),
    }
}

/// The products that were requested of at least one account.
pub fn requested_products(snapshot: &Snapshot) -> Vec<Product> {
    let mut products = Product::ALL.to_vec();
    products.retain(|product| {
        let mut accounts = snapshot.accounts.iter();
        accounts.any(|account| has_product(account, *product))
    });
    products
}

/// The accounts whose transactions were read.
pub fn accounts_with_transactions(snapshot: &Snapshot) -> Vec<AccountId> {
    let accounts = snapshot.accounts.iter();
    accounts
        .filter(|account| matches!(account.transactions, Some(Ok(_))))
        .map(|account| account.account)
        .collect()
}

/// True where transactions were committed, of any account.
pub fn has_committed_transactions(watermarks: &ByProduct<Watermark>) -> bool {
    watermarks
        .transactions
        .is_some_and(|watermark| watermark != Watermark::default())
}

impl CommitPlan {
    /// True where the availability of a product may be another than recorded, so that the recorded one is to be read.
    /// It is not read where nothing is wrong and nothing was; nor for a failure that is new and mostly passes by itself.
    pub fn may_change_availability(&self, before: Option<&FailureState>) -> bool {
        if self.status != RecordStatus::Active {
            return false;
        }
        let is_lasting = self.faults.iter().any(|(_, _, fault)| {
            matches!(
                fault.class,
                FaultClass::ConsentRejected
                    | FaultClass::QuotaSpent
                    | FaultClass::AccountGone
                    | FaultClass::MalformedResponse
            )
        });
        match &self.failure_state {
            None => before.is_some(),
            Some(state) => state.is_reported() || is_lasting,
        }
    }

    /// The changes of availability of an account's products, of those that were requested.
    pub fn availability_changes(
        &self,
        account: AccountId,
        recorded: &ByProduct<ProductState>,
        snapshot: &Snapshot,
    ) -> Vec<AccountStateChange> {
        let Some(fetched) = snapshot.accounts.iter().find(|it| it.account == account) else {
            return Vec::new();
        };
        let requested = self.requested.iter().copied();
        requested
            .filter(|product| has_product(fetched, *product))
            .filter_map(|product| {
                let fault = self
                    .faults
                    .iter()
                    .find(|(of, which, _)| *of == account && *which == product);
                let class = fault.map(|(_, _, fault)| fault.class);
                let change = detect_product_change(recorded.get(product), product, class)?;
                Some((Some(account), StateChange::Product(change)))
            })
            .collect()
    }
}

/// The feed entries of a commit, numbered from after `last_seq` on: the changes of the products, then those of state.
pub fn number_entries(
    record: RecordId,
    last_seq: Seq,
    committed_at: Timestamp,
    changes: Vec<(AccountId, Change)>,
    state_changes: Vec<AccountStateChange>,
) -> Vec<FeedEntry> {
    let data = changes
        .into_iter()
        .map(|(account, change)| (Some(account), change));
    let states = state_changes
        .into_iter()
        .map(|(account, change)| (account, Change::State(change)));
    let mut seq = last_seq;
    data.chain(states)
        .map(|(account, change)| {
            seq = seq.next();
            FeedEntry {
                record,
                seq,
                committed_at,
                account,
                change,
            }
        })
        .collect()
}

/// The number of the last entry of a product.
fn last_seq_of(product: Product, entries: &[FeedEntry]) -> Option<Seq> {
    let mut entries = entries.iter().rev();
    entries
        .find(|entry| entry.change.concerns_product(product))
        .map(|entry| entry.seq)
}

/// What is committed of the due entry's products with `entries`. A product that was not read whole, or whose answer was
/// not accepted, keeps its digest where nothing changed and loses it where something did; with unconfirmed deletions it
/// loses it always, because the next answer has to be compared whatever it is.
pub fn plan_watermarks(
    due: &DueEntry,
    committed: &ByProduct<Watermark>,
    digests: &SnapshotDigests,
    decision: &RefreshDecision,
    entries: &[FeedEntry],
) -> ByProduct<Watermark> {
    let mut watermarks = ByProduct::default();
    for (product, _) in due.watermarks.iter() {
        let before = committed.get(product).copied().unwrap_or_default();
        let is_rejected = decision.faults.iter().any(|(_, of, _)| *of == product);
        let is_unconfirmed = decision.has_unconfirmed && product == Product::Transactions;
        let read = digests.digests.get(product).copied();
        let digest = read.filter(|_| !is_rejected && !is_unconfirmed);
        let watermark = match last_seq_of(product, entries) {
            Some(seq) => Watermark { digest, seq },
            None => Watermark {
                digest: digest.or_else(|| before.digest.filter(|_| !is_unconfirmed)),
                ..before
            },
        };
        *watermarks.get_mut(product) = Some(watermark);
    }
    watermarks
}

/// The watermarks after one part of a commit that takes several transactions: as far as each product has come, and
/// without a digest, so that after a crash no answer equals it and the rest is found.
pub fn interim_watermarks(
    mut watermarks: ByProduct<Watermark>,
    part: &[FeedEntry],
) -> ByProduct<Watermark> {
    for product in Product::ALL {
        if let Some(seq) = last_seq_of(product, part) {
            *watermarks.get_mut(product) = Some(Watermark { digest: None, seq });
        }
    }
    watermarks
}

/// Consecutive numbers of a feed, of which the entries of one stream are to be dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchRange {
    /// The stream.
    pub stream: FeedStream,
    /// The first number.
    pub first_seq: Seq,
    /// The last number.
    pub last_seq: Seq,
}

impl DispatchRange {
    /// What lies after `dispatched`, up to `committed`; `None` where nothing does.
    pub fn between(stream: FeedStream, dispatched: Seq, committed: Seq) -> Option<Self> {
        (committed > dispatched).then(|| Self {
            stream,
            first_seq: dispatched.next(),
            last_seq: committed,
        })
    }
}

/// What a due entry lacks up to `committed`: the entries of its products that are to be dispatched.
pub fn undispatched_ranges<'a>(
    due: &'a DueEntry,
    committed: &'a ByProduct<Watermark>,
) -> impl Iterator<Item = DispatchRange> + 'a {
    committed.iter().filter_map(|(product, watermark)| {
        let dispatched = due.watermarks.get(product).copied().unwrap_or_default();
        DispatchRange::between(FeedStream::from(product), dispatched.seq, watermark.seq)
    })
}

/// How far a stream was dispatched; `None` where the due entry does not hold it.
pub fn dispatched_seq(due: &DueEntry, stream: FeedStream) -> Option<Seq> {
    match stream {
        FeedStream::Balance => due.watermarks.balance.map(|it| it.seq),
        FeedStream::Transactions => due.watermarks.transactions.map(|it| it.seq),
        FeedStream::State => due.state_seq,
    }
}

/// The number after which entries may be committed and not dispatched, of the streams that the due entry holds; `None`
/// where everything committed was dispatched.
pub fn last_settled_seq(
    due: &DueEntry,
    committed: &ByProduct<Watermark>,
    committed_state_seq: Seq,
) -> Option<Seq> {
    let products = Product::ALL.into_iter().filter_map(|product| {
        let dispatched = due.watermarks.get(product)?.seq;
        let committed = committed.get(product)?.seq;
        (committed > dispatched).then_some(dispatched)
    });
    let states = due.state_seq.filter(|seq| *seq < committed_state_seq);
    products.chain(states).min()
}

/// What a refresh leaves behind for its due entry.
#[derive(Clone, Debug)]
pub struct DueSettlement {
    /// What is committed and dispatched of each product.
    pub watermarks: ByProduct<Watermark>,
    /// The number of the last change of state that is committed.
    pub state_seq: Seq,
    /// True where the refresh committed changes of state: the digests were cleared before.
    pub has_state_changes: bool,
    /// What was wrong.
    pub failure_state: Option<FailureState>,
}

impl DueSettlement {
    /// True where the due entry says something else, so that it has to be written (law 4: an unchanged refresh writes
    /// nothing).
    pub fn changes_entry(&self, due: &DueEntry) -> bool {
        let is_behind = due.state_seq.is_some_and(|seq| seq < self.state_seq);
        due.watermarks != self.watermarks
            || is_behind
            || self.has_state_changes
            || due.failure_state != self.failure_state
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{
            ids::BankId,
            interval::{DueKey, Interval},
            snapshot::BalanceFacts,
        },
        sync::digest::Digest,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn account(name: u8) -> AccountId {
        AccountId::from_bytes([name; 12])
    }

    fn watermark(digest: Option<u8>, seq: u64) -> Watermark {
        Watermark {
            digest: digest.map(|byte| Digest([byte; 16])),
            seq: Seq(seq),
        }
    }

    fn due_entry(balance: Watermark, state_seq: Option<u64>) -> DueEntry {
        DueEntry {
            key: DueKey {
                interval: Interval::OneHour,
                bank: BankId::from_bytes([1; 12]),
                record: RecordId::from_bytes([2; 12]),
            },
            watermarks: ByProduct {
                balance: Some(balance),
                transactions: None,
            },
            state_seq: state_seq.map(Seq),
            failure_state: None,
        }
    }

    fn balance_snapshot(answers: Vec<(u8, Result<BalanceFacts, FaultClass>)>) -> Snapshot {
        let accounts = answers.into_iter().map(|(name, answer)| AccountSnapshot {
            account: account(name),
            balance: Some(answer.map_err(|class| BankFault::new(class, ""))),
            transactions: None,
        });
        Snapshot {
            accounts: accounts.collect(),
        }
    }

    fn balance_change() -> Change {
        Change::Balance {
            before: None,
            after: empty_balance(),
        }
    }

    const fn empty_balance() -> BalanceFacts {
        BalanceFacts {
            available: None,
            ledger: None,
        }
    }

    fn faults_of(snapshot: &Snapshot) -> Vec<AccountFault> {
        crate::sync::decide::digest_snapshot(snapshot).faults
    }

    #[test]
    fn the_user_is_needed_only_where_the_consent_is_rejected_for_everything() {
        use FaultClass::{BankUnavailable, ConsentRejected, MalformedResponse};
        let check = |answers: Vec<Result<BalanceFacts, FaultClass>>, expected| {
            let snapshot = balance_snapshot((0..).zip(answers).collect());
            let trigger = status_trigger(&snapshot, &faults_of(&snapshot));
            assert_eq!(trigger, expected);
        };
        check(
            vec![Err(ConsentRejected), Err(ConsentRejected)],
            StatusTrigger::ConsentRejected,
        );
        check(
            vec![Err(ConsentRejected), Ok(empty_balance())],
            StatusTrigger::Responded,
        );
        check(
            vec![Err(ConsentRejected), Err(BankUnavailable)],
            StatusTrigger::Failed,
        );
        check(vec![Err(MalformedResponse)], StatusTrigger::Failed);
        check(vec![], StatusTrigger::Responded);
    }

    #[test]
    fn a_new_failure_that_passes_reads_no_availability_and_a_lasting_one_does() {
        let plan = |class, before: Option<&FailureState>| {
            let snapshot = balance_snapshot(vec![(1, Err(class))]);
            let due = DueEntry {
                failure_state: before.cloned(),
                ..due_entry(watermark(Some(1), 1), None)
            };
            plan_commit(&CommitInputs {
                due: &due,
                status: RecordStatus::Active,
                snapshot: &snapshot,
                digests: &crate::sync::decide::digest_snapshot(&snapshot),
                decision: &RefreshDecision::default(),
                suspended: &SuspendedProducts::default(),
                now: NOW,
            })
        };
        let first = plan(FaultClass::BankUnavailable, None);
        assert!(!first.may_change_availability(None));
        let second = plan(FaultClass::BankUnavailable, first.failure_state.as_ref());
        assert!(second.may_change_availability(first.failure_state.as_ref()));
        let lasting = plan(FaultClass::MalformedResponse, None);
        assert!(lasting.may_change_availability(None));
        let snapshot = balance_snapshot(vec![(1, Err(FaultClass::MalformedResponse))]);
        let changes = lasting.availability_changes(account(1), &ByProduct::default(), &snapshot);
        assert_eq!(changes.len(), 1, "{changes:?}");
        let other = lasting.availability_changes(account(2), &ByProduct::default(), &snapshot);
        assert!(other.is_empty());
    }

    #[test]
    fn an_answer_that_is_not_accepted_never_becomes_a_digest() {
        let due = due_entry(watermark(Some(1), 4), None);
        let committed = due.watermarks;
        let read = SnapshotDigests {
            digests: ByProduct {
                balance: Some(Digest([2; 16])),
                transactions: None,
            },
            faults: Vec::new(),
        };
        let record = due.key.record;
        let entries = number_entries(
            record,
            Seq(6),
            NOW,
            vec![
                (account(1), balance_change()),
                (account(2), balance_change()),
            ],
            vec![(None, StateChange::Recovered)],
        );
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(numbers, [7, 8, 9]);
        let accepted = RefreshDecision::default();
        let plan =
            |decision, entries| plan_watermarks(&due, &committed, &read, decision, entries).balance;
        assert_eq!(plan(&accepted, &entries), Some(watermark(Some(2), 8)));
        assert_eq!(plan(&accepted, &[]), Some(watermark(Some(2), 4)));
        let fault = BankFault::new(FaultClass::MalformedResponse, "");
        let rejected = RefreshDecision {
            faults: vec![(account(1), Product::Balance, fault)],
            ..RefreshDecision::default()
        };
        assert_eq!(plan(&rejected, &entries), Some(watermark(None, 8)));
        assert_eq!(plan(&rejected, &[]), Some(watermark(Some(1), 4)));
    }

    #[test]
    fn a_due_entry_is_written_only_where_it_changes() {
        let due = due_entry(watermark(Some(1), 4), Some(2));
        let same = DueSettlement {
            watermarks: due.watermarks,
            state_seq: Seq(2),
            has_state_changes: false,
            failure_state: None,
        };
        assert!(!same.changes_entry(&due));
        let behind = DueSettlement {
            state_seq: Seq(3),
            ..same.clone()
        };
        assert!(behind.changes_entry(&due));
        let cleared = DueSettlement {
            has_state_changes: true,
            ..same
        };
        assert!(cleared.changes_entry(&due));
    }

    proptest! {
        /// Whatever is committed and not dispatched lies after the settled number, and in a range.
        #[test]
        fn everything_undispatched_is_found(
            dispatched in 0..50_u64,
            committed in 0..50_u64,
            state_dispatched in prop::option::of(0..50_u64),
            state_committed in 0..50_u64,
        ) {
            let due = due_entry(watermark(None, dispatched), state_dispatched);
            let head = ByProduct { balance: Some(watermark(None, committed)), transactions: None };
            let settled = last_settled_seq(&due, &head, Seq(state_committed));
            let ranges: Vec<_> = undispatched_ranges(&due, &head).collect();
            prop_assert_eq!(ranges.len(), usize::from(committed > dispatched));
            for range in &ranges {
                prop_assert_eq!((range.first_seq, range.last_seq), (Seq(dispatched + 1), Seq(committed)));
            }
            let is_state_behind = state_dispatched.is_some_and(|seq| seq < state_committed);
            prop_assert_eq!(settled.is_some(), !ranges.is_empty() || is_state_behind);
            if let Some(settled) = settled {
                prop_assert!(committed <= dispatched || settled.0 <= dispatched);
                prop_assert!(state_dispatched.is_none_or(|seq| seq >= state_committed || settled.0 <= seq));
            }
        }
    }
}
