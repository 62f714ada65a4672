//! The frame of every page, and the parts that pages share.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use crate::{assets::href, session::Signed};

/// The dashboard's sections, in the order of the menu.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Records,
    Webhooks,
    Banks,
    Keys,
}

impl Section {
    const ALL: [Self; 5] = [
        Self::Overview,
        Self::Records,
        Self::Webhooks,
        Self::Banks,
        Self::Keys,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Records => "Records",
            Self::Webhooks => "Webhooks",
            Self::Banks => "Banks",
            Self::Keys => "Keys",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/dashboard",
            Self::Records => "/dashboard/records",
            Self::Webhooks => "/dashboard/webhooks",
            Self::Banks => "/dashboard/banks",
            Self::Keys => "/dashboard/keys",
        }
    }
}

/// A whole document around a body.
pub(crate) fn document(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · okra-sync" }
                link rel="icon" href=(href("icon.svg"));
                link rel="stylesheet" href=(href("dashboard.css"));
                script src=(href("dashboard.js")) defer {}
            }
            body { (body) }
        }
    };
    respond(status, page)
}

/// Markup as an answer.
pub(crate) fn respond(status: StatusCode, page: Markup) -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, html, page.into_string()).into_response()
}

/// One page of the dashboard.
pub(crate) struct Page<'a> {
    pub(crate) signed: &'a Signed,
    pub(crate) section: Section,
    pub(crate) title: &'a str,
    /// Where what is new of this page is told from, if anywhere.
    pub(crate) live: Option<String>,
    pub(crate) body: Markup,
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let Self {
            signed,
            section,
            title,
            live,
            body,
        } = self;
        let shell = html! {
            a.skip href="#main" { "Skip to the content" }
            header.side {
                a.brand href="/dashboard" {
                    img src=(href("icon.svg")) alt="" width="22" height="22";
                    "okra-sync"
                }
                nav aria-label="Sections" {
                    @for it in Section::ALL {
                        a href=(it.path()) aria-current=[(it == section).then_some("page")] { (it.name()) }
                    }
                }
                div.who {
                    span.app title=(signed.app.id) { (signed.app.name) }
                    span.env { (signed.app.env.as_str()) }
                    form method="post" action="/dashboard/sign-out" {
                        (csrf(signed))
                        button.link { "Sign out" }
                    }
                }
            }
            main id="main" tabindex="-1" data-live=[live] { (body) }
        };
        document(StatusCode::OK, title, &shell)
    }
}

/// The token that a form sends back.
pub(crate) fn csrf(signed: &Signed) -> Markup {
    html! { input type="hidden" name="csrf" value=(signed.csrf); }
}

/// What a list that is empty says: what it would hold, and what to do next.
pub(crate) fn empty(title: &str, next: &Markup) -> Markup {
    html! { div.empty { h2 { (title) } (next) } }
}

/// A number with its name, which leads to the list behind it.
pub(crate) fn figure(name: &str, value: &str, note: &str, href: &str) -> Markup {
    html! {
        a.figure href=(href) {
            span.name { (name) }
            span.value { (value) }
            @if !note.is_empty() { span.note { (note) } }
        }
    }
}

/// A table that scrolls in itself where it is wider than the screen.
pub(crate) fn table(label: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table {
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}
