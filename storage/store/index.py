"""The port behind which the index of a store stands: which files and blocks are here, and for whom.

Knows: rows and what each call promises. Must not know: tables, files. SQLite stands behind it
(`blockstore`); a server's database may later. One battery, `tests/tools/index_battery.py`, runs
on every implementation.

Every call is one transaction: whole or absent, also when its caller is cancelled. Invariant kept
by callers: a row is written only after the data it speaks of is synced.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from prsm.storage.cid import Cid


class State(Enum):
    """Where a file is between its first byte and its use."""

    PARTIAL = "partial"  # leaves arrive; the bitmap says which are synced
    SEALING = "sealing"  # all bytes are synced, the file is about to get its name
    SEALED = "sealed"  # whole, named, read-only
    BAD = "bad"  # leaves lost or changed; only those are fetched again before it is served


@dataclass(frozen=True, slots=True)
class Use:
    """How much something is worth keeping.

    Attributes:
        heat: logarithm of the uses, each halved with age (`eviction.Uses`).
        used_ms: wall time of the last use, or of the last progress of a partial file.
    """

    heat: float = 0.0
    used_ms: int = 0


@dataclass(frozen=True, slots=True)
class RootRow:
    """A file of the store.

    Attributes:
        root: of the file.
        size: bytes of the whole file.
        state: where it is.
        stamp: inode, size, mtime and ctime of the sealed file: others mean somebody touched it.
        bitmap: bit i % 8 of byte i // 8 for each synced leaf of a partial file, for each good
            leaf of a bad one; empty: none.
        use: set when the row is new, then by `note_uses` only.
        scrub_next: the leaf the scrub goes on from; `note_scrub` sets it.
        scrubbed_ms: when the scrub last came to the end; 0: never.
    """

    root: Cid
    size: int
    state: State
    stamp: str = ""
    bitmap: bytes = b""
    use: Use = Use()
    scrub_next: int = 0
    scrubbed_ms: int = 0


@dataclass(frozen=True, slots=True)
class PinRow:
    """Somebody wants a root kept, here already or not; `why` says why it could not be fetched."""

    root: Cid
    name: str
    owner: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A block that somebody put by itself."""

    digest: bytes
    size: int
    use: Use = Use()


@dataclass(frozen=True, slots=True)
class Used:
    """Bytes by kind; a file on its way and a bad one count whole, since their room is taken.

    Attributes:
        count: files of every state, as a number.
    """

    files: int
    partial: int
    bad: int
    blocks: int
    count: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.files + self.partial + self.bad + self.blocks


class Index(Protocol):
    """What a store asks of its index; each call may raise `Full`, `StoreUnavailable`, `Corrupt`."""

    async def close(self) -> None:
        """End; a second call does nothing."""
        ...

    async def tidy(self) -> None:
        """Give back room that deleted rows took; called when nothing else is to do."""
        ...

    async def used(self) -> Used:
        """Return what files and blocks take."""
        ...

    async def pinned_bytes(self) -> int:
        """Return what files that have a name take, whatever their state."""
        ...

    async def bytes_of(self, roots: Collection[Cid]) -> int:
        """Return what those of these files that are known take, whatever their state."""
        ...

    async def get_root(self, root: Cid) -> RootRow | None:
        """Return the row of a file."""
        ...

    async def roots(self) -> Sequence[RootRow]:
        """Return all files, oldest first."""
        ...

    async def is_adopted(self) -> bool:
        """Say whether `note_adopted` was called since this index was made."""
        ...

    async def note_adopted(self) -> None:
        """Note that all files that were there before this index have their rows."""
        ...

    async def put_root(
        self,
        row: RootRow,
        nodes: Sequence[bytes] = (),
        leaves: Sequence[bytes] = (),
        *,
        pin: PinRow | None = None,
    ) -> None:
        """Write size, state, stamp and bitmap of a file; use and scrub only of a new one.

        Args:
            row: of the file.
            nodes: interior nodes that are kept as long as the file is known.
            leaves: digests of all leaves in order, so that `find_leaves` knows them; empty:
                those it knows stay.
            pin: written with it.
        """
        ...

    async def note_progress(self, root: Cid, bitmap: bytes, now_ms: int) -> None:
        """Note which leaves of a partial file are synced; does nothing to any other file."""
        ...

    async def note_uses(self, files: Mapping[Cid, Use], blocks: Mapping[bytes, Use]) -> None:
        """Note how much files and blocks were used; unknown ones are passed over."""
        ...

    async def note_scrub(self, root: Cid, next_leaf: int, scrubbed_ms: int) -> None:
        """Note how far the scrub of a file has come."""
        ...

    async def remove_root(self, root: Cid, *, even_pinned: bool = False) -> None:
        """Forget a file, its leaves, and the nodes that nothing else shares.

        Raises:
            NotFound: there is none.
            Conflict: it is pinned.
        """
        ...

    async def remove_roots(self, roots: Collection[Cid], names: Collection[str]) -> None:
        """Give names up and forget the files they kept, all or none; those not here are no error.

        Raises:
            Conflict: one is pinned under another name.
        """
        ...

    async def unlisted(self) -> Sequence[Cid]:
        """Return sealed files of which `find_leaves` knows no leaf."""
        ...

    async def find_leaves(self, digests: Sequence[bytes]) -> Mapping[bytes, tuple[Cid, int]]:
        """Return a sealed file, and a place in it, of each leaf that is known."""
        ...

    async def put_blocks(self, owner: bytes, blocks: Sequence[bytes], use: Use = Use()) -> None:
        """Keep blocks for an owner; a block is stored once, whoever else owns it."""
        ...

    async def get_block(self, digest: bytes) -> bytes:
        """Return a block, checked against its digest.

        Raises:
            NotFound: it is not here.
            Corrupt: the index holds other bytes under that digest.
        """
        ...

    async def held_blocks(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Return the sizes of those blocks that are here."""
        ...

    async def drop_blocks(self, owner: bytes, digests: Sequence[bytes]) -> int:
        """Give blocks up, and forget those nobody else owns; returns how many the owner had."""
        ...

    async def owned_blocks(self, owner: bytes) -> Sequence[BlockRow]:
        """Return the blocks of an owner, in order of their digests."""
        ...

    async def put_manifest(self, raw: bytes) -> Cid:
        """Keep a manifest; its CID is the raw hash of its bytes."""
        ...

    async def remove_manifest(self, cid: Cid) -> None:
        """Forget a manifest.

        Raises:
            NotFound: there is none.
        """
        ...

    async def manifests(self) -> Sequence[Cid]:
        """Return the manifests here, in order of their CIDs."""
        ...

    async def pin(self, pin: PinRow) -> None:
        """Keep a root under a name; written again it takes the new owner and reason."""
        ...

    async def unpin(self, root: Cid, name: str) -> None:
        """Give a name up.

        Raises:
            NotFound: no such pin.
        """
        ...

    async def pins(self) -> Sequence[PinRow]:
        """Return all pins, by root and name."""
        ...
