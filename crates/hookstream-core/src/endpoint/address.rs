//! What kind of place an address is.
//!
//! IPv6 is an allow list: `2000::/3`, the only block that IANA has handed out for the Internet, less what is special in
//! it. IPv4 is the registry of special-purpose addresses, and what clouds use besides. Registries:
//! <https://www.iana.org/assignments/iana-ipv4-special-registry>, <https://www.iana.org/assignments/iana-ipv6-special-registry>,
//! both as of 2026-11.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can be at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anybody on the Internet.
    Public,
    /// This machine, or its network.
    Private,
    /// Nobody, by the registries; laboratories use such addresses.
    Reserved,
    /// What no webhook has business with: cloud metadata, groups, and other spellings of addresses.
    Never,
}

/// Networks and what they are; the first that holds an address counts.
type Table<const N: usize, Address> = [(Address, u32, Reach); N];

const V4: Table<19, Ipv4Addr> = {
    use Reach::{Never, Private, Reserved};
    const fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
        Ipv4Addr::new(a, b, c, d)
    }
    [
        // "This host": Linux takes it for loopback.
        (ip(0, 0, 0, 0), 8, Never),
        // Link-local: every cloud's metadata and credentials.
        (ip(169, 254, 0, 0), 16, Never),
        // Alibaba's metadata, in what is else shared address space.
        (ip(100, 100, 100, 200), 32, Never),
        // Oracle's metadata, in IETF's protocol assignments.
        (ip(192, 0, 0, 192), 32, Never),
        // Azure's host agent, in public space.
        (ip(168, 63, 129, 16), 32, Never),
        (ip(10, 0, 0, 0), 8, Private),
        (ip(100, 64, 0, 0), 10, Private),
        (ip(127, 0, 0, 0), 8, Private),
        (ip(172, 16, 0, 0), 12, Private),
        (ip(192, 168, 0, 0), 16, Private),
        (ip(192, 0, 0, 0), 24, Reserved),
        (ip(192, 0, 2, 0), 24, Reserved),
        (ip(192, 88, 99, 0), 24, Reserved),
        (ip(198, 18, 0, 0), 15, Reserved),
        (ip(198, 51, 100, 0), 24, Reserved),
        (ip(203, 0, 113, 0), 24, Reserved),
        (ip(224, 0, 0, 0), 4, Never),
        (ip(255, 255, 255, 255), 32, Never),
        (ip(240, 0, 0, 0), 4, Reserved),
    ]
};

const V6: Table<11, Ipv6Addr> = {
    use Reach::{Never, Private, Public, Reserved};
    const fn ip(a: u16, b: u16) -> Ipv6Addr {
        Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)
    }
    [
        (Ipv6Addr::LOCALHOST, 128, Private),
        // Metadata of AWS and of Google.
        (ip(0xfd00, 0xec2), 32, Never),
        (ip(0xfd20, 0xce), 32, Never),
        (ip(0xfc00, 0), 7, Private),
        // IETF's protocol assignments; Teredo, which holds an IPv4 address.
        (ip(0x2001, 0), 32, Never),
        (ip(0x2001, 0), 23, Reserved),
        (ip(0x2001, 0xdb8), 32, Reserved),
        // 6to4 holds an IPv4 address.
        (ip(0x2002, 0), 16, Never),
        (ip(0x3fff, 0), 20, Reserved),
        (ip(0x2000, 0), 3, Public),
        // Mapped, compatible, translated and NAT64 addresses, link-local, groups, and what nobody has.
        (Ipv6Addr::UNSPECIFIED, 0, Never),
    ]
};

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => V4
                .iter()
                .find(|(network, bits, _)| (u32::from(address) ^ u32::from(*network)) >> (32 - bits) == 0)
                .map_or(Self::Public, |(_, _, reach)| *reach),
            IpAddr::V6(address) => V6
                .iter()
                .find(|(network, bits, _)| {
                    (u128::from(address) ^ u128::from(*network)).checked_shr(128 - bits).unwrap_or(0) == 0
                })
                .map_or(Self::Never, |(_, _, reach)| *reach),
        }
    }
}
