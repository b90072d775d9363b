"""The battery every `Index` passes: rows, shared blocks, leaves, pins, and what is refused."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest
import trio

from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.store.index import BlockRow, Index, PinRow, RootRow, State, Use, Used

# Opens an empty index, or the same one again when it is called a second time.
MakeIndex = Callable[[], Awaitable[Index]]
ONE, TWO = hash_block(b"1"), hash_block(b"2")


async def check_index(make: MakeIndex) -> None:
    """Run the battery.

    Args:
        make: opens an index that keeps what it held over `close`.
    """
    index = await make()
    assert await index.used() == Used(0, 0, 0, 0, 0)
    assert not await index.is_adopted()
    for check in (_files, _nodes, _leaves, _pins, _strays, _manifests):
        await check(index)
        assert await index.used() == Used(0, 0, 0, 0, 0), check.__name__
    await _stays(index, make)


async def _files(index: Index) -> None:
    assert await index.get_root(ONE) is None
    row = RootRow(ONE, 10, State.PARTIAL, use=Use(0.5, 7))
    await index.put_root(row)
    await index.put_root(RootRow(TWO, 20, State.SEALED, stamp="s"))
    assert await index.get_root(ONE) == row
    assert [found.root for found in await index.roots()] == [ONE, TWO]
    assert await index.used() == Used(20, 10, 0, 0, 2)
    await index.note_progress(ONE, b"\x01", 8)
    await index.note_progress(TWO, b"\x01", 8)  # is whole: nothing happens
    await index.note_scrub(TWO, 3, 9)
    await index.note_uses({TWO: Use(2.5, 11), hash_block(b"none"): Use(1, 1)}, {b"none": Use(1, 1)})
    assert await index.get_root(ONE) == RootRow(
        ONE, 10, State.PARTIAL, bitmap=b"\x01", use=Use(0.5, 8)
    )
    await index.put_root(RootRow(TWO, 20, State.BAD, bitmap=b"\x02", use=Use(9, 9)))
    found = await index.get_root(TWO)
    assert found == RootRow(TWO, 20, State.BAD, "", b"\x02", Use(2.5, 11), 3, 9)
    assert await index.used() == Used(0, 10, 20, 0, 2)
    await index.put_root(RootRow(TWO, 20, State.BAD))  # nothing of it is left on disk
    await index.put_root(RootRow(ONE, 10, State.SEALING))
    assert await index.used() == Used(10, 0, 0, 0, 2)
    for root in (ONE, TWO):
        await index.remove_root(root)
    with pytest.raises(NotFound):
        await index.remove_root(ONE)


async def _nodes(index: Index) -> None:
    """A node that two files share stays until both are gone."""
    for root in (ONE, TWO):
        await index.put_root(RootRow(root, 1, State.SEALED), (b"shared", root.digest))
    assert (await index.used()).blocks == len(b"shared") + 64
    await index.remove_root(ONE)
    assert await index.get_block(sha256(b"shared").digest()) == b"shared"
    with pytest.raises(NotFound):
        await index.get_block(sha256(ONE.digest).digest())
    await index.remove_root(TWO)
    with pytest.raises(NotFound):
        await index.get_block(sha256(b"shared").digest())


async def _leaves(index: Index) -> None:
    a, b, c = (sha256(name).digest() for name in (b"a", b"b", b"c"))
    await index.put_root(RootRow(ONE, 3, State.SEALED), (), (a, b, a))
    await index.put_root(RootRow(TWO, 1, State.PARTIAL), (), (c,))
    assert await index.unlisted() == []
    assert await index.find_leaves([a, b, c]) == {a: (ONE, 0), b: (ONE, 1)}
    await index.put_root(RootRow(TWO, 1, State.SEALED))
    assert await index.find_leaves([c]) == {c: (TWO, 0)}
    many = [sha256(b"%d" % number).digest() for number in range(1200)]
    assert await index.find_leaves([*many, b]) == {b: (ONE, 1)}
    await index.remove_root(ONE)
    assert await index.find_leaves([a, b]) == {}
    await index.put_root(RootRow(ONE, 3, State.SEALED))
    assert await index.unlisted() == [ONE]
    for root in (ONE, TWO):
        await index.remove_root(root)


async def _pins(index: Index) -> None:
    pins = [PinRow(ONE, "a", "me"), PinRow(ONE, "b")]
    await index.put_root(RootRow(ONE, 1, State.SEALED), pin=pins[1])
    assert list(await index.pins()) == pins[1:]
    for pin in (pins[0], pins[1]):
        await index.pin(pin)
    assert list(await index.pins()) == pins
    assert (await index.pinned_bytes(), await index.bytes_of({ONE, TWO})) == (1, 1)
    with pytest.raises(Conflict, match="pinned as a, b"):
        await index.remove_root(ONE)
    await index.pin(PinRow(ONE, "a", "you", "nobody has it"))
    assert (await index.pins())[0] == PinRow(ONE, "a", "you", "nobody has it")
    await index.remove_root(ONE, even_pinned=True)
    assert (await index.pinned_bytes(), await index.bytes_of({ONE, TWO})) == (0, 0)
    await index.unpin(ONE, "a")
    await index.unpin(ONE, "b")
    with pytest.raises(NotFound):
        await index.unpin(ONE, "a")
    rows = [RootRow(root, 1, State.SEALED) for root in (ONE, TWO)]
    for row in rows:
        await index.put_root(row, [b"node of both"], pin=PinRow(row.root, "a"))
    await index.pin(PinRow(TWO, "b"))
    before = await index.pins()
    with pytest.raises(Conflict, match=f"{TWO} is pinned as b"):
        await index.remove_roots([ONE, TWO, hash_block(b"3")], {"a", "c"})
    assert (await index.roots(), await index.pins()) == (rows, before)
    await index.remove_roots({ONE, TWO, hash_block(b"3")}, {"a", "b"})
    assert not [*await index.roots(), *await index.pins()]


async def _strays(index: Index) -> None:
    raws = [b"x", b"yy", b"zzz"]
    x, y, z = (sha256(raw).digest() for raw in raws)
    await index.put_blocks(b"cache", raws[:2], Use(1.5, 4))
    await index.put_blocks(b"me", raws[1:])
    await index.put_blocks(b"me", raws[1:])
    assert await index.held_blocks([x, y, z, ONE.digest]) == {x: 1, y: 2, z: 3}
    assert (await index.used()).blocks == 6
    await index.note_uses({}, {x: Use(2.5, 5), z: Use(3.5, 6)})
    cached = sorted(await index.owned_blocks(b"cache"), key=lambda row: row.size)
    assert cached == [BlockRow(x, 1, Use(2.5, 5)), BlockRow(y, 2, Use(1.5, 4))]
    assert await index.drop_blocks(b"cache", [x, y, z]) == 2
    assert await index.held_blocks([x, y]) == {y: 2}
    assert await index.drop_blocks(b"cache", [y]) == 0
    assert await index.drop_blocks(b"me", [y, z]) == 2
    assert await index.owned_blocks(b"me") == []


async def _manifests(index: Index) -> None:
    cids: list[Cid] = [await index.put_manifest(raw) for raw in (b"m1", b"m2", b"m1")]
    assert list(await index.manifests()) == sorted(set(cids), key=lambda cid: cid.raw)
    assert await index.get_block(cids[0].digest) == b"m1"
    for cid in set(cids):
        await index.remove_manifest(cid)
    with pytest.raises(NotFound):
        await index.remove_manifest(cids[0])
    with pytest.raises(NotFound):
        await index.get_block(cids[0].digest)


async def _stays(index: Index, make: MakeIndex) -> None:
    """A write that its caller gave up is whole or absent, and what was written is there again."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await index.put_root(RootRow(TWO, 2, State.SEALED), (b"node",))
    row = RootRow(ONE, 5, State.SEALED, "stamp", b"", Use(1.25, 3))
    await index.put_root(row, (b"kept",), (ONE.digest,))
    assert not await index.is_adopted()
    for _ in range(2):
        await index.note_adopted()
    await index.tidy()
    await index.close()
    index = await make()
    assert await index.is_adopted()
    assert await index.get_root(ONE) == row
    assert await index.get_block(sha256(b"kept").digest()) == b"kept"
    assert await index.find_leaves([ONE.digest]) == {ONE.digest: (ONE, 0)}
    half = [await index.get_root(TWO), dict(await index.held_blocks([sha256(b"node").digest()]))]
    assert half in ([None, {}], [RootRow(TWO, 2, State.SEALED), {sha256(b"node").digest(): 4}])
    await index.close()
