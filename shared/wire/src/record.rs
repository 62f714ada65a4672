//! Records, authorisations, and the acknowledgement of what runs on them.

use jiff::Timestamp;
use okra_core::{
    ids::{AppId, BankId, CustomerId, RecordId, Seq},
    model::{ByProduct, Environment, Product},
    money::Currency,
    schedule::Interval,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    balance::CallbackBalance,
    callback::Products,
    origin::{Named, Times},
    scalar::{Empty, Instant},
};

/// The acknowledgement of a refresh: `callback_url` is what clients poll.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Acknowledged {
    record: RecordId,
    method: &'static str,
    callback_url: String,
    /// The refresh that was begun or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// From when on another can be begun. Until this one is done, asking again joins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_refresh_available_at: Option<Instant>,
    /// What came of it, where it was waited for and is done: `unchanged`, `changed`, `failed`. The
    /// data is at `callback_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// What it found that was new.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<FoundChanges>,
    /// The balances as they are now, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    balances: Option<Vec<CallbackBalance>>,
}

/// How much a refresh found that was new.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FoundChanges {
    /// Balances that changed.
    pub balances: usize,
    /// Transactions added.
    pub added: usize,
    /// Transactions modified.
    pub modified: usize,
    /// Transactions removed.
    pub removed: usize,
}

impl Acknowledged {
    /// The same acknowledgement of a job, and when another can be begun.
    #[must_use]
    pub fn of_job(self, job: Option<String>, next_at: Timestamp) -> Self {
        Self {
            job,
            next_refresh_available_at: Some(Instant(next_at)),
            ..self
        }
    }

    /// The same of a job that is done.
    #[must_use]
    pub fn done(
        self,
        outcome: String,
        changes: FoundChanges,
        balances: Option<Vec<CallbackBalance>>,
    ) -> Self {
        Self {
            outcome: Some(outcome),
            changes: Some(changes),
            balances,
            ..self
        }
    }

    /// What was asked of a record, and where its data is read. `public_url` has no trailing slash.
    pub fn new(public_url: &str, record: RecordId, method: &'static str) -> Self {
        Self {
            record,
            method,
            callback_url: callback_url(public_url, record, method),
            job: None,
            next_refresh_available_at: None,
            outcome: None,
            changes: None,
            balances: None,
        }
    }
}

/// Okra's address of a record's data of one family. `public_url` has no trailing slash.
pub fn callback_url(public_url: &str, record: RecordId, method: &str) -> String {
    format!("{public_url}/v2/callback?record={record}&method={method}")
}

/// How far a record's first pull of a product has come.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Status {
    process: Process,
    transactions: LastRuns,
    last_callback: (),
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
struct Process {
    running: bool,
    completed: bool,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct LastRuns {
    last_success_at: (),
    last_fail_at: (),
}

impl Status {
    /// Completed; or else still running, unless the record is not `active` and has to wait for its
    /// user.
    pub fn new(completed: bool, active: bool) -> Self {
        Self {
            process: Process {
                running: active && !completed,
                completed,
            },
            transactions: LastRuns::default(),
            last_callback: (),
        }
    }
}

/// What is known of a record, whatever it is shown as.
#[derive(Clone, Debug)]
pub struct RecordView {
    /// The record.
    pub record: RecordId,
    /// Its app.
    pub app: AppId,
    /// The app's environment.
    pub env: Environment,
    /// Its customer.
    pub customer: Named<CustomerId>,
    /// Its bank.
    pub bank: Named<BankId>,
    /// `active`, `token_required`, `invalid`.
    pub connection: &'static str,
    /// The interval of each product.
    pub schedule: ByProduct<Interval>,
    /// The number of its last feed entry.
    pub sequence: Seq,
    /// True after its first pull.
    pub pulled: bool,
    /// Months of history that were asked for.
    pub months: u8,
    /// The currency of its accounts, where they were read.
    pub currency: Option<Currency>,
    /// What the app gave when linking.
    pub options: Value,
    /// When it was linked and when it last changed.
    pub times: Times,
}

impl RecordView {
    /// True where the bank accepts its consent.
    fn is_active(&self) -> bool {
        self.connection == "active"
    }
}

/// A record. `connection`, `schedule` and `sequence` are ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    _id: RecordId,
    id: RecordId,
    bank: Named<BankId>,
    customer: Named<CustomerId>,
    env: Environment,
    owner: AppId,
    #[serde(rename = "usedProduct")]
    used_product: Products,
    products: [&'static str; 4],
    billable_products: [&'static str; 4],
    source: &'static str,
    /// Months of history that were asked for.
    limit: u8,
    /// That of its accounts, where one record is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    status: Status,
    connection: &'static str,
    schedule: Schedule,
    sequence: u64,
    options: Value,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

/// Products as they are named here.
const PRODUCTS: [&str; 4] = ["auth", "accounts", "balance", "transactions"];

/// Which interval each product of a record is refreshed on.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Schedule {
    balance: Option<Interval>,
    transactions: Option<Interval>,
}

impl From<ByProduct<Interval>> for Schedule {
    fn from(of: ByProduct<Interval>) -> Self {
        Self {
            balance: of.get(Product::Balance).copied(),
            transactions: of.get(Product::Transactions).copied(),
        }
    }
}

impl From<&RecordView> for Record {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            bank: view.bank.clone(),
            customer: view.customer.clone(),
            env: view.env,
            owner: view.app,
            used_product: Products::default(),
            products: PRODUCTS,
            billable_products: PRODUCTS,
            source: "integration",
            limit: view.months,
            currency: view.currency,
            status: Status::new(view.pulled, view.is_active()),
            connection: view.connection,
            schedule: view.schedule.into(),
            sequence: view.sequence.0,
            options: view.options.clone(),
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation in callback data: a record, seen as what its customer consented to. Ids are plain.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Auth {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    bank: BankId,
    customer: CustomerId,
    env: Environment,
    validated: bool,
    owner: AppId,
    current_project: AppId,
    projects: Empty,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

impl From<&RecordView> for Auth {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            record: view.record,
            bank: view.bank.id,
            customer: view.customer.id,
            env: view.env,
            validated: view.is_active(),
            owner: view.app,
            current_project: view.app,
            projects: Empty,
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation of `auth/getBy*`: bank and customer with their names, the record as a plain id.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct PopulatedAuth {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    __v: u8,
    bank: AuthBank,
    customer: Named<CustomerId>,
    env: Environment,
    owner: AppId,
    validated: bool,
    created_at: Instant,
    last_updated: Instant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthBank {
    name: String,
    logo: &'static str,
    icon: &'static str,
    status: &'static str,
    v2_icon: &'static str,
    v2_logo: &'static str,
}

impl From<&RecordView> for PopulatedAuth {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            record: view.record,
            __v: 0,
            bank: AuthBank {
                name: view.bank.name.clone(),
                logo: "",
                icon: "",
                status: "active",
                v2_icon: "",
                v2_logo: "",
            },
            customer: view.customer.clone(),
            env: view.env,
            owner: view.app,
            validated: view.is_active(),
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
        }
    }
}

/// An authorisation of `products/auths`: the record with its names inside.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct ListedAuth {
    id: RecordId,
    validated: bool,
    record: AuthRecord,
    created_at: Instant,
    last_updated: Instant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthRecord {
    _id: RecordId,
    bank: Named<BankId>,
    env: Environment,
    owner: AppId,
    customer: Named<CustomerId>,
}

impl From<&RecordView> for ListedAuth {
    fn from(view: &RecordView) -> Self {
        Self {
            id: view.record,
            validated: view.is_active(),
            record: AuthRecord {
                _id: view.record,
                bank: view.bank.clone(),
                env: view.env,
                owner: view.app,
                customer: view.customer.clone(),
            },
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
        }
    }
}
