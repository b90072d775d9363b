"""Crash, ENOSPC and EIO at each step towards the disk: nothing is lost, nothing is left over."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from errno import EIO, ENOSPC
from pathlib import Path

import pytest
import trio

from prsm.storage.cid import hash_block
from prsm.storage.errors import Conflict, Full, NotFound, StoreUnavailable
from prsm.storage.store import sealed
from prsm.storage.store.index import State
from prsm.storage.store.model_store import ModelStore
from tests.tools.mishaps import Crash, Mishap, chmod_unseen, mishaps
from tests.tools.stores import CHUNKS, DATA, SIZE, names

KEPT, NEW = b"kept" * 50, b"new" * 70
QUOTA = 2000
STEPS_MAX = 40

Act = Callable[[ModelStore, Path], Awaitable[None]]


async def adds(store: ModelStore, folder: Path) -> None:
    await store.add_file(folder / "new")


async def moves(store: ModelStore, folder: Path) -> None:
    await store.add_file(folder / "new", move=True)


async def fetches(store: ModelStore, _folder: Path) -> None:
    partial = await store.begin_fetch(hash_block(NEW), len(NEW))
    try:
        await partial.write_run(partial.missing(), [NEW])
    finally:
        await store.end_fetch(partial)


async def removes(store: ModelStore, _folder: Path) -> None:
    await store.add_file(_folder / "new")
    await store.remove(hash_block(NEW))


async def repairs(store: ModelStore, folder: Path) -> None:
    await store.add_file(folder / "new")
    path = store._folders.file(hash_block(NEW))
    chmod_unseen(path, 0o600)
    path.write_bytes(b"?")
    await store.scrub()
    await fetches(store, folder)


async def collects(store: ModelStore, folder: Path) -> None:
    await store.add_file(folder / "new")
    await store.blocks.put_many([bytes(1400)])
    await store.gc()


async def check(store: ModelStore, folder: Path) -> None:
    """What holds after any mishap."""
    assert (await store.path(hash_block(KEPT))).read_bytes() == KEPT
    new = hash_block(NEW)
    if await store.has(new):
        assert (await store.path(new)).read_bytes() == NEW
        await store.verify(new)
    else:
        assert (folder / "new").read_bytes() == NEW  # moved or not, it is somewhere
    rows = {str(file.root): file.state for file in await store.list()}
    on_disk = names(store._folders._folder)
    for name in on_disk:
        kind, _, root = name.partition("/")
        assert kind not in {"files", "partial"} or root in rows, name
        assert kind != "fresh", name
    for root, state in rows.items():
        place = {State.SEALED: "files", State.PARTIAL: "partial"}.get(state)
        assert place is None or f"{place}/{root}" in on_disk


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "kept").write_bytes(KEPT)
    (folder / "new").write_bytes(NEW)
    return folder


async def once(act: Act, folder: Path, mishap: Mishap) -> None:
    store = await ModelStore.open(folder / "store", quota=QUOTA)
    kept = (await store.add_file(folder / "kept")).root
    await store.pin(kept, "kept")
    with mishaps(mishap), suppress(Crash, Full, StoreUnavailable, NotFound, Conflict):
        await act(store, folder)
    if mishap.error:
        assert (await store.path(kept)).read_bytes() == KEPT
        await store.close()
    else:
        await store._index.close()  # the process ends here
    store = await ModelStore.open(folder / "store", quota=QUOTA)
    await check(store, folder)
    if not await store.has(hash_block(NEW)):
        await store.add_file(folder / "new")
    await check(store, folder)
    assert await store.used_bytes() <= QUOTA
    await store.close()


@pytest.mark.parametrize("harm", ["damaged", "gone", "empty"])
async def test_lost_index_loses_no_file(harm: str, tmp_path: Path) -> None:
    """Spoil or remove the index: files are read and kept, what is not what it says is removed."""
    (tmp_path / "big").write_bytes(DATA)
    (tmp_path / "new").write_bytes(NEW)
    store = await ModelStore.open(tmp_path / "store", quota=2 * SIZE)
    big = (await store.add_file(tmp_path / "big")).root
    small = (await store.add_file(tmp_path / "new")).root
    await store.close()
    index = tmp_path / "store" / "index.db"
    match harm:
        case "gone":
            index.unlink()
        case "empty":
            os.truncate(index, 0)
        case _:
            index.write_bytes(b"no database at all, " * 500)
    store._folders.file(hash_block(b"other")).write_bytes(b"not that")
    store = await ModelStore.open(tmp_path / "store", quota=2 * SIZE)
    assert [file.root for file in await store.list()] == sorted([big, small], key=str)
    assert {(pin.root, pin.owner) for pin in await store.pins()} == {
        (big, "recovered"),
        (small, "recovered"),
    }
    assert list(await store.read_leaves(big, 0, 4)) == CHUNKS
    assert (tmp_path / "store" / "index.db.quarantine").exists() == (harm == "damaged")
    assert len(names(tmp_path / "store" / "files")) == 2
    await store.close()


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "killed"])
async def test_start_that_is_cut_while_it_takes_files_in_loses_none(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lose the index of four files; end each start when it has taken one more of them in."""
    store = await ModelStore.open(tmp_path / "store", quota=QUOTA)
    for number in range(4):
        (tmp_path / "new").write_bytes(b"%d" % number * 50)
        await store.add_file(tmp_path / "new")
    await store.close()
    (tmp_path / "store" / "index.db").write_bytes(b"no database at all, " * 500)
    look_at, seen = sealed.look_at, 0

    def cut(path: Path) -> sealed.FreshFile:
        nonlocal seen
        seen += 1
        if seen % 2:
            return look_at(path)
        if not stopped:
            raise Crash
        trio.from_thread.run_sync(scope.cancel)
        return look_at(path)

    for _ in range(2):
        with monkeypatch.context() as patch, trio.CancelScope() as scope, suppress(Crash):
            patch.setattr(sealed, "look_at", cut)
            await ModelStore.open(tmp_path / "store", quota=QUOTA)
        assert len(names(tmp_path / "store" / "files")) == 4
    assert seen == 4
    store = await ModelStore.open(tmp_path / "store", quota=QUOTA)
    assert [file.pins for file in await store.list()] == [("added",)] * 4
    await store.close()


@pytest.mark.parametrize(
    ("act", "at", "error"),
    [(adds, 5, 0), (moves, 7, 0), (fetches, 8, 0), (repairs, 15, 0), (fetches, 4, ENOSPC)],
)
async def test_mishap_at_a_step(act: Act, at: int, error: int, tmp_path: Path) -> None:
    mishap = Mishap(at, error)
    await once(act, prepared(tmp_path / "home"), mishap)
    assert mishap.happened


@pytest.mark.long
@pytest.mark.parametrize("error", [0, ENOSPC, EIO], ids=["crash", "full", "broken"])
@pytest.mark.parametrize("act", [adds, moves, fetches, removes, repairs, collects])
async def test_mishap_at_each_step(act: Act, error: int, tmp_path: Path) -> None:
    """Let the n-th step fail, for every n there is; then open the store again and look."""
    for at in range(1, STEPS_MAX):
        mishap = Mishap(at, error)
        await once(act, prepared(tmp_path / str(at)), mishap)
        if not mishap.happened:
            assert at > 4
            return
    pytest.fail(f"more than {STEPS_MAX} steps")
