//! Whether a body is what is documented of its event: what tests ask of every body that is sent.

use std::{collections::HashMap, sync::LazyLock};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::webhook::WEBHOOK_SCHEMAS;

/// The validator of each event's bodies, by its name; empty where the document cannot be read.
static EVENT_VALIDATORS: LazyLock<HashMap<String, Validator>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(WEBHOOK_SCHEMAS).unwrap_or_default();
    let names = document["webhooks"].as_object().into_iter().flatten();
    names
        .filter_map(|(name, event)| {
            let content = &event["post"]["requestBody"]["content"];
            let mut schema = json!({ "components": document["components"] });
            schema["$ref"] = content["application/json"]["schema"]["$ref"].clone();
            Some((name.clone(), jsonschema::draft202012::new(&schema).ok()?))
        })
        .collect()
});

/// Checks the body of a webhook against what OpenAPI's `webhooks` say of its event.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_documented_body(body: &[u8]) -> Result<(), String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let name = body["event"].as_str().unwrap_or_default();
    let validator = EVENT_VALIDATORS
        .get(name)
        .ok_or_else(|| format!("no event is called {name:?}: {body}"))?;
    let wrong: Vec<String> = validator
        .iter_errors(&body)
        .map(|error| format!("{} {error}", error.instance_path()))
        .collect();
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(format!("{name} is not as documented: {wrong:?}: {body}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_validator() {
        let document: Value = serde_json::from_str(WEBHOOK_SCHEMAS).unwrap();
        let documented = document["webhooks"].as_object().unwrap();
        assert_eq!(EVENT_VALIDATORS.len(), documented.len());
    }

    #[test]
    fn a_body_of_another_event_or_of_none_is_told() {
        for body in [&b"{"[..], b"{}", br#"{"event":"income.success"}"#] {
            assert!(check_documented_body(body).is_err());
        }
        let wrong = check_documented_body(br#"{"event":"webhook.ping"}"#).unwrap_err();
        assert!(
            wrong.contains("webhook.ping is not as documented"),
            "{wrong}"
        );
    }
}
