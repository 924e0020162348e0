"""Decide which addresses may be called, whatever a user or a hub names."""

import asyncio
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from modelops.artifacts.digest import shown
from modelops.plan import Reason

Address = IPv4Address | IPv6Address

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds; link-local as well
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
    )
)
_METADATA_NAMES = frozenset(
    {
        "metadata", "metadata.google.internal", "metadata.goog", "instance-data",
        "instance-data.ec2.internal", "metadata.azure.internal", "metadata.tencentyun.com",
    }
)  # fmt: skip
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A host whose last part is a number is an address to the resolver.  Source: WHATWG URL, host parsing."""

_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


class AddressRefused(Exception):
    """An address must not be called."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an address; the host is in lower case, without a trailing dot."""

    scheme: str
    host: str
    port: int


def origin(url: str) -> Origin | Reason:
    """Return where *url* leads, or why it is not plain enough to be called.

    What two parsers could read differently (user names, backslashes, white space) is refused
    instead of repaired.

    Source: research/governance.md 7.5.
    """
    if not url.isascii() or any(letter in "\\" or letter <= " " or letter == "\x7f" for letter in url):
        return _unclear(url, "a backslash, white space or a letter outside ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return _unclear(url, "something else")
    if parts.scheme not in ("http", "https"):
        return _unclear(url, "another scheme")
    if "@" in parts.netloc or not parts.hostname:
        return _unclear(url, "a user name, or no host")
    if port == 0:
        return _unclear(url, "port 0")
    host = parts.hostname.lower().removesuffix(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and _literal(host) is None:
        return _unclear(url, "a number that is no written-out IPv4 address")
    return Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))


@dataclass(frozen=True, slots=True)
class Guard:
    """Check every address just before it is called.

    A host in ``trusted`` (named by the administrator) may be private.  Any other, such as the target
    of a redirect, must be public.  Link-local and metadata addresses are refused always.
    """

    trusted: frozenset[str] = frozenset()

    def refuses(self, host: str, addresses: Iterable[str]) -> Reason | None:
        """Return why *host*, which resolves to *addresses*, must not be called, or None.

        One bad address refuses the host: which of them is called is not ours to choose.
        """
        if host.lower().removesuffix(".") in _METADATA_NAMES:
            return _forbidden(host, "a metadata service")
        for text in addresses:
            address = _unwrapped(ip_address(text.partition("%")[0]))
            if address in _METADATA or address.is_link_local:
                return _forbidden(host, "a link-local or metadata address")
            if address.is_unspecified or address.is_multicast or address.is_reserved:
                return _forbidden(host, "an address that no host has")
            if not address.is_global and host.lower().removesuffix(".") not in self.trusted:
                return Reason(
                    "AddressRefused",
                    f"host {shown(host)}: needs a public address, found a private one; "
                    "ask the administrator to list the host in sources.allowedHosts",
                )
        return None

    def refuses_literal(self, host: str) -> Reason | None:
        """Return why *host* must not be called if it is an address; a name is judged when it is resolved.

        aiohttp resolves names only, so it would never ask about a literal.
        """
        return None if _literal(host) is None else self.refuses(host, [host])

    def look_up(self, host: str, port: int) -> list[str]:
        """Return the addresses of *host*, all checked; call one of these, do not resolve again.

        Raises:
            AddressRefused: one of them must not be called.
            OSError: the name has no address.
        """
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
        if reason := self.refuses(host, addresses):
            raise AddressRefused(reason)
        return addresses

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return what `look_up` returns, from a thread."""
        return await asyncio.to_thread(self.look_up, host, port)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries, or the address itself."""
    if not isinstance(address, IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    is_compatible = address in _COMPATIBLE and int(address) > 1
    if address in _NAT64 or is_compatible:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _unclear(url: str, found: str) -> Reason:
    return Reason(
        "BadAddress",
        f"address {shown(url.partition('?')[0])}: needs http(s)://host[:port]/path, found {found}; "
        "correct it",
    )


def _forbidden(host: str, found: str) -> Reason:
    return Reason(
        "AddressRefused", f"host {shown(host)}: needs a host of its own, found {found}; name another"
    )
