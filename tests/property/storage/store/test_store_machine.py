"""Adding, opening, pinning, fetching, collecting and crashing in any order, two at a time.

The model knows what is pinned, leased and being fetched; the store may drop anything else.
"""

import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.storage.cid import hash_block
from prsm.storage.errors import Conflict, Full, NotFound
from prsm.storage.store.index import State
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.resume import Partial
from tests.tools.memory_index import MemoryIndex
from tests.tools.stores import Wall, names, store_over

QUOTA = 1000
SIZES = [100, 150, 200, 250, 300]
THINGS = [b"%d" % number + bytes(size - 1) for number, size in enumerate(SIZES)]
ROOTS = [hash_block(raw) for raw in THINGS]

Op = tuple[str, int]
KINDS = ["add", "add", "open", "close", "pin", "unpin", "begin", "end", "abandon"]
KINDS += ["collect", "drop", "block", "crash"]
OPS = st.tuples(st.sampled_from(KINDS), st.integers(0, len(THINGS) - 1))


@dataclass
class World:
    """A store, and what must hold of it."""

    folder: Path
    store: ModelStore
    index: MemoryIndex
    wall: Wall
    held: dict[int, AsyncExitStack] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    fetched: dict[int, Partial] = field(default_factory=dict)

    async def do(self, op: Op) -> None:
        kind, number = op
        self.wall.ms += 1000
        with suppress(Full, Conflict, NotFound):
            await getattr(self, kind)(number)

    async def add(self, number: int) -> None:
        added = await self.store.add_file(self.folder / str(number))
        assert added.root == ROOTS[number]

    async def open(self, number: int) -> None:
        if number in self.held:
            return
        stack = AsyncExitStack()
        self.held[number] = stack
        try:
            path = await stack.enter_async_context(
                self.store.lease(ROOTS[number], holder="test", purpose="open")
            )
            assert path.read_bytes() == THINGS[number]
        except BaseException:
            del self.held[number]
            raise

    async def close(self, number: int) -> None:
        if (stack := self.held.pop(number, None)) is not None:
            await stack.aclose()

    async def pin(self, number: int) -> None:
        await self.store.pin(ROOTS[number], "p")
        if await self.store.has(ROOTS[number]):
            self.pinned.add(number)

    async def unpin(self, number: int) -> None:
        self.pinned.discard(number)
        await self.store.unpin(ROOTS[number], "p")

    async def begin(self, number: int) -> None:
        partial = await self.store.begin_fetch(ROOTS[number], len(THINGS[number]))
        self.fetched[number] = partial

    async def end(self, number: int) -> None:
        if (partial := self.fetched.pop(number, None)) is not None:
            await partial.write_run(partial.missing(), [THINGS[number]])
            await self.store.end_fetch(partial)
            assert await self.store.has(ROOTS[number]) or number not in self.pinned

    async def abandon(self, number: int) -> None:
        if (partial := self.fetched.pop(number, None)) is not None:
            await self.store.end_fetch(partial)

    async def collect(self, number: int) -> None:
        await self.store.gc(partials=number == 0)

    async def drop(self, number: int) -> None:
        self.pinned.discard(number)
        with suppress(NotFound):
            await self.store.unpin(ROOTS[number], "p")
        await self.store.remove(ROOTS[number])

    async def block(self, number: int) -> None:
        await self.store.blocks.put_many([b"%d" % number * 60])

    async def crash(self, _number: int) -> None:
        """Lose all that is in memory; pairs with nothing."""

    async def restart(self) -> None:
        for stack in self.held.values():
            await stack.aclose()
        self.held.clear()
        for partial in self.fetched.values():
            partial._shut()  # its descriptor; nothing is written
        self.fetched.clear()
        self.store = await store_over(self.index, self.folder / "store", QUOTA, self.wall)

    async def check(self) -> None:
        for number in self.held:
            path = self.store._folders.file(ROOTS[number])
            assert path.read_bytes() == THINGS[number], "in use, and gone"
        for number in self.pinned:
            assert await self.store.has(ROOTS[number]), "pinned, and gone"
        rows = {file.root: file.state for file in await self.store.list()}
        for partial in self.fetched.values():
            assert rows[partial.root] in {State.PARTIAL, State.SEALED}, "being fetched, and gone"
        assert await self.store.used_bytes() <= QUOTA
        on_disk = set(names(self.folder / "store"))
        assert on_disk >= {f"files/{root}" for root in rows if rows[root] is State.SEALED}
        assert {_root(name) for name in on_disk} <= {str(root) for root in rows}


def _root(name: str) -> str:
    return name.partition("/")[2]


async def play(steps: list[tuple[Op, Op]], folder: Path) -> None:
    for number, raw in enumerate(THINGS):
        (folder / str(number)).write_bytes(raw)
    index, wall = MemoryIndex(), Wall()
    store = await store_over(index, folder / "store", QUOTA, wall)
    world = World(folder, store, index, wall)
    for pair in steps:
        if any(kind == "crash" for kind, _ in pair):
            await world.restart()
        else:
            async with trio.open_nursery() as nursery:
                for op in pair if pair[0][1] != pair[1][1] else pair[:1]:
                    nursery.start_soon(world.do, op)
        await world.check()
    await world.restart()
    await world.check()


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(OPS, OPS), max_size=12))
def test_store_keeps_what_it_must_in_any_order(steps: list[tuple[Op, Op]]) -> None:
    with TemporaryDirectory() as name, patch.object(os, "fdatasync"), patch.object(os, "fsync"):
        trio.run(play, steps, Path(name))
