"""Things made of several files: cut anywhere, they are taken back, and nothing else is."""

import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest
import trio

from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid, decode_cid, hash_block
from prsm.storage.errors import Full
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.staging import Stage, Staging
from tests.tools.work import make_manifest

QUOTA: Final = 8 * MIB
FILES: Final = tuple(Random(seed).randbytes(1000) for seed in range(3))
BLOCK: Final = b"a directory"
OWNER: Final = "car:x"

Step = Callable[[Stage], Awaitable[object]]


def model_of(files: Sequence[bytes]) -> ModelManifest:
    """A model of these files, each of one leaf."""
    named = tuple(
        ManifestFile(str(n), hash_block(raw).raw, len(raw), hashlib.sha256(raw).digest())
        for n, raw in enumerate(files)
    )
    made = make_manifest()
    return msgspec.structs.replace(made, files=named, shards=made.shards[:1])


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[ModelStore, Staging]]:
    """A store in a folder, with its scratch."""
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    store = await ModelStore.open(folder / "store", quota=QUOTA)
    try:
        yield store, Staging(store, folder / "scratch")
    finally:
        await store.close()  # noqa: ASYNC102 - shields itself


async def told(store: ModelStore) -> tuple[Sequence[object], ...]:
    """What a store holds."""
    roots = [file.root for file in await store.list()]
    pins = [(pin.root, pin.name) for pin in await store.pins()]
    models = [cid for cid, _ in await store.models()]
    return roots, pins, models, await store.blocks.owned(OWNER)


def steps(manifest: ModelManifest) -> list[Step]:
    """All that a model and a CAR do, in turn."""
    roots = [decode_cid(file.root) for file in manifest.files]

    def add(number: int) -> Step:
        async def run(stage: Stage) -> None:
            path = stage.folder / str(number)
            path.write_bytes(FILES[number])
            await stage.add_file(path, move=number == 1)

        return run

    return [
        *(add(number) for number in range(len(FILES))),
        lambda stage: stage.pin(roots[0], OWNER, "operator"),
        lambda stage: stage.put_blocks((BLOCK,), OWNER),
        lambda stage: stage.save_manifest(manifest),
        lambda stage: stage.pin(roots[1], "added", "operator"),
    ]


async def fail_after(done: Sequence[Step], staging: Staging) -> None:
    """Do steps of a thing, of which the last one fails."""
    async with staging.begin() as stage:
        for step in done:
            await step(stage)
        raise Full("in the end")


async def added(store: ModelStore, folder: Path, raw: bytes) -> None:
    """A file that is there before."""
    (folder / "before").write_bytes(raw)
    await store.add_file(folder / "before")


@pytest.mark.parametrize("is_shared", [False, True], ids=["", "shared"])
async def test_what_a_kill_cut_is_taken_back_by_the_next_run(
    is_shared: bool, tmp_path: Path
) -> None:
    """After each step the folders are copied, which is what a kill leaves; a copy is opened."""
    manifest = model_of(FILES)
    async with opened(tmp_path / "run") as (store, staging):
        if is_shared:
            await added(store, tmp_path, FILES[0])
        before = await told(store)
        async with staging.begin() as stage:
            for number, step in enumerate(steps(manifest)):
                await step(stage)
                shutil.copytree(tmp_path / "run", tmp_path / str(number))
        done = await told(store)
    assert [len(part) for part in done] == [3, 2, 1, 1]
    for number in range(len(steps(manifest))):
        async with opened(tmp_path / str(number)) as (store, staging):
            await staging.collect()
            assert await told(store) == before, number
            assert not list((tmp_path / str(number) / "scratch").iterdir())
    async with opened(tmp_path / "run") as (store, staging):
        await staging.collect()
        assert await told(store) == done


async def test_what_failed_is_taken_back_at_once(tmp_path: Path) -> None:
    manifest = model_of(FILES)
    async with opened(tmp_path) as (store, staging):
        before = await told(store)
        with pytest.raises(Full, match="in the end"):
            await fail_after(steps(manifest), staging)
        assert await told(store) == before
        assert not list((tmp_path / "scratch").iterdir())


async def test_what_others_took_up_meanwhile_stays(tmp_path: Path) -> None:
    """One file gets a pin, one is in use, one belongs to a model by then."""
    async with opened(tmp_path) as (store, staging):
        lease: list[int] = []

        async def meanwhile(_stage: Stage) -> None:
            pinned, used, _ = [file.root for file in await store.list()]
            await store.pin(pinned, "mine")
            lease.append(store.leases.grant(used, holder="test", purpose="run").number)
            await store.save_manifest(model_of(FILES[2:]))

        with pytest.raises(Full):
            await fail_after([*steps(model_of(FILES))[:3], meanwhile], staging)
        assert len(await store.list()) == 3
        store.leases.release(*lease)


async def test_a_note_that_was_torn_names_what_came_before(tmp_path: Path) -> None:
    async with opened(tmp_path / "run") as (store, staging):
        async with staging.begin() as stage:
            await steps(model_of(FILES))[0](stage)
            (note,) = (tmp_path / "run" / "scratch").glob("*.note")
            with note.open("ab") as file:
                file.write(b"\0\0\0\nfile\tbaf")
            shutil.copytree(tmp_path / "run", tmp_path / "cut")
        assert len(await store.list()) == 1
    async with opened(tmp_path / "cut") as (store, staging):
        (tmp_path / "cut" / "scratch" / "tmpabc").mkdir()
        await staging.collect()
        assert not await store.list()
        assert not list((tmp_path / "cut" / "scratch").iterdir())


async def test_second_of_two_that_are_alike_is_whole_though_the_first_fails(
    tmp_path: Path,
) -> None:
    """All that the second one needs is here already, and goes with the first."""
    manifest = model_of(FILES)
    async with opened(tmp_path) as (store, staging):
        done = trio.Event()

        async def first(*, task_status: trio.TaskStatus[None]) -> None:
            with pytest.raises(Full):
                await fail_after([*steps(manifest), waits(task_status)], staging)

        def waits(task_status: trio.TaskStatus[None]) -> Step:
            async def run(_stage: Stage) -> None:
                task_status.started()
                waiting = store.turn.statistics  # tells nobody, so it is asked
                while not (done.is_set() or waiting().tasks_waiting):  # noqa: ASYNC110 - above
                    await trio.lowlevel.checkpoint()
                assert not done.is_set(), "the second one waits"

            return run

        async def second() -> None:
            async with Staging(store, tmp_path / "scratch").begin() as stage:
                for step in steps(manifest):
                    await step(stage)
            done.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(first)
            nursery.start_soon(second)
        assert [len(part) for part in await told(store)] == [3, 2, 1, 1]
        assert not list((tmp_path / "scratch").iterdir())
        assert store.turn.value == 1


async def test_cancelled_while_it_waits_for_its_turn_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, staging):
        async with staging.begin() as stage:
            await steps(model_of(FILES))[0](stage)
            with trio.move_on_after(0) as scope:
                await fail_after(steps(model_of(FILES)), staging)
            assert scope.cancelled_caught
        assert len(await store.list()) == 1
        assert store.turn.value == 1
        assert not list((tmp_path / "scratch").iterdir())


async def test_what_could_not_be_taken_back_does_not_cost_the_next_try_its_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk refuses the first try, and that it is taken back; then there is room again."""
    manifest = model_of(FILES)

    async def refuse(_self: ModelStore, _cid: Cid) -> None:
        await trio.lowlevel.checkpoint()
        raise Full("no room")

    async with opened(tmp_path) as (store, staging):
        with monkeypatch.context() as patched:
            patched.setattr(ModelStore, "remove_manifest", refuse)
            with pytest.raises(Full):
                await fail_after(steps(manifest), staging)
            with pytest.raises(Full):
                await fail_after(steps(manifest)[:0], staging)
            with pytest.raises(Full):
                async with staging.begin() as stage:
                    await steps(manifest)[0](stage)
        async with staging.begin() as stage:
            for step in steps(manifest):
                await step(stage)
        whole = await told(store)
        await staging.collect()  # as the next start does
        assert await told(store) == whole
        assert not list((tmp_path / "scratch").iterdir())
        assert store.turn.value == 1
