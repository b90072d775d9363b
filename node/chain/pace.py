"""How large a block and how long a queue this machine and its peers can take now.

Pure: times are handed in. Knows how long the latest blocks took, and how many transactions they
held. Must not know what a block is or who proposed it.

A proposal is judged by everybody while a view's timer runs: one that is too large for slow judges
ends in a view change, and the next proposer would fail alike. A queue without bound is latency.
"""

from typing import Final, final

from prsm.protocol.limits import BLOCK_TRANSACTIONS_MAX

BLOCK_FIRST: Final = 500
# Judged in 15 ms by who checks every signature itself: below it a block is slow for other reasons.
BLOCK_MIN: Final = 200
# Half of the shortest view (`timeout_base_ms` 400): the other half is for votes and bad luck.
BLOCK_MS: Final = 200
QUEUE_MS: Final = 1_500  # of waiting that a new transaction may expect
QUEUE_MIN: Final = 5_000
_REMEMBER: Final = 8  # blocks of weight in the mean rate


@final
class Pace:
    """Bounds that follow what the last blocks showed."""

    def __init__(self, block_max: int = BLOCK_TRANSACTIONS_MAX) -> None:
        """Begin in the middle; `block_max` is the bound of the network."""
        self._block_max = block_max
        self._block = min(BLOCK_FIRST, block_max)
        self._rate = 0  # transactions a second, of blocks that were full
        self._last_ms: int | None = None

    def block(self, view: int) -> int:
        """Transactions that a proposal in this view may hold; half as many with each view."""
        return max(min(BLOCK_MIN, self._block_max), self._block >> min(view, 16))

    @property
    def queue(self) -> int:
        """Transactions that may wait."""
        return max(QUEUE_MIN, self._rate * QUEUE_MS // 1_000)

    def note(self, count: int, view: int, now_ms: int) -> None:
        """Learn from a block that is durable.

        Args:
            count: transactions in it.
            view: of its certificate; above 0 somebody gave up waiting.
            now_ms: monotonic.
        """
        last, self._last_ms = self._last_ms, now_ms
        if view:
            self._block = max(min(BLOCK_MIN, self._block_max), self._block * 3 // 4)
        if last is None or view or count < self._block * 9 // 10:
            return  # what was not full says nothing about how much would go
        took_ms = max(1, now_ms - last)
        rate = count * 1_000 // took_ms
        self._rate += (rate - self._rate) // _REMEMBER if self._rate else rate
        if took_ms < BLOCK_MS:
            self._block = min(self._block_max, self._block * 9 // 8)
