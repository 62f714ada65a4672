//! The OpenAPI document, and a page that shows it.

use std::fmt::Write as _;

use axum::{
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse},
};
use serde_json::Value;

#[cfg(feature = "openapi")]
use crate::http::openapi::documentation::RouteDocumentation;
use crate::http::{
    envelope::ApiResponse,
    request::ApiRequest,
    route::{Access, Methods, Origin, Route},
};

/// The document, as `openapi::generate` wrote it.
const OPENAPI_DOCUMENT: &str = include_str!("../../openapi.json");

/// Nested schemas that a page shows of one type at most.
const MAX_SCHEMA_DEPTH: usize = 4;

const PAGE_STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
h2{margin-top:2.5rem;border-bottom:1px solid #d5dbe3}code{font-family:ui-monospace,monospace}\
summary{cursor:pointer;padding:.2rem 0}details{border-bottom:1px solid #eef1f5}details>*:not(summary){margin-left:1rem}\
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}\
.m{display:inline-block;min-width:3rem;font-weight:600;color:#0a6b52}.x{font-size:.8rem;padding:0 .4rem;border-radius:.6rem;background:#e6eefc;color:#22509a}\
nav a{margin-right:1rem}@media(prefers-color-scheme:dark){body{background:#14181f;color:#dde3ea}h2,details{border-color:#2c3440}.m{color:#5fd3b0}.x{background:#23314a;color:#a9c6f5}a{color:#8ab4f8}}";

pub(crate) async fn get_openapi_document(_: &ApiRequest) -> ApiResponse {
    Ok(([(CONTENT_TYPE, "application/json")], OPENAPI_DOCUMENT).into_response())
}

/// One page without scripts and without anything fetched from elsewhere.
pub(crate) async fn get_reference_page(_: &ApiRequest) -> ApiResponse {
    let document: Value = serde_json::from_str(OPENAPI_DOCUMENT)?;
    Ok(Html(render_page(&document)).into_response())
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A text of the document, fit to stand in a page.
fn read_escaped_text(value: &Value, name: &str) -> String {
    escape_html(value[name].as_str().unwrap_or_default())
}

fn object_entries<'a>(
    value: &'a Value,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value[name].as_object().into_iter().flatten()
}

fn list_items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn render_page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} API</title><style>{PAGE_STYLE}</style><h1>{title} API {version}</h1><p>{description}</p>\
         <p>The same as <a href=\"openapi.json\">OpenAPI 3.1</a>. Call with <code>Authorization: Bearer &lt;secret key&gt;</code> \
         where a key is needed.</p><nav>",
        title = read_escaped_text(info, "title"),
        version = read_escaped_text(info, "version"),
        description = read_escaped_text(info, "description"),
    );
    for tag in list_items(document, "tags") {
        let name = read_escaped_text(tag, "name");
        let _ = write!(page, "<a href=\"#{name}\">{name}</a>");
    }
    page.push_str("<a href=\"#schemas\">schemas</a></nav>");
    for tag in list_items(document, "tags") {
        let name = read_escaped_text(tag, "name");
        let description = read_escaped_text(tag, "description");
        let _ = write!(page, "<h2 id=\"{name}\">{name}</h2><p>{description}</p>");
        for (path, methods) in object_entries(document, "paths") {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if list_items(operation, "tags").any(|it| *it == tag["name"]) {
                    render_operation(&mut page, path, method, operation);
                }
            }
        }
    }
    page.push_str("<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in object_entries(&document["components"], "schemas") {
        let (name, kind) = (escape_html(name), describe_schema(schema, 0));
        let description = read_escaped_text(schema, "description");
        let _ = write!(
            page,
            "<details id=\"{name}\"><summary><code>{name}</code></summary><p>{description}</p><p>{kind}</p></details>"
        );
    }
    page.push_str("</html>");
    page
}

fn render_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let extension = match operation["x-okra"].as_bool() {
        Some(false) => " <span class=\"x\">extension</span>",
        _ => "",
    };
    let open = match list_items(operation, "security").count() {
        0 if operation["security"].is_array() => " <span class=\"x\">no key</span>",
        _ => "",
    };
    let _ = write!(
        page,
        "<details><summary><span class=\"m\">{}</span> <code>{}</code>{extension}{open} {}</summary>",
        method.to_uppercase(),
        escape_html(path),
        read_escaped_text(operation, "summary"),
    );
    let description = read_escaped_text(operation, "description");
    if !description.is_empty() {
        let _ = write!(page, "<p>{description}</p>");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let in_body = object_entries(body, "properties").map(|(name, schema)| {
        let needed = list_items(body, "required").any(|it| it == name);
        (name.as_str(), schema, needed)
    });
    let in_query = list_items(operation, "parameters").map(|it| {
        let needed = it["required"] == Value::Bool(true);
        (
            it["name"].as_str().unwrap_or_default(),
            &it["schema"],
            needed,
        )
    });
    let mut rows = String::new();
    for (name, schema, needed) in in_body.chain(in_query) {
        let needed = if needed { "required" } else { "" };
        let _ = write!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{needed}<td>{}",
            escape_html(name),
            describe_schema(schema, 0),
            read_escaped_text(schema, "description"),
        );
    }
    if !rows.is_empty() {
        let _ = write!(page, "<table>{rows}</table>");
    }
    let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    let data = &answer["properties"]["data"];
    if data.is_object() {
        let _ = write!(
            page,
            "<p>Answers <code>data</code>: {}</p>",
            describe_schema(data, 0)
        );
    }
    page.push_str("</details>");
}

/// What a schema is, in a few words, with links to the schemas it names.
fn describe_schema(schema: &Value, depth: usize) -> String {
    if depth > MAX_SCHEMA_DEPTH {
        return "…".to_owned();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape_html(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for (combined, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if schema[combined].is_array() {
            let kinds: Vec<String> = list_items(schema, combined)
                .map(|it| describe_schema(it, depth + 1))
                .collect();
            return kinds.join(word);
        }
    }
    if schema["enum"].is_array() {
        let values: Vec<String> = list_items(schema, "enum")
            .map(|it| {
                format!(
                    "<code>{}</code>",
                    escape_html(it.as_str().unwrap_or_default())
                )
            })
            .collect();
        return values.join(", ");
    }
    if let Some(exactly) = schema["const"].as_str() {
        return format!("<code>{}</code>", escape_html(exactly));
    }
    let kinds = match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(several) => {
            let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => "anything".to_owned(),
    };
    if kinds == "array" {
        return match schema["items"].is_object() {
            true => format!("list of {}", describe_schema(&schema["items"], depth + 1)),
            false => "empty list".to_owned(),
        };
    }
    let mut rows = String::new();
    for (name, property) in object_entries(schema, "properties") {
        let _ = write!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{}",
            escape_html(name),
            describe_schema(property, depth + 1),
            read_escaped_text(property, "description"),
        );
    }
    match rows.is_empty() {
        true => escape_html(&kinds),
        false => format!("<table>{rows}</table>"),
    }
}

/// Documented by hand: their responses are not in Okra's envelope.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "openapi.json",
        methods: Methods::Get,
        access: Access::Open,
        origin: Origin::Ours,
        handler: |request| Box::pin(get_openapi_document(request)),
        #[cfg(feature = "openapi")]
        handler_name: concat!(module_path!(), "::get_openapi_document"),
        #[cfg(feature = "openapi")]
        document: || {
            let content =
                serde_json::json!({ "application/json": { "schema": { "type": "object" } } });
            RouteDocumentation::without_envelope("Returns this document.", content)
        },
    },
    Route {
        path: "docs",
        methods: Methods::Get,
        access: Access::Open,
        origin: Origin::Ours,
        handler: |request| Box::pin(get_reference_page(request)),
        #[cfg(feature = "openapi")]
        handler_name: concat!(module_path!(), "::get_reference_page"),
        #[cfg(feature = "openapi")]
        document: || {
            let content = serde_json::json!({ "text/html": { "schema": { "type": "string" } } });
            RouteDocumentation::without_envelope("Returns this document as a page.", content)
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_path_and_loads_nothing() {
        let document: Value = serde_json::from_str(OPENAPI_DOCUMENT).unwrap();
        let page = render_page(&document);
        for (path, _) in object_entries(&document, "paths") {
            assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
        }
        for (name, _) in object_entries(&document["components"], "schemas") {
            assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
        }
        for loading in [
            "<script", "<link", "<img", "src=", "url(", "http:", "https:", "//",
        ] {
            let at = page.find(loading);
            assert_eq!(at, None, "{loading}: {:?}", at.map(|at| &page[at..at + 80]));
        }
    }

    #[test]
    fn texts_are_escaped() {
        let document = serde_json::json!({
            "info": { "title": "<b>", "description": "a & \"b\"" },
            "tags": [{ "name": "t<" }],
            "paths": {},
        });
        let page = render_page(&document);
        assert!(!page.contains("<b>") && page.contains("&lt;b&gt;"));
        assert!(page.contains("a &amp; &quot;b&quot;"));
    }
}
