"""A few dials at a time: a node that starts among many peers reaches all of them sooner.

Knows how many dials are young. Must not know whom they are for. Thirty handshakes at once take so
much of a busy processor that all of them miss their deadline together, and again at each attempt;
and whoever waits here may meanwhile be dialled by the peer itself. A dial that got no answer for a
while lets the next one begin, since it only waits for a packet.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

DIALS_AT_ONCE: Final = 4  # some 15 ms of a processor each
YOUNG_S: Final = 1.0


class Dials:
    """The dials of a node that are under way."""

    def __init__(self) -> None:
        self._began_s: dict[object, float] = {}
        self._ended = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until fewer than `DIALS_AT_ONCE` are younger than `YOUNG_S`; then be one of them."""
        await trio.lowlevel.checkpoint()
        while len(young := self._young()) >= DIALS_AT_ONCE:
            with trio.move_on_at(min(young) + YOUNG_S):
                await self._ended.park()
        dial = object()
        self._began_s[dial] = trio.current_time()
        try:
            yield
        finally:
            del self._began_s[dial]
            self._ended.unpark()

    def _young(self) -> list[float]:
        now = trio.current_time()
        return [began for began in self._began_s.values() if now < began + YOUNG_S]
