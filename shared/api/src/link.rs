//! Linking a record: a consent at a bank becomes accounts that are kept fresh from then on.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp, ToSpan};
use okra_connectors::{
    ConsentId, ConsentSecret, ConsentTerms,
    oauth::{MAX_TOKEN_BYTES, TokenGrant, is_usable_token},
};
use okra_core::{
    backfill::progress::MAX_BACKFILL_MONTHS,
    model::{
        bank::BankConfig,
        ids::{AccountId, BankId, CustomerId, RecordId, Seq},
        interval::Interval,
        snapshot::{AccountFacts, ByProduct, Product, utc_date},
    },
    schedule::{consent_clock::ConsentClock, plan::DueEntry},
    sync::{decide::Watermark, state::StateChange},
};
use okra_refresh::{announce, follow_up, history, open_client_secret};
use okra_store::{
    Account, CallLimit, Consent, ConsentAccount, Consistency, Customer, MAX_ACCOUNTS_PER_RECORD,
    MAX_OPTIONS_BYTES, MAX_RECORDS_PER_CUSTOMER, NewRecord, RecordHead, RecordStatus,
};
use okra_vault::generate_nonce;
use okra_wire::{account::LinkedAccountResource, record::ScheduleResource};
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::{BANK, CONSENT_EXPIRES_AT, CONSENT_ID, CUSTOMER, Input, LIMIT_MONTHS, RECORD},
    places::await_bank_permit,
    refresh::{self, bank_busy_error},
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
pub(crate) enum LinkCustomer {
    /// A customer of the app.
    Existing(Customer),
    /// One who is made when the bank has answered.
    New { name: String, email: Option<String> },
}

/// What is asked for with a link: data sync, and what webhooks echo.
pub(crate) struct LinkTerms {
    interval: Option<Interval>,
    /// All that is read.
    products: Vec<Product>,
    /// Those of them that are read at `interval`; the others daily.
    synced_products: Vec<Product>,
    webhook_url: Option<String>,
    /// Months of history.
    backfill_months: u8,
    /// When the consent ends.
    consent_expires_at: Option<Timestamp>,
    options: Map<String, Value>,
    /// Echoed in webhooks beside them.
    meta: Map<String, Value>,
}

impl LinkTerms {
    /// Reads and checks them, before anything is made.
    pub(crate) fn from_input(request: &ApiRequest, input: &Input) -> Result<Self, ApiError> {
        let options = input.parse_object("options")?.unwrap_or_default();
        let meta = input.parse_object("meta")?.unwrap_or_default();
        let bytes = |it: &Map<String, Value>| match it.is_empty() {
            true => Ok(0),
            false => serde_json::to_vec(it).map(|it| it.len()),
        };
        if bytes(&options)? + bytes(&meta)? > MAX_OPTIONS_BYTES {
            let field = if meta.is_empty() { "options" } else { "meta" };
            let problem = format!("has more than {MAX_OPTIONS_BYTES} bytes, with options");
            return Err(ApiError::invalid_field(field, problem));
        }
        let products = input
            .parse_products()?
            .unwrap_or_else(|| Product::ALL.to_vec());
        Ok(Self {
            interval: sync::parse_interval(input)?,
            synced_products: parse_synced_products(input, &products)?,
            products,
            webhook_url: sync::parse_webhook_url(request, input)?,
            backfill_months: parse_backfill_months(input)?,
            consent_expires_at: parse_consent_expiry(input)?,
            options,
            meta,
        })
    }
}

/// Which of `products` are read at the interval: all where nothing else is said.
fn parse_synced_products(input: &Input, products: &[Product]) -> Result<Vec<Product>, ApiError> {
    let Some(named) = input.find_texts(SYNC_PRODUCTS) else {
        return Ok(products.to_vec());
    };
    let mut synced = products.to_vec();
    synced.retain(|product| named.iter().any(|name| name == product.as_str()));
    let known = |name: &String| synced.iter().any(|product| product.as_str() == name);
    if synced.is_empty() || !named.iter().all(known) {
        return Err(ApiError::invalid_field(
            SYNC_PRODUCTS,
            "are any of products",
        ));
    }
    Ok(synced)
}

/// When the consent ends, where the app knows.
fn parse_consent_expiry(input: &Input) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = input.find_text(CONSENT_EXPIRES_AT) else {
        return Ok(None);
    };
    let at = text.parse();
    at.map(Some)
        .map_err(|_| ApiError::invalid_field("consent_expires_at", "is no ISO 8601 date and time"))
}

/// Months of history asked for: Okra's `limit`, all that can be had where it is absent.
fn parse_backfill_months(input: &Input) -> Result<u8, ApiError> {
    let expected = format!("a number of months of history, 1 to {MAX_BACKFILL_MONTHS}");
    let Some(text) = input.find_scalar(LIMIT_MONTHS, &expected)? else {
        return Ok(MAX_BACKFILL_MONTHS);
    };
    let months = text
        .parse()
        .ok()
        .filter(|it| (1..=MAX_BACKFILL_MONTHS).contains(it));
    months.ok_or_else(|| ApiError::invalid_field("limit", format!("is {expected}")))
}

/// What the bank says of a consent, where it can be asked. A link does not fail for want of it: a consent
/// that ends unannounced is told of when it has.
async fn fetch_consent_terms(
    request: &ApiRequest,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<Option<ConsentTerms>, ApiError> {
    let Some(id) = consent.consent_id.as_ref().filter(|_| bank.oauth.is_some()) else {
        return Ok(None);
    };
    let (state, now) = (&request.state, request.now());
    let client_secret = open_client_secret(&state.vault, bank)?;
    let grant = TokenGrant::ClientCredentials {
        scope: CONSENT_SCOPE,
    };
    let asked = async {
        let connectors = &state.connectors;
        let ours = connectors
            .request_token(bank, &client_secret, grant, now)
            .await?;
        connectors.fetch_consent_terms(bank, &ours, id, now).await
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
fn start_consent_clock(
    bank_terms: Option<ConsentTerms>,
    app_expiry: Option<Timestamp>,
    now: Timestamp,
) -> Option<ConsentClock> {
    let expires_at = bank_terms
        .and_then(|terms| terms.expires_at)
        .or(app_expiry)?;
    Some(ConsentClock::start_at(expires_at, now))
}

/// Months of history that a consent opens.
fn limit_backfill_months(
    bank_terms: Option<ConsentTerms>,
    requested_months: u8,
    now: Timestamp,
) -> u8 {
    let Some(from) = bank_terms.and_then(|terms| terms.transactions_from) else {
        return requested_months;
    };
    let today = utc_date(now);
    let opened = (0..requested_months)
        .find(|&months| today.saturating_sub(i32::from(months).months()) <= from);
    opened.unwrap_or(requested_months)
}

/// What is linked.
pub(crate) struct LinkRecordRequest {
    pub(crate) bank: BankId,
    pub(crate) consent: ConsentSecret,
    pub(crate) customer: LinkCustomer,
    /// Accounts to link, by the bank's ids; all that the consent covers where empty.
    pub(crate) account_ids: Vec<String>,
    pub(crate) terms: LinkTerms,
}

/// What a link answers.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub(crate) struct LinkRecordResponse {
    record_id: RecordId,
    bank_id: BankId,
    customer_id: CustomerId,
    name: String,
    accounts: Vec<LinkedAccountResource>,
    schedule: ScheduleResource,
}

/// Links a record to any configured bank by its consent's token: an extension, and how a bank is
/// connected that has no widget. With the id of a record it renews that record's consent.
pub(crate) async fn link_or_renew_record(request: &ApiRequest) -> ApiResponse {
    let input = &request.input;
    let consent = parse_consent_tokens(request)?;
    if input.find_text(RECORD).is_some() {
        let head = request.load_requested_record().await?;
        return success_response(
            "Record linked again",
            renew_consent(request, &head, consent).await?,
        );
    }
    let whom = match input.parse_id::<CustomerId>(CUSTOMER)? {
        Some(id) => LinkCustomer::Existing(request.load_own_customer(id).await?),
        None => LinkCustomer::New {
            name: input.require_text(&["name"])?,
            email: input.find_text(&["email"]),
        },
    };
    let linking = LinkRecordRequest {
        bank: input.require_id(BANK)?,
        consent,
        customer: whom,
        account_ids: input.find_texts("account_ids").unwrap_or_default(),
        terms: LinkTerms::from_input(request, input)?,
    };
    let linked = link_record(request, linking).await?;
    success_response("Record linked successfully", linked)
}

/// The tokens of a consent, as the caller has them from the bank.
fn parse_consent_tokens(request: &ApiRequest) -> Result<ConsentSecret, ApiError> {
    let input = &request.input;
    let refresh_token = input.find_text(&["refresh_token"]);
    let access_token = match &refresh_token {
        Some(_) => input.find_text(&["access_token"]).unwrap_or_default(),
        None => input.require_text(&["access_token"])?,
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
            return Err(ApiError::invalid_field(field, problem));
        }
    }
    let life = input
        .parse_number("expires_in")?
        .and_then(|seconds| i64::try_from(seconds).ok());
    let end = |seconds| {
        let life = SignedDuration::from_secs(seconds);
        request.now().checked_add(life).ok()
    };
    let consent_id = match input.find_text(CONSENT_ID) {
        None => None,
        Some(text) => Some(ConsentId::new(text).ok_or_else(|| {
            ApiError::invalid_field("consent_id", "is not 1 to 128 visible ASCII characters")
        })?),
    };
    let mut consent = ConsentSecret::from_bearer_token(access_token);
    consent.consent_id = consent_id;
    consent.expires_at = life.and_then(end);
    consent.refresh_token = refresh_token;
    Ok(consent)
}

/// The consent with an access token that holds: one that has ended is renewed.
async fn ensure_access_token(
    request: &ApiRequest,
    bank: &BankConfig,
    consent: ConsentSecret,
) -> Result<ConsentSecret, ApiError> {
    let Some(refresh_token) = &consent.refresh_token else {
        return Ok(consent);
    };
    if bank.oauth.is_none() {
        let problem = "cannot be used: the bank is configured without oauth";
        return Err(ApiError::invalid_field("refresh_token", problem));
    }
    if !consent.needs_renewal(request.now()) {
        return Ok(consent);
    }
    let consent_id = consent.consent_id.clone();
    let state = &request.state;
    let client_secret = open_client_secret(&state.vault, bank)?;
    let grant = TokenGrant::RefreshToken(refresh_token);
    let renewed = state
        .connectors
        .request_token(bank, &client_secret, grant, request.now());
    let mut renewed = renewed.await?;
    renewed.consent_id = consent_id;
    Ok(renewed)
}

/// Waits for a place of what the bank allows beside its ticks.
async fn await_permit(request: &ApiRequest, bank: &BankConfig) -> Result<(), ApiError> {
    let now = request.now();
    let place = await_bank_permit(&request.state, bank, now).await?;
    place.map_err(|at| bank_busy_error(at, now))
}

/// Asks the bank for the accounts, stores everything at once, and sends off the first refresh.
pub(crate) async fn link_record(
    request: &ApiRequest,
    linking: LinkRecordRequest,
) -> Result<LinkRecordResponse, ApiError> {
    let state = &request.state;
    let LinkRecordRequest {
        bank,
        consent,
        customer: whom,
        account_ids,
        terms,
    } = linking;
    let bank = request.load_own_bank(bank).await?;
    await_permit(request, &bank).await?;
    let consent = ensure_access_token(request, &bank, consent).await?;
    let facts = select_accounts(
        fetch_account_facts(request, &bank, &consent).await?,
        &account_ids,
    )?;
    let customer = resolve_customer(request, whom).await?;
    let at_bank = fetch_consent_terms(request, &bank, &consent).await?;
    let new = build_new_record(request, &customer, &bank, facts, &consent, &terms, at_bank)?;
    let head = &new.head;

    follow_up::schedule_follow_up(&state.queues, head).await?;
    // In this order a crash leaves nothing that is not refreshed: a subscription without a record is
    // never read, and a rule without records switches itself off.
    if terms.interval.is_some() || terms.webhook_url.is_some() {
        let subscription = sync::build_subscription(
            head.record,
            &terms.synced_products,
            terms.interval.unwrap_or_default(),
            terms.webhook_url.as_deref(),
            request.now(),
        );
        state.store.put_subscription(&subscription).await?;
    }
    sync::enable_rules(request, head.schedule).await?;
    let touched = state.store.create_record(&new).await?;
    for interval in touched.started {
        state.tick_rules.enable_rule(interval).await?;
    }
    announce::dispatch_state_changes(&state.store, &state.queues, head).await?;
    refresh::enqueue_first_refresh(request, head.record).await?;
    Ok(build_link_response(head, customer.name, &new.accounts))
}

/// What the bank says of the accounts of a consent; 1 to [`MAX_ACCOUNTS_PER_RECORD`].
async fn fetch_account_facts(
    request: &ApiRequest,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<Vec<AccountFacts>, ApiError> {
    let connectors = &request.state.connectors;
    let facts = connectors
        .fetch_accounts(bank, consent, request.now())
        .await?;
    if facts.is_empty() || facts.len() > MAX_ACCOUNTS_PER_RECORD {
        let problem = format!(
            "covers {} accounts; 1 to {MAX_ACCOUNTS_PER_RECORD} can be linked",
            facts.len()
        );
        return Err(ApiError::invalid_field("access_token", problem));
    }
    Ok(facts)
}

/// The accounts of these ids, all where there are none.
fn select_accounts(
    mut facts: Vec<AccountFacts>,
    account_ids: &[String],
) -> Result<Vec<AccountFacts>, ApiError> {
    if account_ids.is_empty() {
        return Ok(facts);
    }
    let covered = |id: &String| facts.iter().any(|it| it.bank_account_id == *id);
    if !account_ids.iter().all(covered) {
        let problem = "has an account that the consent does not cover";
        return Err(ApiError::invalid_field("account_ids", problem));
    }
    facts.retain(|it| account_ids.contains(&it.bank_account_id));
    Ok(facts)
}

/// The customer, made where it is a new one.
async fn resolve_customer(
    request: &ApiRequest,
    link_customer: LinkCustomer,
) -> Result<Customer, ApiError> {
    let store = &request.state.store;
    match link_customer {
        LinkCustomer::Existing(customer) => {
            check_unflagged(&customer)?;
            let name = format!("link#{}", customer.id);
            let limit = CallLimit {
                max_calls: LINKS_PER_HOUR,
                window_s: HOUR_S,
            };
            if let Some(until) = request.count_against_limit(&name, limit).await? {
                let what = format!("{LINKS_PER_HOUR} links of one customer in an hour");
                return Err(ApiError::too_many_requests(&what).with_retry_at(until, request.now()));
            }
            let records = store.list_records_of_customer(customer.id).await?;
            if records.len() >= MAX_RECORDS_PER_CUSTOMER {
                let problem = format!("has {MAX_RECORDS_PER_CUSTOMER} records, which is the most");
                return Err(ApiError::invalid_field("customer", problem));
            }
            Ok(customer)
        }
        LinkCustomer::New { name, email } => {
            let customer = Customer {
                id: CustomerId::from_bytes(request.state.random_bytes()?),
                app: request.require_app()?.id,
                name,
                email,
                is_blocked: false,
                created_at: request.now(),
            };
            store.put_customer(&customer).await?;
            Ok(customer)
        }
    }
}

/// Refuses a customer that the app has flagged.
fn check_unflagged(customer: &Customer) -> Result<(), ApiError> {
    if customer.is_blocked {
        let message = "The customer is flagged; unflag it to link a bank";
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "FLAGGED_USER",
            message,
        ));
    }
    Ok(())
}

fn build_new_record(
    request: &ApiRequest,
    customer: &Customer,
    bank: &BankConfig,
    facts: Vec<AccountFacts>,
    consent: &ConsentSecret,
    terms: &LinkTerms,
    bank_terms: Option<ConsentTerms>,
) -> Result<NewRecord, ApiError> {
    let (now, app) = (request.now(), request.require_app()?.id);
    let (bank, limits) = (bank.id, bank.limits);
    let record = RecordId::from_bytes(request.state.random_bytes()?);
    let accounts: Vec<Account> = facts
        .into_iter()
        .map(|facts| Account {
            id: AccountId::for_bank_account(customer.id, record, &facts.bank_account_id),
            record,
            app,
            customer: customer.id,
            bank,
            facts,
            balance: None,
            balance_seq: Seq::ZERO,
            balance_at: None,
            checks: okra_store::AccountChecks::default(),
            is_drift_reported: false,
            product_states: ByProduct::default(),
            created_at: now,
            last_updated: now,
        })
        .collect();
    let consent = Consent {
        consent_clock: start_consent_clock(bank_terms, terms.consent_expires_at, now),
        record,
        app: Some(app),
        bank,
        sealed_secret: seal_consent(request, record, consent)?,
        accounts: accounts
            .iter()
            .map(|it| ConsentAccount {
                account_id: it.id,
                bank_account_id: it.facts.bank_account_id.clone(),
            })
            .collect(),
    };
    let mut schedule = sync::find_fastest_intervals(&terms.products, &[]);
    for &product in &terms.synced_products {
        *schedule.get_mut(product) = Some(terms.interval.unwrap_or_default());
    }
    let schedule = sync::limit_schedule(&limits, schedule);
    let accounts_linked = accounts
        .iter()
        .map(|account| (Some(account.id), StateChange::AccountLinked));
    let changes = std::iter::once((None, StateChange::Linked)).chain(accounts_linked);
    let entries = announce::build_state_entries(record, Seq::ZERO, now, changes.collect());
    let seq = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
    let head = RecordHead {
        record,
        app,
        customer: customer.id,
        bank,
        seq,
        watermarks: ByProduct::default(),
        state_seq: seq,
        schedule,
        status: RecordStatus::Active,
        first_fetch_done: false,
        transaction_count: Some(0),
        options: Value::Object(terms.options.clone()),
        meta: terms.meta.clone(),
        backfill_months: limit_backfill_months(bank_terms, terms.backfill_months, now),
        created_at: now,
        last_changed_at: now,
    };
    let due = build_due_entries(&head);
    Ok(NewRecord {
        head,
        consent,
        accounts,
        due_entries: due,
        feed_entries: entries,
    })
}

/// A due entry for each interval of a new record, of which nothing was dispatched yet.
fn build_due_entries(head: &RecordHead) -> Vec<DueEntry> {
    let entry = |key: okra_core::model::interval::DueKey| {
        let mut marks = ByProduct::default();
        for (product, interval) in head.schedule.iter() {
            if *interval == key.interval {
                *marks.get_mut(product) = Some(Watermark::default());
            }
        }
        let state = (head.state_due_key() == Some(key)).then_some(Seq::ZERO);
        DueEntry {
            key,
            watermarks: marks,
            state_seq: state,
            failure_state: None,
        }
    };
    head.due_keys().into_iter().map(entry).collect()
}

fn seal_consent(
    request: &ApiRequest,
    record: RecordId,
    consent: &ConsentSecret,
) -> Result<Vec<u8>, ApiError> {
    let plain = Zeroizing::new(serde_json::to_vec(consent)?);
    let nonce = generate_nonce()?;
    Ok(request
        .state
        .vault
        .seal_secret(record.as_bytes(), &plain, nonce)?)
}

/// Gives a record a new consent in place of one that the bank refuses. It has to cover every account
/// of the record, by the bank's id or, where the bank gave new ones, by number.
async fn renew_consent(
    request: &ApiRequest,
    head: &RecordHead,
    consent: ConsentSecret,
) -> Result<LinkRecordResponse, ApiError> {
    let state = &request.state;
    if head.status == RecordStatus::Invalid {
        let problem = "is of a record that was unlinked; link it as a new one";
        return Err(ApiError::invalid_field("record_id", problem));
    }
    let customer = request.load_own_customer(head.customer).await?;
    check_unflagged(&customer)?;
    let (bank, known) = (
        state.store.find_bank(head.bank).await?,
        state
            .store
            .find_consent(head.record, Consistency::Strong)
            .await?,
    );
    let bank = bank.ok_or_else(|| ApiError::not_found("bank"))?;
    let known = known.ok_or_else(|| ApiError::not_found("record"))?;
    await_permit(request, &bank).await?;
    let consent = ensure_access_token(request, &bank, consent).await?;
    let facts = fetch_account_facts(request, &bank, &consent).await?;
    let accounts = state
        .store
        .load_accounts_of_consent(&known, Consistency::Strong)
        .await?;
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
            ApiError::invalid_field("access_token", problem)
        })?;
        covered.push(ConsentAccount {
            account_id: account.id,
            bank_account_id: now.bank_account_id.clone(),
        });
    }
    let at_bank = fetch_consent_terms(request, &bank, &consent).await?;
    let renewed = Consent {
        app: Some(head.app),
        sealed_secret: seal_consent(request, head.record, &consent)?,
        accounts: covered,
        consent_clock: start_consent_clock(
            at_bank,
            parse_consent_expiry(&request.input)?,
            request.now(),
        ),
        ..known
    };
    follow_up::schedule_follow_up(&state.queues, head).await?;
    history::retry_backfill(&state.store, head.record, request.now()).await?;
    state.store.put_consent(&renewed).await?;
    let recovered = |head: &RecordHead| {
        let waited = head.status == RecordStatus::ReauthorisationRequired;
        waited.then(|| (RecordStatus::Active, vec![(None, StateChange::Recovered)]))
    };
    let (store, queues) = (&state.store, &state.queues);
    let now = request.now();
    announce::commit_state_changes(store, queues, head.record, now, recovered).await?;
    history::resume_backfill(store, queues, head, now).await?;
    refresh::enqueue_first_refresh(request, head.record).await?;
    Ok(build_link_response(head, customer.name, &accounts))
}

fn build_link_response(
    head: &RecordHead,
    name: String,
    accounts: &[Account],
) -> LinkRecordResponse {
    let shown = |account: &Account| LinkedAccountResource {
        id: account.id,
        name: account.facts.name.clone(),
        nuban: account.facts.number.clone(),
        customer: head.customer,
    };
    LinkRecordResponse {
        record_id: head.record,
        bank_id: head.bank,
        customer_id: head.customer,
        name,
        accounts: accounts.iter().map(shown).collect(),
        schedule: head.schedule.into(),
    }
}

documented! {
    link_or_renew_record(TOKENS, make_optional(BANK), make_optional(CUSTOMER), make_optional(RECORD), make_optional(NAME), EMAIL, ACCOUNT_IDS, SYNC, LINK_OPTIONS, make_optional(CUSTOMER_IP)) -> LinkRecordResponse: "Links a record to a bank by its consent's tokens; with a record's id, renews that record's consent.";
}
