//! The app and its keys.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use maud::html;

use crate::{
    Web,
    html::{Page, Section},
    session::Signed,
    show,
    trouble::Trouble,
};

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let app = &signed.app;
    let body = html! {
        div.head { h1 { "Keys" } p.sub { "How your server and your pages call the API." } }
        section.card aria-labelledby="app" {
            h2 #app { "App" }
            dl {
                dt { "Name" } dd { (app.name) }
                dt { "Environment" } dd { (app.env.as_str()) }
                dt { "App id" } dd { (show::id(app.id)) }
                dt { "Made" } dd { (show::when(web.now(), app.created_at)) }
                dt { "API" } dd { code { (web.api.public_url) "/v2" } }
            }
        }
        section.card aria-labelledby="secret" {
            h2 #secret { "Secret key" }
            p { "Only its hash is stored, so it cannot be shown. Your server sends it as "
                code { "Authorization: Bearer okra_sk_…" } "; it never belongs into a page or an app." }
        }
    };
    let page = Page {
        signed: &signed,
        section: Section::Keys,
        title: "Keys",
        live: None,
        body,
    };
    Ok(page.into_response())
}
