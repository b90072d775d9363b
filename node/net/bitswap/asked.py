"""What this node has asked one IPFS peer for: whole windows, and who waits for what. Pure.

Knows digests, windows and times handed in. Must not know streams or bytes. Helia 5.5.1 sends every
unfinished block again on each further message of wants, so the next window is asked for when the
last one is empty; js-ipfs loses wants, so what does not come is asked for again.

Invariants: a digest is open or pending, never both; what is neither was not asked for, and a
block of it is the sender's own idea.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid

# Blocks on their way from one peer; 16 to 64 ran best with Helia. Blocks of 256 KiB take the wide
# one, so that 16 MiB are on their way in either case.
WINDOW: Final = 16
WINDOW_WIDE: Final = 64
WINDOW_BYTES: Final = 16 * MIB
REASK_MS: Final = 2_000
REASKS_MAX: Final = 3
PENDING_MAX: Final = 1_024


@dataclass(slots=True, eq=False)
class Ask:
    """Blocks one caller waits for.

    Attributes:
        wanted: in the caller's order.
        got: blocks by digest; None: the peer says that it does not hold it.
    """

    wanted: tuple[Cid, ...]
    got: dict[bytes, bytes | None] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether every block came or is refused, or one before which nothing helps."""
        return len(self.got) == len({cid.digest for cid in self.wanted})

    def prefix(self) -> list[bytes]:
        """The blocks up to the first that did not come."""
        blocks: list[bytes] = []
        for cid in self.wanted:
            block = self.got.get(cid.digest)
            if block is None:
                break
            blocks.append(block)
        return blocks

    @property
    def is_refused(self) -> bool:
        """Whether the peer says that it does not hold the first."""
        first = self.wanted[0].digest
        return first in self.got and self.got[first] is None


class Asked:
    """All asks of one peer."""

    def __init__(self) -> None:
        self._open: dict[bytes, Cid] = {}
        self._pending: dict[bytes, Cid] = {}
        self._asks: list[Ask] = []
        self._window = WINDOW
        self._moved_ms = 0
        self._reasked = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked for."""
        return not self._asks

    def add(self, ask: Ask) -> bool:
        """Note an ask; False when too much is asked for already."""
        fresh = {cid.digest: cid for cid in ask.wanted if cid.digest not in self._open}
        if len(self._pending) + len(fresh) > PENDING_MAX:
            return False
        self._pending.update(fresh)
        self._asks.append(ask)
        return True

    def drop(self, ask: Ask) -> list[Cid]:
        """Forget an ask; returns what was asked for and nobody else waits for."""
        self._asks.remove(ask)
        still = {cid.digest for each in self._asks for cid in each.wanted}
        gone = [cid.digest for cid in ask.wanted if cid.digest not in still]
        for digest in gone:
            self._pending.pop(digest, None)
        found = (self._open.pop(digest, None) for digest in gone)
        return [cid for cid in found if cid is not None]

    def window(self, *, now_ms: int) -> list[Cid]:
        """What to ask for now: the next window if the last is empty, or what is late, again.

        Args:
            now_ms: monotonic.
        """
        if self._open:
            if now_ms - self._moved_ms < REASK_MS or self._reasked >= REASKS_MAX:
                return []
            self._reasked += 1
            self._moved_ms = now_ms
            return list(self._open.values())
        chosen = list(self._pending)[: self._window]
        self._open = {digest: self._pending.pop(digest) for digest in chosen}
        self._moved_ms, self._reasked = now_ms, 0
        return list(self._open.values())

    def stalled(self, *, now_ms: int) -> bool:
        """Whether what is open did not come although it was asked for again and again."""
        late = now_ms - self._moved_ms >= REASK_MS
        return bool(self._open) and self._reasked >= REASKS_MAX and late

    def settle(self, digest: bytes, block: bytes | None, *, now_ms: int) -> list[Ask]:
        """Note a block, or that the peer lacks it; returns the asks that are done by it."""
        del self._open[digest]
        self._moved_ms, self._reasked = now_ms, 0
        if block:
            self._window = min(WINDOW_WIDE, max(WINDOW, WINDOW_BYTES // len(block)))
        done = []
        for ask in self._asks:
            if any(cid.digest == digest for cid in ask.wanted):
                ask.got[digest] = block
                if ask.is_done:
                    done.append(ask)
        return done

    def expects(self, digest: bytes) -> bool:
        """Whether it was asked for and has not come."""
        return digest in self._open

    def waiting(self) -> Iterable[Ask]:
        """The asks that are not done."""
        return tuple(self._asks)
