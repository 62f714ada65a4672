//! The laws, checked on a world that has come to rest, by the same public surface that everyone uses.
//!
//! | law | what is looked at |
//! |---|---|
//! | 1 | a record's feed, replayed from 0, is what its bank shows and what is stored |
//! | 2 | sequence numbers are dense; an entry is written once (at every write, in `cloud`) |
//! | 3 | every entry reached every endpoint that was there all along, or its delivery says that it was given up; no event is invented; every attempt has the same body (at every attempt, in `receiver`) |
//! | 3, in order | where it is asked for, no event of a record is taken before another that was not told to be missing (at every attempt, in `receiver`) |
//! | 4 | a round of ticks over banks that say the same in other words writes nothing and sends nothing |
//! | 5 | the same round makes no feed entry |
//! | 6 | a purchase keeps its transaction's id while its bank shows it |
//! | 7 | an account that never answers holds no other back |
//! | 8 | a record waits for its user exactly where its bank refuses its consent, and is said to only after it did |
//! | 9 | what is asked of a bank beside its ticks has a place of its pace, and nothing is asked for a chunk whose time is over (at every call and message, in `cloud` and `world`) |

use std::collections::{BTreeMap, BTreeSet};

use okra_core::{
    model::{
        ids::{AccountId, EventId, FeedSource, RecordId, Seq, TransactionId},
        snapshot::{BookingStatus, TransactionFacts, utc_date},
    },
    sync::{
        decide::window_start,
        diff::ProjectedAccount,
        feed::{Change, FeedEntry, FeedStream},
        state::StateChange,
    },
};
use okra_store::{Consistency, DeliveryKey, DeliveryState, RecordHead, RecordStatus, Subscription};
use okra_webhooks::endpoint_id;

use crate::{
    bank::SimRow,
    world::{APP_HOOK_URL, OPS_HOOK_URL, SIM_APP_ID, SimLinkedRecord, World},
};

/// Feed entries of a record that are read at most; no world makes as many.
const MAX_FEED_ENTRIES: usize = 5_000;

/// Milliseconds until every read sees a new subscription, and a world's longest stale read.
const SETTLING_MS: i64 = 2_500;

/// What of a row the bank and we must agree on.
type ComparableRow = (Option<String>, bool, i64, i64, String);

fn comparable_bank_row(row: &SimRow) -> ComparableRow {
    (
        row.id.clone(),
        row.is_pending,
        row.signed_minor,
        row.booked_at.as_millisecond(),
        row.description.clone(),
    )
}

fn comparable_stored_row(facts: &TransactionFacts) -> ComparableRow {
    let pending = facts.status == BookingStatus::Pending;
    (
        facts.bank_id.clone(),
        pending,
        facts.signed_minor(),
        facts.booked_at.as_millisecond(),
        facts.description.clone(),
    )
}

/// Which real-world purchase a row is, where its text says so.
fn purchase_in_description(facts: &TransactionFacts) -> Option<u32> {
    let number = facts.description.strip_prefix("SHOP ")?;
    number.split(' ').next()?.parse().ok()
}

/// The head's status is what the feed last said of it, and what it says alternates.
fn check_state_entries(
    head: &RecordHead,
    entries: &[FeedEntry],
    rejected_at_ms: Option<&[i64]>,
    violations: &mut Vec<String>,
) {
    let record = head.record;
    let (mut waits, mut since) = (false, i64::MIN);
    let mut notices = BTreeSet::new();
    for entry in entries {
        let Change::State(state) = &entry.change else {
            continue;
        };
        if let StateChange::ConsentExpiring {
            expires_at,
            days_before: days,
        } = state
            && !notices.insert((expires_at.as_millisecond(), *days))
        {
            violations.push(format!(
                "law 8: record {record} is told twice that its consent ends in {days} days"
            ));
        }
        let now = match state {
            StateChange::ReauthorisationRequired { .. } => true,
            StateChange::Recovered => false,
            _ => continue,
        };
        if now == waits {
            violations.push(format!(
                "law 8: record {record} says twice that it waits: {now}"
            ));
        }
        waits = now;
        // From one refusal to the next recovery.
        if let Some(refusals) = rejected_at_ms {
            let at = entry.committed_at.as_millisecond();
            let later = entries.iter().filter(|it| it.seq > entry.seq);
            let mut later =
                later.filter(|it| matches!(it.change, Change::State(StateChange::Recovered)));
            // A recovery that was decided before the refusal may be committed after it: what was said after the refusal
            // is right all the same.
            let end = later
                .next()
                .map_or(i64::MAX, |it| it.committed_at.as_millisecond().max(at));
            if now && !refusals.iter().any(|it| (since..=end).contains(it)) {
                violations.push(format!(
                    "law 8: record {record} is said to wait for its user at {at}, and no bank refused it"
                ));
            }
            since = if now { at } else { since };
        }
    }
    if waits != (head.status == RecordStatus::ReauthorisationRequired) {
        violations.push(format!(
            "law 8: record {record} is {} and its feed says that it waits: {waits}",
            head.status.as_str()
        ));
    }
    let last = entries
        .iter()
        .rev()
        .find(|entry| matches!(entry.change, Change::State(_)));
    let last = last.map_or(Seq::ZERO, |entry| entry.seq);
    if head.state_seq != last {
        violations.push(format!(
            "law 2: record {record}: its last state entry is {last} and its head says {}",
            head.state_seq
        ));
    }
}

impl World {
    pub(crate) async fn load_feed(&self, record: RecordId) -> Vec<FeedEntry> {
        let read = self
            .store
            .read_feed(record, Seq::ZERO, MAX_FEED_ENTRIES, Consistency::Strong)
            .await;
        read.unwrap_or_default()
    }

    /// The records that are in the table.
    fn list_stored_records(&self) -> Vec<RecordId> {
        let services = self.cloud.lock_services();
        let heads = services
            .table
            .current_items()
            .filter(|((_, sk), _)| sk == "HEAD");
        heads
            .filter_map(|((pk, _), _)| pk.strip_prefix("REC#")?.parse().ok())
            .collect()
    }

    /// Checks what can be checked of every record now.
    pub(crate) async fn check_invariants(&mut self) {
        let mut broken = std::mem::take(&mut self.cloud.lock_services().violations);
        broken.append(&mut self.receivers.lock_state().violations);
        let mut all = self.check_app_feed(&mut broken).await;
        for linked in self.linked_records.clone() {
            let entries = self.load_feed(linked.record).await;
            self.check_record(&linked, &entries, &mut broken).await;
        }
        // Records whose link was answered into nothing are there as well.
        for record in self.list_stored_records() {
            let entries = self.load_feed(record).await;
            for entry in &entries {
                self.log_event(|| format!("feed {record} {} {:?}", entry.seq, entry.change));
            }
            // The link of such a record was answered into nothing, and no tick may ask its bank: it is
            // told of when its user asks.
            let known = self
                .linked_records
                .iter()
                .any(|linked| linked.record == record);
            if known || !self.fault_profile.user_present_only {
                self.check_record_deliveries(record, &entries, &mut broken)
                    .await;
            }
            all.extend(
                entries
                    .iter()
                    .map(|entry| entry.event_id().as_str().to_owned()),
            );
        }
        self.check_no_invented_events(&all, &mut broken);
        self.violations.append(&mut broken);
    }

    async fn check_record(
        &self,
        linked: &SimLinkedRecord,
        entries: &[FeedEntry],
        violations: &mut Vec<String>,
    ) {
        let record = linked.record;
        let Some(head) = self.load_head(record).await else {
            violations.push(format!("record {record} has no head"));
            return;
        };
        let dense = entries
            .iter()
            .zip(1..)
            .all(|(entry, seq)| entry.seq.0 == seq);
        let count = u64::try_from(entries.len()).unwrap_or(0);
        if !dense || head.seq.0 != count {
            violations.push(format!(
                "law 2: record {record} has {count} entries and its head says {}",
                head.seq
            ));
        }
        let (refused, accounts, refusals) = {
            let books = self.banks.lock_state();
            let login = &books.logins[linked.login];
            let refusals = login.rejected_at_ms.clone();
            (
                login.is_consent_over(self.now()),
                login.accounts.clone(),
                refusals,
            )
        };
        // Of a consent whose end is known we say so ourselves.
        let refusals = (!self.fault_profile.consents_expire).then_some(refusals.as_slice());
        let waits = head.status == RecordStatus::ReauthorisationRequired;
        if waits != refused {
            violations.push(format!(
                "law 8: record {record} is {} and its consent is refused: {refused}",
                head.status.as_str()
            ));
        }
        check_state_entries(&head, entries, refusals, violations);
        let mut views: BTreeMap<AccountId, ProjectedAccount> = BTreeMap::new();
        for entry in entries {
            if let Some(account) = entry.account {
                views
                    .entry(account)
                    .or_default()
                    .apply_change(&entry.change);
            }
        }
        if refused {
            return;
        }
        let from = window_start(utc_date(self.now()));
        let begins = window_start(utc_date(self.start_time()));
        for account in &accounts {
            let id = AccountId::for_bank_account(head.customer, record, &account.id);
            let view = views.remove(&id).unwrap_or_default();
            self.check_stored_account(id, &view, violations).await;
            if account.always_fails {
                if view != ProjectedAccount::default() {
                    violations.push(format!(
                        "law 7: {} never answered and has a feed",
                        account.id
                    ));
                }
                continue;
            }
            let known: Vec<_> = view
                .transactions
                .values()
                .map(comparable_stored_row)
                .collect();
            let before = account.rows.iter().filter(|row| {
                let date = utc_date(row.booked_at);
                date >= begins && date < from
            });
            for row in before.filter(|row| !known.contains(&comparable_bank_row(row))) {
                violations.push(format!(
                    "law 1: {} of {record}: purchase {} of before the window was never read",
                    account.id, row.purchase
                ));
            }
            let mut ours: Vec<ComparableRow> = view
                .transactions
                .values()
                .filter(|facts| facts.booking_date() >= from)
                .map(comparable_stored_row)
                .collect();
            let inside = account
                .rows
                .iter()
                .filter(|row| utc_date(row.booked_at) >= from);
            let mut theirs: Vec<ComparableRow> = inside.map(comparable_bank_row).collect();
            ours.sort();
            theirs.sort();
            if ours != theirs {
                let only = |a: &[ComparableRow], b: &[ComparableRow]| {
                    format!(
                        "{:?}",
                        a.iter().filter(|it| !b.contains(it)).collect::<Vec<_>>()
                    )
                };
                violations.push(format!(
                    "law 1: {} of {record}: the feed alone has {}, the bank alone {}",
                    account.id,
                    only(&ours, &theirs),
                    only(&theirs, &ours)
                ));
            }
            let ledger = view
                .balance
                .and_then(|balance| balance.available)
                .map(|money| money.minor);
            if ledger != Some(account.ledger_minor) {
                violations.push(format!(
                    "law 1: {} of {record}: balance {ledger:?}, the bank says {}",
                    account.id, account.ledger_minor
                ));
            }
        }
        if !views.is_empty() {
            violations.push(format!(
                "law 1: record {record} has a feed of accounts that it has not"
            ));
        }
        self.check_purchase_identity(record, entries, violations);
    }

    async fn check_stored_account(
        &self,
        id: AccountId,
        view: &ProjectedAccount,
        violations: &mut Vec<String>,
    ) {
        let stored = self
            .store
            .list_transactions(id, jiff::civil::date(2000, 1, 1), None, Consistency::Strong)
            .await;
        let stored: BTreeMap<TransactionId, TransactionFacts> = stored
            .unwrap_or_default()
            .into_iter()
            .map(|row| (row.transaction.id, row.transaction.facts))
            .collect();
        if stored != view.transactions {
            violations.push(format!(
                "law 1: account {id}: {} rows are stored, {} come of its feed",
                stored.len(),
                view.transactions.len()
            ));
        }
        let balance = self
            .store
            .find_account(id)
            .await
            .ok()
            .flatten()
            .and_then(|account| account.balance);
        if balance != view.balance {
            violations.push(format!(
                "law 1: account {id}: the stored balance is not the feed's"
            ));
        }
    }

    /// A purchase that its bank never took back has one identity from its first sight on.
    fn check_purchase_identity(
        &self,
        record: RecordId,
        entries: &[FeedEntry],
        violations: &mut Vec<String>,
    ) {
        let vanished = self.banks.lock_state().retracted_purchases.clone();
        let kept = |facts: &TransactionFacts| {
            purchase_in_description(facts).filter(|it| !vanished.contains(it))
        };
        let mut known: BTreeMap<u32, TransactionId> = BTreeMap::new();
        for entry in entries {
            let Change::Transactions(diff) = &entry.change else {
                continue;
            };
            for removed in &diff.removed {
                if let Some(truth) = kept(&removed.facts) {
                    violations.push(format!(
                        "law 1: purchase {truth} of {record} is told to be removed, and its bank never took it back"
                    ));
                }
            }
            let added = diff.added.iter();
            for row in added.chain(diff.modified.iter().map(|modified| &modified.after)) {
                let Some(truth) = kept(&row.facts) else {
                    continue;
                };
                let first = *known.entry(truth).or_insert(row.id);
                if first != row.id {
                    violations.push(format!(
                        "law 6: purchase {truth} of {record} was {first} and became {}",
                        row.id
                    ));
                }
            }
        }
    }

    /// Every record whose consent is over says so once it was asked for.
    pub(crate) async fn check_expired_consents(&mut self) {
        self.scheduler.set_bypassed(true);
        for linked in self.linked_records.clone() {
            let over = self.banks.lock_state().logins[linked.login].is_consent_over(self.now());
            let head = self.load_head(linked.record).await;
            let waits =
                head.is_some_and(|head| head.status == RecordStatus::ReauthorisationRequired);
            if over && !waits {
                self.violations.push(format!(
                    "law 8: record {} does not say that its consent is over",
                    linked.record
                ));
            }
        }
        self.scheduler.set_bypassed(false);
    }

    /// The app's own feed, what became of its endpoints: everyone who asked for it was told.
    async fn check_app_feed(&self, violations: &mut Vec<String>) -> BTreeSet<String> {
        let entries = self
            .store
            .read_app_feed(SIM_APP_ID, Seq::ZERO, MAX_FEED_ENTRIES)
            .await;
        let entries = entries.unwrap_or_default();
        let asked = self
            .store
            .find_endpoint(SIM_APP_ID, endpoint_id(SIM_APP_ID, OPS_HOOK_URL))
            .await;
        let asked = asked.ok().flatten().is_some();
        for entry in entries
            .iter()
            .filter(|it| asked && it.endpoint_url != OPS_HOOK_URL)
        {
            if !self.was_event_taken(OPS_HOOK_URL, &entry.event_id()) {
                violations.push(format!(
                    "law 3: nobody told {OPS_HOOK_URL} of {}: {:?}",
                    entry.event_id(),
                    entry.notice
                ));
            }
        }
        let events = entries.iter().map(okra_store::AppFeedEntry::event_id);
        events.map(|event| event.as_str().to_owned()).collect()
    }

    /// Nobody is told what no feed has, but for pings of their own.
    fn check_no_invented_events(
        &self,
        committed_events: &BTreeSet<String>,
        violations: &mut Vec<String>,
    ) {
        let desk = self.receivers.lock_state();
        for (url, inbox) in &desk.inboxes {
            let ping = format!("ping_{}_", endpoint_id(SIM_APP_ID, url));
            let invented = inbox
                .events
                .keys()
                .filter(|event| !committed_events.contains(*event) && !event.starts_with(&ping));
            for event in invented {
                violations.push(format!(
                    "law 3: {url} was told of {event}, which no feed has"
                ));
            }
        }
    }

    /// Every entry reached everyone who was there before it, or waits for one who is visibly gone.
    async fn check_record_deliveries(
        &self,
        record: RecordId,
        entries: &[FeedEntry],
        violations: &mut Vec<String>,
    ) {
        let subscriptions = self
            .store
            .list_subscriptions(record)
            .await
            .unwrap_or_default();
        let mut wanted: Vec<(String, Option<Subscription>)> = vec![(APP_HOOK_URL.to_owned(), None)];
        for subscription in subscriptions {
            if let Some(url) = subscription.webhook_url.clone() {
                wanted.push((url, Some(subscription)));
            }
        }
        for (url, subscription) in wanted {
            let endpoint = endpoint_id(SIM_APP_ID, &url);
            let disabled = self
                .store
                .load_endpoint_health(endpoint)
                .await
                .is_ok_and(|stored| stored.health.disabled.is_some());
            for entry in entries {
                let wants = subscription.as_ref().is_none_or(|it| {
                    let stream = entry.change.stream();
                    let product = it.products.iter().any(|&of| FeedStream::from(of) == stream);
                    let before = it.created_at.as_millisecond() + SETTLING_MS;
                    entry.committed_at.as_millisecond() > before
                        && (product || stream == FeedStream::State)
                });
                if !wants || self.was_event_taken(&url, &entry.event_id()) {
                    continue;
                }
                let key = DeliveryKey {
                    endpoint,
                    committed_at: entry.committed_at,
                    source: FeedSource::Record(record),
                    seq: entry.seq,
                };
                let delivery = self.store.find_delivery(&key).await.ok().flatten();
                let state = delivery.map(|delivery| delivery.state);
                if !(disabled && state == Some(DeliveryState::Parked)) {
                    violations.push(format!(
                        "law 3: nobody told {url} of {}: {state:?}",
                        entry.event_id()
                    ));
                }
            }
        }
    }

    fn was_event_taken(&self, url: &str, event: &EventId) -> bool {
        let desk = self.receivers.lock_state();
        let inbox = desk.inboxes.get(url);
        inbox
            .and_then(|inbox| inbox.events.get(event.as_str()))
            .is_some_and(|(_, taken)| *taken > 0)
    }

    /// Rounds of ticks until nothing more is to be said of accounts that never answer.
    pub(crate) fn fault_report_rounds(&self) -> usize {
        let books = self.banks.lock_state();
        let mut accounts = books.logins.iter().flat_map(|login| &login.accounts);
        if accounts.any(|account| account.always_fails) {
            3
        } else {
            0
        }
    }

    /// Ticks over banks that say the same in other words. Where a history ended after the last tick of a
    /// record, its digests are settled once more, which tells nobody anything.
    pub(crate) async fn check_unchanged_round(&mut self) {
        let count = |world: &Self| {
            let services = world.cloud.lock_services();
            (services.items_written, services.messages_sent)
        };
        let (mut items, mut messages) = (0, 0);
        for _ in 0..2 {
            let before = count(self);
            self.tick_all_due_entries().await;
            let after = count(self);
            (items, messages) = (after.0 - before.0, after.1 - before.1);
            if items == 0 || messages > 0 {
                break;
            }
        }
        if (items, messages) != (0, 0) {
            self.violations.push(format!(
                "law 4: a round without changes wrote {items} items and sent {messages} messages"
            ));
        }
    }
}
