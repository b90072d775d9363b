"""Manifests: kept, listed, and refused when a path, an index or a size is wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import ManifestFile, Shard
from prsm.storage.cid import Codec, hash_block
from prsm.storage.model_store import ModelStore
from tests.tools.stores import MIB, manifest


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    yield opened
    await opened.close()


async def test_manifest_is_kept_and_listed(store: ModelStore, tmp_path: Path) -> None:
    cid = await store.save_manifest(manifest())
    assert cid.codec is Codec.RAW
    assert hash_block(await store.get_block(cid.digest)) == cid
    assert await store.save_manifest(manifest()) == cid
    other = await store.save_manifest(manifest(name="other"))
    assert await store.load_manifest(cid) == manifest()
    assert {c: m.name for c, m in await store.models()} == {cid: "minilm", other: "other"}
    assert not await store.has_model(manifest())
    (tmp_path / "x").write_bytes(b"x")
    await store.add_file(tmp_path / "x")
    assert await store.has_model(manifest())
    await store.remove_manifest(cid)
    assert [c for c, _ in await store.models()] == [other]


def renamed(path: str) -> dict[str, object]:
    return {"files": (ManifestFile(path, hash_block(b"x").raw, 1, bytes(32)),)}


@pytest.mark.parametrize(
    "changes",
    [
        *(
            renamed(path)
            for path in (
                "/etc/passwd",
                "../x",
                "a/../b",
                "a//b",
                "",
                ".",
                "a\\b",
                "C:x",
                "a\nb",
                "nul.txt",
                "e\u0301",
            )
        ),
        {
            "files": (
                *manifest().files,
                ManifestFile("A/Model.onnx", hash_block(b"").raw, 0, bytes(32)),
            )
        },
        {"files": (ManifestFile("x", hash_block(b"x").raw, 2 * MIB, bytes(32)),)},
        {"files": (ManifestFile("x", b"\x02" + bytes(35), 1, bytes(32)),)},
        {"files": (ManifestFile("x", hash_block(b"x").raw, 2**62, bytes(32)),)},
        {"profile": "legacy"},
        {"tokenizer": 1},
        {"tokenizer": -1},
        {"shards": (Shard(1, 1, 0, 0, (), (), 1, 1),)},
        {"shards": (Shard(1, 0, 1, 0, (), (), 1, 1),)},
        {"shards": (Shard(1, 0, 0, 1, (), (), 1, 1),)},
    ],
)
async def test_manifest_that_is_wrong_is_refused(
    store: ModelStore, changes: dict[str, object]
) -> None:
    with pytest.raises(LocalError, match="manifest of minilm"):
        await store.save_manifest(manifest(**changes))
