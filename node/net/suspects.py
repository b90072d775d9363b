"""Places that banned peers keep coming from: their newcomers are let in one after the other.

Knows IP addresses and times handed in. Must not know sockets, peers or faults. A ban stops a key,
not an attacker, who comes back at once as somebody else, from where he was: on loopback and in
private ranges, which have no rate of arrivals, each of his lives cost its victim 20 ms.

Invariants: a place nobody was banned from waits for nothing; of one that some were, `GAP_MS` lie
between two handshakes, nobody waits longer than `WAIT_MS_MAX`, and that is forgotten with time.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

# Honest peers are banned for faults of their program, one by one; attackers several a second.
OFFENCES_FORGIVEN: Final = 8
OFFENCES_MAX: Final = 16  # remembered of a place: twenty seconds after the last it is like others
OFFENCE_FADES_MS: Final = 2_000
GAP_MS: Final = 500  # as often as one public address may come (`arrivals`)
# Of a dialler's five seconds; whoever would wait longer is sent away and dials anew.
WAIT_MS_MAX: Final = 3_000
PLACES_MAX: Final = 4096

assert OFFENCE_FADES_MS > GAP_MS  # else who is let in and banned, again and again, is forgiven


@dataclass(slots=True)
class _Place:
    offences: int = 0
    since_ms: int = 0  # when the first of them was counted, moved on as they fade
    free_ms: int = 0  # when the next newcomer has his turn


def place_of(ip: str) -> str:
    """What an IP counts as here: itself, or the /64 of IPv6; as it is when it is none."""
    try:
        found = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(found)


class Suspects:
    """The places, and whose turn it is."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}  # the one that offended longest ago first

    def __len__(self) -> int:
        return len(self._places)

    def offend(self, ip: str, *, now_ms: int) -> None:
        """Count a banned peer that came from there."""
        name = place_of(ip)
        place = self._places.pop(name, None)
        if place is None:
            if len(self._places) >= PLACES_MAX:
                del self._places[next(iter(self._places))]
            place = _Place(since_ms=now_ms)
        self._fade(place, now_ms)
        place.offences = min(OFFENCES_MAX, place.offences + 1)
        self._places[name] = place

    def wait_ms(self, ip: str, *, now_ms: int) -> int | None:
        """Give a newcomer his turn: milliseconds until then; None when too many wait."""
        name = place_of(ip)
        place = self._places.get(name)
        if place is None:
            return 0
        self._fade(place, now_ms)
        if place.offences <= OFFENCES_FORGIVEN:
            if not place.offences:
                del self._places[name]
            return 0
        turn_ms = max(now_ms, place.free_ms)
        if turn_ms - now_ms > WAIT_MS_MAX:
            return None
        place.free_ms = turn_ms + GAP_MS
        return turn_ms - now_ms

    @staticmethod
    def _fade(place: _Place, now_ms: int) -> None:
        faded = (now_ms - place.since_ms) // OFFENCE_FADES_MS
        place.offences = max(0, place.offences - faded)
        place.since_ms += faded * OFFENCE_FADES_MS
