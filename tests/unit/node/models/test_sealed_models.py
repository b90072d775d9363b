"""A model published as cipher text: who is named reads it, the others keep and serve it."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from prsm.node.models import Models
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.diskguard import FREE_BYTES_MIN, DiskGuard
from prsm.storage.envelope import RING_NAME, key_id
from prsm.storage.errors import BadEnvelope, Full, NotRecipient
from prsm.storage.store.model_store import ModelStore
from tests.tools.model_rooms import open_room, wanted
from tests.tools.wires import Wire

OWN, FRIEND, STRANGER = (bytes([n]) * 32 for n in (1, 2, 3))
FILES = {"stage-1.onnx": b"weights" * 50_000, "golden.bin": b"rows"}


def public(seed: bytes) -> bytes:
    return Ed25519Signer(seed).public_key


async def test_the_named_read_it_and_a_stranger_only_keeps_it(tmp_path: Path) -> None:
    """Goal: plain bytes for recipients alone. Method: one store, opened with three keys."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        room.pool.files = FILES
        known, _ = await room.models.add(
            wanted(tmp_path / "m.onnx", encrypt_to=(public(FRIEND),), register=False)
        )
        manifest = known.manifest
        assert set(manifest.sealing) == {key_id(public(OWN)), key_id(public(FRIEND))}
        assert [file.path for file in manifest.files] == [*FILES, RING_NAME]
        for path in (tmp_path / "store" / "files").iterdir():
            assert b"weightsweights" not in path.read_bytes()
        for seed in (OWN, FRIEND):
            models = Models(replace(room.tools, seed=seed, network=Wire()))
            await models.load()
            path = await models.file(known.cid.raw, 0)
            assert path.read_bytes() == FILES["stage-1.onnx"]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await models.file(known.cid.raw, 0) == path, "decrypted once"
            _, opened = await models.open(str(known.cid))
            assert opened[1].path.read_bytes() == b"rows"
        for seed_or_none in (STRANGER, None):
            models = Models(replace(room.tools, seed=seed_or_none, network=Wire()))
            await models.load()
            with pytest.raises(NotRecipient):
                await models.file(known.cid.raw, 0)
            _, checked = await models.verify(str(known.cid))
            assert not any(one.fault for one in checked), "a stranger can check what he keeps"


async def test_no_plain_copy_survives_a_start(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        room.pool.files = FILES
        known, _ = await room.models.add(
            wanted(tmp_path / "m.onnx", encrypt_to=(public(OWN),), register=False)
        )
        path = await room.models.file(known.cid.raw, 0)
        assert path.exists()
        await room.models.load()
        assert not path.exists()


async def test_a_sealed_model_without_its_ring_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        room.pool.files = FILES
        known, _ = await room.models.add(
            wanted(tmp_path / "m.onnx", encrypt_to=(public(OWN),), register=False)
        )
        bare = replace_files(known.manifest.files[:-1], known.manifest)
        cid = await room.tools.store.save_manifest(bare)
        with pytest.raises(BadEnvelope, match=r"sealing\.keys"):
            await room.models.file(cid.raw, 0)


def replace_files(files: tuple[ManifestFile, ...], manifest: ModelManifest) -> ModelManifest:
    return msgspec.structs.replace(manifest, files=files)


async def test_readers_are_checked_before_the_worker(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        with pytest.raises(LocalError, match="no Ed25519 key"):
            await room.models.add(wanted(tmp_path / "m.onnx", encrypt_to=(bytes(32),)))
        assert room.pool.asked == 0
        models = Models(replace(room.tools, seed=None, network=Wire()))
        with pytest.raises(Unsupported, match="no key of its own"):
            await models.add(wanted(tmp_path / "m.onnx", encrypt_to=(public(FRIEND),)))


async def test_readers_come_and_go_and_no_file_is_sealed_anew(tmp_path: Path) -> None:
    """Another version: the same cipher text, another ring; the friend goes, the stranger comes."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        room.pool.files = FILES
        before, _ = await room.models.add(
            wanted(tmp_path / "m.onnx", encrypt_to=(public(FRIEND),), register=False)
        )
        after, _ = await room.models.share(
            "encoder@1.0.0",
            "1.0.1",
            add=[public(STRANGER)],
            remove=[public(FRIEND)],
            register=False,
        )
        assert after.manifest.files[:-1] == before.manifest.files[:-1]
        assert after.manifest.files[-1].root != before.manifest.files[-1].root
        assert set(after.manifest.sealing) == {key_id(public(OWN)), key_id(public(STRANGER))}
        for seed, opens in ((OWN, True), (STRANGER, True), (FRIEND, False)):
            models = Models(replace(room.tools, seed=seed, network=Wire()))
            await models.load()
            if opens:
                path = await models.file(after.cid.raw, 0)
                assert path.read_bytes() == FILES["stage-1.onnx"]
            else:
                with pytest.raises(NotRecipient):
                    await models.file(after.cid.raw, 0)
        assert list(room.tools.scratch.iterdir()) == []
        with pytest.raises(NotRecipient):
            await room.models.share(
                "encoder@1.0.1", "1.0.2", remove=[public(FRIEND)], register=False
            )


async def test_a_model_everybody_reads_has_no_readers_to_change(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    async with open_room(tmp_path, seed=OWN) as room:
        room.pool.files = FILES
        await room.models.add(wanted(tmp_path / "m.onnx", register=False))
        with pytest.raises(LocalError, match="everybody can read"):
            await room.models.share("encoder", "1.0.1", add=[public(FRIEND)], register=False)


async def test_neither_cipher_nor_plain_copies_take_what_is_kept_for_the_ledger(
    tmp_path: Path,
) -> None:
    """The disk fills up: what would pass the mark is refused before a byte of it is written."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    room_left = [1 << 30]

    def free(_path: Path) -> os.statvfs_result:
        blocks = (FREE_BYTES_MIN + room_left[0]) // 4096
        return os.statvfs_result((4096, 4096, 10 << 18, blocks, blocks, 0, 0, 0, 0, 255))

    guard = DiskGuard(tmp_path, reserve_bytes=0, stat=free)
    store = await ModelStore.open(tmp_path / "guarded", quota=2**24, guard=guard)
    try:
        async with open_room(tmp_path, seed=OWN, store=store) as room:
            room.pool.files = FILES
            asked = wanted(tmp_path / "m.onnx", encrypt_to=(public(FRIEND),), register=False)
            known, _ = await room.models.add(asked)
            room_left[0] = 100_000  # less than the weights
            with pytest.raises(Full, match="are kept for the ledger"):
                await room.models.file(known.cid.raw, 0)
            assert not [one for one in room.tools.scratch.rglob("*") if one.is_file()]
            assert (await room.models.file(known.cid.raw, 1)).read_bytes() == b"rows"
            before = await store.used_bytes()
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("prsm.node.models.adding.seal_file", None)  # never called
                with pytest.raises(Full, match="are kept for the ledger"):
                    await room.models.add(replace(asked, semver="1.0.1"))
            assert await store.used_bytes() == before
            room_left[0] = 1 << 30
            path = await room.models.file(known.cid.raw, 0)
            assert path.read_bytes() == FILES["stage-1.onnx"]
    finally:
        await store.close()
