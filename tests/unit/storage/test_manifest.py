"""Manifests: kept, listed, and refused when a path, an index or a size is wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.messages.models import ManifestFile, ModelManifest, Shard
from prsm.storage.cid import Codec, hash_block
from prsm.storage.manifest import (
    ForeignManifest,
    check_publisher,
    dataset_identity,
    decode_manifest,
    encode_manifest,
    sign_manifest,
)
from prsm.storage.store.model_store import ModelStore
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
        {"shards": (Shard(1, 1, 0, 0, (), (), 1, 1, ()),)},
        {"shards": (Shard(1, 0, 1, 0, (), (), 1, 1, ()),)},
        {"shards": (Shard(1, 0, 0, 0, (), (), 1, 1, (1,)),)},
        {"shards": (Shard(1, 0, 0, 0, (), (), 1, 1, (0, 0)),)},
        {"shards": (Shard(1, 0, 0, 1, (), (), 1, 1, ()),)},
    ],
)
async def test_manifest_that_is_wrong_is_refused(
    store: ModelStore, changes: dict[str, object]
) -> None:
    with pytest.raises(LocalError, match="manifest of minilm"):
        await store.save_manifest(manifest(**changes))


SIGNER = Ed25519Signer(b"p" * 32)
CHAIN = b"testnet1"


def signed(**changes: object) -> ModelManifest:
    draft = manifest(publisher=SIGNER.public_key, chain_id=CHAIN, **changes)
    return sign_manifest(draft, SIGNER)


def check(found: ModelManifest, *, publisher: bytes = SIGNER.public_key) -> None:
    check_publisher(found, publisher=publisher, chain_id=CHAIN, verifier=Ed25519Verifier())


def test_signed_manifest_survives_the_wire_and_its_publisher_is_believed() -> None:
    found = decode_manifest(encode_manifest(signed()))
    assert found == signed()
    check(found)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (manifest(publisher=SIGNER.public_key, chain_id=CHAIN), "not signed"),
        (replace(signed(), chain_id=b"othernet"), "network"),
        (replace(signed(), publisher=bytes(32)), "the ledger says"),
        (replace(signed(), semver="9.9.9"), "does not hold"),
        (replace(signed(), card=hash_block(b"card").raw), "does not hold"),
        (replace(signed(), signature=bytes(64)), "does not hold"),
    ],
)
def test_manifest_that_is_not_its_publishers_word_is_refused_by_name(
    found: ModelManifest, fault: str
) -> None:
    with pytest.raises(ForeignManifest, match=fault) as caught:
        check(found)
    assert f"minilm@{found.semver}" in caught.value.what


def test_manifest_of_another_publisher_is_refused_though_signed() -> None:
    other = Ed25519Signer(b"q" * 32)
    with pytest.raises(ForeignManifest, match="the ledger says"):
        check(signed(), publisher=other.public_key)


def test_manifest_of_version_1_is_refused_as_what_it_is() -> None:
    fields = list(msgspec.structs.astuple(manifest()))[:13]
    with pytest.raises(WireError, match="version 1: of a network"):
        decode_manifest(encode([1, *fields[1:]]))


async def test_manifests_of_version_1_are_passed_over_in_an_old_home(store: ModelStore) -> None:
    fields = list(msgspec.structs.astuple(manifest()))[:13]
    await store._index.put_manifest(encode([1, *fields[1:]]))
    cid = await store.save_manifest(manifest())
    assert [c for c, _ in await store.models()] == [cid]


def dataset(**changes: object) -> ModelManifest:
    fields = {"kind": "dataset", "shards": (), "compute": dataset_identity(manifest().files)}
    return manifest(**{**fields, **changes})


def test_dataset_has_files_and_no_computation() -> None:
    assert decode_manifest(encode_manifest(dataset())) == dataset()
    for changes in (
        {"compute": manifest().compute},
        {"shards": manifest().shards},
        {"kind": "onnx"},
    ):
        with pytest.raises(LocalError, match="shards"):
            encode_manifest(dataset(**changes))
