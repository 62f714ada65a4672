//! What all responses share: the envelope ([`ObiePage`] is what becomes of it), texts, amounts, and how a fault is
//! named ([`MalformedResponse`]).
//!
//! The rule: a fault states a path and a problem, never a value, because values are personal data.

use std::{borrow::Cow, fmt, marker::PhantomData};

use okra_core::model::{
    fault::{BankFault, FaultClass},
    money::{Money, MoneyError},
    snapshot::{Direction, UnreadableRow},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::date_time::BankDateTime;

/// The bank's response is not what its standard allows. States where and what is wrong, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct MalformedResponse {
    /// JSON path of the fault: `Data.Transaction[3].Amount.Amount`.
    pub path: String,
    /// What is wrong with the value there.
    pub problem: String,
}

impl MalformedResponse {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// An amount that cannot be read; `path` is that of the object that holds it.
    pub(super) fn from_money_error(path: &str, error: &MoneyError) -> Self {
        let field = match error {
            MoneyError::Currency => "Currency",
            MoneyError::Syntax | MoneyError::Precision | MoneyError::Range => "Amount",
        };
        Self::new(format!("{path}.{field}"), error.to_string())
    }
}

impl From<MalformedResponse> for BankFault {
    fn from(response: MalformedResponse) -> Self {
        Self::new(FaultClass::MalformedResponse, response.to_string())
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObiePage<T> {
    /// Its items, in the bank's order.
    pub items: Vec<T>,
    /// The rows that could not be read and were set aside.
    pub unreadable: Vec<UnreadableRow>,
    /// `Links.Next`, where it is not blank: absolute, or relative to this page.
    pub next: Option<String>,
}

impl<T> ObiePage<T> {
    /// A page of which everything could be read.
    pub const fn from_items(items: Vec<T>, next: Option<String>) -> Self {
        Self {
            items,
            unreadable: Vec::new(),
            next,
        }
    }
}

/// The envelope of every response.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound = "D: Deserialize<'de>")]
struct ObieEnvelope<D> {
    data: JsonObject<D>,
    #[serde(default)]
    links: Option<ObieLinks>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieLinks {
    #[serde(default)]
    next: Option<String>,
}

impl<D> ObieEnvelope<D> {
    fn into_parts(self) -> (D, Option<String>) {
        let next = self.links.and_then(|links| links.next);
        (self.data.0, next.filter(|link| !link.trim().is_empty()))
    }
}

/// A value that must be a JSON object. Derived code accepts a list too, field by field in order: `[[]]` would be a
/// response without rows, and every known row would seem to be removed.
pub(super) struct JsonObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<JsonObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(JsonObject)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A string of the response, borrowed from its bytes where it has no escapes. A type of its own because
/// serde borrows a `Cow` only where it is a field's whole type: `Option<Cow<str>>` is always a copy.
#[derive(Deserialize)]
pub(super) struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

impl BorrowedText<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of an optional field.
pub(super) fn optional_str<'a>(field: &'a Option<BorrowedText<'_>>) -> Option<&'a str> {
    field.as_ref().map(BorrowedText::as_str)
}

/// An amount without a sign, in the currency beside it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObieAmount<'a> {
    #[serde(borrow)]
    amount: BorrowedText<'a>,
    #[serde(borrow)]
    currency: BorrowedText<'a>,
    #[serde(borrow, default)]
    pub(super) sub_type: Option<BorrowedText<'a>>,
}

impl ObieAmount<'_> {
    /// The amount; a sign is an error, because the indicator states it.
    pub(super) fn parse_unsigned(&self) -> Result<Money, MoneyError> {
        let currency = self.currency.as_str().parse()?;
        let amount = self.amount.as_str();
        if amount.starts_with(['-', '+']) {
            return Err(MoneyError::Syntax);
        }
        Money::parse(amount, currency)
    }

    /// The amount as it counts for the account: debits are negative.
    pub(super) fn parse_signed(&self, indicator: ObieIndicator) -> Result<Money, MoneyError> {
        let money = self.parse_unsigned()?;
        Ok(match indicator {
            ObieIndicator::Credit => money,
            ObieIndicator::Debit => Money::new(-money.minor, money.currency),
        })
    }
}

/// `CreditDebitIndicator`.
#[derive(Clone, Copy, Deserialize)]
pub(super) enum ObieIndicator {
    Credit,
    Debit,
}

impl From<ObieIndicator> for Direction {
    fn from(indicator: ObieIndicator) -> Self {
        match indicator {
            ObieIndicator::Credit => Self::Credit,
            ObieIndicator::Debit => Self::Debit,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieMetaEnvelope {
    #[serde(default)]
    meta: Option<ObieMeta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieMeta {
    #[serde(default)]
    first_available_date_time: Option<BankDateTime>,
}

/// `Meta.FirstAvailableDateTime`. It only shortens a backfill, so one that cannot be read counts as absent.
pub(super) fn parse_first_available(body: &[u8]) -> Option<jiff::civil::Date> {
    let response: ObieMetaEnvelope = serde_json::from_slice(body).ok()?;
    let first = response.meta?.first_available_date_time?;
    Some(first.day)
}

/// What a byte order mark is in UTF-8; some banks begin their responses with one.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// An envelope whose data is there, and null.
#[derive(Deserialize)]
struct ObieEmptyEnvelope {
    #[serde(rename = "Data")]
    _data: (),
}

/// True for what banks send where a list has no rows, besides an empty list: nothing, or `{"Data": null}`.
pub(super) fn is_empty_response(body: &[u8]) -> bool {
    let body = without_byte_order_mark(body).trim_ascii();
    // No response with rows is that short.
    body.is_empty()
        || (body.len() <= MAX_EMPTY_ENVELOPE_BYTES
            && serde_json::from_slice::<ObieEmptyEnvelope>(body).is_ok())
}

/// Bytes of an envelope without data at most, its links and meta included.
const MAX_EMPTY_ENVELOPE_BYTES: usize = 2048;

/// Parses a response into its data and the link to the next page. Only where that fails is it parsed again, slower,
/// to name the path.
pub(super) fn parse_envelope<'a, D: Deserialize<'a>>(
    body: &'a [u8],
) -> Result<(D, Option<String>), MalformedResponse> {
    let body = without_byte_order_mark(body);
    let response: Result<JsonObject<ObieEnvelope<D>>, _> = serde_json::from_slice(body);
    if let Ok(JsonObject(response)) = response {
        return Ok(response.into_parts());
    }
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    Err(
        match serde_path_to_error::deserialize::<_, JsonObject<ObieEnvelope<D>>>(deserializer) {
            Ok(_) => MalformedResponse::new("$", "there must be nothing after the JSON value"),
            Err(error) => describe_path_error(&error),
        },
    )
}

/// Parses one object of a response; `path` is where it stands.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(
    text: &'a str,
    path: &str,
) -> Result<T, MalformedResponse> {
    if let Ok(JsonObject(object)) = serde_json::from_str(text) {
        return Ok(object);
    }
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, JsonObject<T>>(deserializer) {
        Ok(JsonObject(object)) => Ok(object),
        Err(error) => {
            let fault = describe_path_error(&error);
            let within = match fault.path.as_str() {
                "$" => String::new(),
                field => format!(".{field}"),
            };
            Err(MalformedResponse::new(
                format!("{path}{within}"),
                fault.problem,
            ))
        }
    }
}

/// Where JSON could not be read, and why.
fn describe_path_error(error: &serde_path_to_error::Error<serde_json::Error>) -> MalformedResponse {
    MalformedResponse::new(
        redact_path(error.path()),
        describe_json_error(error.inner()),
    )
}

/// The problem in our own words, because serde's may quote a value. The names that it quotes of missing and duplicate
/// fields are ours.
fn describe_json_error(error: &serde_json::Error) -> String {
    use serde_json::error::Category;

    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            if let Some(field) = quoted_field(&text, "missing field `") {
                format!("the field {field} is missing")
            } else if let Some(field) = quoted_field(&text, "duplicate field `") {
                format!("the field {field} is there twice")
            } else {
                "the value is of the wrong type".to_owned()
            }
        }
        Category::Eof => "the JSON is incomplete".to_owned(),
        Category::Syntax | Category::Io => "the response is not JSON".to_owned(),
    }
}

/// Characters of a field name shown at most; the longest of the standard has 39.
const MAX_SHOWN_NAME_CHARS: usize = 40;

/// The field that a serde message of this beginning quotes.
fn quoted_field<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let (field, _) = text.strip_prefix(beginning)?.split_once('`')?;
    Some(field)
}

/// A JSON path. A name that does not look like one of the standard's is the bank's own text and is not shown.
fn redact_path(path: &serde_path_to_error::Path) -> String {
    use std::fmt::Write as _;

    use serde_path_to_error::Segment;

    let mut shown = String::new();
    for segment in path {
        // Writing to a string cannot fail.
        let _ = match segment {
            Segment::Seq { index } => write!(shown, "[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let plain = key.len() <= MAX_SHOWN_NAME_CHARS
                    && key.bytes().all(|byte| byte.is_ascii_alphabetic());
                let dot = if shown.is_empty() { "" } else { "." };
                write!(shown, "{dot}{}", if plain { key } else { "?" })
            }
            Segment::Unknown => write!(shown, ".?"),
        };
    }
    if shown.is_empty() {
        shown.push('$');
    }
    shown
}
