"""Where a peer can be dialled, taken apart: who, how far it reaches, what it is bound to.

Knows addresses as text and IP ranges. Must not know who told them, clocks or sockets. Addresses
of one /16 (IPv6: /32) cost one owner little, so they count as one group; on loopback and in
private ranges whole networks share one host, so each port there is a group of its own.
"""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.protocol.identity import circuit_address, is_circuit, parse_address, parse_circuit
from prsm.protocol.ids import PeerId

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
PLACES_REMEMBERED: Final = 1024  # of a live peer's address it is asked several times a second
_V6_GROUP_BITS: Final = 32  # what a registry hands to one provider


class Scope(IntEnum):
    """How far an address reaches; a wider one is greater."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class Place:
    """One address of one peer; equal places have equal text.

    Attributes:
        text: `/ip4/…/tcp/…/p2p/…`, as it is dialled.
        peer: who must answer there.
        group: what one owner can hold a lot of; links are spread over groups.
        scope: how far the address reaches.
    """

    text: str
    peer: PeerId
    group: str
    scope: Scope


@lru_cache(maxsize=PLACES_REMEMBERED)
def place_of(text: str) -> Place:
    """Read the address of a peer.

    Raises:
        LocalError: not of the form `/ip4/…/tcp/…/p2p/…` nor behind a relay of that form, or
            nobody can be dialled there.
    """
    if is_circuit(text):
        circuit = parse_circuit(text)
        relay = place_of(circuit.relay_address)
        # Whoever owns the relay decides who is reached: its group counts.
        text = circuit_address(relay.text, circuit.peer)
        return Place(text, circuit.peer, relay.group, relay.scope)
    address = parse_address(text)
    ip = ipaddress.ip_address(address.ip)
    scope = _scope(ip)
    if scope is None or not address.port:
        raise LocalError(f"nobody can be dialled at {address.transport}")
    # One spelling: 0:0::1 and ::1 are one place.
    text = f"/{address.family}/{ip}/tcp/{address.port}/p2p/{address.peer}"
    return Place(text, address.peer, _group(ip, address.port, scope), scope)


def is_place(address: str, text: str) -> bool:
    """Whether the address of a link is this one, as `place_of` spells it.

    Not if its socket was gone before it was asked for its address.
    """
    try:
        return place_of(address).text == text
    except LocalError:
        return False


def scope_of(text: str) -> Scope:
    """How far the address of a live connection reaches; what cannot be read counts as public.

    Args:
        text: `/ip4/…/tcp/…/p2p/…`.
    """
    try:
        return place_of(text).scope
    except LocalError:
        return Scope.PUBLIC


def may_tell(scope: Scope, listener: Scope) -> bool:
    """Whether an address of that scope means anything to a peer we reach by the other scope.

    A public peer neither hears of private and loopback addresses nor makes us dial any: they
    would name other machines there, or show our inner network.
    """
    return scope >= listener


def _scope(ip: _IpAddress) -> Scope | None:
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return None
    if ip.is_unspecified or ip.is_multicast:
        return None
    if ip.is_loopback:
        return Scope.LOOPBACK
    if ip.is_global:
        return Scope.PUBLIC
    return None if ip.is_reserved else Scope.PRIVATE


def _group(ip: _IpAddress, port: int, scope: Scope) -> str:
    if scope is not Scope.PUBLIC:
        return f"{ip}:{port}"
    if isinstance(ip, ipaddress.IPv6Address):
        tunnel = ip.sixtofour or (ip.teredo or (None, None))[1]
        if tunnel is None:
            return f"{int(ip) >> (128 - _V6_GROUP_BITS):08x}::"
        ip = tunnel
    return ".".join(str(ip).split(".")[:2])
