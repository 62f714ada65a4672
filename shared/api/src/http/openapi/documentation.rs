//! [`RouteDocumentation`]: what a route's declaration says for the OpenAPI document.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::fields::Field;

/// The documentation of a route.
pub(crate) struct RouteDocumentation {
    pub(super) summary: &'static str,
    pub(super) fields: Vec<Field>,
    /// What a successful response holds, by its media type.
    pub(super) content: Value,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

impl RouteDocumentation {
    /// A route that responds with `D` as its `data`. `D` has no type parameters: all its instances would have one name.
    pub(crate) fn new<D: ToSchema>(summary: &'static str, fields: Vec<Field>) -> Self {
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
            summary,
            fields,
            content,
            schemas,
        }
    }

    /// A route without fields whose response is not in Okra's envelope.
    pub(crate) fn without_envelope(summary: &'static str, content: Value) -> Self {
        Self {
            summary,
            fields: vec![],
            content,
            schemas: vec![],
        }
    }
}
