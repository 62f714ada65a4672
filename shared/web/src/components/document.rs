//! The HTML document around each page of the dashboard, and markup as a response.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use crate::assets::asset_href;

/// A whole document around a body.
pub(crate) fn render_document(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · okra-sync" }
                link rel="icon" href=(asset_href("icon.svg"));
                link rel="stylesheet" href=(asset_href("dashboard.css"));
                script src=(asset_href("dashboard.js")) defer {}
            }
            body { (body) }
        }
    };
    html_response(status, page)
}

/// Markup as a response.
pub(crate) fn html_response(status: StatusCode, page: Markup) -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, html, page.into_string()).into_response()
}
