//! Which addresses may be called: public ones.
//!
//! [`classify_address`] says what an address is, [`AddressPolicy`] which classes may be called. The rule: whatever is not
//! known to be public is blocked, so that an app's URL cannot reach our own host, our network or a cloud's metadata
//! service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// On the public internet.
    Public,
    /// This host.
    Loopback,
    /// Neither: private, link-local, shared, reserved, multicast, for documentation, or a way to tunnel
    /// to one of these.
    Blocked,
}

/// Which classes of address may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Public addresses, by `https`.
    #[default]
    PublicOnly,
    /// This host too, also by `http`: for a developer's local run.
    AllowLoopback,
}

impl AddressPolicy {
    /// True where the address may be called.
    pub fn permits_address(self, address: IpAddr) -> bool {
        match classify_address(address) {
            AddressClass::Public => true,
            AddressClass::Loopback => self == Self::AllowLoopback,
            AddressClass::Blocked => false,
        }
    }
}

/// IPv4 networks that are not public, as address and prefix length.
const BLOCKED_NETWORKS_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carrier-grade NAT; a metadata service of Alibaba
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a metadata service of Azure, on a public address
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local; the metadata services of AWS and others
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback, which is classified before
];

/// All of the IPv6 that is in public use.
const PUBLIC_NETWORK_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks within [`PUBLIC_NETWORK_V6`] that are not public.
const BLOCKED_NETWORKS_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: leads to any IPv4 address
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// The class of an address.
pub fn classify_address(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => classify_v4(address),
            None => classify_v6(address),
        },
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    if address.is_loopback() {
        AddressClass::Loopback
    } else if BLOCKED_NETWORKS_V4
        .iter()
        .any(|network| is_in_network_v4(address, network))
    {
        AddressClass::Blocked
    } else {
        AddressClass::Public
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let is_blocked = BLOCKED_NETWORKS_V6
        .iter()
        .any(|network| is_in_network_v6(address, network));
    if address.is_loopback() {
        AddressClass::Loopback
    } else if is_in_network_v6(address, &PUBLIC_NETWORK_V6) && !is_blocked {
        AddressClass::Public
    } else {
        AddressClass::Blocked
    }
}

fn is_in_network_v4(address: Ipv4Addr, network: &(Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.0.to_bits()).leading_zeros() >= network.1
}

fn is_in_network_v6(address: Ipv6Addr, network: &(Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.0.to_bits()).leading_zeros() >= network.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_local_run_calls_this_host_and_none_calls_a_private_one() {
        let permits =
            |policy: AddressPolicy, text: &str| policy.permits_address(text.parse().unwrap());
        for (text, public_only, allow_loopback) in [
            ("8.8.8.8", true, true),
            ("127.0.0.1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::1", false, true),
            ("10.0.0.1", false, false),
            ("169.254.169.254", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
        ] {
            assert_eq!(
                permits(AddressPolicy::PublicOnly, text),
                public_only,
                "{text}"
            );
            assert_eq!(
                permits(AddressPolicy::AllowLoopback, text),
                allow_loopback,
                "{text}"
            );
        }
    }

    proptest! {
        /// The standard library's own predicates, where they are stable, are an independent witness.
        #[test]
        fn no_special_address_is_public(bits: u32, v6: u128) {
            let v4 = Ipv4Addr::from_bits(bits);
            if v4.is_private() || v4.is_link_local() || v4.is_loopback() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified()
            {
                prop_assert_ne!(classify_address(v4.into()), AddressClass::Public);
            }
            let v6 = Ipv6Addr::from_bits(v6);
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() {
                prop_assert_ne!(classify_address(v6.into()), AddressClass::Public);
            }
        }
    }
}
