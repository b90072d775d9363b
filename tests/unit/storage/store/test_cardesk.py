"""CARs out of a store and into another: the same roots, nothing before all of it held."""

import errno
import os
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.protocol.errors import PrsmError
from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid
from prsm.storage.dag.car import BadCar, CarReader, CarWriter
from prsm.storage.dag.naming import name_path
from prsm.storage.dag.packing import pack
from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025, Profile
from prsm.storage.diskguard import FREE_BYTES_MIN, DiskGuard
from prsm.storage.errors import BadDag, Conflict, Full, NotFound
from prsm.storage.store.cardesk import CarDesk
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.staging import Stage

DATA = Random(8).randbytes(2 * MIB + 9)
QUOTA = 8 * MIB


class Desk:
    """A store, its desk and its folder."""

    def __init__(self, store: ModelStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.cars = CarDesk(store, folder)

    @property
    def left(self) -> list[Path]:
        return list(self.folder.glob("staging-*"))


@pytest.fixture
async def desks(tmp_path: Path) -> AsyncIterator[tuple[Desk, Desk]]:
    made = []
    for name in ("one", "two"):
        store = await ModelStore.open(tmp_path / name, quota=QUOTA)
        made.append(Desk(store, tmp_path / name))
    yield made[0], made[1]
    for desk in made:
        await desk.store.close()


def make_car(folder: Path, profile: Profile = UNIXFS_V1_2025) -> Path:
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "in" / "a").write_bytes(DATA)
    (folder / "in" / "sub" / "same").write_bytes(DATA)
    (folder / "in" / "sub" / "empty").write_bytes(b"")
    with (folder / "in.car").open("wb") as out:
        pack(folder / "in", out, profile)
    return folder / "in.car"


async def test_file_goes_from_store_to_store(desks: tuple[Desk, Desk], tmp_path: Path) -> None:
    one, two = desks
    (tmp_path / "f").write_bytes(DATA)
    added = await one.store.add_file(tmp_path / "f")
    done = await one.cars.export(added.root, tmp_path / "f.car")
    assert (done.root, done.blocks) == (added.root, 4)
    assert done.size == (tmp_path / "f.car").stat().st_size
    packed = BytesIO()
    pack(tmp_path / "f", packed)
    assert (tmp_path / "f.car").read_bytes() == packed.getvalue()
    taken = await two.cars.take(tmp_path / "f.car")
    assert [(file.path, file.cid, file.root) for file in taken.files] == [
        ("", added.root, added.root)
    ]
    assert (await two.store.path(added.root)).read_bytes() == DATA
    assert not two.left
    with pytest.raises(Conflict):
        await one.cars.export(added.root, tmp_path / "f.car")


async def test_directory_is_taken_and_given_again(desks: tuple[Desk, Desk], tmp_path: Path) -> None:
    one, two = desks
    car = make_car(tmp_path)
    root = name_path(tmp_path / "in").root.dag.root
    taken = await one.cars.take(car)
    assert taken.root == root
    assert {file.path for file in taken.files} == {"a", "sub/same", "sub/empty"}
    assert len(await one.store.list()) == 2
    await one.cars.export(root, tmp_path / "again.car")
    assert (await two.cars.take(tmp_path / "again.car")).root == root
    assert (tmp_path / "again.car").stat().st_size == car.stat().st_size


async def test_file_of_another_profile_gets_our_root(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    one, _ = desks
    taken = await one.cars.take(make_car(tmp_path, LEGACY))
    ours = {entry.path: entry.dag.root for entry in name_path(tmp_path / "in").entries}
    theirs = {entry.path: entry.dag.root for entry in name_path(tmp_path / "in", LEGACY).entries}
    for file in taken.files:
        assert (file.cid, file.root) == (theirs[file.path], ours[file.path])
        assert file.profile == "legacy"


async def test_nothing_is_stored_of_a_car_that_does_not_hold(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    one, _ = desks
    car = make_car(tmp_path)
    raw = car.read_bytes()
    cases: list[tuple[bytes, type[PrsmError]]] = [
        (raw[:-1], BadCar),
        (raw[:-1] + bytes([raw[-1] ^ 1]), BadCar),
        (raw[: len(raw) // 2], BadCar),
        (raw[:59], BadDag),
    ]
    for content, error in cases:
        (tmp_path / "bad.car").write_bytes(content)
        with pytest.raises(error):
            await one.cars.take(tmp_path / "bad.car")
        assert not await one.store.list()
        assert not one.left
    with pytest.raises(NotFound):
        await one.cars.take(tmp_path / "none.car")


async def test_car_that_does_not_fit_is_refused(desks: tuple[Desk, Desk], tmp_path: Path) -> None:
    one, _ = desks
    with (tmp_path / "big").open("wb") as file:
        file.truncate(QUOTA + 1)
    with (tmp_path / "big.car").open("wb") as out:
        pack(tmp_path / "big", out)
    assert (tmp_path / "big.car").stat().st_size < 2 * MIB  # zeros are one block
    with pytest.raises(Full):
        await one.cars.take(tmp_path / "big.car")
    assert not one.left


async def test_what_is_not_here_is_not_exported(desks: tuple[Desk, Desk], tmp_path: Path) -> None:
    one, _ = desks
    (tmp_path / "f").write_bytes(DATA)
    root = name_path(tmp_path / "f").root.dag.root
    with pytest.raises(NotFound):
        await one.cars.export(root, tmp_path / "f.car")
    assert not (tmp_path / "f.car").exists()


async def test_what_was_taken_stays_until_it_is_given_up(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    """A full cache goes before it; afterwards its files and directories are gone."""
    one, _ = desks
    taken = await one.cars.take(make_car(tmp_path))
    name = f"car:{taken.root}"
    assert {pin.name for pin in await one.store.pins()} == {name}
    (tmp_path / "cached").write_bytes(bytes(QUOTA - 4 * MIB))
    await one.store.add_file(tmp_path / "cached")
    (tmp_path / "more").write_bytes(bytes(QUOTA - 5 * MIB))
    await one.store.add_file(tmp_path / "more")
    assert all([await one.store.has(file.root) for file in taken.files])
    done = await one.cars.remove(taken.root)
    assert (done.files, done.freed_bytes, done.kept) == (2, len(DATA), 0)
    assert not any([await one.store.has(file.root) for file in taken.files])
    assert not await one.store.pins()
    with pytest.raises(NotFound):
        await one.store.blocks.get(taken.root.digest)
    with pytest.raises(NotFound, match="no CAR of"):
        await one.cars.remove(taken.root)


async def test_file_of_two_cars_stays_for_the_second(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    one, _ = desks
    folder = await one.cars.take(make_car(tmp_path))
    with (tmp_path / "a.car").open("wb") as out:
        pack(tmp_path / "in" / "a", out)
    alone = await one.cars.take(tmp_path / "a.car")
    done = await one.cars.remove(folder.root)
    assert (done.files, done.kept) == (1, 1)  # the empty one went
    assert (await one.store.path(alone.root)).read_bytes() == DATA
    async with one.store.lease(alone.root, holder="test", purpose="run"):
        assert (await one.cars.remove(alone.root)).kept == 1  # in use: from now on only cached
    assert await one.store.has(alone.root)
    assert not await one.store.pins()


async def test_import_that_finds_no_room_pins_nothing(
    desks: tuple[Desk, Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = desks
    before = await one.cars.take(make_car(tmp_path))
    await one.cars.remove(before.root)

    async def refuse(*_args: object, **_words: object) -> None:
        raise Full("no room")

    monkeypatch.setattr(one.store.blocks, "put_many", refuse)
    with pytest.raises(Full):
        await one.cars.take(tmp_path / "in.car")
    assert not await one.store.pins()
    assert not one.left


def cut(car: Path, count: int) -> Path:
    """The first blocks of a CAR, as one whose end never comes."""
    with car.open("rb") as source, car.with_suffix(".cut").open("wb") as out:
        reader = CarReader(source)
        writer = CarWriter(out, reader.root)
        for (cid, block), _ in zip(reader, range(count), strict=False):
            writer.add(cid, block)
    return car.with_suffix(".cut")


@pytest.mark.parametrize("files", [1, 6])
async def test_car_leaves_the_room_that_is_kept_for_the_ledger(tmp_path: Path, files: int) -> None:
    """A small CAR of files of zeros; each would fit on the disk, or only one of them."""
    size = 12 * MIB // files
    (tmp_path / "in").mkdir()
    for number in range(files):
        with (tmp_path / "in" / str(number)).open("wb") as file:
            file.truncate(size)
    with (tmp_path / "in.car").open("wb") as out:
        pack(tmp_path / "in", out)
    (tmp_path / "home").mkdir()

    def stat(_path: Path) -> os.statvfs_result:
        """A disk of 20 GiB with 8 MiB above what is kept, less what was written."""
        home = (tmp_path / "home").rglob("*")
        used = sum(one.stat().st_blocks * 512 for one in home if "staging" in str(one.parent))
        most.append(used)
        free = (FREE_BYTES_MIN + 8 * MIB - used) // 4096
        return os.statvfs_result((4096, 4096, 20 << 18, free, free, 0, 0, 0, 0, 255))

    most: list[int] = []
    guard = DiskGuard(tmp_path, reserve_bytes=0, stat=stat)
    store = await ModelStore.open(tmp_path / "home", quota=64 * MIB, guard=guard)
    try:
        with pytest.raises(Full, match="are kept for the ledger"):
            await CarDesk(store, tmp_path / "home").take(tmp_path / "in.car")
        assert max(most) <= 8 * MIB
        assert len(most) == (1 if files == 1 else 5)
        assert not await store.used_bytes()
        assert not list((tmp_path / "home").glob("staging-*"))
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("size", "used", "why"), [(5, 1, "bytes of files"), (3, 4, "of the quota are used")]
)
async def test_quota_that_refuses_a_car_leaves_the_reserve_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, used: int, why: str
) -> None:
    """The second of its files is too large: by its own claim, or beside one in use."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_bytes(bytes(size * MIB))
    with (tmp_path / "in.car").open("wb") as out:
        pack(tmp_path / "in", out)
    (tmp_path / "used").write_bytes(bytes(used * MIB))
    (tmp_path / "home").mkdir()
    plenty = os.statvfs_result((4096, 4096, 20 << 18, 19 << 18, 19 << 18, 0, 0, 0, 0, 255))
    guard = DiskGuard(tmp_path, reserve_bytes=4096, stat=lambda _path: plenty)
    store = await ModelStore.open(tmp_path / "home", quota=QUOTA, guard=guard)
    try:
        guard.tend()
        assert guard.report().reserve_bytes == 4096
        root = (await store.add_file(tmp_path / "used")).root
        async with store.lease(root, holder="job", purpose="run"):
            with pytest.raises(Full, match=why):
                await CarDesk(store, tmp_path / "home").take(tmp_path / "in.car")
        assert guard.report().reserve_bytes == 4096

        def refuse(*_: int) -> None:
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(Full, match="no space"):
            await CarDesk(store, tmp_path / "home").take(tmp_path / "in.car")
        assert guard.report().reserve_bytes == 0, "a disk that is full gets it"
    finally:
        await store.close()


async def test_what_a_car_puts_together_counts_before_it_is_stored(
    desks: tuple[Desk, Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it and what comes meanwhile pass the quota together."""
    one, _ = desks
    car = make_car(tmp_path)
    (tmp_path / "beside").write_bytes(bytes(QUOTA - len(DATA)))
    used: list[int] = []
    wait_turn = Stage.wait_turn

    async def look(self: Stage) -> None:
        if not used:
            used.append(await one.store.used_bytes())
            with pytest.raises(Full):
                await one.store.add_file(tmp_path / "beside")
        await wait_turn(self)

    monkeypatch.setattr(Stage, "wait_turn", look)
    await one.cars.take(car)
    assert used == [2 * len(DATA)]
    await one.cars.take(car)
    assert (await one.store.space()).reserved_bytes == 0
    with pytest.raises(BadDag, match="missing"):
        await one.cars.take(cut(car, 3))
    assert (await one.store.space()).reserved_bytes == 0


async def test_import_that_is_cancelled_gives_its_room_back(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    """While it is put together: one of its files is there, the next one is never begun."""
    one, _ = desks
    told: list[int] = []
    with trio.CancelScope() as scope:

        def tell(count: int) -> None:
            told.append(count)
            trio.from_thread.run_sync(scope.cancel)

        await one.cars.take(make_car(tmp_path), on_progress=tell)
    assert scope.cancelled_caught
    assert 0 < max(told) <= len(DATA)
    assert not await one.store.used_bytes()
    assert not one.left


async def test_car_is_not_removed_while_it_is_imported_again(
    desks: tuple[Desk, Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second import would be done, and a file of it would be kept by nothing."""
    one, _ = desks
    car = make_car(tmp_path)
    root = (await one.cars.take(car)).root
    pins, pin = await one.store.pins(), Stage.pin

    async def then_remove(self: Stage, file: Cid, name: str, owner: str) -> None:
        await pin(self, file, name, owner)
        with pytest.raises(Conflict, match="being imported or removed"):
            await one.cars.remove(root)

    with monkeypatch.context() as patched:
        patched.setattr(Stage, "pin", then_remove)
        await one.cars.take(car)
    assert await one.store.pins() == pins
    await one.cars.remove(root)
    assert not await one.store.pins()
