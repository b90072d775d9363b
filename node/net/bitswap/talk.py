"""What goes on with one peer, both ways: what waits to be written, and who waits for answers.

Knows asks, wants and words. Must not know streams, stores or other peers.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.net.bitswap.asked import Ask, Asked
from prsm.node.net.bitswap.wanted import Wanted
from prsm.node.net.bitswap.wire import Presence
from prsm.storage.cid import Cid
from prsm.storage.errors import SourceFailed

CONTROL_MAX: Final = 64  # cancels and probes that wait to be written


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who waits for an ask."""

    done: trio.Event = field(default_factory=trio.Event)
    error: SourceFailed | None = None


@dataclass(slots=True, eq=False)
class Probe:
    """Somebody who waits to hear whether a block is there."""

    cid: Cid
    answer: Presence | None = None
    done: trio.Event = field(default_factory=trio.Event)


class Talk:
    """What goes on with one peer."""

    def __init__(self) -> None:
        self.wanted = Wanted()
        self.asked = Asked()
        self.waiting: dict[Ask, Waiting] = {}
        self.probes: list[Probe] = []
        self.control: deque[bytes] = deque(maxlen=CONTROL_MAX)
        self.told: list[tuple[bytes, Presence]] = []
        self.wake = trio.Event()
        self.scope: trio.CancelScope | None = None  # of its sender

    @property
    def has_work(self) -> bool:
        """Whether there is something to write, or to wait for."""
        return bool(self.control or self.told or len(self.wanted) or not self.asked.is_idle)

    def fail(self, error: SourceFailed) -> None:
        """Tell everybody who waits."""
        for ask in self.asked.waiting():
            waiting = self.waiting[ask]
            waiting.error = waiting.error or error
            waiting.done.set()
        for probe in self.probes:
            probe.done.set()
