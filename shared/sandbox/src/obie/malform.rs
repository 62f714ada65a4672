//! Responses that cannot be read, as a [`MalformedFault`] asks for them.

use bytes::Bytes;
use serde_json::Value;

use crate::fault::MalformedFault;

const HTML_PAGE: &[u8] =
    b"<!doctype html><title>Sandbox Bank</title><p>We will be back shortly.</p>";

/// Malforms a body of ours.
///
/// # Errors
///
/// Where the body is not JSON, which no body of ours is.
pub(super) fn malform_body(
    body: &Bytes,
    fault: MalformedFault,
) -> Result<Bytes, serde_json::Error> {
    match fault {
        MalformedFault::Truncated => Ok(body.slice(..body.len() / 2)),
        MalformedFault::Html => Ok(Bytes::from_static(HTML_PAGE)),
        MalformedFault::WrongTypes => rewrite_json(body, lists_to_texts),
        MalformedFault::CommaAmount => rewrite_json(body, points_to_commas),
    }
}

fn rewrite_json(body: &Bytes, rewrite: fn(&mut Value)) -> Result<Bytes, serde_json::Error> {
    let mut json = serde_json::from_slice(body)?;
    rewrite(&mut json);
    serde_json::to_vec(&json).map(Bytes::from)
}

fn lists_to_texts(json: &mut Value) {
    if let Some(data) = json.get_mut("Data").and_then(Value::as_object_mut) {
        for list in data.values_mut() {
            *list = Value::String("none".to_owned());
        }
    }
}

/// The recursion is as deep as a response of ours, which is below ten.
fn points_to_commas(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(amount) if name == "Amount" => {
                        *amount = amount.replace('.', ",");
                    }
                    value => points_to_commas(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(points_to_commas),
        _ => {}
    }
}
