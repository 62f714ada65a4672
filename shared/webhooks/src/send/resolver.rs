//! A resolver that rejects names with addresses that must not be called.
//!
//! [`GuardedResolver`] checks what a [`HostLookup`] returns. The rule: the addresses that are dialled are exactly those
//! that were checked, so a name cannot change in between.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;

use super::address::AddressPolicy;

/// Addresses of one name at most; a name with more is rejected.
const MAX_ADDRESSES: usize = 64;

/// A name or address that must not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has an address that must not be called")]
pub(crate) struct BlockedAddressError;

/// Finds the addresses of a host name. What it returns is checked; it need not be trusted.
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

/// Resolves through a [`HostLookup`] and rejects the name if one of its addresses must not be called.
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
    /// The addresses of a name, on port 0. All of them may be called.
    ///
    /// # Errors
    ///
    /// [`BlockedAddressError`], [`UnresolvedHostError`].
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
        let are_permitted = addresses
            .iter()
            .all(|&address| self.policy.permits_address(address));
        if addresses.len() > MAX_ADDRESSES || !are_permitted {
            return Err(BlockedAddressError.into());
        }
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, 0))
            .collect())
    }
}
