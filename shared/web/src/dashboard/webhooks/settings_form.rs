//! The settings of an endpoint as a form: drawn, and read again.

use maud::{Markup, html};
use okra_app::endpoints::{FieldUpdate, SetEndpointRequest, check_event_rate};
use okra_core::{
    model::snapshot::Product,
    resilience::rate_limiter::{SEND_RATE_RANGE, SendRate},
    sync::feed::PayloadMode,
};
use okra_store::Endpoint;
use okra_webhooks::BearerToken;
use okra_wire::webhook::EVENT_NAMES;

use crate::{components::labels::find_product, form::FormFields, page_error::PageError};

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

/// The settings that were entered for the endpoint of a URL. A token or rate that is left empty stays as it is.
pub(crate) fn read_endpoint_settings(
    fields: &FormFields,
    url: &str,
) -> Result<SetEndpointRequest, PageError> {
    let products: Vec<Product> = fields
        .all_values("products")
        .filter_map(find_product)
        .collect();
    if products.is_empty() {
        return Err(PageError::invalid_form(
            "Choose balances, transactions, or both: an endpoint without products receives nothing.",
        ));
    }
    let payload_mode = match fields.get("payload") {
        "reference" => PayloadMode::Reference,
        _ => PayloadMode::Full,
    };
    let bearer = match fields.get("token") {
        "" => FieldUpdate::Keep,
        token => {
            let token = BearerToken::new(token);
            let token =
                token.map_err(|error| PageError::invalid_form(format!("token {error}.")))?;
            FieldUpdate::Set(token)
        }
    };
    let events_per_second = match fields.parse_number("rate")? {
        Some(rate) => FieldUpdate::Set(check_event_rate(rate)?),
        None => FieldUpdate::Keep,
    };
    Ok(SetEndpointRequest {
        url: url.to_owned(),
        bearer,
        payload_mode: Some(payload_mode),
        products: Some(products),
        events: Some(fields.all_values("events").map(str::to_owned).collect()),
        events_per_second,
        is_ordered: Some(fields.get("ordered") == "true"),
        ..SetEndpointRequest::default()
    })
}
