"""Files that come in twice, or with a false size: nothing that is here is lost for them."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from prsm.storage.cid import Cid
from prsm.storage.errors import BadDag, Conflict, Corrupt, NotFound
from prsm.storage.store import sealed
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.resume import Partial
from prsm.storage.store.space import Reservation, Space
from tests.tools.mishaps import Crash
from tests.tools.stores import CHUNKS, DATA, MIB, SIZE, names


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    return path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    yield opened
    await opened.close()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[ModelStore]:
    """Open the store of another node."""
    opened = await ModelStore.open(tmp_path / "elsewhere", quota=100 * MIB)
    yield opened
    await opened.close()


async def started(store: ModelStore, elsewhere: ModelStore, source: Path) -> Partial:
    added = await elsewhere.add_file(source)
    partial = await store.begin_fetch(added.root, added.size)
    await partial.put_node(await elsewhere.get_block(added.root.digest))
    return partial


@contextmanager
def waiting_for_room() -> Iterator[tuple[trio.Event, trio.Event]]:
    """Hold the next fetch where it has looked and waits for room.

    Yields:
        Set when it waits; to be set to let it go on.
    """
    looked, go, reserved = trio.Event(), trio.Event(), Space.reserved

    @asynccontextmanager
    async def late(self: Space, size: int) -> AsyncIterator[Reservation]:
        if not looked.is_set():
            looked.set()
            await go.wait()
        async with reserved(self, size) as reservation:
            yield reservation

    with patch.object(Space, "reserved", late):
        yield looked, go


@pytest.mark.parametrize("move", [False, True])
async def test_added_while_a_fetch_waits_for_room_stays(
    store: ModelStore, elsewhere: ModelStore, source: Path, move: bool
) -> None:
    root = (await elsewhere.add_file(source)).root

    async def fetch() -> None:
        with pytest.raises(Conflict, match="here already"):
            await store.begin_fetch(root, SIZE)

    with waiting_for_room() as (looked, go):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await looked.wait()
            await store.add_file(source, move=move)
            go.set()
    assert (await store.path(root)).read_bytes() == DATA


async def test_begun_while_another_fetch_waits_for_room_goes_on(
    store: ModelStore, elsewhere: ModelStore, source: Path
) -> None:
    root = (await elsewhere.add_file(source)).root

    async def late() -> None:
        with pytest.raises(Conflict, match="being fetched already"):
            await store.begin_fetch(root, SIZE)

    with waiting_for_room() as (looked, go):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await looked.wait()
            partial = await started(store, elsewhere, source)
            go.set()
    await partial.write_run(partial.missing(), CHUNKS)
    await store.end_fetch(partial)
    assert (await store.path(root)).read_bytes() == DATA


async def test_given_up_after_the_file_was_added_leaves_no_bytes(
    store: ModelStore, elsewhere: ModelStore, source: Path, tmp_path: Path
) -> None:
    partial = await started(store, elsewhere, source)
    await store.pin(partial.root, "kept")
    await store.pin_failed(partial.root, "nobody has it")
    await partial.write_run((partial.missing()[0],), (CHUNKS[0],))
    await store.add_file(source)
    await store.end_fetch(partial)
    assert (await store.path(partial.root)).read_bytes() == DATA
    assert names(tmp_path / "store" / "partial") == []
    assert [pin.why for pin in await store._index.pins()] == [""]


async def test_fetch_that_cannot_open_takes_back_only_itself(
    store: ModelStore, elsewhere: ModelStore, source: Path, tmp_path: Path
) -> None:
    """A node of another size is here already: the fetch that was to use it does not open."""
    root = (await elsewhere.add_file(source)).root
    await store.blocks.put(root.digest, await elsewhere.get_block(root.digest))
    with pytest.raises(BadDag):
        await store.begin_fetch(root, 2 * SIZE)
    assert not await store.list()
    assert names(tmp_path / "store" / "partial") == []
    partials = str(tmp_path / "store" / "partial")
    assert not [path for path in open_files() if path.startswith(partials)]


def open_files() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(path.readlink()))
    return found


async def test_start_removes_the_rest_of_a_fetch_of_a_sealed_file(
    tmp_path: Path, source: Path
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    root = (await store.add_file(source)).root
    await store.close()
    (tmp_path / "store" / "partial" / str(root)).write_bytes(DATA)
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert names(tmp_path / "store" / "partial") == []
    assert await store.has(root)
    await store.close()


@pytest.mark.parametrize("here", ["leaves", "node", "bad", "lost"])
async def test_another_size_costs_nothing_of_what_is_here(
    store: ModelStore, elsewhere: ModelStore, source: Path, here: str
) -> None:
    """Have leaves, a node, a damaged file, or one whose node is lost; claim another size."""
    added = await elsewhere.add_file(source)
    root = added.root
    if here in {"leaves", "node"}:
        partial = await started(store, elsewhere, source)
        if here == "leaves":
            await partial.write_run(partial.missing()[:2], CHUNKS[:2])
        await store.end_fetch(partial)
    else:
        path = await store.path((await store.add_file(source)).root)
        path.chmod(0o600)
        os.truncate(path, 2 * MIB)
        if here == "lost":
            await store._index.drop_blocks(root.raw, [root.digest])
        with pytest.raises((Corrupt, NotFound)):
            await store.verify(root)
    row = await store._index.get_root(root)
    for size in (SIZE - 1, SIZE + 2 * MIB, 2 * SIZE):
        with pytest.raises(BadDag):
            await store.begin_fetch(root, size)
    assert await store._index.get_root(root) == row
    partial = await store.begin_fetch(root, SIZE)
    assert list(partial.wanted_nodes()) == [root.digest] * (here == "lost")
    if here != "lost":
        missing = [leaf.index for leaf in partial.missing()]
        assert missing == ([0, 1, 2, 3] if here == "node" else [2, 3])


@pytest.mark.parametrize("has_node", [False, True])
async def test_size_that_nothing_here_shows_gives_way(
    store: ModelStore, elsewhere: ModelStore, source: Path, has_node: bool
) -> None:
    """Begin with a false size, as a manifest may say it; then the true one comes."""
    root = (await elsewhere.add_file(source)).root
    node = await elsewhere.get_block(root.digest)
    await store.end_fetch(await store.begin_fetch(root, 2 * SIZE))
    await store.pin(root, "kept")
    if has_node:
        await store.blocks.put(root.digest, node)
    partial = await store.begin_fetch(root, SIZE)
    if not has_node:
        await partial.put_node(node)
    await partial.write_run(partial.missing(), CHUNKS)
    await store.end_fetch(partial)
    assert (await store.path(root)).read_bytes() == DATA


@pytest.mark.parametrize("move", [False, True])
async def test_added_again_after_somebody_edited_it_is_right_again(
    store: ModelStore, source: Path, tmp_path: Path, move: bool
) -> None:
    root = (await store.add_file(source)).root
    edit(await store.path(root))
    await store.add_file(source, move=move)
    assert (await store.path(root)).read_bytes() == DATA
    assert (await store.path(root)).stat().st_mode & 0o777 == 0o444
    assert await store.used_bytes() == SIZE + len(await store.get_block(root.digest))
    assert ("model.onnx" in names(tmp_path)) != move
    assert names(tmp_path / "store" / "fresh") == []


async def test_fetched_beside_an_edit_of_the_added_file_is_right(
    store: ModelStore, elsewhere: ModelStore, source: Path
) -> None:
    partial = await started(store, elsewhere, source)
    await store.add_file(source)
    edit(store._folders.file(partial.root))
    await partial.write_run(partial.missing(), CHUNKS)
    await store.end_fetch(partial)
    assert (await store.path(partial.root)).read_bytes() == DATA


async def test_moved_in_again_leaves_the_file_that_is_here(
    store: ModelStore, source: Path, tmp_path: Path
) -> None:
    root = (await store.add_file(source)).root
    row = await store._index.get_root(root)
    await store.add_file(source, move=True)
    assert await store._index.get_root(root) == row
    assert "model.onnx" not in names(tmp_path)
    assert names(tmp_path / "store" / "fresh") == []


@pytest.mark.parametrize("after_name", [False, True])
@pytest.mark.parametrize("noticed", [False, True])
async def test_crash_while_a_damaged_file_is_added_again_believes_no_damage(
    source: Path, tmp_path: Path, noticed: bool, after_name: bool
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    root = (await store.add_file(source)).root
    edit(await store.path(root))
    if noticed:
        with pytest.raises(Corrupt):
            await store.verify(root)
    seal = sealed.Folders.seal

    def crash(self: sealed.Folders, fresh: Path, root: Cid) -> str:
        if after_name:
            seal(self, fresh, root)
        raise Crash

    with patch.object(sealed.Folders, "seal", crash), pytest.raises(Crash):
        await store.add_file(source)
    await store._index.close()  # the process ends here
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    if noticed or not after_name:
        with pytest.raises((Corrupt, NotFound)):
            await store.path(root)
        partial = await store.begin_fetch(root, SIZE)
        assert [leaf.index for leaf in partial.missing()] == [1]
        await partial.write_run(partial.missing(), CHUNKS[1:2])
        await store.end_fetch(partial)
    assert (await store.path(root)).read_bytes() == DATA
    await store.close()


def edit(path: Path) -> None:
    """Change a byte of the second leaf, as a person with an editor would."""
    path.chmod(0o600)
    with path.open("rb+") as file:
        file.seek(MIB)
        file.write(bytes([DATA[MIB] ^ 1]))
    path.chmod(0o444)
