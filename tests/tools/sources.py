"""Sources of blocks for tests: one that serves a store in memory, and faults to wrap it in."""

from collections.abc import Sequence
from enum import Enum

import trio

from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.errors import NotFound, SourceBroken, SourceDown
from prsm.storage.interfaces import Leaf, Source
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.sealed import full_bitmap


class StoreSource:
    """Serves another store in the same process."""

    def __init__(self, store: ModelStore, name: str = "store") -> None:
        self.name = name
        self._store = store

    async def have(self, root: Cid) -> Have | None:
        return await self._store.have(root)

    async def node(self, digest: bytes) -> bytes:
        return await self._store.get_block(digest)

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        return await self._store.read_leaves(root, wanted[0].index, len(wanted))


class MemorySource:
    """Serves one file without threads, so that a clock of tests does not run while it answers."""

    def __init__(self, data: bytes, name: str = "memory") -> None:
        chunk = UNIXFS_V1_2025.chunk
        self.name = name
        self._chunks = [data[i : i + chunk] for i in range(0, len(data), chunk)] or [b""]
        self._nodes: dict[bytes, bytes] = {}
        dag = import_chunks(self._chunks, profile=UNIXFS_V1_2025, keep=self._keep)
        self.root, self._size = dag.root, dag.size

    async def have(self, root: Cid) -> Have | None:
        await trio.lowlevel.checkpoint()
        self._check(root)
        return Have(self._size, len(self._chunks), full_bitmap(len(self._chunks)))

    async def node(self, digest: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if digest not in self._nodes:
            raise NotFound(f"no block {digest.hex()[:16]}")
        return self._nodes[digest]

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        self._check(root)
        return [self._chunks[leaf.index] for leaf in wanted]

    async def leaf(self, index: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._chunks[index]

    def _check(self, root: Cid) -> None:
        if root != self.root:
            raise NotFound(f"{root} is another file")

    def _keep(self, cid: Cid, raw: bytes) -> None:
        self._nodes[cid.digest] = raw


class Trouble(Enum):
    """What a source may do instead of serving."""

    NONE = "none"
    DOWN = "down"  # refuses every call
    HANG = "hang"  # never answers
    CUT = "cut"  # breaks off at the leaves
    WRONG = "wrong"  # right lengths, wrong bytes
    SHORT = "short"  # a byte less in each block
    SURPLUS = "surplus"  # blocks nobody asked for
    EMPTY = "empty"  # an answer without blocks
    BLIND = "blind"  # cannot tell what it holds
    LIAR = "liar"  # says it holds all, and at the leaves that it does not
    ONE = "one"  # answers one leaf at a time
    ODD = "odd"  # holds leaves of odd index only


class TroubledSource:
    """Wraps a source; counts what it was asked."""

    def __init__(self, inner: Source, trouble: Trouble, name: str) -> None:
        self.name = name
        self.asked: list[tuple[int, ...]] = []
        self._inner = inner
        self._trouble = trouble

    async def have(self, root: Cid) -> Have | None:
        await self._call()
        have = await self._inner.have(root)
        assert have is not None
        if self._trouble is Trouble.ODD:
            return Have(have.size, have.leaves, b"\xaa" * len(have.bitset))
        return None if self._trouble is Trouble.BLIND else have

    async def node(self, digest: bytes) -> bytes:
        await self._call()
        return self._spoil(await self._inner.node(digest))

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        self.asked.append(tuple(leaf.index for leaf in wanted))
        await self._call()
        blocks = [self._spoil(block) for block in await self._inner.fetch(root, wanted)]
        match self._trouble:
            case Trouble.CUT:
                raise SourceBroken(f"{self.name} broke off")
            case Trouble.LIAR:
                raise NotFound(f"{self.name} does not hold that")
            case Trouble.SURPLUS:
                return [*blocks, b"surplus"]
            case Trouble.EMPTY:
                return []
            case Trouble.ONE:
                return blocks[:1]
            case _:
                return blocks

    async def _call(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._trouble is Trouble.DOWN:
            raise SourceDown(f"{self.name} is down")
        if self._trouble is Trouble.HANG:
            await trio.sleep_forever()

    def _spoil(self, block: bytes) -> bytes:
        if self._trouble is Trouble.WRONG:
            return bytes(byte ^ 1 for byte in block[:16]) + block[16:]
        return block[:-1] if self._trouble is Trouble.SHORT else block
