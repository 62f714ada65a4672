//! The fields of a request ([`Input`]), read as Okra's clients send them: empty and `null` bodies, forms, empty strings for
//! absent fields, numbers as texts, several names for one field, dates in four forms.
//!
//! The rule: a field that can be read is read, and one that cannot is an error that names it and says what it must be.

use std::net::IpAddr;

use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::StatusCode,
};
use jiff::civil::Date;
use okra_core::model::{
    ids::ParseIdError,
    interval::Interval,
    money::{Currency, Money, MoneyError},
    snapshot::Product,
};
use okra_wire::envelope::{DEFAULT_PAGE_LIMIT, MAX_PAGE_LIMIT, Pagination};
use serde_json::{Map, Value};

use crate::http::envelope::ApiError;

/// Most bytes of a body.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Names of one field.
pub(crate) type FieldNames<'a> = &'a [&'a str];

pub(crate) const ACCOUNT: FieldNames<'_> = &["account", "account_id", "accountId"];
pub(crate) const BANK: FieldNames<'_> = &["bank", "bank_id", "bankId"];
pub(crate) const CUSTOMER: FieldNames<'_> = &["customer", "customer_id", "customerId"];
pub(crate) const RECORD: FieldNames<'_> = &["record_id", "record", "recordId"];
pub(crate) const CUSTOMER_IP: FieldNames<'_> = &["customer_ip", "customerIp"];
pub(crate) const CONSENT_EXPIRES_AT: FieldNames<'_> = &["consent_expires_at", "consentExpiresAt"];
pub(crate) const CONSENT_ID: FieldNames<'_> = &["consent_id", "consentId"];
pub(crate) const JOB: FieldNames<'_> = &["job", "job_id", "jobId", "id"];
pub(crate) const LIMIT_MONTHS: FieldNames<'_> = &["limit"];
/// The field that says which products the interval is for.
pub(crate) const SYNC_PRODUCTS: &str = "sync_products";
pub(crate) const WEBHOOK_URL: FieldNames<'_> = &["webhook_url", "webhookUrl"];

/// The fields of a request. They may be tokens, so there is no `Debug`.
#[derive(Clone, Default)]
pub(crate) struct Input {
    fields: Map<String, Value>,
    /// Fields that are null or an empty text.
    blank_fields: Map<String, Value>,
    items: Vec<Self>,
}

/// What a request was read from. It may hold tokens, so there is no `Debug`.
pub(crate) struct RequestContent {
    /// The fields of its query that are not blank; by name, so that their order does not matter.
    pub(crate) query: Map<String, Value>,
    /// Its body, as it came.
    pub(crate) body: Bytes,
}

impl Input {
    /// The fields of a request: those of its query, and those of its body over them; and what it was
    /// read from.
    pub(crate) async fn read_request(request: Request) -> Result<(Self, RequestContent), ApiError> {
        let query = parse_form(request.uri().query().unwrap_or_default().as_bytes());
        // A body that breaks off fails here too; its sender is gone.
        let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
        let body = body.map_err(|_| {
            let message = format!("The body must be at most {MAX_BODY_BYTES} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "VALIDATION", message)
        })?;
        let content = RequestContent {
            query: Self::from(query.clone()).fields,
            body: body.clone(),
        };
        Ok((Self::from_bytes(query, &body)?, content))
    }

    fn from_bytes(fields: Map<String, Value>, body: &Bytes) -> Result<Self, ApiError> {
        Self::from_body(fields, parse_body(body)?)
    }

    fn from_body(mut fields: Map<String, Value>, body: Value) -> Result<Self, ApiError> {
        let mut items = Vec::new();
        match body {
            Value::Object(body) => fields.extend(body),
            Value::Array(list) => {
                for item in list {
                    let Value::Object(item) = item else {
                        return Err(ApiError::invalid_field(
                            "body",
                            "must be a list of JSON objects",
                        ));
                    };
                    items.push(Self::from(item));
                }
            }
            _ => {}
        }
        Ok(Self {
            items,
            ..Self::from(fields)
        })
    }

    /// The objects of a body that is a list of them, or the call's fields as the only one.
    pub(crate) fn items(&self) -> &[Self] {
        match self.items.as_slice() {
            [] => std::slice::from_ref(self),
            items => items,
        }
    }

    pub(crate) const fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    fn find_value(&self, names: FieldNames<'_>) -> Option<&Value> {
        names.iter().find_map(|name| self.fields.get(*name))
    }

    /// A text; numbers and booleans count as texts, and objects with an `_id` or `id` as that id.
    pub(crate) fn find_text(&self, names: FieldNames<'_>) -> Option<String> {
        let text = match self.find_value(names)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Object(object) => object
                .get("_id")
                .or_else(|| object.get("id"))?
                .as_str()?
                .to_owned(),
            value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
            Value::Null | Value::Array(_) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The same; a list or an object that is not empty is an error. `expected` is what it must be.
    pub(crate) fn find_scalar(
        &self,
        names: FieldNames<'_>,
        expected: &str,
    ) -> Result<Option<String>, ApiError> {
        let found = match self.find_value(names) {
            Some(Value::Array(items)) if !items.is_empty() => "a list",
            Some(Value::Object(fields)) if !fields.is_empty() => "an object without an id",
            _ => return Ok(self.find_text(names)),
        };
        match self.find_text(names) {
            None => Err(ApiError::invalid_field(
                names[0],
                format!("must be {expected}, not {found}"),
            )),
            text => Ok(text),
        }
    }

    /// True where a field is given and not blank, be it of a wrong type.
    pub(crate) fn is_given(&self, names: FieldNames<'_>) -> bool {
        self.find_value(names).is_some_and(|value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        })
    }

    pub(crate) fn require_text(&self, names: FieldNames<'_>) -> Result<String, ApiError> {
        self.find_scalar(names, "a text")?
            .ok_or_else(|| required_field_error(names))
    }

    /// Texts: a list, or one with commas.
    pub(crate) fn find_texts(&self, name: &str) -> Option<Vec<String>> {
        let texts = match self.fields.get(name)? {
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect(),
            Value::String(text) => text.split(',').map(|it| it.trim().to_owned()).collect(),
            other => vec![other.to_string()],
        };
        Some(texts)
    }

    /// A JSON object, or the text of one, as a form has it. PHP writes an empty one as a list.
    pub(crate) fn parse_object(&self, name: &str) -> Result<Option<Map<String, Value>>, ApiError> {
        let object = match self.fields.get(name) {
            None => return Ok(None),
            Some(Value::Array(items)) if items.is_empty() => return Ok(None),
            Some(Value::Object(object)) => Some(object.clone()),
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(_) => None,
        };
        let object =
            object.ok_or_else(|| ApiError::invalid_field(name, "must be a JSON object"))?;
        Ok(Some(object))
    }

    /// Refuses `pdf`, a rendering that is not supported: a response of another form would be worse than an error.
    pub(crate) fn reject_pdf(&self) -> Result<(), ApiError> {
        match self.is_true("pdf") {
            true => Err(ApiError::invalid_field(
                "pdf",
                "is not supported; read the data without it",
            )),
            false => Ok(()),
        }
    }

    /// True where a field is given as an empty text.
    pub(crate) fn is_emptied(&self, name: &str) -> bool {
        self.blank_fields.get(name).is_some_and(Value::is_string)
    }

    /// True where a field is given as null, or as an empty text.
    pub(crate) fn is_cleared(&self, name: &str) -> bool {
        self.blank_fields.contains_key(name)
    }

    /// True where a field is `1` or `true`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.find_text(&[name])
            .is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn parse_id<I>(&self, names: FieldNames<'_>) -> Result<Option<I>, ApiError>
    where
        I: std::str::FromStr<Err = ParseIdError>,
    {
        self.find_scalar(names, "an id, a text of 24 hexadecimal digits")?
            .map(|text| {
                text.parse().map_err(|error| {
                    ApiError::invalid_field(names[0], format!("must be an id: {error}"))
                })
            })
            .transpose()
    }

    pub(crate) fn require_id<I>(&self, names: FieldNames<'_>) -> Result<I, ApiError>
    where
        I: std::str::FromStr<Err = ParseIdError>,
    {
        self.parse_id(names)?
            .ok_or_else(|| required_field_error(names))
    }

    /// A decimal number in major units, as it was written.
    pub(crate) fn parse_amount(&self, names: FieldNames<'_>) -> Result<Option<String>, ApiError> {
        let amount = self.find_scalar(names, "an amount in major units")?;
        match amount
            .as_deref()
            .map(|text| Money::parse(text, Currency::NGN))
        {
            Some(Err(MoneyError::Syntax | MoneyError::Range)) => Err(ApiError::invalid_field(
                names[0],
                "must be an amount in major units",
            )),
            _ => Ok(amount),
        }
    }

    /// True where a field is `0` or `false`.
    pub(crate) fn is_false(&self, name: &str) -> bool {
        self.find_text(&[name])
            .is_some_and(|text| text == "0" || text.eq_ignore_ascii_case("false"))
    }

    pub(crate) fn parse_number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.find_scalar(&[name], "a whole number")?
            .map(|text| {
                text.parse()
                    .map_err(|_| ApiError::invalid_field(name, "must be a whole number"))
            })
            .transpose()
    }

    /// A date: `2020-04-02`, `2020/04/02`, `2020-4-02`, or a date-time, of which the date is taken.
    pub(crate) fn parse_date_field(&self, name: &str) -> Result<Option<Date>, ApiError> {
        self.find_scalar(&[name], "a date")?
            .map(|text| {
                parse_date(&text).ok_or_else(|| ApiError::invalid_field(name, "must be a date"))
            })
            .transpose()
    }

    /// The dates `from` and `to`, both inclusive.
    pub(crate) fn parse_date_range(&self) -> Result<(Option<Date>, Option<Date>), ApiError> {
        let (from, to) = (self.parse_date_field("from")?, self.parse_date_field("to")?);
        if from.zip(to).is_some_and(|(from, to)| to < from) {
            return Err(ApiError::invalid_field("to", "must not be before from"));
        }
        Ok((from, to))
    }

    /// Whether a day lies between the dates of the request.
    pub(crate) fn parse_date_filter(&self) -> Result<impl Fn(Date) -> bool, ApiError> {
        let (from, to) = self.parse_date_range()?;
        Ok(move |day| from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to))
    }

    /// The interval that the request names.
    pub(crate) fn parse_interval(&self) -> Result<Option<Interval>, ApiError> {
        let interval = self.find_text(&["interval"]).map(|text| text.parse());
        interval
            .transpose()
            .map_err(|error| ApiError::invalid_field("interval", format!("is unknown: {error}")))
    }

    /// The address from which the user calls the app, where the user is present.
    pub(crate) fn parse_user_address(&self) -> Result<Option<IpAddr>, ApiError> {
        let address = self.find_text(CUSTOMER_IP).map(|text| text.parse());
        address
            .transpose()
            .map_err(|_| ApiError::invalid_field("customer_ip", "must be an IP address"))
    }

    /// The products named, each once.
    pub(crate) fn parse_products(&self) -> Result<Option<Vec<Product>>, ApiError> {
        let Some(named) = self.find_texts("products") else {
            return Ok(None);
        };
        let parse = |name: &String| Product::ALL.into_iter().find(|it| it.as_str() == name);
        let mut products: Vec<Product> = named
            .iter()
            .map(parse)
            .collect::<Option<_>>()
            .filter(|products: &Vec<_>| !products.is_empty())
            .ok_or_else(|| {
                ApiError::invalid_field("products", "must be any of balance, transactions")
            })?;
        products.sort_unstable();
        products.dedup();
        Ok(Some(products))
    }

    /// The requested page of a list of `total`.
    pub(crate) fn parse_page(&self, total: usize) -> Result<Pagination, ApiError> {
        self.parse_page_with_limit(total, DEFAULT_PAGE_LIMIT)
    }

    /// A number from 1. One that this machine cannot count to saturates: no list is that long.
    fn parse_count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.parse_number(name)? {
            Some(0) => Err(ApiError::invalid_field(name, "must be 1 or more")),
            number => Ok(number.map(|it| usize::try_from(it).unwrap_or(usize::MAX))),
        }
    }

    /// How many items of a list the requested page needs.
    pub(crate) fn parse_page_end(&self) -> Result<usize, ApiError> {
        self.parse_page_end_with_limit(DEFAULT_PAGE_LIMIT)
    }

    /// The same with `limit` to a page where none is given.
    pub(crate) fn parse_page_end_with_limit(&self, limit: usize) -> Result<usize, ApiError> {
        let page = self.parse_count("page")?.unwrap_or(1);
        let limit = self.parse_count("limit")?.unwrap_or(limit);
        Ok(page.saturating_mul(limit.min(MAX_PAGE_LIMIT)))
    }

    /// The page asked for of a list of `total`, with `limit` to a page where none is given.
    pub(crate) fn parse_page_with_limit(
        &self,
        total: usize,
        limit: usize,
    ) -> Result<Pagination, ApiError> {
        let page = self.parse_count("page")?.unwrap_or(1);
        let limit = self.parse_count("limit")?.unwrap_or(limit);
        Ok(Pagination::new(total, page, limit))
    }
}

impl From<Map<String, Value>> for Input {
    /// Splits the fields into those that are given and those that are blank.
    fn from(fields: Map<String, Value>) -> Self {
        let (fields, blank) = fields.into_iter().partition(|(_, value)| is_given(value));
        let items = Vec::new();
        Self {
            fields,
            blank_fields: blank,
            items,
        }
    }
}

/// True for a value that is neither null nor blank.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    }
}

fn required_field_error(names: FieldNames<'_>) -> ApiError {
    ApiError::invalid_field(names[0], "is required")
}

/// A body as JSON. What is labelled as JSON may be a form all the same: some clients do that.
fn parse_body(body: &Bytes) -> Result<Value, ApiError> {
    // .NET may begin with a byte order mark.
    let bare = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let trimmed = bare.trim_ascii();
    if trimmed.is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_slice(trimmed) {
        Ok(value @ (Value::Object(_) | Value::Array(_) | Value::Null)) => Ok(value),
        Ok(_) => Err(ApiError::invalid_field("body", "must be a JSON object")),
        Err(_) if !trimmed.starts_with(b"{") && trimmed.contains(&b'=') => {
            Ok(Value::Object(parse_form(trimmed)))
        }
        Err(_) => Err(ApiError::invalid_field("body", "must be JSON or a form")),
    }
}

/// A form's fields. `a[]=1&a[]=2` and `a[0]=1&a[1]=2` are lists, `a[b]=1` is an object, as PHP writes
/// them.
fn parse_form(text: &[u8]) -> Map<String, Value> {
    let pairs = serde_urlencoded::from_bytes::<Vec<(String, String)>>(text).unwrap_or_default();
    let mut fields = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        let nested = name
            .split_once('[')
            .and_then(|(name, rest)| Some((name, rest.strip_suffix(']')?)));
        match nested {
            None => {
                fields.insert(name, value);
            }
            Some((name, key)) if key.bytes().all(|byte| byte.is_ascii_digit()) => {
                let list = fields.entry(name).or_insert_with(|| Value::Array(vec![]));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            Some((name, key)) => {
                let object = fields
                    .entry(name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(object) = object {
                    object.insert(key.to_owned(), value);
                }
            }
        }
    }
    fields
}

/// A date as Okra's clients write it: ISO 8601 with or without a time, and the two forms in which Java writes a date
/// where nobody chose one.
fn parse_date(text: &str) -> Option<Date> {
    parse_iso_date(text).or_else(|| parse_java_date(text))
}

/// `Apr 2, 2020, 10:00:00 AM` (Gson) or `Thu Apr 02 10:00:00 WAT 2020` (`Date.toString`).
fn parse_java_date(text: &str) -> Option<Date> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .collect();
    let (month, day, year) = match words.as_slice() {
        [_, month, day, _, _, year] if month.parse::<u8>().is_err() && day.len() <= 2 => {
            (month, day, year)
        }
        [month, day, year, ..] => (month, day, year),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    Date::new(
        year.parse().ok()?,
        i8::try_from(month).ok()?,
        day.parse().ok()?,
    )
    .ok()
}

fn parse_iso_date(text: &str) -> Option<Date> {
    let day = text.split(['T', ' ']).next()?;
    let mut parts = day.split(['-', '/']);
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    Date::new(year, month, day).ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;

    fn read_test_body(body: &'static str) -> Result<Input, ApiError> {
        Input::from_bytes(Map::new(), &Bytes::from_static(body.as_bytes()))
    }

    fn read_test_fields(body: &'static str) -> Value {
        Value::Object(read_test_body(body).unwrap().fields)
    }

    #[test]
    fn dates_come_in_the_forms_of_all_clients() {
        for text in [
            "2020-04-02",
            "2020/04/02",
            "2020-4-02",
            "2020-04-02T10:00:00.000Z",
            "2020-04-02T00:30:00+01:00",
            "Apr 2, 2020",
            "Apr 2, 2020, 10:00:00 AM",
            "Apr 2, 2020 10:00:00 AM",
            "Thu Apr 02 10:00:00 WAT 2020",
        ] {
            assert_eq!(parse_date(text), Some(date(2020, 4, 2)), "{text}");
        }
        for text in [
            "",
            "2020",
            "2020-13-01",
            "02.04.2020",
            "Apr 2020",
            "Thu 02 Apr 2020",
            "2020-04-02-01",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn bodies_are_read_as_clients_send_them() {
        for body in ["", "  ", "null", " null ", "{}"] {
            assert_eq!(read_test_fields(body), json!({}), "{body:?}");
        }
        let check = |body, expected| assert_eq!(read_test_fields(body), expected, "{body}");
        check(r#"{"a": "", "b": null, "c": " ", "d": 1}"#, json!({"d": 1}));
        check("a=1&b=&c=x%20y", json!({"a": "1", "c": "x y"}));
        check("a=1&", json!({"a": "1"}));
        check("p[]=x&p[]=y", json!({"p": ["x", "y"]}));
        check("p[0]=x&o[k]=v", json!({"p": ["x"], "o": {"k": "v"}}));
        for body in ["1", "\"a\"", "[1]", "{broken", "broken"] {
            assert!(read_test_body(body).is_err(), "{body}");
        }
        let list = read_test_body(r#"[{"a": 1}, {"a": ""}]"#).unwrap();
        assert_eq!(list.items().len(), 2);
        assert_eq!(read_test_body(r#"{"a": 1}"#).unwrap().items().len(), 1);
    }

    #[test]
    fn fields_have_several_names_and_types() {
        let input = read_test_body(
            r#"{"customer_id": " x ", "page": "2", "limit": 5, "bank": {"_id": "b"}}"#,
        );
        let input = input.unwrap();
        assert_eq!(input.find_text(CUSTOMER).as_deref(), Some("x"));
        assert_eq!(input.find_text(BANK).as_deref(), Some("b"));
        assert_eq!(input.find_text(ACCOUNT), None);
        let page = input.parse_page(41).unwrap();
        assert_eq!((page.page, page.limit, page.total_pages), (2, 5, 9));
        let huge = read_test_body(r#"{"limit": 2147483600}"#).unwrap();
        assert_eq!(
            huge.parse_page(1).unwrap().limit,
            okra_wire::envelope::MAX_PAGE_LIMIT
        );
        assert!(
            read_test_body(r#"{"page": "x"}"#)
                .unwrap()
                .parse_page(1)
                .is_err()
        );
    }

    #[test]
    fn products_are_a_list_or_a_text() {
        let check = |body, expected: Option<&[Product]>| {
            let products = read_test_body(body).unwrap().parse_products();
            assert_eq!(products.unwrap().as_deref(), expected, "{body}");
        };
        check("{}", None);
        check(
            r#"{"products": ["transactions", "balance", "balance"]}"#,
            Some(&Product::ALL),
        );
        check(r#"{"products": "balance"}"#, Some(&[Product::Balance]));
        check("products[]=balance", Some(&[Product::Balance]));
        for body in [
            r#"{"products": []}"#,
            r#"{"products": ["income"]}"#,
            "products=x",
        ] {
            assert!(
                read_test_body(body).unwrap().parse_products().is_err(),
                "{body}"
            );
        }
    }
}
