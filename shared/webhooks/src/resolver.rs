//! A resolver that refuses names which lead to addresses that must not be called.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::AddressPolicy;

/// Addresses of one name that are looked at, at most; a name with more is refused.
const MAX_ADDRESSES: usize = 64;

/// A name or address that must not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has an address that must not be called")]
pub(crate) struct Blocked;

/// The system's resolver.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Resolves through another resolver and refuses the name if any of its addresses is refused: what
/// is dialled later are exactly the addresses checked here, so a name cannot change its mind.
pub(crate) struct Guarded<R> {
    pub(crate) inner: Arc<R>,
    pub(crate) policy: AddressPolicy,
    pub(crate) deadline: Duration,
}

impl<R: Resolve + 'static> Resolve for Guarded<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (inner, policy, deadline) = (Arc::clone(&self.inner), self.policy, self.deadline);
        Box::pin(async move {
            let addresses = tokio::time::timeout(deadline, inner.resolve(name))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES + 1).collect();
            if addresses.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            if addresses.len() > MAX_ADDRESSES
                || !addresses.iter().all(|address| policy.permits(address.ip()))
            {
                return Err(Blocked.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
