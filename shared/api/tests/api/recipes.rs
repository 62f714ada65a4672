//! How each route is called so that it finds something: the one table behind every test of all routes.
//! A route without a recipe fails them.

use okra_core::model::ids::BalanceId;
use serde_json::{Value, json};

use crate::world::{ApiWorld, BANK, CUSTOMER_NAME, LinkedCustomer};

/// What is there to be found: everything of one app with one customer.
pub(crate) struct Fixture {
    pub(crate) linked: LinkedCustomer,
    pub(crate) balance: BalanceId,
    pub(crate) transaction: String,
    pub(crate) endpoint: String,
    pub(crate) subscription: String,
    pub(crate) key: String,
    pub(crate) link: String,
    pub(crate) receipt: String,
    pub(crate) replay: String,
    pub(crate) job: String,
}

/// What another app is answered that calls with these ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForeignCallOutcome {
    /// That there is no such thing.
    Missing,
    /// That the id is somebody's already.
    Taken,
    /// Its own things, of which there are none.
    Empty,
    /// What belongs to nobody, or what it has just made itself.
    Open,
}

/// A bank that the app has added.
pub(crate) const OWN_BANK: &str = "0707070707070707070707f7";

/// What nobody else may be shown of it.
pub(crate) const OWN_BANK_NAME: &str = "Bank of Our Own";

fn own_bank_body() -> Value {
    json!({
        "id": OWN_BANK, "name": OWN_BANK_NAME, "slug": "own-bank",
        "standard": "obie-3.1", "base_url": "https://bank.example/aisp", "country": "NG",
    })
}

/// How a route is called.
pub(crate) struct ApiRouteRecipe {
    pub(crate) body: Value,
    pub(crate) foreign: ForeignCallOutcome,
    /// Ends what other recipes need: called after those with a lower number.
    pub(crate) ending_order: u8,
}

impl Fixture {
    /// Links a customer, refreshes it, adds a bank, and asks for everything that an app can have.
    pub(crate) async fn new(world: &ApiWorld) -> Self {
        Self::with_login(world, json!({})).await
    }

    /// The same, with what is asked for of the login besides.
    pub(crate) async fn with_login(world: &ApiWorld, login: Value) -> Self {
        // Before the other, whose login is then the last.
        let gone = world.create_customer(json!({})).await;
        let gone = json!({ "customer": gone.customer_id() });
        let gone = world
            .post_json("customers/remove", gone)
            .await
            .success_data();
        let linked = world.create_refreshed_with(login).await;
        world
            .post_json("banks/add", own_bank_body())
            .await
            .success_data();
        let customer = linked.customer_id();
        let rows = json!({ "customer": customer });
        let rows = world
            .post_json("transactions/getByCustomer", rows)
            .await
            .success_data();
        let hook = json!({ "url": "https://ours.example/hook" });
        let hook = world.post_json("webhooks/set", hook).await.success_data();
        let sync = json!({
            "customer": customer, "products": ["balance"], "interval": "one_hour",
            "webhook_url": "https://ours.example/sync",
        });
        let sync = world.post_json("data-sync", sync).await.success_data();
        let key = world
            .post_json("keys/rotate", json!({}))
            .await
            .success_data();
        let link = json!({ "name": "Loans", "callback_url": "https://ours.example/link" });
        let link = world.post_json("links/new", link).await.success_data();
        let replay =
            json!({ "id": hook["id"], "record_id": linked.record_id(), "from": 1, "to": 9 });
        let replay = world
            .post_json("webhooks/replay", replay)
            .await
            .success_data();
        let job = json!({ "record_id": linked.record_id() });
        let job = world.post_json("balance/check", job).await.success_data();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let row = &rows["transaction"][0];
        Self {
            balance: BalanceId::for_account(linked.account_id().parse().unwrap()),
            transaction: text(&row["_id"]),
            endpoint: text(&hook["id"]),
            key: text(&key["id"]),
            receipt: text(&gone["receipt"]),
            link: text(&link["link"]["short_url"]),
            replay: text(&replay["id"]),
            job: text(&job["job"]),
            subscription: text(&sync["subscriptions"][0]["id"]),
            linked,
        }
    }

    /// The record's first event.
    fn first_event_id(&self) -> String {
        format!("evt_{}_1", self.linked.record_id())
    }

    /// How this route is called.
    pub(crate) fn recipe_for_path(&self, path: &str) -> Option<ApiRouteRecipe> {
        let linked = &self.linked;
        let (customer, account) = (linked.customer_id(), linked.account_id());
        let record = json!(linked.record_id());
        let options = json!({ "options": { "UserId": 42 } });
        let days = json!({ "from": "2020-01-01", "to": "2030-12-31" });
        let with = |mut body: Value, more: &Value| {
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            body
        };
        let missing = |body: Value| (body, ForeignCallOutcome::Missing);
        let empty = |body: Value| (body, ForeignCallOutcome::Empty);
        let open = |body: Value| (body, ForeignCallOutcome::Open);
        let (family, call) = path.rsplit_once('/').unwrap_or(("", path));
        let family = match family {
            "account" => "accounts",
            "transaction" => "transactions",
            family => family,
        };
        let (body, foreign) = match (family, call) {
            ("", "health" | "openapi.json" | "docs") | ("banks", "list") => open(json!({})),
            ("banks", "getById" | "remove") => missing(json!({ "id": OWN_BANK })),
            ("banks", "add") => (own_bank_body(), ForeignCallOutcome::Taken),
            ("customers", "create") => open(json!({ "name": "Bola" })),
            ("customers", "generate") => open(json!({ "number": 1 })),
            ("webhooks", "set") => open(json!({ "url": "https://new.example/hook" })),
            ("webhooks", "secret") | ("keys", "list" | "rotate") => open(json!({})),
            ("products", "list") => open(json!({})),
            ("receipts", "get") => missing(json!({ "receipt": self.receipt })),
            ("receipts", "list") => empty(json!({})),
            ("links", "new") => open(json!({ "name": "Loans", "billable_products": ["balance"] })),
            ("links", "get" | "remove") => missing(json!({ "short_url": self.link })),
            ("products/transactions" | "products/record", "download") => {
                missing(json!({ "record": record, "downloadType": "csv" }))
            }

            ("products", "records" | "auths" | "accounts" | "balances" | "transactions")
            | ("products/auth" | "products/transactions", "get")
            | ("customers" | "webhooks" | "links", "list") => empty(json!({})),
            (_, "getByBank") => empty(json!({ "bank": BANK })),
            (_, "byOptions" | "getByOptions") => empty(options),
            (_, "getByDate") => empty(days),
            ("accounts", "getByName") => empty(json!({ "name": CUSTOMER_NAME })),
            ("accounts", "getByBalance") => empty(json!({ "balance": 0 })),
            ("balance", "getByType") => empty(json!({ "type": "available_balance" })),
            ("transactions", "getByType") => empty(json!({ "type": "debit" })),
            ("transactions", "getByNuban") => empty(json!({ "nuban": linked.nuban() })),
            ("customers", "find-customers-by") => {
                empty(json!({ "key": "name", "value": CUSTOMER_NAME }))
            }

            ("balance", "getById" | "getBalanceById") => missing(json!({ "id": self.balance })),
            ("transactions", "getById") => missing(json!({ "id": self.transaction })),
            ("accounts", "getById") => missing(json!({ "id": account })),
            ("auth", "getById") => missing(json!({ "id": record })),
            ("accounts", "getAccountDetails")
            | (_, "getByAccount")
            | (
                "balance" | "transactions" | "transactions/balance" | "transaction/balance",
                "process",
            ) => missing(json!({ "account_id": account })),
            (_, "getByCustomer" | "getByCustomerDate" | "getByDateCustomer")
            | ("customers", "get" | "flag" | "unflag" | "remove")
            | ("customers/dti", "get")
            | ("products/all", "byCustomer")
            | ("products", "total-debits-credits")
            | ("products/records/credit-debit", "get")
            | ("products/transactions", "spending-pattern")
            | ("products/spending-patterns", "process")
            | ("data-sync", "list") => missing(with(days, &json!({ "customer": customer }))),
            ("products/records", "getByCustomerByBank") => {
                missing(json!({ "customer": customer, "bank": BANK }))
            }
            (_, "byRecord") | ("records/transactions" | "products/records", "get") => {
                missing(json!({ "record_id": record }))
            }
            ("jobs", "get") => missing(json!({ "job": self.job })),
            ("", "callback") => missing(json!({ "record": record, "method": "BALANCE" })),
            (_, "refresh" | "check" | "periodic" | "retry") => {
                missing(json!({ "account_id": account, "record_id": record }))
            }
            ("", "auto-refresh" | "data-sync") => {
                missing(json!({ "customer": customer, "products": ["balance"] }))
            }
            ("records", "link") => missing(json!({ "record_id": record, "access_token": "x" })),
            ("data-sync", "cancel") => {
                missing(json!({ "customer": customer, "id": self.subscription }))
            }
            ("feed", "read") | ("transactions", "sync") => missing(json!({ "record_id": record })),
            ("history", "versions") => missing(json!({ "id": self.transaction })),
            ("history", "transaction") => {
                missing(json!({ "id": self.transaction, "at": "2026-03-15T12:00:30Z" }))
            }
            ("history", "balance") => {
                missing(json!({ "account_id": account, "at": "2026-03-15T12:00:30Z" }))
            }
            ("records", "unlink") => missing(json!({ "record_id": record })),
            ("keys", "revoke") => missing(json!({ "id": self.key })),
            ("webhooks", "remove" | "test" | "enable" | "disable" | "deliveries") => {
                missing(json!({ "id": self.endpoint }))
            }
            ("webhooks", "replay") => missing(json!({
                "id": self.endpoint, "record_id": record, "from": 1, "to": 9,
            })),
            ("webhooks/replay", "list") => empty(json!({})),
            ("webhooks/replay", "get" | "cancel") => missing(json!({ "id": self.replay })),
            ("events", "list") => missing(json!({ "record_id": record })),
            ("events", "deliveries") => missing(json!({ "event_id": self.first_event_id() })),
            ("events", "resend") => {
                missing(json!({ "event_id": self.first_event_id(), "id": self.endpoint }))
            }
            ("callback", "trigger") => missing(json!({ "recordIds": [record] })),
            _ => return None,
        };
        let ends = match path {
            "banks/remove" | "data-sync/cancel" | "webhooks/remove" | "keys/revoke"
            | "links/remove" => 1,
            "records/unlink" => 2,
            "customers/remove" => 3,
            _ => 0,
        };
        Some(ApiRouteRecipe {
            body,
            foreign,
            ending_order: ends,
        })
    }
}
