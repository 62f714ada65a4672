//! The app's webhook endpoints.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use okra_core::{feed::PayloadMode, ids::EndpointId, model::Product};
use okra_store::Endpoint;
use serde_json::{Value, json};

use super::call;
use crate::{
    Web,
    form::Fields,
    html::{Page, Section, csrf, empty, table},
    session::{Posted, Signed},
    show,
    trouble::Trouble,
};

fn shell(signed: &Signed, title: &str, body: Markup) -> Response {
    Page {
        signed,
        section: Section::Webhooks,
        title,
        live: None,
        body,
    }
    .into_response()
}

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let endpoints = web.api.store.endpoints(signed.app.id).await?;
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Webhooks" }
            p.sub { "Every change of every record is told to these endpoints, signed, at least once." }
        }
        @if endpoints.is_empty() {
            (empty("No endpoints yet", &html! {
                p { "Add the URL of your server that takes webhooks. To try it without a server, " code { "cargo run" }
                    " has a receiver; to see webhooks on your own machine, run one there." }
            }))
        } @else {
            (table("Endpoints", &html! {
                th { "URL" } th { "Told of" } th { "Payload" } th.wide { "Made" }
            }, &html! {
                @for it in &endpoints {
                    tr {
                        td.break { a.strong href={ "/dashboard/webhooks/" (it.id) } { (it.url) } }
                        td { (filter(it)) }
                        td { (mode(it.payload)) }
                        td.wide { (show::when(now, it.created_at)) }
                    }
                }
            }))
        }
        section.card aria-labelledby="add" {
            h2 #add { "Add an endpoint" }
            form.stack method="post" action="/dashboard/webhooks" {
                (csrf(&signed))
                label { span { "URL" } input type="url" name="url" required placeholder="https://app.example/webhooks/okra"; }
                (settings(None))
                button.main { "Add endpoint" }
            }
        }
    };
    Ok(shell(&signed, "Webhooks", body))
}

fn filter(endpoint: &Endpoint) -> &'static str {
    let has = |product| endpoint.products.is_empty() || endpoint.products.contains(&product);
    match (has(Product::Balance), has(Product::Transactions)) {
        (true, false) => "Balance",
        (false, true) => "Transactions",
        _ => "Everything",
    }
}

const fn mode(mode: PayloadMode) -> &'static str {
    match mode {
        PayloadMode::Full => "Full",
        PayloadMode::Reference => "Reference",
    }
}

/// The fields of an endpoint that can be changed.
fn settings(endpoint: Option<&Endpoint>) -> Markup {
    let told = |product| {
        endpoint.is_none_or(|it| it.products.is_empty() || it.products.contains(&product))
    };
    let payload = endpoint.map(|it| it.payload).unwrap_or_default();
    html! {
        fieldset {
            legend { "Told of" }
            @for (product, name) in [(Product::Balance, "Balances"), (Product::Transactions, "Transactions")] {
                label.check { input type="checkbox" name="products" value=(product.as_str()) checked[told(product)]; (name) }
            }
        }
        fieldset {
            legend { "Payload" }
            label.check { input type="radio" name="payload" value="full" checked[payload == PayloadMode::Full];
                span { "Full" span.note { "the changed balances and transactions themselves" } } }
            label.check { input type="radio" name="payload" value="reference" checked[payload == PayloadMode::Reference];
                span { "Reference" span.note { "ids and a URL to read them from" } } }
        }
        label { span { "Bearer token" span.note { "optional, sent along as Okra did" } }
            input type="password" name="token" autocomplete="off" placeholder=[endpoint.and_then(|it| it.bearer.as_ref()).map(|_| "kept unless you enter another")]; }
    }
}

/// What the form asks of `webhooks/set`.
fn asked(fields: &Fields, url: &str) -> Result<Value, Trouble> {
    let products: Vec<&str> = fields.all("products").collect();
    if products.is_empty() {
        return Err(Trouble::refused(
            "Choose balances, transactions, or both: an endpoint that is told of nothing is of no use.",
        ));
    }
    Ok(json!({
        "url": url,
        "products": products,
        "payload": fields.get("payload"),
        "token": fields.get("token"),
    }))
}

/// Makes an endpoint, and shows its secret this once.
pub(crate) async fn set(State(web): State<Arc<Web>>, posted: Posted) -> Result<Response, Trouble> {
    let Posted { signed, fields } = posted;
    let set = call(
        &web,
        &signed,
        "webhooks/set",
        asked(&fields, fields.get("url"))?,
    )
    .await?;
    Ok(once(&signed, &set))
}

/// The page with a new secret. It answers the form itself, and is not kept: nothing leads back to it.
fn once(signed: &Signed, set: &Value) -> Response {
    let (url, id) = (
        set["url"].as_str().unwrap_or_default(),
        set["id"].as_str().unwrap_or_default(),
    );
    let body = html! {
        div.head { h1 { "Endpoint set" } p.sub { (url) } }
        @match set["secret"].as_str() {
            Some(secret) => {
                section.card.notice aria-labelledby="secret" {
                    h2 #secret { "Signing secret" }
                    p { "Copy it now: it is shown this once. Verify webhooks with any Standard Webhooks library." }
                    p.secret { code #secret-text { (secret) } button type="button" data-copy="secret-text" { "Copy" } }
                }
            }
            None => p { "It was there already. Its secret stays; what you entered was changed." },
        }
        p { a.button href={ "/dashboard/webhooks/" (id) } { "To the endpoint" } }
    };
    shell(signed, "Endpoint set", body)
}

async fn own(web: &Web, signed: &Signed, id: EndpointId) -> Result<Endpoint, Trouble> {
    let endpoint = web.api.store.endpoint(signed.app.id, id).await?;
    endpoint.ok_or(Trouble::NotFound("endpoint"))
}

pub(crate) async fn endpoint(
    State(web): State<Arc<Web>>,
    signed: Signed,
    Path(id): Path<EndpointId>,
) -> Result<Response, Trouble> {
    let it = own(&web, &signed, id).await?;
    let path = format!("/dashboard/webhooks/{id}");
    let body = html! {
        div.head {
            p.crumb { a href="/dashboard/webhooks" { "Webhooks" } }
            h1.url { (it.url) }
        }
        div.columns {
            section.card aria-labelledby="settings" {
                h2 #settings { "Settings" }
                form.stack method="post" action=(path) {
                    (csrf(&signed))
                    (settings(Some(&it)))
                    button.main { "Save" }
                }
            }
            section.card aria-labelledby="secret" {
                h2 #secret { "Signing secret" }
                p { "Webhooks are signed with it (Standard Webhooks, headers " code { "webhook-id" } ", "
                    code { "webhook-timestamp" } ", " code { "webhook-signature" } "). It is stored sealed and cannot be shown again." }
                form method="post" action={ (path) "/rotate" } {
                    (csrf(&signed))
                    button { "Rotate the secret" }
                    p.note { "The new secret is shown once. The old one signs too, until you rotate again: change your server at your leisure." }
                }
                h2 { "Remove" }
                form method="post" action={ (path) "/remove" } {
                    (csrf(&signed))
                    button.danger { "Remove the endpoint" }
                    p.note { "Nothing more is sent there. What was not delivered yet is dropped." }
                }
            }
        }
    };
    Ok(shell(&signed, &it.url, body))
}

pub(crate) async fn change(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let it = own(&web, &posted.signed, id).await?;
    call(
        &web,
        &posted.signed,
        "webhooks/set",
        asked(&posted.fields, &it.url)?,
    )
    .await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response())
}

pub(crate) async fn rotate(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let it = own(&web, &posted.signed, id).await?;
    let body = json!({ "url": it.url, "rotate": true });
    let set = call(&web, &posted.signed, "webhooks/set", body).await?;
    Ok(once(&posted.signed, &set))
}

pub(crate) async fn remove(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    call(&web, &posted.signed, "webhooks/remove", json!({ "id": id })).await?;
    Ok(Redirect::to("/dashboard/webhooks").into_response())
}
