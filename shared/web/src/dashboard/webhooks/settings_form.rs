//! The settings of an endpoint as a form: drawn, and read again.

use maud::{Markup, html};
use okra_core::{
    model::snapshot::Product,
    resilience::rate_limiter::{SEND_RATE_RANGE, SendRate},
    sync::feed::PayloadMode,
};
use okra_store::Endpoint;
use okra_wire::webhook::EVENT_NAMES;
use serde_json::{Value, json};

use crate::{form::FormFields, page_error::PageError};

/// The settings of an endpoint that can be changed, as they are; of a new one where there is none.
pub(crate) fn render_endpoint_settings(endpoint: Option<&Endpoint>) -> Markup {
    let payload = endpoint.map(|it| it.payload_mode).unwrap_or_default();
    html! {
        fieldset {
            legend { "Products" }
            @for (product, name) in [(Product::Balance, "Balances"), (Product::Transactions, "Transactions")] {
                label.check { input type="checkbox" name="products" value=(product.as_str()) checked[endpoint.is_none_or(|it| receives_product(it, product))]; (name) }
            }
        }
        fieldset {
            legend { "Payload" }
            label.check { input type="radio" name="payload" value="full" checked[payload == PayloadMode::Full];
                span { "Full" span.note { "the changed balances and transactions" } } }
            label.check { input type="radio" name="payload" value="reference" checked[payload == PayloadMode::Reference];
                span { "Reference" span.note { "ids and a URL to read them from" } } }
        }
        @let only = endpoint.map(|it| it.events.as_slice()).unwrap_or_default();
        details open[!only.is_empty()] {
            summary { "Only some events" span.note { (if only.is_empty() { "currently all" } else { "currently those chosen" }) } }
            fieldset.events {
                legend { "With none chosen, all events are delivered." }
                @for name in EVENT_NAMES {
                    label.check { input type="checkbox" name="events" value=(name) checked[only.iter().any(|it| okra_wire::webhook::event_matches(it, name))]; (name) }
                }
            }
        }
        label { span { "Events a second" span.note { (SEND_RATE_RANGE.start()) " to " (SEND_RATE_RANGE.end()) } }
            input type="number" name="rate" min=(SEND_RATE_RANGE.start()) max=(SEND_RATE_RANGE.end())
                value=(endpoint.and_then(|it| it.events_per_second).map_or_else(|| SendRate::default().per_s, u32::from)); }
        fieldset {
            legend { "Order" }
            label.check { input type="checkbox" name="ordered" value="true" checked[endpoint.is_some_and(|it| it.ordered_since.is_some())];
                span { "One after another" span.note { "the events of a record in their order; one that fails delays those after it, for an hour at most" } } }
        }
        label { span { "Bearer token" span.note { "optional, sent with each webhook as Okra did" } }
            input type="password" name="token" autocomplete="off" placeholder=[endpoint.and_then(|it| it.sealed_bearer.as_ref()).map(|_| "unchanged unless you enter another")]; }
    }
}

/// True where an endpoint receives the events of a product.
fn receives_product(endpoint: &Endpoint, product: Product) -> bool {
    endpoint.products.is_empty() || endpoint.products.contains(&product)
}

/// The request of `webhooks/set` that the form stands for.
pub(crate) fn build_endpoint_request(fields: &FormFields, url: &str) -> Result<Value, PageError> {
    let products: Vec<&str> = fields.all_values("products").collect();
    if products.is_empty() {
        return Err(PageError::invalid_form(
            "Choose balances, transactions, or both: an endpoint without products receives nothing.",
        ));
    }
    let mut body = json!({
        "url": url,
        "products": products,
        "payload": fields.get("payload"),
        "events": fields.all_values("events").collect::<Vec<_>>(),
        "ordered": fields.get("ordered") == "true",
    });
    // A field that is left empty stays as it is; the API would clear it.
    for name in ["token", "rate"] {
        if !fields.get(name).is_empty() {
            body[name] = json!(fields.get(name));
        }
    }
    Ok(body)
}
