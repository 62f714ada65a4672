//! The OpenAPI 3.1 document, generated from the routes, from what their handlers say of themselves and
//! from the types they answer. It is generated in a test and committed; what is served is the committed
//! one, so nothing of this is in a Lambda.

pub(crate) mod fields;

use std::collections::BTreeMap;

use okra_wire::webhook::WEBHOOK_SCHEMAS;
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use self::fields::Field;
use crate::routes::{Access, Origin, ROUTES, Route};

/// What a handler says of itself.
pub(crate) struct Doc {
    handler: &'static str,
    summary: &'static str,
    fields: Vec<Field>,
    /// What a good answer holds, by its media type.
    content: Value,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Doc {
    /// A handler that answers `D` as its `data`. `D` has no type parameters: all its instances would
    /// have one name.
    pub(crate) fn new<D: ToSchema>(
        handler: &'static str,
        summary: &'static str,
        fields: Vec<Field>,
    ) -> Self {
        let reference = format!("#/components/schemas/{}", D::name());
        let mut schemas = vec![(D::name().into_owned(), D::schema())];
        D::schemas(&mut schemas);
        let content = json!({ "application/json": { "schema": {
            "type": "object",
            "required": ["status", "message", "data"],
            "properties": {
                "status": { "type": "string", "const": "success" },
                "message": { "type": "string" },
                "data": { "$ref": reference },
            },
        } } });
        Self {
            handler,
            summary,
            fields,
            content,
            schemas,
        }
    }

    /// A handler without fields that answers something else than Okra's envelope.
    pub(crate) fn without_envelope(
        handler: &'static str,
        summary: &'static str,
        content: Value,
    ) -> Self {
        Self {
            handler,
            summary,
            fields: vec![],
            content,
            schemas: vec![],
        }
    }
}

/// A handler as the routes spell it.
fn normalise_handler_path(handler: &str) -> String {
    let compact: String = handler.split_whitespace().collect();
    let crate_name = concat!(env!("CARGO_CRATE_NAME"), "::");
    compact.trim_start_matches(crate_name).to_owned()
}

/// The document. `docs` are those of all modules.
///
/// # Errors
///
/// Names the route whose handler is not documented.
pub(crate) fn generate_document(docs: Vec<Doc>) -> Result<Value, String> {
    let docs: BTreeMap<String, Doc> = docs
        .into_iter()
        .map(|doc| (normalise_handler_path(doc.handler), doc))
        .collect();
    let (mut paths, mut schemas) = (Map::new(), BTreeMap::new());
    let mut first = BTreeMap::new();
    for route in ROUTES {
        let handler = normalise_handler_path(route.handler_name);
        let doc = docs
            .get(&handler)
            .ok_or_else(|| format!("{} has no documentation: {handler}", route.path))?;
        for (name, schema) in &doc.schemas {
            let schema = serde_json::to_value(schema).map_err(|error| error.to_string())?;
            let before = schemas.insert(name.clone(), schema.clone());
            if before.is_some_and(|before| before != schema) {
                return Err(format!("two schemas are called {name}"));
            }
        }
        let same_as = *first.entry(handler).or_insert(route.path);
        let methods = route.all_methods();
        let operations: Map<String, Value> = methods
            .iter()
            .map(|method| {
                let operation = build_operation(route, doc, method, methods.len() > 1, same_as);
                (method.to_lowercase(), operation)
            })
            .collect();
        paths.insert(format!("/{}", route.path), Value::Object(operations));
    }
    let mut document: Value =
        serde_json::from_str(include_str!("frame.json")).map_err(|error| error.to_string())?;
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["paths"] = Value::Object(paths);
    let told: Value = serde_json::from_str(WEBHOOK_SCHEMAS).map_err(|error| error.to_string())?;
    document["webhooks"] = told["webhooks"].clone();
    if let Some(bodies) = told["components"]["schemas"].as_object() {
        // Any of them: for those who validate; the document refers to each by its event.
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
    doc: &Doc,
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
            "200": { "description": "Done.", "content": doc.content },
            "4XX": { "$ref": "#/components/responses/Refused" },
            "5XX": { "$ref": "#/components/responses/Failed" },
        },
    });
    if first_path != route.path {
        operation["description"] = json!(format!("The same as `{first_path}`."));
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
    use super::*;

    /// Writes the document instead of comparing it.
    const UPDATE_VARIABLE: &str = "UPDATE_OPENAPI";

    const COMMITTED_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    /// The document that is served is the one that the code generates. After a change of routes or
    /// shapes: `UPDATE_OPENAPI=1 cargo test -p okra-api openapi`.
    #[test]
    fn the_committed_document_is_what_the_code_says() {
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
    fn every_route_is_documented_and_every_reference_leads_somewhere() {
        let document = crate::generate_openapi_document().unwrap();
        let undocumented = generate_document(vec![]).unwrap_err();
        assert!(
            undocumented.contains("has no documentation"),
            "{undocumented}"
        );
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1);
        for reference in references {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
