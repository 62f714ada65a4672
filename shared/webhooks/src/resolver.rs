//! A resolver that refuses names which lead to addresses that must not be called.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::AddressPolicy;

/// Addresses of one name that are looked at, at most; a name with more is refused.
pub(crate) const MAX_ADDRESSES: usize = 64;

/// A name or address that must not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has an address that must not be called")]
pub(crate) struct Blocked;

/// Finds the addresses of a host name. What it answers is checked; it need not be trusted.
pub trait Lookup: Send + Sync {
    /// All addresses of `name`, at the end of every chain of aliases.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
pub(crate) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

/// Resolves through a [`Lookup`] and refuses the name if any of its addresses is refused: what is
/// dialled later are exactly the addresses checked here, so a name cannot change its mind.
pub(crate) struct Guarded {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) policy: AddressPolicy,
    pub(crate) deadline: Duration,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, policy, deadline) = (Arc::clone(&self.lookup), self.policy, self.deadline);
        Box::pin(async move {
            let addresses = tokio::time::timeout(deadline, lookup.lookup(name.as_str()))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if addresses.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            if addresses.len() > MAX_ADDRESSES
                || !addresses.iter().all(|&address| policy.permits(address))
            {
                return Err(Blocked.into());
            }
            let checked = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(checked) as Addrs)
        })
    }
}
