//! Which pages may open an app's widget, by their origins.

use axum::http::HeaderMap;
use okra_core::model::snapshot::Environment;
use okra_store::App;

/// True where a page of this origin may open the app's widget.
pub(crate) fn may_embed(app: &App, origin: &str) -> bool {
    if app.widget_origins.is_empty() {
        return app.environment == Environment::Sandbox && is_loopback_origin(origin);
    }
    app.widget_origins.iter().any(|allowed| allowed == origin)
}

/// True for an origin of this machine.
fn is_loopback_origin(origin: &str) -> bool {
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}

/// The origin that a text names, as browsers spell it; `None` where the text is not an origin.
pub(crate) fn parse_origin(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/').to_ascii_lowercase();
    let host = text.strip_prefix("https://").or_else(|| {
        text.strip_prefix("http://")
            .filter(|_| is_loopback_origin(&text))
    })?;
    let is_host = !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
    is_host.then_some(text)
}

/// True where a script of one of our own pages sent the request.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_spelled_as_browsers_spell_it() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse_origin(text).as_deref(), expected, "{text}");
        };
        check("https://App.example/", Some("https://app.example"));
        check("http://localhost:8080", Some("http://localhost:8080"));
        check("http://app.example", None);
        check("https://app.example/path", None);
        check("https://*.example", None);
        check("https://a; script-src *", None);
        check("app.example", None);
    }

    #[test]
    fn pages_of_this_machine_may_embed_a_sandbox_app_that_names_no_origins() {
        let mut app = App {
            id: okra_core::model::ids::AppId::from_bytes([1; 12]),
            name: "a".to_owned(),
            environment: Environment::Sandbox,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            widget_origins: vec![],
            public_key: None,
            refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
        };
        for origin in [
            "http://localhost:5000",
            "http://127.0.0.1",
            "http://[::1]:80",
        ] {
            assert!(may_embed(&app, origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example:80",
        ] {
            assert!(!may_embed(&app, origin), "{origin}");
        }
        app.environment = Environment::Production;
        assert!(!may_embed(&app, "http://localhost:5000"));
        app.widget_origins = vec!["https://app.example".to_owned()];
        assert!(may_embed(&app, "https://app.example"));
        assert!(!may_embed(&app, "https://app.example.evil"));
    }
}
