"""A store of fetched files in memory: no threads beside which a clock of tests would run."""

from collections.abc import Sequence
from hashlib import sha256

import trio

from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import DagReader
from prsm.storage.errors import NotFound, SourceCorrupt
from prsm.storage.interfaces import Leaf


class MemoryLanding:
    """A file on its way into memory; what is in `written` had the right hash."""

    def __init__(self, root: Cid, size: int) -> None:
        self.root = root
        self.size = size
        self.written: dict[int, bytes] = {}
        self.wrong: list[bytes] = []  # what was handed in and had another hash
        self.refuses: PrsmError | None = None
        self._reader = DagReader(root, size)

    @property
    def verified_bytes(self) -> int:
        return sum(map(len, self.written.values()))

    def wanted_nodes(self) -> Sequence[bytes]:
        return self._reader.wanted()

    async def put_node(self, raw: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._reader.accept(raw)

    def missing(self) -> Sequence[Leaf]:
        return [leaf for leaf in self._reader.leaves() if leaf.index not in self.written]

    def holds(self, leaf: Leaf) -> bool:
        return leaf.index in self.written

    async def write_run(self, leaves: Sequence[Leaf], blocks: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        if len(blocks) > len(leaves):
            raise SourceCorrupt("surplus blocks", penalty=100)
        for leaf, block in zip(leaves, blocks, strict=False):
            if sha256(block).digest() != leaf.digest:
                self.wrong.append(block)
                raise SourceCorrupt(f"leaf {leaf.index}", penalty=100)
            self.written[leaf.index] = block


class MemoryFiles:
    """A `FileStore` in memory."""

    def __init__(self) -> None:
        self.files: dict[Cid, bytes] = {}
        self.partials: dict[Cid, MemoryLanding] = {}
        self.begun = 0

    async def has(self, root: Cid) -> bool:
        await trio.lowlevel.checkpoint()
        return root in self.files

    async def begin_fetch(self, root: Cid, size: int) -> MemoryLanding:
        await trio.lowlevel.checkpoint()
        self.begun += 1
        return self.partials.setdefault(root, MemoryLanding(root, size))

    async def end_fetch(self, partial: MemoryLanding) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        if not partial.wanted_nodes() and not partial.missing():
            written = sorted(partial.written.items())
            self.files[partial.root] = b"".join(block for _, block in written)

    async def load_manifest(self, cid: Cid) -> ModelManifest:
        await trio.lowlevel.checkpoint()
        raise NotFound(f"no manifest {cid}")

    async def save_manifest(self, manifest: ModelManifest) -> Cid:
        raise AssertionError(manifest.name)
