//! Linking a record: a consent at a bank becomes accounts that are kept fresh from then on.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp, ToSpan};
use okra_banks::{
    ConsentId, ConsentSecret, ConsentTerms,
    oauth::{Grant, MAX_TOKEN_BYTES, is_usable_token},
};
use okra_core::{
    bank::BankConfig,
    consent::ConsentClock,
    decide::Mark,
    history::MAX_MONTHS,
    ids::{AccountId, BankId, CustomerId, RecordId, Seq},
    model::{AccountFacts, ByProduct, Product, date_of},
    plan::DueEntry,
    schedule::Interval,
    state::StateChange,
};
use okra_refresh::{announce, client_secret, follow_up, history};
use okra_store::{
    Account, Consent, ConsentAccount, Consistency, Customer, Head, MAX_ACCOUNTS_PER_RECORD,
    MAX_OPTIONS_BYTES, MAX_RECORDS_PER_CUSTOMER, NewRecord, RecordStatus,
};
use okra_vault::fresh_nonce;
use okra_wire::{account::LinkedAccount, record::Schedule};
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{BANK, CONSENT_EXPIRES_AT, CONSENT_ID, CUSTOMER, Input, LIMIT_MONTHS, RECORD},
    places::place_at,
    refresh::{self, bank_busy},
    sync,
};

/// What our own token is for, where a consent is asked after.
const CONSENT_SCOPE: &str = "accounts";

/// Links of one customer in an hour at most, as Okra's widget had it.
const LINKS_PER_HOUR: u32 = 5;

const HOUR_S: u32 = 3600;

/// The field that says which products the interval is for.
pub(crate) const SYNC_PRODUCTS: &str = "sync_products";

/// Whose record it becomes.
pub(crate) enum Whom {
    /// A customer of the app.
    Known(Customer),
    /// One who is made when the bank has answered.
    New { name: String, email: Option<String> },
}

/// What is asked for with a link: data sync, and what webhooks echo.
pub(crate) struct Terms {
    interval: Option<Interval>,
    /// All that is read.
    products: Vec<Product>,
    /// Those of them that are read at `interval`; the others daily.
    synced: Vec<Product>,
    webhook_url: Option<String>,
    /// Months of history.
    months: u8,
    /// When the consent ends.
    expires_at: Option<Timestamp>,
    options: Map<String, Value>,
    /// Echoed in webhooks beside them.
    meta: Map<String, Value>,
}

impl Terms {
    /// Reads and checks them, before anything is made.
    pub(crate) fn of(call: &Call, input: &Input) -> Result<Self, Refusal> {
        let options = input.object("options")?.unwrap_or_default();
        let meta = input.object("meta")?.unwrap_or_default();
        let bytes = |it: &Map<String, Value>| match it.is_empty() {
            true => Ok(0),
            false => serde_json::to_vec(it).map(|it| it.len()),
        };
        if bytes(&options)? + bytes(&meta)? > MAX_OPTIONS_BYTES {
            let field = if meta.is_empty() { "options" } else { "meta" };
            let problem = format!("has more than {MAX_OPTIONS_BYTES} bytes, with options");
            return Err(Refusal::field(field, problem));
        }
        let products = input.products()?.unwrap_or_else(|| Product::ALL.to_vec());
        Ok(Self {
            interval: sync::interval(input)?,
            synced: synced(input, &products)?,
            products,
            webhook_url: sync::webhook_url(call, input)?,
            months: months(input)?,
            expires_at: expires_at(input)?,
            options,
            meta,
        })
    }
}

/// Which of `products` are read at the interval: all where nothing else is said.
fn synced(input: &Input, products: &[Product]) -> Result<Vec<Product>, Refusal> {
    let Some(named) = input.texts(SYNC_PRODUCTS) else {
        return Ok(products.to_vec());
    };
    let mut synced = products.to_vec();
    synced.retain(|product| named.iter().any(|name| name == product.as_str()));
    let known = |name: &String| synced.iter().any(|product| product.as_str() == name);
    if synced.is_empty() || !named.iter().all(known) {
        return Err(Refusal::field(SYNC_PRODUCTS, "are any of products"));
    }
    Ok(synced)
}

/// When the consent ends, where the app knows.
fn expires_at(input: &Input) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = input.text(CONSENT_EXPIRES_AT) else {
        return Ok(None);
    };
    let at = text.parse();
    at.map(Some)
        .map_err(|_| Refusal::field("consent_expires_at", "is no ISO 8601 date and time"))
}

/// Months of history asked for: Okra's `limit`, all that can be had where it is absent.
fn months(input: &Input) -> Result<u8, Refusal> {
    let expected = format!("a number of months of history, 1 to {MAX_MONTHS}");
    let Some(text) = input.scalar(LIMIT_MONTHS, &expected)? else {
        return Ok(MAX_MONTHS);
    };
    let months = text.parse().ok().filter(|it| (1..=MAX_MONTHS).contains(it));
    months.ok_or_else(|| Refusal::field("limit", format!("is {expected}")))
}

/// What the bank says of a consent, where it can be asked. A link does not fail for want of it: a consent
/// that ends unannounced is told of when it has.
async fn terms_at_bank(
    call: &Call,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<Option<ConsentTerms>, Refusal> {
    let Some(id) = consent.consent_id.as_ref().filter(|_| bank.oauth.is_some()) else {
        return Ok(None);
    };
    let (state, now) = (&call.state, call.now());
    let client_secret = client_secret(&state.vault, bank)?;
    let grant = Grant::ClientCredentials {
        scope: CONSENT_SCOPE,
    };
    let asked = async {
        let connectors = &state.connectors;
        let ours = connectors.token(bank, &client_secret, grant, now).await?;
        connectors.consent_terms(bank, &ours, id, now).await
    };
    match asked.await {
        Ok(terms) => Ok(Some(terms)),
        Err(fault) => {
            tracing::warn!(bank = %bank.id, fault.detail, "a consent's terms could not be read");
            Ok(None)
        }
    }
}

/// The clock of a consent that begins now: by the bank's word, else by the app's.
fn clock(
    at_bank: Option<ConsentTerms>,
    said: Option<Timestamp>,
    now: Timestamp,
) -> Option<ConsentClock> {
    let expires_at = at_bank.and_then(|terms| terms.expires_at).or(said)?;
    Some(ConsentClock::starting(expires_at, now))
}

/// Months of history that a consent opens.
fn months_opened(at_bank: Option<ConsentTerms>, asked: u8, now: Timestamp) -> u8 {
    let Some(from) = at_bank.and_then(|terms| terms.transactions_from) else {
        return asked;
    };
    let today = date_of(now);
    let opened =
        (0..asked).find(|&months| today.saturating_sub(i32::from(months).months()) <= from);
    opened.unwrap_or(asked)
}

/// What is linked.
pub(crate) struct Linking {
    pub(crate) bank: BankId,
    pub(crate) consent: ConsentSecret,
    pub(crate) whom: Whom,
    /// Accounts to link, by the bank's ids; all that the consent covers where empty.
    pub(crate) account_ids: Vec<String>,
    pub(crate) terms: Terms,
}

/// What a link answers.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub(crate) struct Linked {
    record_id: RecordId,
    bank_id: BankId,
    customer_id: CustomerId,
    name: String,
    accounts: Vec<LinkedAccount>,
    schedule: Schedule,
}

/// Links a record to any configured bank by its consent's token: an extension, and how a bank is
/// connected that has no widget. With the id of a record it renews that record's consent.
pub(crate) async fn link(call: &Call) -> Answer {
    let input = &call.input;
    let consent = handed_over(call)?;
    if input.text(RECORD).is_some() {
        let head = call.record().await?;
        return success("Record linked again", relink(call, &head, consent).await?);
    }
    let whom = match input.id::<CustomerId>(CUSTOMER)? {
        Some(id) => Whom::Known(call.own_customer(id).await?),
        None => Whom::New {
            name: input.needed_text(&["name"])?,
            email: input.text(&["email"]),
        },
    };
    let linking = Linking {
        bank: input.needed_id(BANK)?,
        consent,
        whom,
        account_ids: input.texts("account_ids").unwrap_or_default(),
        terms: Terms::of(call, input)?,
    };
    let linked = link_record(call, linking).await?;
    success("Record linked successfully", linked)
}

/// The tokens of a consent, as the caller has them from the bank.
fn handed_over(call: &Call) -> Result<ConsentSecret, Refusal> {
    let input = &call.input;
    let refresh_token = input.text(&["refresh_token"]);
    let access_token = match &refresh_token {
        Some(_) => input.text(&["access_token"]).unwrap_or_default(),
        None => input.needed_text(&["access_token"])?,
    };
    for (field, token) in [
        (
            "access_token",
            Some(&access_token).filter(|it| !it.is_empty()),
        ),
        ("refresh_token", refresh_token.as_ref()),
    ] {
        if !token.is_none_or(|token| is_usable_token(token)) {
            let problem = format!("is not 1 to {MAX_TOKEN_BYTES} visible ASCII characters");
            return Err(Refusal::field(field, problem));
        }
    }
    let life = input
        .number("expires_in")?
        .and_then(|seconds| i64::try_from(seconds).ok());
    let end = |seconds| {
        let life = SignedDuration::from_secs(seconds);
        call.now().checked_add(life).ok()
    };
    let consent_id = match input.text(CONSENT_ID) {
        None => None,
        Some(text) => Some(ConsentId::new(text).ok_or_else(|| {
            Refusal::field("consent_id", "is not 1 to 128 visible ASCII characters")
        })?),
    };
    let mut consent = ConsentSecret::bearer(access_token);
    consent.consent_id = consent_id;
    consent.expires_at = life.and_then(end);
    consent.refresh_token = refresh_token;
    Ok(consent)
}

/// The consent with an access token that holds: one that has ended is renewed.
async fn ready(
    call: &Call,
    bank: &BankConfig,
    consent: ConsentSecret,
) -> Result<ConsentSecret, Refusal> {
    let Some(refresh_token) = &consent.refresh_token else {
        return Ok(consent);
    };
    if bank.oauth.is_none() {
        let problem = "cannot be used: the bank is configured without oauth";
        return Err(Refusal::field("refresh_token", problem));
    }
    if !consent.is_spent(call.now()) {
        return Ok(consent);
    }
    let consent_id = consent.consent_id.clone();
    let state = &call.state;
    let client_secret = client_secret(&state.vault, bank)?;
    let grant = Grant::RefreshToken(refresh_token);
    let renewed = state
        .connectors
        .token(bank, &client_secret, grant, call.now());
    let mut renewed = renewed.await?;
    renewed.consent_id = consent_id;
    Ok(renewed)
}

/// Waits for a place of what the bank allows beside its ticks.
async fn place(call: &Call, bank: &BankConfig) -> Result<(), Refusal> {
    let now = call.now();
    let place = place_at(&call.state, bank, now).await?;
    place.map_err(|at| bank_busy(at, now))
}

/// Asks the bank for the accounts, stores everything at once, and sends off the first refresh.
pub(crate) async fn link_record(call: &Call, linking: Linking) -> Result<Linked, Refusal> {
    let state = &call.state;
    let Linking {
        bank,
        consent,
        whom,
        account_ids,
        terms,
    } = linking;
    let bank = call.own_bank(bank).await?;
    place(call, &bank).await?;
    let consent = ready(call, &bank, consent).await?;
    let facts = chosen(facts(call, &bank, &consent).await?, &account_ids)?;
    let customer = settle(call, whom).await?;
    let at_bank = terms_at_bank(call, &bank, &consent).await?;
    let new = new_record(call, &customer, &bank, facts, &consent, &terms, at_bank)?;
    let head = &new.head;

    follow_up::ask(&state.queues, head).await?;
    // In this order a crash leaves nothing that is not refreshed: a subscription without a record is
    // never read, and a rule without records switches itself off.
    if terms.interval.is_some() || terms.webhook_url.is_some() {
        let subscription = sync::subscription(
            head.record,
            &terms.synced,
            terms.interval.unwrap_or_default(),
            terms.webhook_url.as_deref(),
            call.now(),
        );
        state.store.put_subscription(&subscription).await?;
    }
    sync::wake(call, head.schedule).await?;
    let touched = state.store.create_record(&new).await?;
    for interval in touched.started {
        state.rules.enable(interval).await?;
    }
    announce::tell(&state.store, &state.queues, head).await?;
    refresh::enqueue(call, head.record).await?;
    Ok(linked(head, customer.name, &new.accounts))
}

/// What the bank says of the accounts of a consent; 1 to [`MAX_ACCOUNTS_PER_RECORD`].
async fn facts(
    call: &Call,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<Vec<AccountFacts>, Refusal> {
    let connectors = &call.state.connectors;
    let facts = connectors.accounts(bank, consent, call.now()).await?;
    if facts.is_empty() || facts.len() > MAX_ACCOUNTS_PER_RECORD {
        let problem = format!(
            "covers {} accounts; 1 to {MAX_ACCOUNTS_PER_RECORD} can be linked",
            facts.len()
        );
        return Err(Refusal::field("access_token", problem));
    }
    Ok(facts)
}

/// The accounts of these ids, all where there are none.
fn chosen(
    mut facts: Vec<AccountFacts>,
    account_ids: &[String],
) -> Result<Vec<AccountFacts>, Refusal> {
    if account_ids.is_empty() {
        return Ok(facts);
    }
    let covered = |id: &String| facts.iter().any(|it| it.bank_account_id == *id);
    if !account_ids.iter().all(covered) {
        let problem = "has an account that the consent does not cover";
        return Err(Refusal::field("account_ids", problem));
    }
    facts.retain(|it| account_ids.contains(&it.bank_account_id));
    Ok(facts)
}

/// The customer, made where it is a new one.
async fn settle(call: &Call, whom: Whom) -> Result<Customer, Refusal> {
    let store = &call.state.store;
    match whom {
        Whom::Known(customer) => {
            unflagged(&customer)?;
            let name = format!("link#{}", customer.id);
            if let Some(until) = call.over_limit(&name, (LINKS_PER_HOUR, HOUR_S)).await? {
                let what = format!("{LINKS_PER_HOUR} links of one customer in an hour");
                return Err(Refusal::too_many(&what).retry_at(until, call.now()));
            }
            let records = store.records_of_customer(customer.id).await?;
            if records.len() >= MAX_RECORDS_PER_CUSTOMER {
                let problem = format!("has {MAX_RECORDS_PER_CUSTOMER} records, which is the most");
                return Err(Refusal::field("customer", problem));
            }
            Ok(customer)
        }
        Whom::New { name, email } => {
            let customer = Customer {
                id: CustomerId::from_bytes(call.state.random()?),
                app: call.app()?.id,
                name,
                email,
                blocked: false,
                created_at: call.now(),
            };
            store.put_customer(&customer).await?;
            Ok(customer)
        }
    }
}

/// Refuses a customer that the app has flagged.
fn unflagged(customer: &Customer) -> Result<(), Refusal> {
    if customer.blocked {
        let message = "The customer is flagged; unflag it to link a bank";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "FLAGGED_USER", message));
    }
    Ok(())
}

fn new_record(
    call: &Call,
    customer: &Customer,
    bank: &BankConfig,
    facts: Vec<AccountFacts>,
    consent: &ConsentSecret,
    terms: &Terms,
    at_bank: Option<ConsentTerms>,
) -> Result<NewRecord, Refusal> {
    let (now, app) = (call.now(), call.app()?.id);
    let (bank, limits) = (bank.id, bank.limits);
    let record = RecordId::from_bytes(call.state.random()?);
    let accounts: Vec<Account> = facts
        .into_iter()
        .map(|facts| Account {
            id: AccountId::of(customer.id, record, &facts.bank_account_id),
            record,
            app,
            customer: customer.id,
            bank,
            facts,
            balance: None,
            balance_seq: Seq::ZERO,
            balance_at: None,
            checks: okra_store::Checks::default(),
            drift_told: false,
            states: ByProduct::default(),
            created_at: now,
            last_updated: now,
        })
        .collect();
    let consent = Consent {
        clock: clock(at_bank, terms.expires_at, now),
        record,
        app: Some(app),
        bank,
        sealed: sealed(call, record, consent)?,
        accounts: accounts
            .iter()
            .map(|it| ConsentAccount {
                id: it.id,
                bank_account_id: it.facts.bank_account_id.clone(),
            })
            .collect(),
    };
    let mut schedule = sync::fastest(&terms.products, &[]);
    for &product in &terms.synced {
        *schedule.slot(product) = Some(terms.interval.unwrap_or_default());
    }
    let schedule = sync::limited(&limits, schedule);
    let accounts_linked = accounts
        .iter()
        .map(|account| (Some(account.id), StateChange::AccountLinked));
    let changes = std::iter::once((None, StateChange::Linked)).chain(accounts_linked);
    let entries = announce::entries(record, Seq::ZERO, now, changes.collect());
    let seq = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
    let head = Head {
        record,
        app,
        customer: customer.id,
        bank,
        seq,
        marks: ByProduct::default(),
        state: seq,
        schedule,
        status: RecordStatus::Active,
        first_pull_done: false,
        rows: Some(0),
        options: Value::Object(terms.options.clone()),
        meta: terms.meta.clone(),
        months: months_opened(at_bank, terms.months, now),
        created_at: now,
        last_changed_at: now,
    };
    let due = due(&head);
    Ok(NewRecord {
        head,
        consent,
        accounts,
        due,
        entries,
    })
}

/// A due entry for each interval of a new record, of which nothing was dispatched yet.
fn due(head: &Head) -> Vec<DueEntry> {
    let entry = |key: okra_core::schedule::DueKey| {
        let mut marks = ByProduct::default();
        for (product, interval) in head.schedule.iter() {
            if *interval == key.interval {
                *marks.slot(product) = Some(Mark::default());
            }
        }
        let state = (head.state_key() == Some(key)).then_some(Seq::ZERO);
        DueEntry {
            key,
            marks,
            state,
            trouble: None,
        }
    };
    head.due_keys().into_iter().map(entry).collect()
}

fn sealed(call: &Call, record: RecordId, consent: &ConsentSecret) -> Result<Vec<u8>, Refusal> {
    let plain = Zeroizing::new(serde_json::to_vec(consent)?);
    let nonce = fresh_nonce()?;
    Ok(call.state.vault.seal(record.as_bytes(), &plain, nonce)?)
}

/// Gives a record a new consent in place of one that the bank refuses. It has to cover every account
/// of the record, by the bank's id or, where the bank gave new ones, by number.
async fn relink(call: &Call, head: &Head, consent: ConsentSecret) -> Result<Linked, Refusal> {
    let state = &call.state;
    if head.status == RecordStatus::Invalid {
        let problem = "is of a record that was unlinked; link it as a new one";
        return Err(Refusal::field("record_id", problem));
    }
    let customer = call.own_customer(head.customer).await?;
    unflagged(&customer)?;
    let (bank, known) = (
        state.store.bank(head.bank).await?,
        state
            .store
            .consent(head.record, Consistency::Strong)
            .await?,
    );
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    let known = known.ok_or_else(|| Refusal::not_found("record"))?;
    place(call, &bank).await?;
    let consent = ready(call, &bank, consent).await?;
    let facts = facts(call, &bank, &consent).await?;
    let accounts = state.store.accounts_of(&known, Consistency::Strong).await?;
    let mut covered = Vec::with_capacity(accounts.len());
    for (account, before) in accounts.iter().zip(&known.accounts) {
        let by_id = facts
            .iter()
            .find(|it| it.bank_account_id == before.bank_account_id);
        let by_number = || {
            facts
                .iter()
                .find(|it| !it.number.is_empty() && it.number == account.facts.number)
        };
        let now = by_id.or_else(by_number).ok_or_else(|| {
            let problem = "does not cover every account of the record";
            Refusal::field("access_token", problem)
        })?;
        covered.push(ConsentAccount {
            id: account.id,
            bank_account_id: now.bank_account_id.clone(),
        });
    }
    let at_bank = terms_at_bank(call, &bank, &consent).await?;
    let renewed = Consent {
        app: Some(head.app),
        sealed: sealed(call, head.record, &consent)?,
        accounts: covered,
        clock: clock(at_bank, expires_at(&call.input)?, call.now()),
        ..known
    };
    follow_up::ask(&state.queues, head).await?;
    history::retry(&state.store, head.record, call.now()).await?;
    state.store.put_consent(&renewed).await?;
    let recovered = |head: &Head| {
        let waited = head.status == RecordStatus::TokenRequired;
        waited.then(|| (RecordStatus::Active, vec![(None, StateChange::Recovered)]))
    };
    let (store, queues) = (&state.store, &state.queues);
    let now = call.now();
    announce::announce(store, queues, head.record, now, recovered).await?;
    history::resume(store, queues, head, now).await?;
    refresh::enqueue(call, head.record).await?;
    Ok(linked(head, customer.name, &accounts))
}

fn linked(head: &Head, name: String, accounts: &[Account]) -> Linked {
    let shown = |account: &Account| LinkedAccount {
        id: account.id,
        name: account.facts.name.clone(),
        nuban: account.facts.number.clone(),
        customer: head.customer,
    };
    Linked {
        record_id: head.record,
        bank_id: head.bank,
        customer_id: head.customer,
        name,
        accounts: accounts.iter().map(shown).collect(),
        schedule: head.schedule.into(),
    }
}

documented! {
    link(TOKENS, optional(BANK), optional(CUSTOMER), optional(RECORD), optional(NAME), EMAIL, ACCOUNT_IDS, SYNC, LINK_OPTIONS, optional(CUSTOMER_IP)) -> Linked: "Links a record to a bank by its consent's tokens; with a record's id, renews that record's consent.";
}
