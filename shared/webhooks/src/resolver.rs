//! A resolver that refuses names which lead to addresses that must not be called.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;

use crate::address::AddressPolicy;

/// Addresses of one name that are looked at, at most; a name with more is refused.
const MAX_ADDRESSES: usize = 64;

/// A name or address that must not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has an address that must not be called")]
pub(crate) struct BlockedAddressError;

/// Finds the addresses of a host name. What it answers is checked; it need not be trusted.
pub trait HostLookup: Send + Sync {
    /// All addresses of `name`, at the end of every chain of aliases.
    fn lookup_host<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
pub(crate) struct SystemHostLookup;

impl HostLookup for SystemHostLookup {
    fn lookup_host<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

/// Resolves through a [`Lookup`] and refuses the name if any of its addresses is refused: what is
/// dialled later are exactly the addresses checked here, so a name cannot change its mind.
pub(crate) struct GuardedResolver {
    pub(crate) lookup: Arc<dyn HostLookup>,
    pub(crate) policy: AddressPolicy,
    pub(crate) deadline: Duration,
}

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address")]
pub(crate) struct UnresolvedHostError(#[source] Option<io::Error>);

impl GuardedResolver {
    /// The addresses of a name, on port 0: all of them may be called.
    ///
    /// # Errors
    ///
    /// [`Blocked`], [`Unresolved`].
    pub(crate) async fn resolve_host(
        &self,
        name: &str,
    ) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
        let addresses = tokio::time::timeout(self.deadline, self.lookup.lookup_host(name))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| UnresolvedHostError(Some(error)))?;
        if addresses.is_empty() {
            return Err(UnresolvedHostError(None).into());
        }
        let permitted = |&address| self.policy.permits_address(address);
        if addresses.len() > MAX_ADDRESSES || !addresses.iter().all(permitted) {
            return Err(BlockedAddressError.into());
        }
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, 0))
            .collect())
    }
}
