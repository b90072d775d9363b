"""Memory watched: when a node grows beyond its bound, the peers that hold most of it go.

Knows bytes: of the process (Linux), and of what is kept for each peer. Must not know what they
are. Whoever makes a node keep much, by sending what nobody reads or by not reading what it asked
for, is dropped, not banned: a slow link looks the same.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio

from prsm.node.memory import rss_bytes
from prsm.node.net.interface import PeerUnreachable
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB, MIB

SAMPLE_S: Final = 1.0
# Below this nobody is worth dropping: a kept stream in full use holds as much.
HELD_BYTES_MIN: Final = 256 * KIB
# Of the bound, what all peers together may hold even while the process is small.
HELD_SHARE: Final = 4
DROPPED_AT_ONCE: Final = 8
MEMORY_BYTES_DEFAULT: Final = 1024 * MIB
REMIND_S: Final = 60.0

log = logging.getLogger(__name__)


def choose(rss_bytes: int, limit_bytes: int, held: Mapping[PeerId, int]) -> tuple[PeerId, ...]:
    """Pick the peers to drop: those that hold most, until what is too much is covered.

    Args:
        rss_bytes: of the process.
        limit_bytes: bound of it.
        held: bytes kept for each peer.
    """
    excess = max(rss_bytes - limit_bytes, sum(held.values()) - limit_bytes // HELD_SHARE)
    chosen: list[PeerId] = []
    for peer in sorted(held, key=lambda peer: (-held[peer], peer)):
        if excess <= 0 or held[peer] < HELD_BYTES_MIN or len(chosen) >= DROPPED_AT_ONCE:
            break
        chosen.append(peer)
        excess -= held[peer]
    return tuple(chosen)


class Watch:
    """Looks once a second, as long as it runs.

    Args:
        limit_bytes: bound of the process.
        held: bytes kept for each peer now.
        drop: closes a peer's connection.
        rss: memory of the process.
    """

    def __init__(
        self,
        limit_bytes: int,
        held: Callable[[], Mapping[PeerId, int]],
        drop: Callable[[PeerId, PrsmError], None],
        *,
        rss: Callable[[], int] = rss_bytes,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.dropped = 0
        self._held = held
        self._drop = drop
        self._rss = rss
        self._said_at = -REMIND_S

    def held_bytes(self) -> int:
        """What is kept for all peers together."""
        return sum(self._held().values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look and drop until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(SAMPLE_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        rss, held = self._rss(), self._held()
        chosen = choose(rss, self.limit_bytes, held)
        for peer in chosen:
            what = f"{held[peer]} bytes are kept for it, the node has {rss} of {self.limit_bytes}"
            log.warning("peer %s is dropped: %s", peer, what)
            self.dropped += 1
            self._drop(peer, PeerUnreachable(f"peer {peer} was dropped: {what}"))
        if rss > self.limit_bytes and not chosen and trio.current_time() - self._said_at > REMIND_S:
            self._said_at = trio.current_time()
            log.warning(
                "%d bytes of memory, at most %d, and no peer holds them", rss, self.limit_bytes
            )
