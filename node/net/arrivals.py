"""Which sockets are let in before anybody knows who dials: caps, a rate, bounded handshakes.

Knows IP addresses and times handed in. Must not know sockets or peers. Loopback and private
ranges have no caps of their own: whole networks share one address there.

Invariants: at most `HANDSHAKES_MAX` handshakes are under way; each visit that was let in leaves
once; an address nobody visits from is forgotten.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import Final

from prsm.node.net.scores import TokenBucket
from prsm.node.net.suspects import Suspects

# A handshake takes 20 ms of which 7 are CPU of ours: 32 at once are more than a second brings.
HANDSHAKES_MAX: Final = 32
# Whoever has not finished after this may be sent away for a newcomer (slow-loris); an honest
# handshake over a link of 200 ms takes five of its delays.
PATIENCE_MS: Final = 1_500
SOCKETS_MAX: Final = 192  # 120 inbound peers, pairs that settle, handshakes
PER_ADDRESS_MAX: Final = 8  # a /64 of IPv6 counts as one address
PER_NETWORK_MAX: Final = 32  # /24, or /48 of IPv6
# 20 a second cost a seventh of a core; a network of 32 that starts brings 31 at once.
ARRIVALS_PER_S: Final = 20
ARRIVALS_BURST: Final = 256
PER_ADDRESS_PER_S: Final = 2
PER_ADDRESS_BURST: Final = 16
ADDRESSES_REMEMBERED_MAX: Final = 4096


@dataclass(slots=True, eq=False)
class Visit:
    """One socket that was let in: what it counts against, and since when."""

    address: str  # empty when no cap applies to it
    network: str
    since_ms: int  # when its handshake began
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What to do with a socket: `visit` if it is let in, `evicted` to be closed for it.

    With `wait_ms` its handshake may `begin` only then.
    """

    visit: Visit | None
    evicted: Visit | None = None
    why: str = ""
    wait_ms: int = 0


def place_of(ip: str) -> tuple[str, str]:
    """The address and the network an IP counts against; empty texts for one without caps."""
    try:
        found = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return "", ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_private or found.is_loopback or found.is_link_local:
        return "", ""
    narrow, wide = (32, 24) if found.version == 4 else (64, 48)
    return tuple(str(ipaddress.ip_network((found, bits), strict=False)) for bits in (narrow, wide))  # type: ignore[return-value]  # of two


class Arrivals:
    """All sockets others have opened to us.

    Args:
        now_ms: monotonic.

    Attributes:
        refused: sockets that were not let in, by reason.
        suspects: where banned peers came from.
    """

    def __init__(self, *, now_ms: int) -> None:
        self.suspects = Suspects()
        self.refused: Counter[str] = Counter()
        self._all = TokenBucket(rate_per_s=ARRIVALS_PER_S, burst=ARRIVALS_BURST, now_ms=now_ms)
        self._rates: dict[str, TokenBucket] = {}
        self._visits: set[Visit] = set()
        self._shaking: dict[Visit, None] = {}  # oldest first
        self._held: Counter[str] = Counter()  # by address and by network

    @property
    def open(self) -> int:
        """Sockets that are let in."""
        return len(self._visits)

    @property
    def shaking(self) -> int:
        """Of them, those whose handshake is under way."""
        return len(self._shaking)

    def enter(self, ip: str, *, now_ms: int) -> Entry:
        """Judge a socket that was just accepted.

        Args:
            ip: of the other side.
            now_ms: monotonic.
        """
        address, network = place_of(ip)
        why, wait_ms = self._has_no_room(address, network), 0
        if not why:
            found = self.suspects.wait_ms(ip, now_ms=now_ms)
            wait_ms, why = found or 0, "suspects" if found is None else ""
        why = why or self._is_too_soon(address, now_ms)
        if why:
            self.refused[why] += 1
            return Entry(None, why=why)
        visit = Visit(address, network, now_ms)
        entry = Entry(visit, wait_ms=wait_ms) if wait_ms else self.begin(visit, now_ms=now_ms)
        if entry.visit is not None:
            self._visits.add(visit)
            for place in filter(None, (address, network)):
                self._held[place] += 1
        return entry

    def begin(self, visit: Visit, *, now_ms: int) -> Entry:
        """Judge whether a visit's handshake may begin now; of one that had to wait, again."""
        evicted = None
        if len(self._shaking) >= HANDSHAKES_MAX:
            oldest = next(iter(self._shaking))
            if now_ms - oldest.since_ms < PATIENCE_MS:
                self.refused["handshakes"] += 1
                return Entry(None, why="handshakes")
            self.leave(oldest)
            self.refused["evicted"] += 1
            evicted = oldest
        visit.since_ms = now_ms
        self._shaking[visit] = None
        return Entry(visit, evicted)

    def settle(self, visit: Visit) -> None:
        """Note that its handshake is done."""
        visit.is_settled = True
        self._shaking.pop(visit, None)

    def leave(self, visit: Visit) -> None:
        """Note that its socket is closed; again and again is harmless."""
        if visit not in self._visits:
            return
        self._visits.remove(visit)
        self._shaking.pop(visit, None)
        for place in filter(None, (visit.address, visit.network)):
            self._held[place] -= 1
            if not self._held[place]:
                del self._held[place]

    def _has_no_room(self, address: str, network: str) -> str:
        if len(self._visits) >= SOCKETS_MAX:
            return "sockets"
        if address and self._held[address] >= PER_ADDRESS_MAX:
            return "address"
        return "network" if address and self._held[network] >= PER_NETWORK_MAX else ""

    def _is_too_soon(self, address: str, now_ms: int) -> str:
        if address and not self._rate(address, now_ms).take(now_ms=now_ms):
            return "address_rate"
        return "" if self._all.take(now_ms=now_ms) else "rate"

    def _rate(self, address: str, now_ms: int) -> TokenBucket:
        bucket = self._rates.get(address)
        if bucket is None:
            if len(self._rates) >= ADDRESSES_REMEMBERED_MAX:
                del self._rates[next(iter(self._rates))]
            bucket = self._rates[address] = TokenBucket(
                rate_per_s=PER_ADDRESS_PER_S, burst=PER_ADDRESS_BURST, now_ms=now_ms
            )
        return bucket
