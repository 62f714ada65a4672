//! The fields that calls take. Their names are the input's own, so that what is documented is what is
//! read.

use okra_core::schedule::Interval;
use serde_json::{Value, json};

use crate::input;

/// A field of a call.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    names: input::Names<'static>,
    kind: Kind,
    /// Whether a call without it is refused.
    pub(super) needed: bool,
    what: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Id,
    Text,
    Texts,
    Count { most: u64 },
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
    const fn new(names: input::Names<'static>, kind: Kind, what: &'static str) -> Self {
        Self {
            names,
            kind,
            needed: false,
            what,
        }
    }

    const fn needed(self) -> Self {
        Self {
            needed: true,
            ..self
        }
    }

    /// The first of its names, which is the documented one.
    pub(super) const fn name(&self) -> &'static str {
        self.names[0]
    }

    /// Its JSON schema.
    pub(super) fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Id => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{24}$" }),
            Kind::Text => json!({ "type": "string", "minLength": 1 }),
            Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Kind::Count { most } => json!({ "type": "integer", "minimum": 1, "maximum": most }),
            Kind::Date => json!({ "type": "string", "format": "date" }),
            Kind::Amount => {
                json!({ "type": "number", "minimum": 0, "maximum": 1e12, "multipleOf": 0.01 })
            }
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Object => json!({ "type": "object" }),
            Kind::Url => json!({ "type": "string", "format": "uri" }),
            Kind::Products => json!({
                "type": "array",
                "items": { "type": "string", "enum": ["balance", "transactions"] },
                "minItems": 1,
            }),
            Kind::Interval => json!({
                "type": "string", "enum": Interval::ALL.map(Interval::as_str),
            }),
            Kind::OneOf(names) => json!({ "type": "string", "enum": names }),
        };
        let aliases = match self.names {
            [_] => String::new(),
            [_, aliases @ ..] => format!(" Also: {}.", aliases.join(", ")),
            [] => String::new(),
        };
        schema["description"] = json!(format!("{}{aliases}", self.what));
        schema
    }
}

/// The same fields, where a call without them is served too.
pub(crate) fn optional<const N: usize>(fields: [Field; N]) -> [Field; N] {
    fields.map(|field| Field {
        needed: false,
        ..field
    })
}

/// The same fields, where a call without them is refused.
pub(crate) fn needed<const N: usize>(fields: [Field; N]) -> [Field; N] {
    fields.map(Field::needed)
}

macro_rules! fields {
    ($($name:ident = [$($field:expr),+ $(,)?];)+) => {
        $(pub(crate) const $name: [Field; [$(stringify!($field)),+].len()] = [$($field),+];)+
    };
}

use Field as F;

fields! {
    ACCOUNT = [F::new(input::ACCOUNT, Kind::Id, "An account's id.").needed()];
    BANK = [F::new(input::BANK, Kind::Id, "A bank's id.").needed()];
    CUSTOMER = [F::new(input::CUSTOMER, Kind::Id, "A customer's id.").needed()];
    RECORD = [F::new(input::RECORD, Kind::Id, "A record's id.").needed()];
    ID = [F::new(&["id", "_id"], Kind::Id, "The id of what is asked for.").needed()];
    OPTIONS = [F::new(&["options"], Kind::Object, "What records were linked with, maybe among others.").needed()];
    DATES = [
        F::new(&["from"], Kind::Date, "First day, inclusive: 2020-04-02, 2020/04/02, 2020-4-2 or a date-time."),
        F::new(&["to"], Kind::Date, "Last day, inclusive."),
    ];
    PAGE = [
        F::new(&["page"], Kind::Count { most: 2_147_483_600 }, "The page, from 1."),
        F::new(&["limit"], Kind::Count { most: 2_147_483_600 }, "Documents of a page; brought within bounds."),
    ];
    AFTER_CUSTOMER = [F::new(&["cursor"], Kind::Text, "`start`, then the `next_cursor` of the answer before: in the place of pages, and needed from 10000 customers on.")];
    METHOD = [F::new(&["method"], Kind::Text, "What is asked for: AUTH, ACCOUNTS, BALANCE, TRANSACTIONS, CHECK_BALANCE, PERIODIC_BALANCE, REFRESH_TRANSACTIONS, PERIODIC_TRANSACTIONS.").needed()];
    DIRECTION = [F::new(&["type"], Kind::OneOf(&["credit", "debit"]), "Credits or debits.").needed()];
    CURSOR = [
        F::new(&["cursor"], Kind::Text, "The `next_cursor` of the page before; absent: from the beginning."),
        F::new(&["count"], Kind::Count { most: 500 }, "Changes of a page; 100 where absent."),
    ];
    TRANSACTION_ID = [F::new(&["id", "_id", "transaction", "transaction_id"], Kind::Id, "A transaction's id.").needed()];
    VERSIONS = [
        F::new(&["before"], Kind::Count { most: 999_999_999_999 }, "Versions before the one of this sequence number."),
        F::new(&["limit"], Kind::Count { most: 50 }, "Versions of an answer; 50 where absent."),
    ];
    MOMENT = [
        F::new(&["sequence", "seq"], Kind::Count { most: 999_999_999_999 }, "A number of the record's feed; this or `at`."),
        F::new(&["at"], Kind::Text, "A time: 2026-03-15T12:00:00Z."),
    ];
    VALUE = [F::new(&["value", "amount"], Kind::Amount, "An amount in major units.")];
    BALANCE = [F::new(&["balance", "value", "amount"], Kind::Amount, "An amount in major units.").needed()];
    BALANCE_TYPE = [F::new(&["type"], Kind::OneOf(&["available_balance", "ledger_balance"]), "Which balance.").needed()];
    PERIODIC = [F::new(&["includePeriodic"], Kind::Flag, "False leaves `periodic` out.")];
    NUBAN = [F::new(&["nuban"], Kind::Text, "An account's number.").needed()];
    KEY = [F::new(&["key", "type"], Kind::OneOf(&["id", "name", "email"]), "What is known of the customer.").needed()];
    TEXT_VALUE = [F::new(&["value"], Kind::Text, "What it is.").needed()];
    OVERLAP = [F::new(&["overlap_hours"], Kind::Count { most: 720 }, "Hours that the keys before stay valid; 24 where absent, 0 ends them at once.")];
    KEY_ID = [F::new(&["id"], Kind::Id, "A key's id.").needed()];
    NAME = [F::new(&["name"], Kind::Text, "A name.").needed()];
    EMAIL = [F::new(&["email"], Kind::Text, "The customer's address.")];
    TOKENS = [
        F::new(&["access_token"], Kind::Text, "The consent's token at the bank; needed where there is no refresh_token. It is sealed, and never shown again."),
        F::new(&["refresh_token"], Kind::Text, "Buys the next access token, at a bank that is configured with oauth."),
        F::new(&["expires_in"], Kind::Count { most: 315_360_000 }, "Seconds that the access token lives."),
        F::new(input::CONSENT_ID, Kind::Text, "The bank's id of the consent: with it the bank is asked when it ends, and it is taken back there with the record."),
    ];
    ACCOUNT_IDS = [F::new(&["account_ids"], Kind::Texts, "Accounts to link, by the bank's ids; all of the consent's where absent.")];
    SYNC = [
        F::new(&["products"], Kind::Products, "What is read and kept fresh: with a link nothing else is read of the record, later only what it was linked with can be named. Both where absent."),
        F::new(&["interval"], Kind::Interval, "How often; daily where absent."),
        F::new(input::WEBHOOK_URL, Kind::Url, "Who is told, besides the app's endpoints."),
    ];
    JOB = [F::new(input::JOB, Kind::Text, "A job's id, as a refresh answered it.").needed()];
    WAIT_FLAG = [F::new(&["wait"], Kind::Flag, "Waits up to 25 seconds for the refresh, and says what came of it.")];
    CUSTOMER_IP = [F::new(input::CUSTOMER_IP, Kind::Text, "The address of the user, where he is there: banks allow more then.")];
    LINK_OPTIONS = [F::new(&[crate::link::SYNC_PRODUCTS], Kind::Products, "Those of products that interval is for; the others are read daily. All where absent."), F::new(input::CONSENT_EXPIRES_AT, Kind::Text, "When the consent ends (ISO 8601): notices come 14, 7 and 1 days before."), F::new(input::LIMIT_MONTHS, Kind::Count { most: 24 }, "Months of history that are pulled; 24 where absent."), F::new(&["options"], Kind::Object, "Echoed in webhooks, searched by byOptions; 512 bytes at most."), F::new(&["meta"], Kind::Object, "Echoed in webhooks, and not searched; 512 bytes at most, with options.")];
    SANDBOX = [
        F::new(&["noOfAccount"], Kind::Count { most: 5 }, "Accounts of the login, 1 to 5."),
        F::new(&["volume"], Kind::OneOf(&["low", "medium", "high"]), "How many transactions."),
    ];
    LINK = [
        F::new(&["billable_products", "products"], Kind::Texts, "Products the customer is asked for."),
        F::new(&["countries"], Kind::Texts, "ISO 3166."),
        F::new(&["callback_url"], Kind::Url, "Who is told, besides the app's endpoints."),
        F::new(&["success_url", "redirect_url"], Kind::Url, "Where the customer goes after linking."),
        F::new(&["color"], Kind::Text, "The widget's colour."),
        F::new(&["logo"], Kind::Text, "The address of the app's logo."),
        F::new(&["support_email"], Kind::Text, "Whom the customer asks."),
        F::new(&["continue_cta"], Kind::Text, "What the last button says."),
        F::new(&["filter"], Kind::Object, "{banks: [slugs]}: the banks to choose among."),
        F::new(&["refresh"], Kind::Object, "{interval, products, webhook_url}: data sync."),
        F::new(&["options"], Kind::Object, "Echoed in webhooks, searched by byOptions."),
    ];
    SHORT_URL = [F::new(&["short_url", "name", "ref"], Kind::Text, "The link's short name, or its address.").needed()];
    DOWNLOAD = [F::new(&["downloadType", "download_type", "type"], Kind::OneOf(&["csv", "json"]), "The form of the file; csv where absent.")];
    RECEIPT = [F::new(&["receipt", "id"], Kind::Id, "The receipt's id.").needed()];
    NUMBER = [F::new(&["number"], Kind::Count { most: 10 }, "How many, 1 to 10.")];
    URL = [F::new(&["url", "webhook_url"], Kind::Url, "The endpoint's https URL, or `eventbridge:` and the deployment's event bus.").needed()];
    TOKEN = [F::new(&["token"], Kind::Text, "A bearer token sent along; an empty text takes it away.")];
    PAYLOAD = [F::new(&["payload"], Kind::OneOf(&["full", "reference"]), "The changed resources, or their ids and where to read them.")];
    PRODUCTS = [F::new(&["products"], Kind::Products, "The products it is told of.")];
    WEBHOOK = [
        F::new(&["events"], Kind::Texts, "The names of events it is told of, or family.*, or *; all that records bring where absent."),
        F::new(&["rate"], Kind::Count { most: 200 }, "Events a second at most; null: 25."),
        F::new(&["ordered"], Kind::Flag, "Tells the events of a record one after another; in the order of arrival where false."),
        F::new(&["version"], Kind::OneOf(&[okra_core::feed::BodyVersion::V20260301.as_str()]), "The version of its bodies; a new endpoint has the latest, and keeps it."),
        F::new(&["secret"], Kind::Text, "A secret of your own, whsec_ and base64 of 24 to 64 bytes."),
    ];
    SECRET_OVERLAP = [F::new(&["overlap_hours"], Kind::Text, "Hours for which the secret before a rotation still signs, 0 to 168; 24 where absent.")];
    EVENT = [F::new(&["event_id", "event"], Kind::Text, "The event's id, as in webhook-id.").needed()];
    DELIVERIES = [
        F::new(&["state"], Kind::OneOf(&["delivered", "retry", "parked", "exhausted", "cancelled"]), "Only those in this state."),
        F::new(&["cursor"], Kind::Text, "next_cursor of the page before."),
        F::new(&["limit"], Kind::Count { most: 100 }, "Deliveries of a page."),
    ];
    SPAN = [
        F::new(&["since"], Kind::Text, "Events committed from this instant on, 2026-03-01T12:00:00Z; 30 days back at most."),
        F::new(&["until"], Kind::Text, "Events committed until this instant."),
    ];
    PLACES = [
        F::new(&["from"], Kind::Count { most: 999_999_999_999 }, "The first place in the record's feed."),
        F::new(&["to"], Kind::Count { most: 999_999_999_999 }, "The last place in the record's feed."),
    ];
    REPLAY = [
        F::new(&["which"], Kind::OneOf(&["failed", "missing", "all"]), "Events that were given up, that nothing is known of, or all."),
        F::new(&["rate"], Kind::Count { most: 200 }, "Events a second; 10 where absent."),
    ];
    RESUME = [F::new(&["resume"], Kind::Flag, "Has a cancelled replay go on.")];
    AFTER = [
        F::new(&["after"], Kind::Text, "The last place in the feed that is known; 0 where absent."),
        F::new(&["limit"], Kind::Count { most: 100 }, "Events of a page."),
    ];
    TRIGGER = [F::new(&["recordIds", "records", "record"], Kind::Texts, "Records' ids, 100 at most.").needed()];
    ROTATE = [F::new(&["rotate"], Kind::Flag, "Makes a new secret; the one before stays valid beside it.")];
    BANK_CONFIG = [
        F::new(&["id"], Kind::Id, "The bank's id.").needed(),
        F::new(&["name"], Kind::Text, "Its name.").needed(),
        F::new(&["slug"], Kind::Text, "Its slug.").needed(),
        F::new(&["standard"], Kind::Text, "The standard it speaks.").needed(),
        F::new(&["base_url"], Kind::Url, "Where it is reached.").needed(),
        F::new(&["country"], Kind::Text, "ISO 3166; NG where absent."),
        F::new(&["financial_id"], Kind::Text, "Value of x-fapi-financial-id, where the bank wants one."),
        F::new(&["oauth"], Kind::Object, "Where access tokens are renewed: token_url, client_id, client_auth (client_secret_basic, client_secret_post, none), client_secret, which is sealed and never shown, and authorization_url."),
        F::new(&["limits"], Kind::Object, "records_per_second, concurrency, deadline_ms, max_pages, max_body_bytes."),
    ];
}
