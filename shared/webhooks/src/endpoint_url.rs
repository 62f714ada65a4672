//! The URLs of endpoints: which ones may be called, and which endpoint a URL is.
//!
//! [`check_endpoint_url`], [`check_webhook_url`] and [`check_url`] say so, from the strictest on, with a [`UrlError`]
//! whose text is fit for whoever registers the URL. The rule: a URL is checked when it is registered and again before
//! each attempt.

use ::http::Uri;
use okra_aws::EventBus;
use okra_core::model::ids::{AppId, EndpointId};
use url::{Host, Url};

use crate::send::{AddressClass, AddressPolicy, classify_address};

/// Bytes of a webhook URL at most.
pub const MAX_URL_BYTES: usize = 2048;

/// Bytes of a host name and of one of its labels at most, as in the DNS.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// The ports a public receiver may listen on.
const PUBLIC_PORTS: [u16; 2] = [443, 8443];

/// The prefix of the URL of an endpoint that is an event bus; its ARN or name follows.
pub const BUS_SCHEME: &str = "eventbridge:";

/// Last labels of names that only mean something inside a network: reserved for that, withheld by ICANN because networks
/// use them, or in the search path of a cluster's resolver.
const INTERNAL_SUFFIXES: [&str; 14] = [
    "alt",
    "arpa",
    "cluster",
    "corp",
    "home",
    "internal",
    "intranet",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
    "svc",
];

/// Why a URL cannot be called, or given to a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not parse as a URL with a host, or not everybody parses it alike.
    #[error("it must be a URL with a host")]
    Unreadable,
    /// It is longer than [`MAX_URL_BYTES`].
    #[error("it must not be longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    /// It is not `https`.
    #[error("it must use https")]
    Scheme,
    /// It carries a user name or a password, which would be logged along the way.
    #[error("it must not contain a user name or password")]
    UserInfo,
    /// It names an address instead of a host.
    #[error("it must name a host, not an IP address")]
    IpLiteral,
    /// Its host is a name of an internal network.
    #[error("it must name a public host")]
    InternalName,
    /// It is this system's own: events would cause events.
    #[error("it must not lead to this system itself")]
    OwnHost,
    /// Its port is not one for `https`.
    #[error("it must use port 443 or 8443")]
    Port,
    /// It is an event bus, and not the one that this deployment puts events on.
    #[error("it must be the event bus that this deployment puts events on")]
    EventBus,
}

impl UrlError {
    /// The stable name of the rule that it breaks.
    pub const fn rule_name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLong => "too_long",
            Self::Scheme => "scheme",
            Self::UserInfo => "user_info",
            Self::IpLiteral => "ip_literal",
            Self::InternalName => "internal_name",
            Self::OwnHost => "own_host",
            Self::Port => "port",
            Self::EventBus => "event_bus",
        }
    }
}

/// The id of the endpoint that an app's URL is: the same URL of an app is the same endpoint, however
/// many subscriptions name it.
pub fn endpoint_id(app: AppId, url: &str) -> EndpointId {
    EndpointId::for_url(app, url)
}

/// Checks the URL of an endpoint that is registered: one that [`check_webhook_url`] accepts, or [`BUS_SCHEME`] and the
/// bus that the deployment puts events on, by its ARN or its name.
///
/// # Errors
///
/// [`UrlError`]: its text is fit to be shown to whoever registers the URL.
pub fn check_endpoint_url(
    text: &str,
    policy: AddressPolicy,
    bus: Option<&EventBus>,
    own_url: &str,
) -> Result<(), UrlError> {
    match text.strip_prefix(BUS_SCHEME) {
        Some(name) if bus.is_some_and(|bus| bus.is_named(name)) => Ok(()),
        Some(_) => Err(UrlError::EventBus),
        None => check_webhook_url(text, policy, own_url),
    }
}

/// Checks a URL that events are sent to: one that [`check_url`] accepts and that is not on the host of `own_url`, where
/// the API is reached.
///
/// # Errors
///
/// [`UrlError`]: its text is fit to be shown to whoever registers the URL.
pub fn check_webhook_url(text: &str, policy: AddressPolicy, own_url: &str) -> Result<(), UrlError> {
    let url = check_url(text, policy)?;
    match Url::parse(own_url) {
        Ok(own) if is_same_host(&url, &own) => Err(UrlError::OwnHost),
        _ => Ok(()),
    }
}

/// True for two URLs of one host, whatever their ports; of this host, where many listen, of one port.
fn is_same_host(a: &Url, b: &Url) -> bool {
    if is_this_host(a) && is_this_host(b) {
        return a.port_or_known_default() == b.port_or_known_default();
    }
    bare_host(a).is_some_and(|host| bare_host(b) == Some(host))
}

/// The host of a URL without the dot of the root domain.
fn bare_host(url: &Url) -> Option<&str> {
    Some(url.host_str()?.trim_end_matches('.'))
}

/// Checks a URL that is called.
///
/// A URL of this host is accepted under [`AddressPolicy::AllowLoopback`], by `http` and on any port.
///
/// # Errors
///
/// [`UrlError`]: its text is fit to be shown to whoever registers the URL.
pub fn check_url(text: &str, policy: AddressPolicy) -> Result<Url, UrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError::TooLong);
    }
    // A lenient parser drops these, and a strict one may take them for the end.
    if text.contains(|character: char| character.is_control() || character.is_whitespace()) {
        return Err(UrlError::Unreadable);
    }
    let url = Url::parse(text).map_err(|_| UrlError::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    if is_this_host(&url) && policy == AddressPolicy::AllowLoopback {
        return Ok(url);
    }
    if url.scheme() != "https" {
        return Err(UrlError::Scheme);
    }
    match url.host() {
        Some(Host::Domain(name)) if is_public_name(name) => {}
        Some(Host::Domain(_)) => return Err(UrlError::InternalName),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(UrlError::IpLiteral),
        None => return Err(UrlError::Unreadable),
    }
    match url.port_or_known_default() {
        Some(port) if PUBLIC_PORTS.contains(&port) => {}
        _ => return Err(UrlError::Port),
    }
    match Uri::try_from(url.as_str()) {
        Ok(_) => Ok(url),
        Err(_) => Err(UrlError::Unreadable),
    }
}

/// True where the URL names this host outright.
fn is_this_host(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Domain(name)) => return name == "localhost",
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        None => return false,
    };
    classify_address(address) == AddressClass::Loopback
}

/// True for a name of two labels or more that can be registered on the internet.
fn is_public_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let whole = name.len() <= MAX_NAME_BYTES
        && name
            .split('.')
            .all(|label| (1..=MAX_LABEL_BYTES).contains(&label.len()));
    let last = name.rsplit_once('.').map(|(_, last)| last);
    whole && last.is_some_and(|last| !INTERNAL_SUFFIXES.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_maximum_length() {
        let url = |bytes: usize| {
            let root = "https://app.example/";
            format!("{root}{}", "a".repeat(bytes - root.len()))
        };
        let check = |url: &str| check_url(url, AddressPolicy::PublicOnly).err();
        assert_eq!(check(&url(MAX_URL_BYTES)), None);
        assert_eq!(check(&url(MAX_URL_BYTES + 1)), Some(UrlError::TooLong));
    }

    #[test]
    fn a_url_on_the_host_of_the_api_is_rejected() {
        let check = |url: &str, own: &str, is_rejected: bool| {
            let result = check_webhook_url(url, AddressPolicy::AllowLoopback, own);
            let expected = is_rejected.then_some(UrlError::OwnHost);
            assert_eq!(result.err(), expected, "{url} {own}");
        };
        let own = "https://sync.example";
        check("https://sync.example/v2/balance/refresh", own, true);
        check("https://SYNC.example.:8443/", own, true);
        check("https://app.sync.example/", own, false);
        check("https://sync.example.app.example/", own, false);
        // A developer's receiver listens beside the system.
        let own = "http://127.0.0.1:3000";
        check("http://127.0.0.1:3000/hook", own, true);
        check("http://localhost:3000/hook", own, true);
        check("http://[::1]:3000/hook", own, true);
        check("http://127.0.0.1:3001/hook", own, false);
        check("https://app.example/", own, false);
        check("https://app.example/", "", false);
    }

    #[test]
    fn an_endpoint_id_is_derived_from_the_app_and_the_url() {
        let (a, b) = (AppId::from_bytes([1; 12]), AppId::from_bytes([2; 12]));
        let id = endpoint_id(a, "https://app.example/hook");
        assert_eq!(id, endpoint_id(a, "https://app.example/hook"));
        assert_ne!(id, endpoint_id(a, "https://app.example/hook/"));
        assert_ne!(id, endpoint_id(b, "https://app.example/hook"));
    }
}
