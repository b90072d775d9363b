"""When a node leaves the peers it was configured with, and when it comes back to them: pure.

Knows how many links of its own choice a node has, names, and times handed in. Must not know peers.
A bootstrap node has 120 places: were newcomers to keep all of them for ever, a network of 1,000
nodes that know 32 would leave most of its nodes outside (`prsm-testnet netsim first`). Two are kept
all the same: nobody else could choose them for us, so sybils that fill a quota and then fall silent
do not cut a node off (`netsim flash`).

Invariant: without a quota of its own a node never leaves; it leaves only after its quota was full
for a while, and is back as soon as half of it is gone.
"""

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

from prsm.node.net.addresses import Dice

FULL_MS: Final = 10_000  # links that young may still turn out to be none
SPREAD_MS: Final = 10_000  # or all that started together would leave together
KEPT: Final = 2
TURNED_AWAY_MS: Final = 30_000  # before a bootstrap node that had no place is dialled again

_Name = TypeVar("_Name", bound=Hashable)


class Seeds(Generic[_Name]):
    """Whether a node needs its bootstrap peers now.

    Args:
        quota: links it keeps by its own choice.
        dice: who draws.
    """

    def __init__(self, quota: int, dice: Dice) -> None:
        self._quota = quota
        self._dice = dice
        self._full_from_ms: int | None = None
        self._wait_ms = 0
        self.are_left = False
        self._kept: frozenset[_Name] = frozenset()

    def is_left(self, name: _Name) -> bool:
        """Whether a bootstrap peer need not be linked now."""
        return self.are_left and name not in self._kept

    def look(self, chosen: int, linked: Sequence[_Name], *, now_ms: int) -> bool:
        """Decide anew.

        Args:
            chosen: live links of the quota.
            linked: bootstrap peers that are linked; some of them are kept.
            now_ms: monotonic.

        Returns:
            Whether it is decided otherwise than before.
        """
        before = self.are_left
        if self.are_left:
            self.are_left = chosen >= max(1, self._quota // 2)
        elif not self._quota or chosen < self._quota:
            self._full_from_ms = None
        elif self._full_from_ms is None:
            self._full_from_ms = now_ms
            self._wait_ms = FULL_MS + self._dice.randrange(SPREAD_MS)
        elif now_ms - self._full_from_ms >= self._wait_ms:
            self.are_left, self._full_from_ms = True, None
            rest = list(linked)
            while len(rest) > KEPT:
                del rest[self._dice.randrange(len(rest))]
            self._kept = frozenset(rest)
        return self.are_left is not before
