"""What one IPFS peer wants of this node, in the order it is answered. Pure.

Knows CIDs as the peer wrote them. Must not know streams, stores or what is here. Source:
docs/spec/storage.md, "Bitswap".

Invariants: at most `WANTS_MAX` wait, whatever the peer sends; each is answered once; what is
cancelled before its turn is never answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.node.net.bitswap.wire import Entry, Presence, digest_of

WANTS_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Want:
    """A want that waits.

    Attributes:
        cid: as the peer wrote it.
        digest: sha2-256.
        is_have: only whether it is here.
        send_dont_have: an answer is wanted in any case.
    """

    cid: bytes
    digest: bytes
    is_have: bool
    send_dont_have: bool


class Wanted:
    """The wants of one peer."""

    def __init__(self) -> None:
        self.surplus = 0  # wants that found no room
        self._wants: dict[bytes, Want] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._wants)

    def take(self, entries: Sequence[Entry], *, is_full: bool) -> list[tuple[bytes, Presence]]:
        """Take a wantlist in.

        Args:
            entries: of one message.
            is_full: they replace all before them.

        Returns:
            What is to be answered at once: hashes this node never holds, and what has no room.
        """
        if is_full:
            self._wants.clear()
        refused = []
        for entry in entries:
            if entry.is_cancel:
                self._wants.pop(entry.cid, None)
                continue
            digest = digest_of(entry.cid)
            has_room = entry.cid in self._wants or len(self._wants) < WANTS_MAX
            if digest is not None and has_room:
                want = Want(entry.cid, digest, entry.is_have, entry.send_dont_have)
                self._wants[entry.cid] = want
                continue
            self.surplus += digest is not None
            if entry.send_dont_have or entry.is_have:
                refused.append((entry.cid, Presence.DONT_HAVE))
        return refused

    def next(self) -> Want | None:
        """Take out whose turn it is; None when nothing waits."""
        if not self._wants:
            return None
        return self._wants.pop(next(iter(self._wants)))

    def put_back(self, want: Want) -> None:
        """Take a want whose answer was not written in front of all others."""
        self._wants = {want.cid: want} | self._wants
