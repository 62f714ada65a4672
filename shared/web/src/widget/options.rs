//! [`LinkOptions`]: what a page requests of the widget, read from Okra's options and checked.
//!
//! The rule: an option that is wrong is an error, with a sentence for the developer of the page; one that has no effect
//! here is a warning. Only what the options name is read of the bank.

use std::str::FromStr;

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

/// What the page requests, as far as it has an effect here.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct LinkOptions {
    /// What the app calls itself.
    pub(crate) app_name: Option<String>,
    /// A returning customer.
    pub(crate) customer: Option<CustomerId>,
    pub(crate) interval: Interval,
    /// Everything that is read.
    pub(crate) products: Vec<Product>,
    /// Those of them that are read at `interval`; the others daily.
    #[serde(rename = "synced")]
    pub(crate) synced_products: Vec<Product>,
    /// Months of backfill.
    #[serde(rename = "months")]
    pub(crate) backfill_months: u8,
    pub(crate) webhook_url: Option<String>,
    /// The webhook URL is that of `refresh`, not `callback_url`.
    #[serde(rename = "webhook_of_refresh")]
    pub(crate) is_refresh_webhook: bool,
    /// Echoed in webhooks.
    pub(crate) options: Map<String, Value>,
    /// Echoed in webhooks, and not searched.
    pub(crate) meta: Map<String, Value>,
    /// Slugs of the banks to choose from; all where empty.
    #[serde(rename = "banks")]
    pub(crate) bank_slugs: Vec<String>,
    /// Countries whose banks are to choose from, as ISO 3166 codes; all where empty.
    pub(crate) countries: Vec<String>,
    /// An account whose consent is renewed, and its bank.
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
        let mut countries = self.countries.iter();
        (self.bank_slugs.is_empty() || self.bank_slugs.contains(&bank.slug))
            && (self.countries.is_empty()
                || countries.any(|it| it.eq_ignore_ascii_case(&bank.country)))
    }

    /// The requested interval of each product; a product that is not requested has none.
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

    /// The host that the data is sent to, where the page names one.
    pub(crate) fn webhook_host(&self) -> Option<String> {
        let url = url::Url::parse(self.webhook_url.as_deref()?).ok()?;
        url.host_str().map(str::to_owned)
    }

    /// What is wrong with the webhook URL: the option, and the rule that the URL breaks.
    pub(crate) fn check_webhook_url(
        &self,
        policy: AddressPolicy,
        public_url: &str,
    ) -> Option<String> {
        let url = self.webhook_url.as_deref()?;
        let error = check_webhook_url(url, policy, public_url).err()?;
        let option = match self.is_refresh_webhook {
            true => "refresh.webhook_url",
            false => "callback_url",
        };
        Some(format!("{option} cannot be used: {error}."))
    }
}

/// Characters of a text option that are used at most.
const MAX_TEXT_CHARS: usize = 300;

/// True for a URL that can be the address of a page or a server.
fn is_http_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The options as the page passed them.
#[derive(Clone, Copy)]
struct RawOptions<'a>(&'a Map<String, Value>);

impl RawOptions<'_> {
    /// A value; `None` where it is absent or null.
    fn get_value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text, trimmed and cut; `None` where it is absent or empty.
    fn get_text(&self, name: &str) -> Option<String> {
        let text = self.0.get(name)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.chars().take(MAX_TEXT_CHARS).collect())
    }

    /// An object; empty where it is absent.
    fn get_object(&self, name: &str) -> Map<String, Value> {
        let object = self.0.get(name).and_then(Value::as_object);
        object.cloned().unwrap_or_default()
    }
}

/// Reads the options. What is wrong with them is a sentence for the developer who wrote them.
pub(crate) fn parse_options(options: &Map<String, Value>) -> Result<LinkOptions, String> {
    let raw = RawOptions(options);
    let mut parsed = LinkOptions {
        app_name: raw.get_text("name").or_else(|| raw.get_text("clientName")),
        customer: parse_customer(options.get("customer"))?,
        backfill_months: parse_months(raw.get_value("limit"))?,
        webhook_url: parse_url(raw.get_value("callback_url"), "callback_url")?,
        options: raw.get_object("options"),
        meta: raw.get_object("meta"),
        bank_slugs: parse_bank_filter(options.get("filter"))?,
        countries: parse_countries(raw.get_value("countries"))?,
        reauth_target: parse_reauth_target(raw)?,
        connect_message: raw.get_text("connectMessage"),
        redirect_url: raw.get_text("redirect_url").filter(|url| is_http_url(url)),
        success_title: raw.get_text("success_title"),
        success_message: raw
            .get_text("success_message")
            .or_else(|| raw.get_text("widget_success")),
        ..LinkOptions::default()
    };
    let named = parse_products(raw.get_value("products"))?;
    let synced = parse_refresh(raw.get_value("refresh"), &mut parsed)?;
    parsed.products = combine_products(named, synced.as_deref())?;
    parsed.synced_products = synced.unwrap_or_else(|| parsed.products.clone());
    Ok(parsed)
}

/// Everything that is read, of `products` and of `refresh.products`. What neither names is not read.
fn combine_products(
    named: Option<Vec<Product>>,
    synced: Option<&[Product]>,
) -> Result<Vec<Product>, String> {
    let synced = synced.unwrap_or_default();
    match named {
        Some(named) => match synced.iter().find(|it| !named.contains(it)) {
            Some(other) => Err(format!(
                "refresh.products has {}, and products does not: what is refreshed must be among the products.",
                other.as_str()
            )),
            None => Ok(named),
        },
        None if synced.is_empty() => Ok(Product::ALL.to_vec()),
        None => Ok(synced.to_vec()),
    }
}

/// `filter.banks`: the slugs of the banks to choose from.
fn parse_bank_filter(filter: Option<&Value>) -> Result<Vec<String>, String> {
    let banks = filter.and_then(|it| it.get("banks"));
    let Some(banks) = banks.and_then(Value::as_array) else {
        return Ok(vec![]);
    };
    let slugs = banks.iter().map(|it| it.as_str().map(str::to_owned));
    let slugs: Option<Vec<String>> = slugs.collect();
    slugs.ok_or_else(|| "filter.banks must be a list of the banks' slugs.".to_owned())
}

/// `countries`: those whose banks are to choose from.
fn parse_countries(value: Option<&Value>) -> Result<Vec<String>, String> {
    let Some(value) = value else {
        return Ok(vec![]);
    };
    value
        .as_array()
        .and_then(|list| list.iter().map(parse_country).collect())
        .ok_or_else(|| {
            "countries must be a list of countries in two letters, as \"NG\".".to_owned()
        })
}

fn parse_country(value: &Value) -> Option<String> {
    let code = value.as_str().filter(|it| it.len() == 2);
    code.map(str::to_owned)
}

/// `reauth_account` and `reauth_bank`.
fn parse_reauth_target(raw: RawOptions<'_>) -> Result<Option<(AccountId, BankId)>, String> {
    match (raw.get_text("reauth_account"), raw.get_text("reauth_bank")) {
        (None, None) => Ok(None),
        (Some(account), Some(bank)) => Ok(Some((
            parse_id(&account, "reauth_account")?,
            parse_id(&bank, "reauth_bank")?,
        ))),
        _ => Err(
            "reauth_account and reauth_bank go together: the account that must be linked again, and its bank."
                .to_owned(),
        ),
    }
}

fn parse_id<Id: FromStr>(text: &str, name: &str) -> Result<Id, String> {
    text.parse()
        .map_err(|_| format!("{name} must be an id of 24 hexadecimal digits."))
}

/// Okra's options that have no effect here.
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

/// Which options are ignored, in sentences for the developer's console.
pub(crate) fn collect_warnings(
    options: &Map<String, Value>,
    environment: Environment,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let ignored: Vec<&str> = IGNORED_OPTIONS
        .into_iter()
        .filter(|name| is_set(options, name))
        .collect();
    if !ignored.is_empty() {
        let names = ignored.join(", ");
        warnings.push(format!("ignored, because nothing here reads it: {names}."));
    }
    let named = options.get("env").and_then(Value::as_str);
    let is_production = environment == Environment::Production;
    if named.is_some_and(|it| (it == "production") != is_production) {
        let environment = environment.as_str();
        warnings.push(format!(
            "env is ignored: the key is of a {environment} app."
        ));
    }
    if is_set(options, "color") && parse_color(options).is_none() {
        warnings.push("color is ignored: it must be #RRGGBB.".to_owned());
    }
    warnings
}

/// True where an option has a value that asks for something.
fn is_set(options: &Map<String, Value>, name: &str) -> bool {
    match options.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    }
}

/// The colour of the buttons: `#RRGGBB`.
pub(crate) fn parse_color(options: &Map<String, Value>) -> Option<&str> {
    let color = options.get("color")?.as_str()?.trim();
    let digits = color.strip_prefix('#')?;
    let hex = digits.len() == 6 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    hex.then_some(color)
}

/// A URL, where there is one. `name` is the option's.
fn parse_url(value: Option<&Value>, name: &str) -> Result<Option<String>, String> {
    let Some(value) = value else {
        return Ok(None);
    };
    match value.as_str().map(str::trim) {
        Some("") => Ok(None),
        Some(text) if is_http_url(text) => Ok(Some(text.to_owned())),
        _ => Err(format!("{name} must be a URL that begins with https://.")),
    }
}

/// Okra's `limit`: months of backfill.
fn parse_months(value: Option<&Value>) -> Result<u8, String> {
    let months = match value {
        None => return Ok(MAX_BACKFILL_MONTHS),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let months = months.and_then(|it| u8::try_from(it).ok());
    let months = months.filter(|it| (1..=MAX_BACKFILL_MONTHS).contains(it));
    months.ok_or_else(|| {
        format!("limit must be a number of months of history, 1 to {MAX_BACKFILL_MONTHS}.")
    })
}

/// Okra's `products`: those of them that are read here; `None` where it is absent. Okra's other products have no data
/// that is read here, and accounts come with each link.
fn parse_products(value: Option<&Value>) -> Result<Option<Vec<Product>>, String> {
    let Some(list) = value else {
        return Ok(None);
    };
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named = Product::ALL.to_vec();
    named.retain(|product| names.iter().any(|it| it.as_str() == Some(product.as_str())));
    if named.is_empty() {
        return Err(format!(
            "products is {list}, and must be a list with \"balance\", \"transactions\", or both: nothing else is read."
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
    let id = id.map(str::trim).filter(|id| !id.is_empty());
    id.map(|id| parse_id(id, "customer.id")).transpose()
}

/// `refresh`: absent or `true` means daily, everything that is read; `{interval, products, webhook_url}` sets what it
/// names. Returns its products, where it names some.
fn parse_refresh(
    value: Option<&Value>,
    parsed: &mut LinkOptions,
) -> Result<Option<Vec<Product>>, String> {
    let refresh = match value {
        None | Some(Value::Bool(true)) => return Ok(None),
        // Only what was requested is read, so this must not be taken for "daily".
        Some(Value::Bool(false)) => {
            return Err("refresh is false, and a linked record is always refreshed here: leave refresh out for daily.".to_owned());
        }
        Some(Value::Object(refresh)) => refresh,
        Some(_) => {
            return Err(
                "refresh must be true or an object {interval, products, webhook_url}.".to_owned(),
            );
        }
    };
    for name in refresh.keys() {
        if !["interval", "products", "webhook_url"].contains(&name.as_str()) {
            return Err(format!(
                "refresh.{name} is unknown: refresh takes interval, products and webhook_url."
            ));
        }
    }
    if let Some(interval) = refresh.get("interval") {
        parsed.interval = parse_interval(interval)?;
    }
    let raw = RawOptions(refresh);
    let webhook_url = parse_url(raw.get_value("webhook_url"), "refresh.webhook_url")?;
    if webhook_url.is_some() {
        parsed.is_refresh_webhook = true;
        parsed.webhook_url = webhook_url;
    }
    refresh
        .get("products")
        .map(parse_synced_products)
        .transpose()
}

fn parse_interval(value: &Value) -> Result<Interval, String> {
    let interval = value.as_str().and_then(|it| it.parse().ok());
    interval.ok_or_else(|| {
        let names = Interval::ALL.map(Interval::as_str).join(", ");
        format!("refresh.interval is {value}, and must be one of {names}.")
    })
}

/// `refresh.products`, which may name only what is read here.
fn parse_synced_products(value: &Value) -> Result<Vec<Product>, String> {
    let products = value.as_array();
    let products: Option<Vec<Product>> =
        products.and_then(|list| list.iter().map(parse_product).collect());
    let mut products = products.filter(|list| !list.is_empty()).ok_or_else(|| {
        format!("refresh.products is {value}, and must be a list of \"balance\", \"transactions\", or both.")
    })?;
    products.sort_unstable();
    products.dedup();
    Ok(products)
}

fn parse_product(value: &Value) -> Option<Product> {
    let name = value.as_str()?;
    Product::ALL
        .into_iter()
        .find(|product| product.as_str() == name)
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
            let parsed = parse_json(&options).unwrap();
            assert_eq!(
                (parsed.interval, parsed.products.len()),
                (Interval::Daily, 2)
            );
        }
        let parsed = parse_json(
            &json!({"refresh": {"interval": "one_hour", "products": ["balance"],
            "webhook_url": "https://a.example/h"}, "callback_url": "https://b.example"}),
        );
        let parsed = parsed.unwrap();
        assert_eq!(parsed.interval, Interval::OneHour);
        assert_eq!(parsed.products, [Product::Balance]);
        assert_eq!(parsed.webhook_url.as_deref(), Some("https://a.example/h"));
    }

    #[test]
    fn only_what_is_requested_is_read() {
        use Interval::{Daily, OneHour};
        let (balance, rows) = (json!(["balance"]), json!(["auth", "transactions"]));
        let both = json!(["auth", "balance", "identity", "transactions"]);
        let check = |options: Value, months: u8, expected: (Option<Interval>, Option<Interval>)| {
            let parsed = parse_json(&options).unwrap();
            let schedule = parsed.requested_schedule();
            let found = (schedule.balance, schedule.transactions);
            assert_eq!(
                (parsed.backfill_months, found),
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
    fn ignored_options_are_named() {
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
            &["ignored, because nothing here reads it: logo, payment."],
        );
        check(
            json!({"env": "production", "color": "green"}),
            &[
                "env is ignored: the key is of a production-sandbox app.",
                "color is ignored: it must be #RRGGBB.",
            ],
        );
    }

    #[test]
    fn an_invalid_option_is_an_error_that_names_it() {
        let check = |options: Value, expected: &str| {
            let problem = parse_json(&options).err().unwrap();
            assert!(problem.starts_with(expected), "{options}: {problem}");
        };
        check(
            json!({"refresh": "daily"}),
            "refresh must be true or an object",
        );
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
        check(json!({"limit": 0}), "limit must be");
        check(json!({"limit": 25}), "limit must be");
        check(json!({"limit": "all"}), "limit must be");
        check(json!({"callback_url": "a"}), "callback_url must be");
        check(json!({"countries": ["Nigeria"]}), "countries must be");
        check(
            json!({"refresh": {"interval": "hourly"}}),
            "refresh.interval is \"hourly\", and must be one of one_minute",
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
        check(json!({"refresh": {"every": 1}}), "refresh.every is unknown");
        check(
            json!({"refresh": {"webhook_url": "a"}}),
            "refresh.webhook_url must be",
        );
        check(
            json!({"reauth_account": "64a0c0ffee00000000000002"}),
            "reauth_account and reauth_bank",
        );
        check(
            json!({"customer": {"id": "x"}}),
            "customer.id must be an id",
        );
    }
}
