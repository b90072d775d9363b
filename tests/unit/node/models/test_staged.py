"""A dataset, an adapted model, another circle of readers: cut anywhere, nothing half stays."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from prsm.node.models.datasets import WantedDataset
from prsm.node.models.forms import Forms, WantedAdapted
from prsm.node.models.records import CardText
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.slices import encode_slices
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.storage.errors import Full
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.staging import Stage, Staging
from tests.tools.model_rooms import Room, open_room, registered, wanted

OWN, FRIEND = bytes([1]) * 32, Ed25519Signer(bytes([2]) * 32).public_key
WORDS = CardText("rows", "image-classification", "", (), 0, 0, (), ())
Making = Callable[[Room, Path], Awaitable[object]]
STEPS = ("add_file", "pin", "save_manifest", "put_blocks")


async def dataset(room: Room, folder: Path) -> None:
    labels = Tensor(TensorHead("label", Dtype.I64, (2,)), bytes(16))
    path = folder / "rows.slices"
    pixels = Tensor(TensorHead("pixels", Dtype.U8, (2, 3)), bytes(6))
    path.write_bytes(encode_slices([(pixels, labels)]))
    asked = WantedDataset(path, "rows", "1.0.0", "MIT", register=False, card=WORDS)
    await room.models.datasets.add(asked)


async def adapted(room: Room, folder: Path) -> None:
    (folder / "adapter").write_bytes(b"low rank")
    base = await room.models.find("plain@1.0.0")
    _, files = await room.models.open("plain@1.0.0")
    asked = WantedAdapted(folder / "adapter", "both", "1.0.0", "MIT", register=False)
    await room.models.forms.adapt(base, files, asked)


async def shared(room: Room, _folder: Path) -> None:
    await room.models.share("sealed@1.0.0", "1.0.1", add=[FRIEND], register=False)


@pytest.fixture
def tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter fits; what runs it is tested with a real child."""

    async def fits(*_: object) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    monkeypatch.setattr(Forms, "_try_out", fits)


async def begun(room: Room, folder: Path) -> None:
    (folder / "m.onnx").write_bytes(b"x")
    room.pool.files = {"stage-1.onnx": b"weights", "golden.bin": b"rows"}
    await room.models.add(wanted(folder / "m.onnx", name="plain", register=False))
    sealed = wanted(folder / "m.onnx", name="sealed", encrypt_to=(FRIEND,), register=False)
    await room.models.add(sealed)


async def told(store: ModelStore) -> tuple[object, ...]:
    """What a store holds."""
    blocks = (await store.space()).used.blocks
    pins = sorted((str(pin.root), pin.name) for pin in await store.pins())
    files = sorted(str(file.root) for file in await store.list())
    return files, pins, [cid for cid, _ in await store.models()], blocks


@pytest.mark.parametrize("make", [dataset, adapted, shared])
@pytest.mark.usefixtures("tried_out")
async def test_what_a_kill_cut_is_taken_back_by_the_next_run(
    make: Making, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step the folders are copied, which is what a kill leaves; a copy is opened."""
    home, copies = tmp_path / "home", list[Path]()
    home.mkdir()

    def copying(step: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def copied(*args: object, **more: object) -> object:
            result = await step(*args, **more)
            copies.append(tmp_path / f"copy{len(copies)}")
            shutil.copytree(home, copies[-1])
            return result

        return copied

    async with open_room(home, seed=OWN) as room:
        await begun(room, tmp_path)
        before = await told(room.tools.store)
        for name in STEPS:
            monkeypatch.setattr(Stage, name, copying(getattr(Stage, name)))
        await make(room, tmp_path)
        assert await told(room.tools.store) != before
        assert list(room.tools.scratch.iterdir()) == []
    assert len(copies) >= 3
    for copy in copies:
        store = await ModelStore.open(copy / "store", quota=2**24)
        try:
            await Staging(store, copy / "scratch").collect()
            assert await told(store) == before, copy.name
        finally:
            with trio.CancelScope(shield=True):
                await store.close()  # noqa: ASYNC102 - shielded above


@pytest.mark.parametrize("make", [dataset, adapted, shared])
@pytest.mark.usefixtures("tried_out")
async def test_what_failed_is_taken_back_at_once(
    make: Making, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_room(tmp_path, seed=OWN) as room:
        await begun(room, tmp_path)
        before = await told(room.tools.store)

        async def full(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise Full("no room for a manifest")

        monkeypatch.setattr(ModelStore, "save_manifest", full)
        with pytest.raises(Full):
            await make(room, tmp_path)
        assert await told(room.tools.store) == before
        assert list(room.tools.scratch.iterdir()) == []


@pytest.mark.usefixtures("tried_out")
async def test_what_the_ledger_would_refuse_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    """No name, a taken one, another account's: of a dataset, an adapted model, other readers."""
    async with open_room(tmp_path, seed=OWN) as room:
        await begun(room, tmp_path)
        room.ledger.named = [
            registered("taken", "1.0.0", 1),
            registered("sealed", "1.0.1", 1),
            registered("theirs", "0.9.0", 1, publisher=bytes(32)),
        ]
        before = await told(room.tools.store)
        room.pool.files = {}
        (tmp_path / "adapter").write_bytes(b"low rank")
        labels = Tensor(TensorHead("label", Dtype.I64, (2,)), bytes(16))
        pixels = Tensor(TensorHead("pixels", Dtype.U8, (2, 3)), bytes(6))
        (tmp_path / "rows").write_bytes(encode_slices([(pixels, labels)]))
        base = await room.models.find("plain@1.0.0")
        _, files = await room.models.open("plain@1.0.0")
        for name, why in (
            ("bad name!", "not well formed"),
            ("taken", "on the ledger already"),
            ("theirs", "belongs to another publisher"),
        ):
            rows = WantedDataset(tmp_path / "rows", name, "1.0.0", "MIT", register=True)
            with pytest.raises(LocalError, match=why):
                await room.models.datasets.add(rows)
            both = WantedAdapted(tmp_path / "adapter", name, "1.0.0", "MIT", register=True)
            with pytest.raises(LocalError, match=why):
                await room.models.forms.adapt(base, files, both)
        for semver, why in (("1.0", "not well formed"), ("1.0.1", "on the ledger already")):
            with pytest.raises(LocalError, match=why):
                await room.models.share("sealed@1.0.0", semver, add=[FRIEND], register=True)
        room.ledger.named = [registered("sealed", "1.0.1", 1, publisher=bytes(32))]
        with pytest.raises(LocalError, match="belongs to another publisher"):
            await room.models.share("sealed@1.0.0", "1.0.2", add=[FRIEND], register=True)
        assert await told(room.tools.store) == before


@pytest.mark.parametrize("make", [dataset, adapted])
@pytest.mark.usefixtures("tried_out")
async def test_what_names_files_is_stored_when_all_else_has_been(
    make: Making, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is removed leaves what it shares to a manifest, which may be taken back yet."""
    done: list[str] = []

    def noting(name: str) -> Callable[..., Awaitable[object]]:
        step: Callable[..., Awaitable[object]] = getattr(Stage, name)

        async def noted(*args: object, **more: object) -> object:
            done.append(name)
            return await step(*args, **more)

        return noted

    async with open_room(tmp_path, seed=OWN) as room:
        await begun(room, tmp_path)
        for name in STEPS:
            monkeypatch.setattr(Stage, name, noting(name))
        await make(room, tmp_path)
    assert "pin" in done
    assert done[-1] == "save_manifest"
