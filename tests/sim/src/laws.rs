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
    decide::window_start,
    diff::AccountView,
    feed::{Change, FeedEntry, Stream},
    ids::{AccountId, EventId, RecordId, Seq, Source, TransactionId},
    model::{BookingStatus, TransactionFacts, date_of},
    state::StateChange,
};
use okra_store::{Consistency, DeliveryKey, DeliveryState, Head, RecordStatus, Subscription};
use okra_webhooks::endpoint_id;

use crate::{
    bank::Row,
    world::{APP, APP_HOOK, Linked, OPS_HOOK, World},
};

/// Feed entries of a record that are read at most; no world makes as many.
const MAX_ENTRIES: usize = 5_000;

/// Milliseconds until every read sees a new subscription, and a world's longest stale read.
const SETTLED_MS: i64 = 2_500;

/// What of a row the bank and we must agree on.
type Shown = (Option<String>, bool, i64, i64, String);

fn at_bank(row: &Row) -> Shown {
    (
        row.id.clone(),
        row.pending,
        row.minor,
        row.at.as_millisecond(),
        row.text.clone(),
    )
}

fn shown(facts: &TransactionFacts) -> Shown {
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
fn purchase(facts: &TransactionFacts) -> Option<u32> {
    let number = facts.description.strip_prefix("SHOP ")?;
    number.split(' ').next()?.parse().ok()
}

/// The head's status is what the feed last said of it, and what it says alternates.
fn check_states(
    head: &Head,
    entries: &[FeedEntry],
    refusals: Option<&[i64]>,
    broken: &mut Vec<String>,
) {
    let record = head.record;
    let (mut waits, mut since) = (false, i64::MIN);
    let mut notices = BTreeSet::new();
    for entry in entries {
        let Change::State(state) = &entry.change else {
            continue;
        };
        if let StateChange::ConsentExpiring { expires_at, days } = state
            && !notices.insert((expires_at.as_millisecond(), *days))
        {
            broken.push(format!(
                "law 8: record {record} is told twice that its consent ends in {days} days"
            ));
        }
        let now = match state {
            StateChange::TokenRequired { .. } => true,
            StateChange::Recovered => false,
            _ => continue,
        };
        if now == waits {
            broken.push(format!(
                "law 8: record {record} says twice that it waits: {now}"
            ));
        }
        waits = now;
        // From one refusal to the next recovery.
        if let Some(refusals) = refusals {
            let at = entry.at.as_millisecond();
            let later = entries.iter().filter(|it| it.seq > entry.seq);
            let mut later =
                later.filter(|it| matches!(it.change, Change::State(StateChange::Recovered)));
            let end = later.next().map_or(i64::MAX, |it| it.at.as_millisecond());
            if now && !refusals.iter().any(|it| (since..=end).contains(it)) {
                broken.push(format!(
                    "law 8: record {record} is said to wait for its user at {at}, and no bank refused it"
                ));
            }
            since = if now { at } else { since };
        }
    }
    if waits != (head.status == RecordStatus::TokenRequired) {
        broken.push(format!(
            "law 8: record {record} is {} and its feed says that it waits: {waits}",
            head.status.as_str()
        ));
    }
    let last = entries
        .iter()
        .rev()
        .find(|entry| matches!(entry.change, Change::State(_)));
    let last = last.map_or(Seq::ZERO, |entry| entry.seq);
    if head.state != last {
        broken.push(format!(
            "law 2: record {record}: its last state entry is {last} and its head says {}",
            head.state
        ));
    }
}

impl World {
    pub(crate) async fn feed(&self, record: RecordId) -> Vec<FeedEntry> {
        let read = self
            .store
            .feed(record, Seq::ZERO, MAX_ENTRIES, Consistency::Strong)
            .await;
        read.unwrap_or_default()
    }

    /// The records that are in the table.
    fn records(&self) -> Vec<RecordId> {
        let services = self.cloud.services();
        let heads = services.table.items().filter(|((_, sk), _)| sk == "HEAD");
        heads
            .filter_map(|((pk, _), _)| pk.strip_prefix("REC#")?.parse().ok())
            .collect()
    }

    /// Checks what can be checked of every record now.
    pub(crate) async fn check(&mut self) {
        let mut broken = std::mem::take(&mut self.cloud.services().broken);
        broken.append(&mut self.receivers.desk().broken);
        let mut all = self.check_app_feed(&mut broken).await;
        for linked in self.linked.clone() {
            let entries = self.feed(linked.record).await;
            self.check_record(&linked, &entries, &mut broken).await;
        }
        // Records whose link was answered into nothing are there as well.
        for record in self.records() {
            let entries = self.feed(record).await;
            for entry in &entries {
                self.log(|| format!("feed {record} {} {:?}", entry.seq, entry.change));
            }
            // The link of such a record was answered into nothing, and no tick may ask its bank: it is
            // told of when its user asks.
            let known = self.linked.iter().any(|linked| linked.record == record);
            if known || !self.weather.in_person {
                self.check_told(record, &entries, &mut broken).await;
            }
            all.extend(
                entries
                    .iter()
                    .map(|entry| entry.event_id().as_str().to_owned()),
            );
        }
        self.check_invented(&all, &mut broken);
        self.broken.append(&mut broken);
    }

    async fn check_record(&self, linked: &Linked, entries: &[FeedEntry], broken: &mut Vec<String>) {
        let record = linked.record;
        let Some(head) = self.head(record).await else {
            broken.push(format!("record {record} has no head"));
            return;
        };
        let dense = entries
            .iter()
            .zip(1..)
            .all(|(entry, seq)| entry.seq.0 == seq);
        let count = u64::try_from(entries.len()).unwrap_or(0);
        if !dense || head.seq.0 != count {
            broken.push(format!(
                "law 2: record {record} has {count} entries and its head says {}",
                head.seq
            ));
        }
        let (refused, accounts, refusals) = {
            let books = self.banks.books();
            let login = &books.logins[linked.login];
            let refusals = login.refusals.clone();
            (login.is_over(self.now()), login.accounts.clone(), refusals)
        };
        // Of a consent whose end is known we say so ourselves.
        let refusals = (!self.weather.ends).then_some(refusals.as_slice());
        let waits = head.status == RecordStatus::TokenRequired;
        if waits != refused {
            broken.push(format!(
                "law 8: record {record} is {} and its consent is refused: {refused}",
                head.status.as_str()
            ));
        }
        check_states(&head, entries, refusals, broken);
        let mut views: BTreeMap<AccountId, AccountView> = BTreeMap::new();
        for entry in entries {
            if let Some(account) = entry.account {
                views.entry(account).or_default().apply(&entry.change);
            }
        }
        if refused {
            return;
        }
        let from = window_start(date_of(self.now()));
        let begins = window_start(date_of(self.begins()));
        for account in &accounts {
            let id = AccountId::of(head.customer, record, &account.id);
            let view = views.remove(&id).unwrap_or_default();
            self.check_stored(id, &view, broken).await;
            if account.broken {
                if view != AccountView::default() {
                    broken.push(format!(
                        "law 7: {} never answered and has a feed",
                        account.id
                    ));
                }
                continue;
            }
            let known: Vec<_> = view.transactions.values().map(shown).collect();
            let before = account.rows.iter().filter(|row| {
                let date = date_of(row.at);
                date >= begins && date < from
            });
            for row in before.filter(|row| !known.contains(&at_bank(row))) {
                broken.push(format!(
                    "law 1: {} of {record}: purchase {} of before the window was never read",
                    account.id, row.truth
                ));
            }
            let mut ours: Vec<Shown> = view
                .transactions
                .values()
                .filter(|facts| facts.date() >= from)
                .map(shown)
                .collect();
            let inside = account.rows.iter().filter(|row| date_of(row.at) >= from);
            let mut theirs: Vec<Shown> = inside.map(at_bank).collect();
            ours.sort();
            theirs.sort();
            if ours != theirs {
                let only = |a: &[Shown], b: &[Shown]| {
                    format!(
                        "{:?}",
                        a.iter().filter(|it| !b.contains(it)).collect::<Vec<_>>()
                    )
                };
                broken.push(format!(
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
            if ledger != Some(account.ledger) {
                broken.push(format!(
                    "law 1: {} of {record}: balance {ledger:?}, the bank says {}",
                    account.id, account.ledger
                ));
            }
        }
        if !views.is_empty() {
            broken.push(format!(
                "law 1: record {record} has a feed of accounts that it has not"
            ));
        }
        self.check_identity(record, entries, broken);
    }

    async fn check_stored(&self, id: AccountId, view: &AccountView, broken: &mut Vec<String>) {
        let stored = self
            .store
            .transactions(id, jiff::civil::date(2000, 1, 1), None, Consistency::Strong)
            .await;
        let stored: BTreeMap<TransactionId, TransactionFacts> = stored
            .unwrap_or_default()
            .into_iter()
            .map(|row| (row.transaction.id, row.transaction.facts))
            .collect();
        if stored != view.transactions {
            broken.push(format!(
                "law 1: account {id}: {} rows are stored, {} come of its feed",
                stored.len(),
                view.transactions.len()
            ));
        }
        let balance = self
            .store
            .account(id)
            .await
            .ok()
            .flatten()
            .and_then(|account| account.balance);
        if balance != view.balance {
            broken.push(format!(
                "law 1: account {id}: the stored balance is not the feed's"
            ));
        }
    }

    /// A purchase that its bank never took back has one identity from its first sight on.
    fn check_identity(&self, record: RecordId, entries: &[FeedEntry], broken: &mut Vec<String>) {
        let vanished = self.banks.books().vanished.clone();
        let kept = |facts: &TransactionFacts| purchase(facts).filter(|it| !vanished.contains(it));
        let mut known: BTreeMap<u32, TransactionId> = BTreeMap::new();
        for entry in entries {
            let Change::Transactions(diff) = &entry.change else {
                continue;
            };
            for removed in &diff.removed {
                if let Some(truth) = kept(&removed.facts) {
                    broken.push(format!(
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
                    broken.push(format!(
                        "law 6: purchase {truth} of {record} was {first} and became {}",
                        row.id
                    ));
                }
            }
        }
    }

    /// Every record whose consent is over says so once it was asked for.
    pub(crate) async fn check_ends(&mut self) {
        self.gate.set_open(true);
        for linked in self.linked.clone() {
            let over = self.banks.books().logins[linked.login].is_over(self.now());
            let head = self.head(linked.record).await;
            let waits = head.is_some_and(|head| head.status == RecordStatus::TokenRequired);
            if over && !waits {
                self.broken.push(format!(
                    "law 8: record {} does not say that its consent is over",
                    linked.record
                ));
            }
        }
        self.gate.set_open(false);
    }

    /// The app's own feed, what became of its endpoints: everyone who asked for it was told.
    async fn check_app_feed(&self, broken: &mut Vec<String>) -> BTreeSet<String> {
        let entries = self.store.app_feed(APP, Seq::ZERO, MAX_ENTRIES).await;
        let entries = entries.unwrap_or_default();
        let asked = self.store.endpoint(APP, endpoint_id(APP, OPS_HOOK)).await;
        let asked = asked.ok().flatten().is_some();
        for entry in entries.iter().filter(|it| asked && it.url != OPS_HOOK) {
            if !self.took(OPS_HOOK, &entry.event_id()) {
                broken.push(format!(
                    "law 3: nobody told {OPS_HOOK} of {}: {:?}",
                    entry.event_id(),
                    entry.happened
                ));
            }
        }
        let events = entries.iter().map(okra_store::AppEntry::event_id);
        events.map(|event| event.as_str().to_owned()).collect()
    }

    /// Nobody is told what no feed has, but for pings of their own.
    fn check_invented(&self, all: &BTreeSet<String>, broken: &mut Vec<String>) {
        let desk = self.receivers.desk();
        for (url, inbox) in &desk.inboxes {
            let ping = format!("ping_{}_", endpoint_id(APP, url));
            let invented = inbox
                .events
                .keys()
                .filter(|event| !all.contains(*event) && !event.starts_with(&ping));
            for event in invented {
                broken.push(format!(
                    "law 3: {url} was told of {event}, which no feed has"
                ));
            }
        }
    }

    /// Every entry reached everyone who was there before it, or waits for one who is visibly gone.
    async fn check_told(&self, record: RecordId, entries: &[FeedEntry], broken: &mut Vec<String>) {
        let subscriptions = self.store.subscriptions(record).await.unwrap_or_default();
        let mut wanted: Vec<(String, Option<Subscription>)> = vec![(APP_HOOK.to_owned(), None)];
        for subscription in subscriptions {
            if let Some(url) = subscription.webhook_url.clone() {
                wanted.push((url, Some(subscription)));
            }
        }
        for (url, subscription) in wanted {
            let endpoint = endpoint_id(APP, &url);
            let disabled = self
                .store
                .health(endpoint)
                .await
                .is_ok_and(|stored| stored.health.disabled.is_some());
            for entry in entries {
                let wants = subscription.as_ref().is_none_or(|it| {
                    let stream = entry.change.stream();
                    let product = it.products.iter().any(|&of| Stream::from(of) == stream);
                    let before = it.created_at.as_millisecond() + SETTLED_MS;
                    entry.at.as_millisecond() > before && (product || stream == Stream::State)
                });
                if !wants || self.took(&url, &entry.event_id()) {
                    continue;
                }
                let key = DeliveryKey {
                    endpoint,
                    at: entry.at,
                    source: Source::Record(record),
                    seq: entry.seq,
                };
                let delivery = self.store.delivery(&key).await.ok().flatten();
                let state = delivery.map(|delivery| delivery.state);
                if !(disabled && state == Some(DeliveryState::Parked)) {
                    broken.push(format!(
                        "law 3: nobody told {url} of {}: {state:?}",
                        entry.event_id()
                    ));
                }
            }
        }
    }

    fn took(&self, url: &str, event: &EventId) -> bool {
        let desk = self.receivers.desk();
        let inbox = desk.inboxes.get(url);
        inbox
            .and_then(|inbox| inbox.events.get(event.as_str()))
            .is_some_and(|(_, taken)| *taken > 0)
    }

    /// Rounds of ticks until nothing more is to be said of accounts that never answer.
    pub(crate) fn rounds_of_trouble(&self) -> usize {
        let books = self.banks.books();
        let mut accounts = books.logins.iter().flat_map(|login| &login.accounts);
        if accounts.any(|account| account.broken) {
            3
        } else {
            0
        }
    }

    /// Ticks over banks that say the same in other words. Where a history ended after the last tick of a
    /// record, its digests are settled once more, which tells nobody anything.
    pub(crate) async fn check_unchanged(&mut self) {
        let count = |world: &Self| {
            let services = world.cloud.services();
            (services.written, services.sent)
        };
        let (mut items, mut messages) = (0, 0);
        for _ in 0..2 {
            let before = count(self);
            self.tick_all().await;
            let after = count(self);
            (items, messages) = (after.0 - before.0, after.1 - before.1);
            if items == 0 || messages > 0 {
                break;
            }
        }
        if (items, messages) != (0, 0) {
            self.broken.push(format!(
                "law 4: a round without changes wrote {items} items and sent {messages} messages"
            ));
        }
    }
}
