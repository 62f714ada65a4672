//! Which URLs may be called.

use okra_core::ids::{AppId, EndpointId};
use url::{Host, Url};

use crate::address::AddressPolicy;

/// Bytes of a webhook URL at most.
pub const MAX_URL_BYTES: usize = 2048;

/// The ports a public receiver may listen on.
const PUBLIC_PORTS: [u16; 2] = [443, 8443];

/// Last labels of names that only mean something inside a network.
const INTERNAL_SUFFIXES: [&str; 5] = ["internal", "local", "localhost", "localdomain", "arpa"];

/// Why a URL cannot be a webhook's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// It does not read as a URL with a host.
    #[error("the webhook URL is not a URL")]
    Unreadable,
    /// It is longer than [`MAX_URL_BYTES`].
    #[error("the webhook URL is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    /// It is not `https`.
    #[error("the webhook URL has to be https")]
    Scheme,
    /// It carries a user name or a password, which would be logged along the way.
    #[error("the webhook URL must not contain a user name or password")]
    UserInfo,
    /// It names an address instead of a host.
    #[error("the webhook URL has to name a host, not an IP address")]
    Literal,
    /// Its host is a name of an internal network.
    #[error("the webhook URL has to name a public host")]
    InternalName,
    /// Its port is not one for `https`.
    #[error("the webhook URL has to use port 443 or 8443")]
    Port,
}

/// The id of the endpoint that an app's URL is: the same URL of an app is the same endpoint, however
/// many subscriptions name it.
pub fn endpoint_id(app: AppId, url: &str) -> EndpointId {
    EndpointId::derive(&[app.as_bytes(), url.as_bytes()])
}

/// Checks a URL that is to be registered.
///
/// A URL of this host passes under [`AddressPolicy::AllowLoopback`], by `http` and on any port.
///
/// # Errors
///
/// [`UrlRefused`]: its text is fit to be shown to whoever registers the URL.
pub fn check_url(text: &str, policy: AddressPolicy) -> Result<Url, UrlRefused> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlRefused::TooLong);
    }
    let url = Url::parse(text).map_err(|_| UrlRefused::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlRefused::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlRefused::UserInfo);
    }
    if is_this_host(&url) && policy == AddressPolicy::AllowLoopback {
        return Ok(url);
    }
    if url.scheme() != "https" {
        return Err(UrlRefused::Scheme);
    }
    match url.host() {
        Some(Host::Domain(name)) if is_public_name(name) => {}
        Some(Host::Domain(_)) => return Err(UrlRefused::InternalName),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(UrlRefused::Literal),
        None => return Err(UrlRefused::Unreadable),
    }
    match url.port_or_known_default() {
        Some(port) if PUBLIC_PORTS.contains(&port) => Ok(url),
        _ => Err(UrlRefused::Port),
    }
}

/// True where the URL names this host outright.
fn is_this_host(url: &Url) -> bool {
    let loopback = |address| {
        AddressPolicy::AllowLoopback.permits(address) && !AddressPolicy::PublicOnly.permits(address)
    };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => loopback(address.into()),
        Some(Host::Ipv6(address)) => loopback(address.into()),
        None => false,
    }
}

fn is_public_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit_once('.')
        .is_some_and(|(rest, last)| !rest.is_empty() && !INTERNAL_SUFFIXES.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: AddressPolicy, url: &str, expected: Option<UrlRefused>) {
        assert_eq!(check_url(url, policy).err(), expected, "{policy:?} {url}");
    }

    #[test]
    fn urls_are_checked_when_they_are_registered() {
        for (url, expected) in [
            ("https://app.example/okra/hook/", None),
            ("https://app.example:8443/hook?tenant=1", None),
            ("https://APP.Example./hook", None),
            ("https://b\u{fc}cher.example/", None),
            ("http://app.example/hook", Some(UrlRefused::Scheme)),
            ("ftp://app.example/hook", Some(UrlRefused::Scheme)),
            ("file:///etc/passwd", Some(UrlRefused::Scheme)),
            ("gopher://127.0.0.1/", Some(UrlRefused::Scheme)),
            ("https://user@app.example/", Some(UrlRefused::UserInfo)),
            ("https://:pass@app.example/", Some(UrlRefused::UserInfo)),
            ("https://8.8.8.8/", Some(UrlRefused::Literal)),
            ("https://169.254.169.254/latest", Some(UrlRefused::Literal)),
            ("https://2130706433/", Some(UrlRefused::Literal)),
            ("https://0x7f.1/", Some(UrlRefused::Literal)),
            ("https://0177.0.0.1/", Some(UrlRefused::Literal)),
            ("https://127.0.0.1./", Some(UrlRefused::Literal)),
            ("https://\u{2460}27.0.0.1/", Some(UrlRefused::Literal)),
            ("https://[::1]/", Some(UrlRefused::Literal)),
            ("https://[::ffff:10.0.0.1]/", Some(UrlRefused::Literal)),
            ("https://localhost/", Some(UrlRefused::InternalName)),
            ("https://localhost./", Some(UrlRefused::InternalName)),
            ("https://backend/", Some(UrlRefused::InternalName)),
            (
                "https://metadata.google.internal/",
                Some(UrlRefused::InternalName),
            ),
            ("https://printer.local./", Some(UrlRefused::InternalName)),
            ("https://app.localhost/", Some(UrlRefused::InternalName)),
            ("https://app.example:22/", Some(UrlRefused::Port)),
            ("https://app.example:80/", Some(UrlRefused::Port)),
            ("app.example/hook", Some(UrlRefused::Unreadable)),
            ("https://", Some(UrlRefused::Unreadable)),
            ("", Some(UrlRefused::Unreadable)),
        ] {
            check(AddressPolicy::PublicOnly, url, expected);
        }
        let long = format!("https://app.example/{}", "a".repeat(MAX_URL_BYTES));
        check(AddressPolicy::PublicOnly, &long, Some(UrlRefused::TooLong));
    }

    #[test]
    fn a_local_run_may_name_this_host_and_no_other_address() {
        for (url, expected) in [
            ("http://127.0.0.1:9000/hook", None),
            ("http://localhost:9000/hook", None),
            ("http://[::1]:9000/hook", None),
            ("https://app.example/", None),
            ("http://u@localhost/", Some(UrlRefused::UserInfo)),
            ("http://app.example/", Some(UrlRefused::Scheme)),
            ("http://10.0.0.1/", Some(UrlRefused::Scheme)),
            ("https://10.0.0.1/", Some(UrlRefused::Literal)),
            ("https://8.8.8.8/", Some(UrlRefused::Literal)),
            ("https://[fd00:ec2::254]/", Some(UrlRefused::Literal)),
        ] {
            check(AddressPolicy::AllowLoopback, url, expected);
        }
    }

    #[test]
    fn an_endpoint_is_an_app_and_a_url() {
        let (a, b) = (AppId::from_bytes([1; 12]), AppId::from_bytes([2; 12]));
        let id = endpoint_id(a, "https://app.example/hook");
        assert_eq!(id, endpoint_id(a, "https://app.example/hook"));
        assert_ne!(id, endpoint_id(a, "https://app.example/hook/"));
        assert_ne!(id, endpoint_id(b, "https://app.example/hook"));
    }
}
