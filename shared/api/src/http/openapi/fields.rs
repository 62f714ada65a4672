//! The fields that calls take. Their names are the input's own, so that what is documented is what is
//! read.

use okra_core::model::interval::Interval;
use serde_json::{Value, json};

use crate::http::input;

/// A field of a call.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    names: input::FieldNames<'static>,
    kind: FieldKind,
    /// Whether a call without it is refused.
    pub(super) is_required: bool,
    description: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum FieldKind {
    Id,
    Text,
    Texts,
    Count { maximum: u64 },
    Date,
    Amount,
    Flag,
    Object,
    Url,
    Products,
    Interval,
    OneOf(&'static [&'static str]),
}

impl Field {
    const fn new(
        names: input::FieldNames<'static>,
        kind: FieldKind,
        description: &'static str,
    ) -> Self {
        Self {
            names,
            kind,
            is_required: false,
            description,
        }
    }

    const fn as_required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }

    /// The first of its names, which is the documented one.
    pub(super) const fn documented_name(&self) -> &'static str {
        self.names[0]
    }

    /// Its JSON schema.
    pub(super) fn json_schema(&self) -> Value {
        let mut schema = match self.kind {
            FieldKind::Id => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{24}$" }),
            FieldKind::Text => json!({ "type": "string", "minLength": 1 }),
            FieldKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            FieldKind::Count { maximum: most } => {
                json!({ "type": "integer", "minimum": 1, "maximum": most })
            }
            FieldKind::Date => json!({ "type": "string", "format": "date" }),
            FieldKind::Amount => {
                json!({ "type": "number", "minimum": 0, "maximum": 1e12, "multipleOf": 0.01 })
            }
            FieldKind::Flag => json!({ "type": "boolean" }),
            FieldKind::Object => json!({ "type": "object" }),
            FieldKind::Url => json!({ "type": "string", "format": "uri" }),
            FieldKind::Products => json!({
                "type": "array",
                "items": { "type": "string", "enum": ["balance", "transactions"] },
                "minItems": 1,
            }),
            FieldKind::Interval => json!({
                "type": "string", "enum": Interval::ALL.map(Interval::as_str),
            }),
            FieldKind::OneOf(names) => json!({ "type": "string", "enum": names }),
        };
        let aliases = match self.names {
            [_] => String::new(),
            [_, aliases @ ..] => format!(" Also: {}.", aliases.join(", ")),
            [] => String::new(),
        };
        schema["description"] = json!(format!("{}{aliases}", self.description));
        schema
    }
}

/// The same fields, which the request may leave out.
pub(crate) fn make_optional<const N: usize>(fields: [Field; N]) -> [Field; N] {
    fields.map(|field| Field {
        is_required: false,
        ..field
    })
}

/// The same fields, which the request must have.
pub(crate) fn make_required<const N: usize>(fields: [Field; N]) -> [Field; N] {
    fields.map(Field::as_required)
}

macro_rules! fields {
    ($($name:ident = [$($field:expr),+ $(,)?];)+) => {
        $(pub(crate) const $name: [Field; [$(stringify!($field)),+].len()] = [$($field),+];)+
    };
}

use Field as F;

fields! {
    ACCOUNT = [F::new(input::ACCOUNT, FieldKind::Id, "An account's id.").as_required()];
    BANK = [F::new(input::BANK, FieldKind::Id, "A bank's id.").as_required()];
    CUSTOMER = [F::new(input::CUSTOMER, FieldKind::Id, "A customer's id.").as_required()];
    RECORD = [F::new(input::RECORD, FieldKind::Id, "A record's id.").as_required()];
    ID = [F::new(&["id", "_id"], FieldKind::Id, "The id of the requested object.").as_required()];
    OPTIONS = [F::new(&["options"], FieldKind::Object, "Options that the records were linked with, maybe among others.").as_required()];
    DATES = [
        F::new(&["from"], FieldKind::Date, "First day, inclusive: 2020-04-02, 2020/04/02, 2020-4-2 or a date-time."),
        F::new(&["to"], FieldKind::Date, "Last day, inclusive."),
    ];
    PAGE = [
        F::new(&["page"], FieldKind::Count { maximum: 2_147_483_600 }, "The page, from 1."),
        F::new(&["limit"], FieldKind::Count { maximum: 2_147_483_600 }, "Documents of a page; brought within bounds."),
    ];
    AFTER_CUSTOMER = [F::new(&["cursor"], FieldKind::Text, "`start`, then the `next_cursor` of the page before. It replaces `page`, and is required from 10000 customers on.")];
    METHOD = [F::new(&["method"], FieldKind::Text, "The method: AUTH, ACCOUNTS, BALANCE, TRANSACTIONS, CHECK_BALANCE, PERIODIC_BALANCE, REFRESH_TRANSACTIONS, PERIODIC_TRANSACTIONS.").as_required()];
    DIRECTION = [F::new(&["type"], FieldKind::OneOf(&["credit", "debit"]), "Credits or debits.").as_required()];
    CURSOR = [
        F::new(&["cursor"], FieldKind::Text, "The `next_cursor` of the page before; absent: from the beginning."),
        F::new(&["count"], FieldKind::Count { maximum: 500 }, "Changes of a page; 100 where absent."),
    ];
    TRANSACTION_ID = [F::new(&["id", "_id", "transaction", "transaction_id"], FieldKind::Id, "A transaction's id.").as_required()];
    VERSIONS = [
        F::new(&["before"], FieldKind::Count { maximum: 999_999_999_999 }, "Versions before the one of this sequence number."),
        F::new(&["limit"], FieldKind::Count { maximum: 50 }, "Versions of a page; 50 where absent."),
    ];
    MOMENT = [
        F::new(&["sequence", "seq"], FieldKind::Count { maximum: 999_999_999_999 }, "A sequence number of the record's feed; this or `at`."),
        F::new(&["at"], FieldKind::Text, "A time: 2026-03-15T12:00:00Z."),
    ];
    VALUE = [F::new(&["value", "amount"], FieldKind::Amount, "An amount in major units.")];
    BALANCE = [F::new(&["balance", "value", "amount"], FieldKind::Amount, "An amount in major units.").as_required()];
    BALANCE_TYPE = [F::new(&["type"], FieldKind::OneOf(&["available_balance", "ledger_balance"]), "Which balance.").as_required()];
    PERIODIC = [F::new(&["includePeriodic"], FieldKind::Flag, "False leaves `periodic` out.")];
    NUBAN = [F::new(&["nuban"], FieldKind::Text, "An account's number.").as_required()];
    KEY = [F::new(&["key", "type"], FieldKind::OneOf(&["id", "name", "email"]), "Which property of the customer.").as_required()];
    TEXT_VALUE = [F::new(&["value"], FieldKind::Text, "The value of that property.").as_required()];
    OVERLAP = [F::new(&["overlap_hours"], FieldKind::Count { maximum: 720 }, "Hours for which the earlier keys stay valid; 24 where absent, 0 ends them at once.")];
    KEY_ID = [F::new(&["id"], FieldKind::Id, "A key's id.").as_required()];
    NAME = [F::new(&["name"], FieldKind::Text, "A name.").as_required()];
    EMAIL = [F::new(&["email"], FieldKind::Text, "The customer's address.")];
    TOKENS = [
        F::new(&["access_token"], FieldKind::Text, "The consent's token at the bank; required where there is no refresh_token. It is stored encrypted and never returned."),
        F::new(&["refresh_token"], FieldKind::Text, "The refresh token, at a bank that is configured with oauth."),
        F::new(&["expires_in"], FieldKind::Count { maximum: 315_360_000 }, "Seconds for which the access token is valid."),
        F::new(input::CONSENT_ID, FieldKind::Text, "The bank's id of the consent, with which its end is read from the bank and it is revoked when the record is removed."),
    ];
    ACCOUNT_IDS = [F::new(&["account_ids"], FieldKind::Texts, "Accounts to link, by the bank's ids; all of the consent's where absent.")];
    SYNC = [
        F::new(&["products"], FieldKind::Products, "The products that are kept fresh; both where absent. Products that a record is linked without cannot be added later."),
        F::new(&["interval"], FieldKind::Interval, "How often; daily where absent."),
        F::new(input::WEBHOOK_URL, FieldKind::Url, "Where webhooks go, besides the app's endpoints."),
    ];
    JOB = [F::new(input::JOB, FieldKind::Text, "A job's id, as a refresh returned it.").as_required()];
    WAIT_FLAG = [F::new(&["wait"], FieldKind::Flag, "Waits up to 25 seconds for the refresh and returns its outcome.")];
    CUSTOMER_IP = [F::new(input::CUSTOMER_IP, FieldKind::Text, "The address from which the user calls the app, where the user is present; banks then allow more refreshes.")];
    LINK_OPTIONS = [F::new(&[input::SYNC_PRODUCTS], FieldKind::Products, "Those of `products` that `interval` is for; the others are refreshed daily. All where absent."), F::new(input::CONSENT_EXPIRES_AT, FieldKind::Text, "When the consent ends (ISO 8601); notices are sent 14, 7 and 1 days before."), F::new(input::LIMIT_MONTHS, FieldKind::Count { maximum: 24 }, "Months of backfill; 24 where absent."), F::new(&["options"], FieldKind::Object, "Echoed in webhooks, searched by byOptions; 512 bytes at most."), F::new(&["meta"], FieldKind::Object, "Echoed in webhooks, and not searched; 512 bytes at most, with options.")];
    SANDBOX = [
        F::new(&["noOfAccount"], FieldKind::Count { maximum: 5 }, "Accounts of the login, 1 to 5."),
        F::new(&["volume"], FieldKind::OneOf(&["low", "medium", "high"]), "How many transactions."),
    ];
    LINK = [
        F::new(&["billable_products", "products"], FieldKind::Texts, "Products that the customer is asked to share."),
        F::new(&["countries"], FieldKind::Texts, "Country codes after ISO 3166."),
        F::new(&["callback_url"], FieldKind::Url, "Where webhooks go, besides the app's endpoints."),
        F::new(&["success_url", "redirect_url"], FieldKind::Url, "Where the customer goes after linking."),
        F::new(&["color"], FieldKind::Text, "The widget's colour."),
        F::new(&["logo"], FieldKind::Text, "The address of the app's logo."),
        F::new(&["support_email"], FieldKind::Text, "The address of the app's support."),
        F::new(&["continue_cta"], FieldKind::Text, "The text of the last button."),
        F::new(&["filter"], FieldKind::Object, "{banks: [slugs]}: the banks to choose among."),
        F::new(&["refresh"], FieldKind::Object, "{interval, products, webhook_url}: data sync."),
        F::new(&["options"], FieldKind::Object, "Echoed in webhooks, searched by byOptions."),
    ];
    SHORT_URL = [F::new(&["short_url", "name", "ref"], FieldKind::Text, "The link's short name, or its address.").as_required()];
    DOWNLOAD = [F::new(&["downloadType", "download_type", "type"], FieldKind::OneOf(&["csv", "json"]), "The form of the file; csv where absent.")];
    RECEIPT = [F::new(&["receipt", "id"], FieldKind::Id, "The receipt's id.").as_required()];
    NUMBER = [F::new(&["number"], FieldKind::Count { maximum: 10 }, "How many, 1 to 10.")];
    URL = [F::new(&["url", "webhook_url"], FieldKind::Url, "The endpoint's https URL, or `eventbridge:` and the deployment's event bus.").as_required()];
    TOKEN = [F::new(&["token"], FieldKind::Text, "A bearer token that is sent along; an empty text removes it.")];
    PAYLOAD = [F::new(&["payload"], FieldKind::OneOf(&["full", "reference"]), "The changed resources, or their ids and where to read them.")];
    PRODUCTS = [F::new(&["products"], FieldKind::Products, "The products whose events it receives.")];
    WEBHOOK = [
        F::new(&["events"], FieldKind::Texts, "The names of the events it receives, or family.*, or *; all events of records where absent."),
        F::new(&["rate"], FieldKind::Count { maximum: 200 }, "Events a second at most; null: 25."),
        F::new(&["ordered"], FieldKind::Flag, "Delivers the events of a record one after another; in no particular order where false."),
        F::new(&["version"], FieldKind::OneOf(&[okra_core::sync::feed::BodyVersion::V20260301.as_str()]), "The version of its bodies; a new endpoint has the latest, and keeps it."),
        F::new(&["secret"], FieldKind::Text, "A secret of your own, whsec_ and base64 of 24 to 64 bytes."),
    ];
    SECRET_OVERLAP = [F::new(&["overlap_hours"], FieldKind::Text, "Hours for which the secret before a rotation signs too, 0 to 168; 24 where absent.")];
    EVENT = [F::new(&["event_id", "event"], FieldKind::Text, "The event's id, as in webhook-id.").as_required()];
    DELIVERIES = [
        F::new(&["state"], FieldKind::OneOf(&["delivered", "retry", "parked", "exhausted", "cancelled"]), "Only those in this state."),
        F::new(&["cursor"], FieldKind::Text, "The next_cursor of the page before."),
        F::new(&["limit"], FieldKind::Count { maximum: 100 }, "Deliveries of a page."),
    ];
    SPAN = [
        F::new(&["since"], FieldKind::Text, "Events committed from this instant on, 2026-03-01T12:00:00Z; 30 days back at most."),
        F::new(&["until"], FieldKind::Text, "Events committed until this instant."),
    ];
    SEQUENCE_RANGE = [
        F::new(&["from"], FieldKind::Count { maximum: 999_999_999_999 }, "The first sequence number of the record's feed."),
        F::new(&["to"], FieldKind::Count { maximum: 999_999_999_999 }, "The last sequence number of the record's feed."),
    ];
    REPLAY = [
        F::new(&["which"], FieldKind::OneOf(&["failed", "missing", "all"]), "Events whose delivery was given up, events without a delivery, or all."),
        F::new(&["rate"], FieldKind::Count { maximum: 200 }, "Events a second; 10 where absent."),
    ];
    RESUME = [F::new(&["resume"], FieldKind::Flag, "Resumes a cancelled replay.")];
    AFTER = [
        F::new(&["after"], FieldKind::Text, "The last sequence number that is known; 0 where absent."),
        F::new(&["limit"], FieldKind::Count { maximum: 100 }, "Events of a page."),
    ];
    TRIGGER = [F::new(&["recordIds", "records", "record"], FieldKind::Texts, "Records' ids, 100 at most.").as_required()];
    ROTATE = [F::new(&["rotate"], FieldKind::Flag, "Creates a new secret; the one before stays valid for the overlap.")];
    BANK_CONFIG = [
        F::new(&["id"], FieldKind::Id, "The bank's id.").as_required(),
        F::new(&["name"], FieldKind::Text, "Its name.").as_required(),
        F::new(&["slug"], FieldKind::Text, "Its slug.").as_required(),
        F::new(&["standard"], FieldKind::Text, "The name of its standard.").as_required(),
        F::new(&["base_url"], FieldKind::Url, "The address of its API.").as_required(),
        F::new(&["country"], FieldKind::Text, "ISO 3166; NG where absent."),
        F::new(&["financial_id"], FieldKind::Text, "Value of x-fapi-financial-id, where the bank requires one."),
        F::new(&["oauth"], FieldKind::Object, "Where access tokens are renewed: token_url, client_id, client_auth (client_secret_basic, client_secret_post, none), client_secret, which is stored encrypted and never returned, and authorization_url."),
        F::new(&["limits"], FieldKind::Object, "records_per_second, concurrency, deadline_ms, max_pages, max_body_bytes."),
    ];
}
