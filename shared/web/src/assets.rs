//! Styles, scripts and pictures ([`ASSETS`]), embedded and named by the hash of their content.

use std::{fmt::Write, sync::LazyLock};

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

use std::sync::Arc;

use crate::web_state::WebState;

/// A year: the name changes with the content.
const IMMUTABLE_CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// Digits of a content hash in a name: 64 bits.
const HASH_DIGITS: usize = 16;

/// One embedded file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal $kind:literal;)+) => {
        static ASSETS: &[Asset] = &[$(Asset {
            name: $name,
            kind: $kind,
            text: include_str!(concat!("../assets/", $name)),
        }),+];
    };
}

assets! {
    "dashboard.css" "text/css; charset=utf-8";
    "dashboard.js" "text/javascript; charset=utf-8";
    "widget.css" "text/css; charset=utf-8";
    "widget.js" "text/javascript; charset=utf-8";
    "icon.svg" "image/svg+xml";
}

static ASSET_PATHS: LazyLock<Vec<String>> =
    LazyLock::new(|| ASSETS.iter().map(hashed_path).collect());

fn hashed_path(asset: &Asset) -> String {
    let digest = Sha256::digest(asset.text.as_bytes());
    let mut hash = digest.iter().fold(String::new(), |mut hash, byte| {
        // Writing to a string does not fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    hash.truncate(HASH_DIGITS);
    let (stem, extension) = asset.name.split_once('.').unwrap_or((asset.name, ""));
    format!("/assets/{stem}.{hash}.{extension}")
}

/// The path of an asset. One that is not embedded has none; the browser tests load every page.
pub(crate) fn asset_href(name: &str) -> &'static str {
    let known = ASSETS.iter().position(|asset| asset.name == name);
    known.map_or("/assets/unknown", |at| ASSET_PATHS[at].as_str())
}

pub(crate) fn asset_routes() -> Router<Arc<WebState>> {
    Router::new().route("/assets/{name}", get(serve_asset))
}

async fn serve_asset(Path(name): Path<String>) -> Response {
    let known = ASSET_PATHS
        .iter()
        .position(|path| path.strip_prefix("/assets/") == Some(name.as_str()));
    let Some(asset) = known.map(|at| &ASSETS[at]) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, IMMUTABLE_CACHE_CONTROL),
    ];
    (headers, asset.text).into_response()
}

/// The script for the pages of apps. It has Okra's name instead of one with a hash, so that browsers load it again after
/// an hour; any page may load it.
pub(crate) fn serve_bundle() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        ),
    ];
    (headers, include_str!("../assets/bundle.js")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_named_by_its_content() {
        let path = asset_href("dashboard.css");
        let (_, rest) = path.split_once("dashboard.").unwrap();
        let (hash, extension) = rest.split_once('.').unwrap();
        assert_eq!((hash.len(), extension), (HASH_DIGITS, "css"));
        let other = Asset {
            name: "dashboard.css",
            kind: "",
            text: "a",
        };
        assert_ne!(super::hashed_path(&other), path);
    }
}
