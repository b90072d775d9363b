"""The battery every `Source` passes: right, missing, cancelled. Faults are `exchange`'s tests."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.cid import hash_block
from prsm.storage.errors import NotFound
from prsm.storage.interfaces import Leaf, Source
from prsm.storage.store.model_store import ModelStore

MIB = 1 << 20
DATA = Random(9).randbytes(9 * MIB + 5)

# Opens a source that serves what is in the given store, which holds DATA.
MakeSource = Callable[[ModelStore], AbstractAsyncContextManager[Source]]


async def check_source(folder: Path, make: MakeSource) -> None:
    """Run the battery.

    Args:
        folder: an empty one, for the store behind the source.
        make: opens the source.
    """
    (folder / "data").write_bytes(DATA)
    (folder / "tiny").write_bytes(b"tiny")
    store = await ModelStore.open(folder / "store", quota=100 * MIB)
    try:
        big = (await store.add_file(folder / "data")).root
        tiny = (await store.add_file(folder / "tiny")).root
        with trio.fail_after(30):
            async with make(store) as source:
                assert source.name
                have = await source.have(big)
                if have is not None:
                    assert (have.size, have.leaves, have.bitset) == (len(DATA), 10, b"\xff\x03")
                node = await source.node(big.digest)
                assert sha256(node).digest() == big.digest
                for first, count in ((0, 1), (0, 8), (8, 2), (9, 1)):
                    wanted = _leaves(first, count)
                    blocks = await source.fetch(big, wanted)
                    assert 1 <= len(blocks) <= count
                    assert list(blocks) == [_chunk(leaf.index) for leaf in wanted][: len(blocks)]
                leaf = Leaf(0, tiny.digest, 4)
                assert list(await source.fetch(tiny, (leaf,))) == [b"tiny"]
                await _check_missing(source)
                await _check_cancelled(source, big.digest)
    finally:
        await store.close()


async def _check_missing(source: Source) -> None:
    root = hash_block(b"nobody has this")
    with suppress(NotFound):
        assert await source.have(root) is None  # it cannot tell
    with pytest.raises(NotFound):
        await source.node(root.digest)
    with pytest.raises(NotFound):
        await source.fetch(root, (Leaf(0, root.digest, 15),))


async def _check_cancelled(source: Source, digest: bytes) -> None:
    """A cancelled call raises Cancelled, and the next one works."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await source.node(digest)
    assert scope.cancelled_caught
    assert sha256(await source.node(digest)).digest() == digest


def _chunk(index: int) -> bytes:
    return DATA[index * MIB : (index + 1) * MIB]


def _leaves(first: int, count: int) -> Sequence[Leaf]:
    return tuple(
        Leaf(index, sha256(_chunk(index)).digest(), len(_chunk(index)))
        for index in range(first, first + count)
    )
