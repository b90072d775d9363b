"""The battery every block store passes: put, get, held, delete, owners, refusals, reopening."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest
import trio

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.storage.errors import Full, NotFound, WrongHash
from prsm.storage.store.model_store import ModelStore

QUOTA = 100_000

# Opens a store of QUOTA bytes, the same one again when it is called a second time.
MakeStore = Callable[[], Awaitable[ModelStore]]


async def check_block_store(make: MakeStore) -> None:
    """Run the battery.

    Args:
        make: opens a store that is empty the first time.
    """
    store = await make()
    await _put_and_get(store)
    await _owners(store)
    await _refusals(store)
    await _cache(store)
    await store.blocks.put_many([b"kept"], owner="me")
    await store.close()
    store = await make()
    assert await store.blocks.get(_digest(b"kept")) == b"kept"
    assert list(await store.blocks.owned("me")) == [_digest(b"kept")]
    await store.close()


def _digest(raw: bytes) -> bytes:
    return sha256(raw).digest()


async def _put_and_get(store: ModelStore) -> None:
    raws = [b"", b"one", bytes(3000)]
    async with trio.open_nursery() as nursery:
        for raw in raws * 2:  # twice at once is once
            nursery.start_soon(store.blocks.put, _digest(raw), raw)
    assert await store.used_bytes() == sum(map(len, raws))
    for raw in raws:
        assert await store.blocks.get(_digest(raw)) == raw
    asked = [*map(_digest, raws), _digest(b"none")]
    assert await store.blocks.held(asked) == {_digest(raw): len(raw) for raw in raws}
    assert list(await store.blocks.owned("")) == sorted(map(_digest, raws))
    for raw in raws:
        await store.blocks.delete(_digest(raw))
    assert await store.blocks.held(asked) == {}
    with pytest.raises(NotFound):
        await store.blocks.get(_digest(b"one"))
    with pytest.raises(NotFound):
        await store.blocks.delete(_digest(b"one"))
    await store.blocks.put_many([])
    assert await store.used_bytes() == 0


async def _owners(store: ModelStore) -> None:
    digest = _digest(b"shared")
    await store.blocks.put(digest, b"shared", owner="a")
    await store.blocks.put(digest, b"shared", owner="b")
    await store.blocks.put(digest, b"shared")
    assert await store.used_bytes() == len(b"shared")
    with pytest.raises(NotFound):
        await store.blocks.delete(digest, owner="c")
    await store.blocks.delete(digest, owner="a")
    await store.blocks.delete(digest)
    assert await store.blocks.get(digest) == b"shared"
    await store.blocks.delete(digest, owner="b")
    assert await store.blocks.held([digest]) == {}


async def _refusals(store: ModelStore) -> None:
    with pytest.raises(WrongHash):
        await store.blocks.put(_digest(b"x"), b"y")
    with pytest.raises(LocalError, match=f"at most {BLOCK_BYTES_MAX}"):
        await store.blocks.put_many([b"fine", bytes(BLOCK_BYTES_MAX + 1)])
    with pytest.raises(LocalError, match="at most 128"):
        await store.blocks.put_many([b"fine"], owner="o" * 129)
    with pytest.raises(LocalError, match="at most 8192"):
        await store.blocks.held([bytes(32)] * 8193)
    with pytest.raises(Full, match=f"of {QUOTA} bytes"):
        await store.blocks.put_many([bytes(QUOTA + 1)])
    assert await store.blocks.held([_digest(b"x"), _digest(b"y"), _digest(b"fine")]) == {}
    assert await store.used_bytes() == 0


async def _cache(store: ModelStore) -> None:
    """What nobody owns goes when room is needed, the least used first; the rest stays."""
    size = QUOTA // 20
    raws = [b"%02d" % number + bytes(size - 2) for number in range(20)]
    await store.blocks.put_many(raws[:4], owner="me")
    for raw in raws[4:18]:
        await store.blocks.put_many([raw])
    await store.blocks.get(_digest(raws[4]))
    await store.blocks.put_many(raws[18:])
    held = await store.blocks.held([*map(_digest, raws)])
    gone = [number for number, raw in enumerate(raws) if _digest(raw) not in held]
    assert gone == [5, 6, 7, 8]
    assert await store.used_bytes() == 16 * size
    await store.blocks.delete_many([*map(_digest, raws[:4])], owner="me")
    await store.blocks.delete_many(list(held))
    assert await store.used_bytes() == 0
