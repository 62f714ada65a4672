//! The OpenAPI 3.1 document, generated from the routes: their declarations ([`RouteDocumentation`]), the fields of their
//! requests ([`fields`]) and the types of their responses. It is generated in a test and committed; the committed one is
//! served, so nothing of this is in a Lambda.

pub(crate) mod documentation;
pub(crate) mod fields;

use std::collections::BTreeMap;

use self::{documentation::RouteDocumentation, fields::Field};
use crate::http::route::{Access, Origin, Route};
use okra_wire::webhook::WEBHOOK_SCHEMAS;
use serde_json::{Map, Value, json};

/// The document of these routes.
///
/// # Errors
///
/// Says which part cannot be written as JSON, or which name two schemas share.
pub(crate) fn generate_document(routes: &[Route]) -> Result<Value, String> {
    let (mut paths, mut schemas) = (Map::new(), BTreeMap::new());
    let mut first = BTreeMap::new();
    for route in routes {
        let documentation = (route.document)();
        for (name, schema) in &documentation.schemas {
            let schema = serde_json::to_value(schema).map_err(|error| error.to_string())?;
            let before = schemas.insert(name.clone(), schema.clone());
            if before.is_some_and(|before| before != schema) {
                return Err(format!("two schemas are called {name}"));
            }
        }
        let same_as = *first.entry(route.handler_name).or_insert(route.path);
        let methods = route.all_methods();
        let operations: Map<String, Value> = methods
            .iter()
            .map(|method| {
                let has_several = methods.len() > 1;
                let operation =
                    build_operation(route, &documentation, method, has_several, same_as);
                (method.to_lowercase(), operation)
            })
            .collect();
        paths.insert(format!("/{}", route.path), Value::Object(operations));
    }
    let mut document: Value =
        serde_json::from_str(include_str!("frame.json")).map_err(|error| error.to_string())?;
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["paths"] = Value::Object(paths);
    let webhooks: Value =
        serde_json::from_str(WEBHOOK_SCHEMAS).map_err(|error| error.to_string())?;
    document["webhooks"] = webhooks["webhooks"].clone();
    if let Some(bodies) = webhooks["components"]["schemas"].as_object() {
        // `WebhookEvent` is any of them, for validation; the document refers to each by its event.
        let each = bodies.iter().filter(|(name, _)| *name != "WebhookEvent");
        schemas.extend(each.map(|(name, schema)| (name.clone(), schema.clone())));
    }
    if let Some(known) = document["components"]["schemas"].as_object_mut() {
        known.extend(schemas);
    }
    Ok(document)
}

fn build_operation(
    route: &Route,
    doc: &RouteDocumentation,
    method: &str,
    has_several_methods: bool,
    first_path: &str,
) -> Value {
    let camel: String = route.path.replace(['/', '-', '.'], "_");
    let id = if has_several_methods {
        format!("{camel}_{}", method.to_lowercase())
    } else {
        camel
    };
    let tag = match route.path.split('/').collect::<Vec<_>>().as_slice() {
        ["products", family, ..] => family,
        [family, ..] => *family,
        [] => "system",
    };
    let okra = route.origin == Origin::Okra;
    let mut operation = json!({
        "operationId": id,
        "summary": doc.summary,
        "tags": [tag_for_segment(tag)],
        "x-okra": okra,
        "responses": {
            "200": { "description": "The call succeeded; `data` holds its result.", "content": doc.content },
            "4XX": { "$ref": "#/components/responses/Refused" },
            "5XX": { "$ref": "#/components/responses/Failed" },
        },
    });
    if first_path != route.path {
        operation["description"] = json!(format!("Does the same as `{first_path}`."));
    }
    if route.is_change() {
        operation["parameters"] = json!([{ "$ref": "#/components/parameters/IdempotencyKey" }]);
    }
    if route.access != Access::Key {
        operation["security"] = json!([]);
    }
    if doc.fields.is_empty() {
        return operation;
    }
    if method == "GET" {
        let parameter = |field: &Field| {
            json!({
                "name": field.documented_name(), "in": "query", "required": field.is_required,
                "schema": field.json_schema(),
            })
        };
        operation["parameters"] = doc.fields.iter().map(parameter).collect();
    } else {
        let property = |field: &Field| (field.documented_name().to_owned(), field.json_schema());
        let properties: Map<String, Value> = doc.fields.iter().map(property).collect();
        let needed = doc.fields.iter().filter(|field| field.is_required);
        let needed: Vec<&str> = needed.map(Field::documented_name).collect();
        let mut schema = json!({ "type": "object", "properties": properties });
        if !needed.is_empty() {
            schema["required"] = json!(needed);
        }
        operation["requestBody"] = json!({
            "required": !needed.is_empty(),
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

/// The family of a route's first segment, singular and plural in one.
fn tag_for_segment(segment: &str) -> &str {
    match segment {
        "account" | "accounts" => "accounts",
        "balance" | "balances" => "balances",
        "transaction" | "transactions" => "transactions",
        "auth" | "auths" => "auths",
        "record" | "records" => "records",
        "auto-refresh" | "data-sync" => "data sync",
        "customers" | "banks" | "callback" | "webhooks" | "keys" | "links" | "feed" | "history"
        | "events" => segment,
        _ => "system",
    }
}

#[cfg(test)]
mod tests {

    /// Writes the document instead of comparing it.
    const UPDATE_VARIABLE: &str = "UPDATE_OPENAPI";

    const COMMITTED_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    /// After a change of routes or
    /// shapes: `UPDATE_OPENAPI=1 cargo test -p okra-api openapi`.
    #[test]
    fn the_committed_document_is_the_generated_one() {
        let document = crate::generate_openapi_document().unwrap();
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        if std::env::var_os(UPDATE_VARIABLE).is_some() {
            std::fs::write(COMMITTED_PATH, &text).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED_PATH).unwrap_or_default();
        assert!(
            committed == text,
            "shared/api/openapi.json is not what the code says; run this test with {UPDATE_VARIABLE}=1"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = crate::generate_openapi_document().unwrap();
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1);
        for reference in references {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
