//! What a page asks of the widget: Okra's options, read and checked.

use okra_core::{
    backfill::progress::MAX_BACKFILL_MONTHS,
    model::{
        bank::BankConfig,
        ids::{AccountId, BankId, CustomerId},
        interval::Interval,
        snapshot::{ByProduct, Environment, Product},
    },
};
use okra_webhooks::{AddressPolicy, check_webhook_url};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is asked for, as far as it means something here.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct LinkOptions {
    /// What the app calls itself.
    pub(crate) app_name: Option<String>,
    /// A customer who comes back.
    pub(crate) customer: Option<CustomerId>,
    pub(crate) interval: Interval,
    /// All that is read.
    pub(crate) products: Vec<Product>,
    /// Those of them that are read at `interval`; the others daily.
    #[serde(rename = "synced")]
    pub(crate) synced_products: Vec<Product>,
    /// Months of history.
    #[serde(rename = "months")]
    pub(crate) backfill_months: u8,
    pub(crate) webhook_url: Option<String>,
    /// It is `refresh`'s, and not `callback_url`.
    #[serde(rename = "webhook_of_refresh")]
    pub(crate) is_refresh_webhook: bool,
    /// Echoed in webhooks.
    pub(crate) options: Map<String, Value>,
    /// The same, and not searched.
    pub(crate) meta: Map<String, Value>,
    /// Slugs of the banks to choose among; all where empty.
    #[serde(rename = "banks")]
    pub(crate) bank_slugs: Vec<String>,
    /// Countries whose banks are to choose among, ISO 3166 in capitals; all where empty.
    pub(crate) countries: Vec<String>,
    /// An account whose bank has to be asked again, and that bank.
    #[serde(rename = "reauth")]
    pub(crate) reauth_target: Option<(AccountId, BankId)>,
    pub(crate) connect_message: Option<String>,
    pub(crate) success_title: Option<String>,
    pub(crate) success_message: Option<String>,
    /// Where the page of a short link leads in the end.
    pub(crate) redirect_url: Option<String>,
}

impl LinkOptions {
    /// True where a bank is among those to choose from.
    pub(crate) fn offers_bank(&self, bank: &BankConfig) -> bool {
        let is_in = |country: &String| country.eq_ignore_ascii_case(&bank.country);
        (self.bank_slugs.is_empty() || self.bank_slugs.contains(&bank.slug))
            && (self.countries.is_empty() || self.countries.iter().any(is_in))
    }

    /// How often each product is asked for; one that is not asked for has no interval.
    pub(crate) fn requested_schedule(&self) -> ByProduct<Interval> {
        let mut schedule = ByProduct::default();
        for product in &self.products {
            let interval = match self.synced_products.contains(product) {
                true => self.interval,
                false => Interval::Daily,
            };
            *schedule.get_mut(*product) = Some(interval);
        }
        schedule
    }
}

impl LinkOptions {
    /// What is wrong with who is to be told: the option, and the rule that its URL breaks.
    pub(crate) fn check_webhook_url(
        &self,
        policy: AddressPolicy,
        public_url: &str,
    ) -> Option<String> {
        let url = self.webhook_url.as_deref()?;
        let refused = check_webhook_url(url, policy, public_url).err()?;
        let option = match self.is_refresh_webhook {
            true => "refresh.webhook_url",
            false => "callback_url",
        };
        Some(format!("{option} cannot be told: {refused}."))
    }
}

const MAX_TEXT_CHARS: usize = 300;

/// True for what can be the address of a page or a server.
fn is_http_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Reads the options. What is wrong with them is a sentence for the developer who wrote them.
pub(crate) fn parse_options(options: &Map<String, Value>) -> Result<LinkOptions, String> {
    let text = |name: &str| -> Option<String> {
        let text = options.get(name)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.chars().take(MAX_TEXT_CHARS).collect())
    };
    let object = |name: &str| {
        let object = options.get(name).and_then(Value::as_object);
        object.cloned().unwrap_or_default()
    };
    let mut asked = LinkOptions {
        app_name: text("name").or_else(|| text("clientName")),
        customer: parse_customer(options.get("customer"))?,
        products: Product::ALL.to_vec(),
        backfill_months: parse_months(options.get("limit"))?,
        webhook_url: parse_url(options.get("callback_url"))
            .map_err(|()| "callback_url has to be a URL that begins with https://.")?,
        options: object("options"),
        meta: object("meta"),
        connect_message: text("connectMessage"),
        redirect_url: text("redirect_url").filter(|url| is_http_url(url)),
        success_title: text("success_title"),
        success_message: text("success_message").or_else(|| text("widget_success")),
        ..LinkOptions::default()
    };
    if let Some(banks) = options
        .get("filter")
        .and_then(|it| it.get("banks"))
        .and_then(Value::as_array)
    {
        let slug = |it: &Value| it.as_str().map(str::to_owned);
        let slugs: Option<Vec<String>> = banks.iter().map(slug).collect();
        asked.bank_slugs = slugs.ok_or("filter.banks has to be a list of the banks' slugs.")?;
    }
    if let Some(countries) = options.get("countries").filter(|it| !it.is_null()) {
        let code = |it: &Value| it.as_str().filter(|it| it.len() == 2).map(str::to_owned);
        let list = countries.as_array().map(Vec::as_slice);
        let codes: Option<Vec<String>> = list.and_then(|list| list.iter().map(code).collect());
        asked.countries =
            codes.ok_or("countries has to be a list of countries in two letters, as \"NG\".")?;
    }
    asked.reauth_target = match (text("reauth_account"), text("reauth_bank")) {
        (None, None) => None,
        (Some(account), Some(bank)) => {
            let account = account.parse().map_err(|_| "reauth_account is no id of an account: it is 24 hexadecimal digits.")?;
            let bank = bank.parse().map_err(|_| "reauth_bank is no id of a bank: it is 24 hexadecimal digits.")?;
            Some((account, bank))
        }
        _ => return Err("reauth_account and reauth_bank go together: the account that has to be linked again, and its bank.".to_owned()),
    };
    let named = parse_products(options.get("products"))?;
    let synced = parse_refresh(options.get("refresh"), &mut asked)?;
    // What neither names is not read: refresh alone says what is kept, and products what else is read.
    asked.products = match (named, &synced) {
        (Some(named), Some(synced)) => {
            if let Some(other) = synced.iter().find(|it| !named.contains(it)) {
                let other = other.as_str();
                return Err(format!(
                    "refresh.products has {other}, and products does not: what is kept fresh has to be asked for."
                ));
            }
            named
        }
        (Some(products), None) => products,
        (None, Some(products)) => products.clone(),
        (None, None) => Product::ALL.to_vec(),
    };
    asked.synced_products = synced.unwrap_or_else(|| asked.products.clone());
    Ok(asked)
}

/// Okra's options that mean nothing here.
const IGNORED_OPTIONS: [&str; 16] = [
    "account_type",
    "charge",
    "debitLater",
    "exp",
    "garnish",
    "geoLocation",
    "guarantors",
    "isCorporate",
    "logo",
    "manual",
    "multi_account",
    "payment",
    "selection_type",
    "showBalance",
    "ussd",
    "widget_failed",
];

/// What of the options is passed over, in sentences for the developer's console.
pub(crate) fn collect_warnings(options: &Map<String, Value>, env: Environment) -> Vec<String> {
    let asks = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    let asked = |name: &&str| options.get(*name).is_some_and(asks);
    let ignored: Vec<&str> = IGNORED_OPTIONS
        .into_iter()
        .filter(|name| asked(name))
        .collect();
    let mut warnings = Vec::new();
    if !ignored.is_empty() {
        let names = ignored.join(", ");
        warnings.push(format!("passed over, for nothing here reads it: {names}."));
    }
    let production = options
        .get("env")
        .and_then(Value::as_str)
        .map(|it| it == "production");
    if production.is_some_and(|it| it != (env == Environment::Production)) {
        let env = env.as_str();
        warnings.push(format!("env is passed over: the key is of a {env} app."));
    }
    if options.get("color").is_some_and(asks) && parse_color(options).is_none() {
        warnings.push("color is passed over: it has to be #RRGGBB.".to_owned());
    }
    warnings
}

/// The colour of what a customer presses: `#RRGGBB`.
pub(crate) fn parse_color(options: &Map<String, Value>) -> Option<&str> {
    let color = options.get("color")?.as_str()?.trim();
    let digits = color.strip_prefix('#')?;
    let hex = digits.len() == 6 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    hex.then_some(color)
}

/// A URL, where there is one.
fn parse_url(value: Option<&Value>) -> Result<Option<String>, ()> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_str().ok_or(())?.trim(),
    };
    match text.is_empty() {
        true => Ok(None),
        false if is_http_url(text) => Ok(Some(text.to_owned())),
        false => Err(()),
    }
}

/// Okra's `limit`: months of history.
fn parse_months(value: Option<&Value>) -> Result<u8, String> {
    let months = match value {
        None | Some(Value::Null) => return Ok(MAX_BACKFILL_MONTHS),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let months = months.and_then(|it| u8::try_from(it).ok());
    let months = months.filter(|it| (1..=MAX_BACKFILL_MONTHS).contains(it));
    months.ok_or_else(|| {
        format!("limit has to be a number of months of history, 1 to {MAX_BACKFILL_MONTHS}.")
    })
}

/// Okra's `products`: those of them that are read here; `None` where it is absent. The others have no data
/// that is read, and accounts come with each link.
fn parse_products(value: Option<&Value>) -> Result<Option<Vec<Product>>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named = Product::ALL.to_vec();
    named.retain(|product| names.iter().any(|it| it.as_str() == Some(product.as_str())));
    if named.is_empty() {
        return Err(format!(
            "products is {list}, and has to be a list with \"balance\", \"transactions\", or both: nothing else is read."
        ));
    }
    Ok(Some(named))
}

/// A returning customer: `{id}`, or the id alone.
fn parse_customer(value: Option<&Value>) -> Result<Option<CustomerId>, String> {
    let id = match value {
        Some(Value::Object(customer)) => customer
            .get("id")
            .or_else(|| customer.get("_id"))
            .and_then(Value::as_str),
        Some(Value::String(id)) => Some(id.as_str()),
        _ => None,
    };
    let Some(id) = id.map(str::trim).filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let parsed = id.parse();
    parsed
        .map(Some)
        .map_err(|_| "customer.id is no id of a customer: it is 24 hexadecimal digits.".to_owned())
}

/// `true`: daily, all that is read. `{interval, products, webhook_url}`: what it says; its products, where
/// it names some.
fn parse_refresh(
    value: Option<&Value>,
    parsed_options: &mut LinkOptions,
) -> Result<Option<Vec<Product>>, String> {
    let sync = match value {
        None | Some(Value::Null | Value::Bool(true)) => return Ok(None),
        // Nothing is read that was not asked for, so this cannot be taken for "daily".
        Some(Value::Bool(false)) => {
            return Err("refresh is false, and a linked record is always kept fresh here: leave refresh out for daily.".to_owned());
        }
        Some(Value::Object(sync)) => sync,
        Some(_) => {
            return Err(
                "refresh is true or an object {interval, products, webhook_url}.".to_owned(),
            );
        }
    };
    for name in sync.keys() {
        if !["interval", "products", "webhook_url"].contains(&name.as_str()) {
            return Err(format!(
                "refresh.{name} is not known: refresh takes interval, products and webhook_url."
            ));
        }
    }
    if let Some(interval) = sync.get("interval") {
        let parsed = interval.as_str().and_then(|it| it.parse().ok());
        parsed_options.interval = parsed.ok_or_else(|| {
            let names: Vec<&str> = Interval::ALL.iter().map(|it| it.as_str()).collect();
            format!(
                "refresh.interval is {interval}, and has to be one of {}.",
                names.join(", ")
            )
        })?;
    }
    let mut named = None;
    if let Some(products) = sync.get("products") {
        let parse = |it: &Value| {
            let name = it.as_str()?;
            Product::ALL
                .into_iter()
                .find(|product| product.as_str() == name)
        };
        let parsed: Option<Vec<Product>> = products
            .as_array()
            .and_then(|list| list.iter().map(parse).collect());
        let parsed = parsed.filter(|list| !list.is_empty());
        let mut parsed = parsed.ok_or_else(|| {
            format!("refresh.products is {products}, and has to be a list of \"balance\", \"transactions\", or both.")
        })?;
        parsed.sort_unstable();
        parsed.dedup();
        named = Some(parsed);
    }
    let webhook = parse_url(sync.get("webhook_url"))
        .map_err(|()| "refresh.webhook_url has to be a URL that begins with https://.")?;
    parsed_options.is_refresh_webhook = webhook.is_some();
    parsed_options.webhook_url = webhook.or_else(|| parsed_options.webhook_url.take());
    Ok(named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse_json(options: &Value) -> Result<LinkOptions, String> {
        parse_options(options.as_object().unwrap())
    }

    #[test]
    fn refresh_is_true_or_an_object() {
        for options in [json!({}), json!({"refresh": true}), json!({"refresh": {}})] {
            let asked = parse_json(&options).unwrap();
            assert_eq!((asked.interval, asked.products.len()), (Interval::Daily, 2));
        }
        let asked = parse_json(
            &json!({"refresh": {"interval": "one_hour", "products": ["balance"],
            "webhook_url": "https://a.example/h"}, "callback_url": "https://b.example"}),
        );
        let asked = asked.unwrap();
        assert_eq!(asked.interval, Interval::OneHour);
        assert_eq!(asked.products, [Product::Balance]);
        assert_eq!(asked.webhook_url.as_deref(), Some("https://a.example/h"));
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        use Interval::{Daily, OneHour};
        let (balance, rows) = (json!(["balance"]), json!(["auth", "transactions"]));
        let both = json!(["auth", "balance", "identity", "transactions"]);
        let check = |options: Value, months: u8, expected: (Option<Interval>, Option<Interval>)| {
            let asked = parse_json(&options).unwrap();
            let schedule = asked.requested_schedule();
            let found = (schedule.balance, schedule.transactions);
            assert_eq!(
                (asked.backfill_months, found),
                (months, expected),
                "{options}"
            );
        };
        check(json!({}), 24, (Some(Daily), Some(Daily)));
        check(json!({"products": both}), 24, (Some(Daily), Some(Daily)));
        check(
            json!({"products": rows, "limit": 6}),
            6,
            (None, Some(Daily)),
        );
        let hourly = |products: &Value| json!({"interval": "one_hour", "products": products});
        check(
            json!({"products": balance, "limit": "2", "refresh": hourly(&balance)}),
            2,
            (Some(OneHour), None),
        );
        check(
            json!({"refresh": hourly(&balance)}),
            24,
            (Some(OneHour), None),
        );
        check(
            json!({"products": both, "refresh": hourly(&balance)}),
            24,
            (Some(OneHour), Some(Daily)),
        );
        check(
            json!({"products": balance, "refresh": {"interval": "one_hour"}}),
            24,
            (Some(OneHour), None),
        );
    }

    #[test]
    fn what_is_passed_over_is_named() {
        let check = |options: Value, expected: &[&str]| {
            let found = collect_warnings(options.as_object().unwrap(), Environment::Sandbox);
            assert_eq!(found, expected, "{options}");
        };
        check(
            json!({"env": "production-sandbox", "color": "#3AB795", "logo": ""}),
            &[],
        );
        check(
            json!({"payment": {"a": 1}, "logo": "https://a.example/l.png", "charge": {}, "isCorporate": false}),
            &["passed over, for nothing here reads it: logo, payment."],
        );
        check(
            json!({"env": "production", "color": "green"}),
            &[
                "env is passed over: the key is of a production-sandbox app.",
                "color is passed over: it has to be #RRGGBB.",
            ],
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let check = |options: Value, expected: &str| {
            let problem = parse_json(&options).err().unwrap();
            assert!(problem.starts_with(expected), "{options}: {problem}");
        };
        check(json!({"refresh": "daily"}), "refresh is true or an object");
        check(json!({"refresh": false}), "refresh is false");
        check(
            json!({"products": ["identity"]}),
            "products is [\"identity\"]",
        );
        check(json!({"products": "balance"}), "products is \"balance\"");
        check(
            json!({"products": ["balance"], "refresh": {"products": ["transactions"]}}),
            "refresh.products has transactions",
        );
        check(json!({"limit": 0}), "limit has to be");
        check(json!({"limit": 25}), "limit has to be");
        check(json!({"limit": "all"}), "limit has to be");
        check(json!({"callback_url": "a"}), "callback_url has to be");
        check(json!({"countries": ["Nigeria"]}), "countries has to be");
        check(
            json!({"refresh": {"interval": "hourly"}}),
            "refresh.interval is \"hourly\", and has to be one of one_minute",
        );
        check(
            json!({"refresh": {"interval": 60}}),
            "refresh.interval is 60",
        );
        check(
            json!({"refresh": {"products": ["income"]}}),
            "refresh.products is [\"income\"]",
        );
        check(
            json!({"refresh": {"products": []}}),
            "refresh.products is []",
        );
        check(
            json!({"refresh": {"every": 1}}),
            "refresh.every is not known",
        );
        check(
            json!({"refresh": {"webhook_url": "a"}}),
            "refresh.webhook_url has to be",
        );
        check(
            json!({"reauth_account": "64a0c0ffee00000000000002"}),
            "reauth_account and reauth_bank",
        );
        check(json!({"customer": {"id": "x"}}), "customer.id is no id");
    }
}
