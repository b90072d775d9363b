"""A file on its way here; `write_run` hashes before it writes, and the bitmap outlives a crash.

Knows: the partial file, its leaves, its row. Must not know: where bytes come from.

Invariants: bytes that do not match their leaf never reach the disk; a bit is written to the
index only after its leaf is synced, every 64 MiB, so a killed process fetches at most that much
twice.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import DagReader
from prsm.storage.disk import disk_error
from prsm.storage.errors import Corrupt, NotFound, SourceCorrupt
from prsm.storage.interfaces import Leaf
from prsm.storage.store.index import Index, RootRow

FLUSH_BYTES: Final = 64 * MIB


class Partial:
    """One file being fetched; several tasks may write; `close` it to go on later."""

    def __init__(
        self,
        index: Index,
        path: Path,
        row: RootRow,
        limiter: trio.CapacityLimiter,
        now_ms: Callable[[], int],
    ) -> None:
        """Wrap an open partial file; `ModelStore.begin_fetch` is the way in."""
        self._index = index
        self._now_ms = now_ms
        self._places: dict[bytes, int] = {}
        self._path = path
        self._row = row
        self._limiter = limiter
        self._reader = DagReader(row.root, row.size)
        self._descriptor = -1
        self._bitmap = bytearray(row.bitmap or bytes((self._reader.shape.leaves + 7) // 8))
        self._dirty_bytes = 0

    async def open(self) -> None:
        """Reserve the file's full size, and read the nodes an earlier session has stored.

        Raises:
            Full: the disk has no room for the whole file.
            StoreUnavailable: the disk refused.
            BadDag: the stored nodes are none of this file.
        """
        await trio.to_thread.run_sync(self._reserve, limiter=self._limiter)
        try:
            while wanted := self._reader.wanted():
                self._reader.accept(await self._index.get_block(wanted[0]))
        except (NotFound, Corrupt):  # a damaged one is fetched and written again
            return

    @property
    def root(self) -> Cid:
        """What is fetched."""
        return self._row.root

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._row.size

    @property
    def bitmap(self) -> bytes:
        """Which leaves are here: bit i % 8 of byte i // 8."""
        return bytes(self._bitmap)

    @property
    def verified_bytes(self) -> int:
        """Bytes that are here and right."""
        shape = self._reader.shape
        last = shape.leaves - 1
        full = sum(bits.bit_count() for bits in self._bitmap)
        short = shape.profile.chunk - shape.bytes_below(0, last) if self._has(last) else 0
        return full * shape.profile.chunk - short

    def wanted_nodes(self) -> Sequence[bytes]:
        """Return digests of the interior nodes needed before leaves can be asked for."""
        return self._reader.wanted()

    async def put_node(self, raw: bytes) -> None:
        """Take an interior node.

        Raises:
            BadDag: not one that is wanted, or of another shape than this file's.
        """
        self._reader.accept(raw)
        await self._index.put_blocks(self.root.raw, (raw,))

    def missing(self) -> Sequence[Leaf]:
        """Return the leaves that are not here, in order; only when no node is wanted."""
        return [leaf for leaf in self._reader.leaves() if not self._has(leaf.index)]

    def holds(self, leaf: Leaf) -> bool:
        """Say whether a leaf is here and right."""
        return self._has(leaf.index)

    def digests(self) -> Sequence[bytes]:
        """Return the digests of all leaves in order; only when no node is wanted."""
        return [leaf.digest for leaf in self._reader.leaves()]

    def find(self, digest: bytes) -> Leaf | None:
        """Return the leaf of a digest if it is here."""
        if self._reader.wanted():
            return None
        if not self._places:
            self._places = {leaf.digest: leaf.index for leaf in reversed(self._reader.leaves())}
        place = self._places.get(digest)
        return None if place is None or not self._has(place) else self._reader.leaves()[place]

    async def write_run(self, leaves: Sequence[Leaf], blocks: Sequence[bytes]) -> None:
        """Hash and write leaves in one thread hop, up to the first that does not match.

        Args:
            leaves: of `missing()`, in any order.
            blocks: bytes of as many of them, from the first on.

        Raises:
            SourceCorrupt: a block of another hash or size, or more blocks than leaves; it and
                those after it were not written.
            Full, StoreUnavailable: the disk refused.
        """
        written, fault = await trio.to_thread.run_sync(
            self._write, leaves, blocks, limiter=self._limiter
        )
        for leaf in written:
            self._bitmap[leaf.index // 8] |= 1 << leaf.index % 8
            self._dirty_bytes += leaf.size
        if self._dirty_bytes >= FLUSH_BYTES:
            await self.flush()
        if fault is not None:
            raise fault

    async def flush(self) -> None:
        """Sync what was written and note it in the index.

        Raises:
            Full, StoreUnavailable: the disk refused; the index still tells the truth.
        """
        if self._dirty_bytes:
            # Other runs may be written meanwhile: the bitmap is of before the sync.
            bitmap, dirty, self._dirty_bytes = bytes(self._bitmap), self._dirty_bytes, 0
            try:
                await trio.to_thread.run_sync(self._sync, limiter=self._limiter)
            except BaseException:
                self._dirty_bytes += dirty
                raise
            await self._index.note_progress(self.root, bitmap, self._now_ms())

    async def close(self) -> None:
        """Stop for now; a later `begin_fetch` goes on from here."""
        with trio.CancelScope(shield=True):
            try:
                if self._descriptor >= 0:
                    await self.flush()
            finally:
                self._shut()

    def read(self, leaf: Leaf) -> bytes:
        """Return a leaf that is here, in the caller's thread.

        Raises:
            NotFound: it is not here.
            StoreUnavailable: the disk refused.
        """
        if not self._has(leaf.index) or self._descriptor < 0:
            raise NotFound(f"leaf {leaf.index} of {self.root} is not here yet")
        offset = leaf.index * self._reader.shape.profile.chunk
        try:
            return os.pread(self._descriptor, leaf.size, offset)
        except OSError as error:
            raise disk_error(error, str(self._path)) from error

    def leaf(self, index: int) -> Leaf:
        """Return the leaf at a place; only when no node is wanted.

        Raises:
            NotFound: behind the end, or the nodes are not here yet.
        """
        if self._reader.wanted() or not 0 <= index < self._reader.shape.leaves:
            raise NotFound(f"leaf {index} of {self.root} is not known here")
        return self._reader.leaves()[index]

    def _has(self, index: int) -> bool:
        return bool(self._bitmap[index // 8] >> index % 8 & 1)

    def _reserve(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self.size:
                os.posix_fallocate(self._descriptor, 0, self.size)
        except OSError as error:
            self._shut()
            raise disk_error(error, str(self._path)) from error

    def _write(
        self, leaves: Sequence[Leaf], blocks: Sequence[bytes]
    ) -> tuple[list[Leaf], LocalError | SourceCorrupt | None]:
        written: list[Leaf] = []
        if len(blocks) > len(leaves):
            return written, SourceCorrupt(f"{len(blocks)} blocks for {len(leaves)} leaves")
        for leaf, data in zip(leaves, blocks, strict=False):
            digest = hashlib.sha256(data).digest()
            if digest != leaf.digest or len(data) != leaf.size:
                what = f"leaf {leaf.index} of {self.root}: {len(data)} bytes of {digest.hex()}"
                return written, SourceCorrupt(what, penalty=100)
            try:
                self._pwrite(data, leaf.index * self._reader.shape.profile.chunk)
            except OSError as error:
                return written, disk_error(error, str(self._path))
            written.append(leaf)
        return written, None

    def _pwrite(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[count:], offset + count

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise disk_error(error, str(self._path)) from error

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
