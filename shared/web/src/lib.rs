//! The dashboard and the widget: server-rendered pages, served beside the API by the same router.
//!
//! [`dashboard`] is what an app sees of its records and webhooks after it signed in; [`widget`] is the frame in which a
//! customer links a bank. Both are drawn from [`components`] and act through the application layer (`okra_app`), like
//! the API: what a button of the dashboard does is what an app can do. Pages have no inline script and no inline style, and nothing from a third party. Styles,
//! scripts and pictures are embedded ([`assets`]) and named by the hash of their content, so that browsers cache
//! them for good.

mod assets;
mod components;
mod dashboard;
mod form;
mod page_error;
mod web_state;
mod widget;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::{Next, from_fn},
    response::Response,
};
use okra_app::Services;

pub use self::dashboard::ROUTES as DASHBOARD;
use self::web_state::WebState;

/// A router with the dashboard and the widget on their own paths, and `fallback`, the API, on every other.
pub fn build_router(services: Services, fallback: Router) -> Router {
    let web = Arc::new(WebState {
        services: Arc::new(services),
    });
    let pages = Router::new()
        .merge(assets::asset_routes())
        .merge(dashboard::routes())
        .merge(widget::widget_routes())
        .layer(from_fn(serve_page))
        .with_state(web);
    pages.fallback_service(fallback)
}

/// What a page may load: the styles, scripts and pictures of its own origin, and nothing inline.
const PAGE_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every page and asset; a header that the handler set stays.
#[tracing::instrument(name = "page", skip_all, fields(http.method = %request.method(), http.path = loggable_path(request.uri().path())))]
async fn serve_page(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, PAGE_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=()",
        ),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The path of a request as spans name it. The name of a short link opens the widget, so it is left out.
fn loggable_path(path: &str) -> &str {
    match path.starts_with("/link/") {
        true => "/link",
        false => path,
    }
}
