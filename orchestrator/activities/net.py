"""Which addresses a definition may reach: public ones, and those of networks that the operator allows.

A definition's author names a host; its name server, or a redirect, may answer with an address inside our own network.
So names are resolved here, every address is judged, and the connection goes to a judged address, not to the name again.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from orchestrator.errors import BusinessError, ConfigurationError, InvalidInput, TransientError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The addresses of a host and port, as text.
Resolve = Callable[[str, int], Sequence[str]]

#: An IPv6 address of this network stands for the IPv4 address in its last 32 bits (NAT64, RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = IPv6Network("::/96")
#: Not for the public internet (IANA's special-purpose registries), but global to some releases of `ipaddress`.
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b:1::/48",
        "100:0:0:1::/64",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses; ConfigurationError for one that is neither."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigurationError(f"not a network: {error}; write 10.1.0.0/16 or 10.1.2.3") from None
    return tuple(found)


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, by the system's resolver, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_allowed(address: str, allow: Sequence[Network]) -> bool:
    """Whether an address is public, or in an allowed network. An IPv4 address in an IPv6 one is judged as itself."""
    meant = _meant(ipaddress.ip_address(address))
    return any(meant.version == network.version and meant in network for network in allow) or _is_public(meant)


def checked(host: str, port: int, allow: Sequence[Network], resolve: Resolve = resolve) -> list[str]:
    """The addresses of a host, every one of them allowed: one private address among public ones is refused as well.

    Raises:
        BusinessError: AddressRefused; names the setting that allows the network.
        TransientError: NameNotResolved.
        InvalidInput: no host name at all.
    """
    try:
        addresses = list(resolve(host, port))
    except UnicodeError:
        raise InvalidInput(f"{host!r} is no host name; correct the url") from None
    except OSError as error:
        raise TransientError(f"the name {host} is not resolved: {error.strerror}", name="NameNotResolved") from None
    if not addresses:
        raise TransientError(f"the name {host} has no address", name="NameNotResolved")
    for address in addresses:
        if not is_allowed(address, allow):
            raise BusinessError(
                f"{host} leads to {address}, which is no public address; if workflows may reach it, allow its network "
                "in ORCHESTRATOR_HTTP_ALLOW_NETWORKS, or in the connector's allow_networks",
                name="AddressRefused",
            )
    return addresses


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    # ::1 and :: are no IPv4 addresses in disguise, but addresses of their own.
    compatible = address in _IPV4_COMPATIBLE and int(address) > 1
    if compatible or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if any(address.version == network.version and address in network for network in _SPECIAL):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )
