"""Offline: what is here opens without a network call, what is not is refused with the figures."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from prsm.node.models import Models
from prsm.storage.cid import decode_cid, parse_cid
from prsm.storage.errors import NotFound, Offline
from prsm.storage.store.extra import ExtraStore
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import ADDED
from tests.tools.model_rooms import Room, open_room, wanted
from tests.tools.wires import Wire

FILES = {"stage-1.onnx": b"weights" * 300_000, "golden.bin": b"rows"}
_watching: list[list[str]] = []


def _audit(event: str, _arguments: tuple[object, ...]) -> None:
    if event.startswith("socket.") and _watching:
        _watching[-1].append(event)


@contextmanager
def network_calls() -> Iterator[list[str]]:
    """What the interpreter asks of sockets while the block runs; hooks cannot be taken out."""
    if not hasattr(sys, "_prsm_audited"):
        sys.addaudithook(_audit)
        sys._prsm_audited = True  # type: ignore[attr-defined]  # once a process
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


async def added(room: Room, folder: Path) -> str:
    (folder / "m.onnx").write_bytes(b"x")
    room.pool.files = FILES
    known, _ = await room.models.add(wanted(folder / "m.onnx", register=False))
    return str(known.cid)


async def test_a_cached_model_opens_with_no_network_call(tmp_path: Path) -> None:
    """Goal: zero calls, also none of resolving names. Method: an audit hook on sockets."""
    async with open_room(tmp_path) as room:
        cid = await added(room, tmp_path)
        for offline_node in (False, True):
            models = Models(replace(room.tools, network=Wire(), offline=offline_node))
            await models.load()
            with network_calls() as calls:
                _, files = await models.open(cid, offline=True)
                await models.open("encoder@1.0.0")
                await models.file(parsed(cid), 1)
            assert calls == []
            assert [one.path.read_bytes() for one in files] == list(FILES.values())


async def test_the_hook_sees_a_call() -> None:
    """The planted fault: a connection is noticed."""
    with (
        network_calls() as calls,
        trio.socket.socket() as dead,
        pytest.raises(ConnectionRefusedError),
    ):
        await dead.connect(("127.0.0.1", 1))
    assert "socket.connect" in calls


async def test_what_is_missing_is_said_with_its_size(tmp_path: Path) -> None:
    async with open_room(tmp_path, offline=True) as room:
        cid = await added(room, tmp_path)
        manifest = await room.models.manifest(parsed(cid))
        root = manifest.files[0].root
        await room.tools.store.unpin(decode_cid(root), ADDED)
        await room.tools.store.remove(decode_cid(root))
        with pytest.raises(Offline) as refused:
            await room.models.pull(cid)
        assert f"{len(FILES['stage-1.onnx'])} of {manifest.total_bytes} bytes" in refused.value.what
        assert "stage-1.onnx" in refused.value.what
        with pytest.raises(Offline, match=r"stage-1\.onnx"):
            await room.models.file(parsed(cid), 0)
        with pytest.raises(Offline):
            await room.models.open(cid)
        keeping = room.models.keeping
        assert keeping.standing(manifest, await keeping.stored())[0] == "offline"
        await room.tools.store.remove_manifest(parse_cid(cid))
        with pytest.raises(Offline, match="manifest"):
            await room.models.find(cid)
        assert room.models.sources_for(parsed(cid)) == ()


async def test_offline_of_one_call_asks_nobody(tmp_path: Path) -> None:
    """The node is online; this call is not. Its twin asks, and learns that nobody has it."""
    async with open_room(tmp_path) as room:
        cid = await added(room, tmp_path)
        manifest = await room.models.manifest(parsed(cid))
        root = decode_cid(manifest.files[0].root)
        await room.tools.store.unpin(root, ADDED)
        await room.tools.store.remove(root)
        with pytest.raises(Offline):
            await room.models.pull(cid, offline=True)
        with pytest.raises(NotFound):
            await room.models.pull(cid)


async def test_an_extra_store_is_searched_before_the_network_and_not_believed(
    tmp_path: Path,
) -> None:
    """Goal: no copy, no call, no wrong byte. Method: a second store beside; then it is damaged."""
    (tmp_path / "theirs").mkdir()
    async with open_room(tmp_path / "theirs") as other:
        cid = await added(other, tmp_path)
        manifest = await other.models.manifest(parsed(cid))
    folder = tmp_path / "theirs" / "store"
    store = await ModelStore.open(folder, quota=2**24)  # its log goes into its file
    await store.close()
    (tmp_path / "ours").mkdir()
    extra = ExtraStore(folder)
    async with open_room(tmp_path / "ours", extra=[extra], offline=True) as room:
        _, files = await room.models.open(cid)
        assert [one.path.read_bytes() for one in files] == list(FILES.values())
        assert all(one.path.is_relative_to(folder) for one in files)
        keeping = room.models.keeping
        assert keeping.standing(manifest, await keeping.stored()) == ("shared", 0)
        assert await room.tools.store.list() == []
        victim = files[0].path
        victim.chmod(0o600)
        with victim.open("r+b") as file:
            file.write(b"W")
        with pytest.raises(Offline):
            await room.models.open(cid)


def test_an_extra_store_that_is_gone_or_damaged_holds_nothing(tmp_path: Path) -> None:
    extra = ExtraStore(tmp_path / "nowhere")
    root = decode_cid(bytes.fromhex("01551220") + bytes(32))
    assert extra.find_file(root, 1, bytes(32)) is None
    assert extra.find_block(bytes(32)) is None
    assert not extra.has_file(root, 1)
    (tmp_path / "files").mkdir()
    (tmp_path / "index.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "files" / str(root)).mkdir()
    extra = ExtraStore(tmp_path)
    assert extra.find_block(bytes(32)) is None
    size = (tmp_path / "files" / str(root)).stat().st_size
    assert extra.find_file(root, size, bytes(32)) is None


def parsed(cid: str) -> bytes:
    return parse_cid(cid).raw
