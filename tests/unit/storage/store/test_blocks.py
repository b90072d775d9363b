"""Leaves, nodes and manifests by their digests, as a bitswap peer asks for them."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.store.model_store import ModelStore
from tests.tools.stores import CHUNKS, DATA, MIB, SIZE, manifest

DIGESTS = [sha256(chunk).digest() for chunk in CHUNKS]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ModelStore]:
    (tmp_path / "model").write_bytes(DATA)
    opened = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    yield opened
    await opened.close()


async def test_every_block_of_a_file_is_found_by_digest(store: ModelStore, tmp_path: Path) -> None:
    root = (await store.add_file(tmp_path / "model")).root
    cid = await store.save_manifest(manifest())
    node = await store.get_block(root.digest)
    asked = [*DIGESTS, root.digest, cid.digest, bytes(32)]
    assert await store.blocks.held(asked) == {
        **dict(zip(DIGESTS, map(len, CHUNKS), strict=True)),
        root.digest: len(node),
        cid.digest: len(await store.get_block(cid.digest)),
    }
    assert [await store.blocks.get(digest) for digest in DIGESTS] == CHUNKS
    assert await store.blocks.get(root.digest) == node
    await store.remove(root)
    assert list(await store.blocks.held(asked)) == [cid.digest]
    with pytest.raises(NotFound):
        await store.blocks.get(DIGESTS[0])


async def test_small_and_empty_files_are_blocks_too(store: ModelStore, tmp_path: Path) -> None:
    for raw in (b"", b"tiny"):
        (tmp_path / "f").write_bytes(raw)
        root = (await store.add_file(tmp_path / "f")).root
        assert await store.blocks.held([root.digest]) == {root.digest: len(raw)}
        assert await store.blocks.get(root.digest) == raw


async def test_leaves_on_their_way_are_found_once_they_are_here(
    store: ModelStore, tmp_path: Path
) -> None:
    added = await store.add_file(tmp_path / "model")
    node = await store.get_block(added.root.digest)
    await store.remove(added.root)
    partial = await store.begin_fetch(added.root, SIZE)
    assert await store.blocks.held(DIGESTS) == {}
    await partial.put_node(node)
    await partial.write_run(partial.missing()[1:2], CHUNKS[1:2])
    assert await store.blocks.held(DIGESTS) == {DIGESTS[1]: MIB}
    assert await store.blocks.get(DIGESTS[1]) == CHUNKS[1]
    with pytest.raises(NotFound):
        await store.blocks.get(DIGESTS[0])
    await partial.write_run(partial.missing(), [CHUNKS[0], *CHUNKS[2:]])
    await store.end_fetch(partial)
    assert len(await store.blocks.held(DIGESTS)) == 4


async def test_leaf_that_changed_is_never_handed_out(store: ModelStore, tmp_path: Path) -> None:
    root = (await store.add_file(tmp_path / "model")).root
    path = await store.path(root)
    path.chmod(0o600)
    with path.open("rb+") as file:
        file.write(b"!")
    with pytest.raises(Corrupt):
        await store.blocks.get(DIGESTS[0])
    assert await store.blocks.get(DIGESTS[1]) == CHUNKS[1]


async def test_leaves_of_an_older_store_are_listed_when_it_opens(
    store: ModelStore, tmp_path: Path
) -> None:
    root = (await store.add_file(tmp_path / "model")).root
    await store._index._database.write(  # type: ignore[attr-defined]  # the one in SQLite
        lambda db: db.execute("DELETE FROM leaf")
    )
    assert await store.blocks.held(DIGESTS) == {}
    await store.close()
    again = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert len(await again.blocks.held(DIGESTS)) == 4
    assert await again.blocks.get(DIGESTS[3]) == CHUNKS[3]
    assert await again.has(root)
    await again.close()
