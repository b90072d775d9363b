"""Pins: kept under a name, here already or not, with a state that is true."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.storage.cid import hash_block
from prsm.storage.errors import Conflict
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import Pin, PinState
from tests.tools.stores import MIB, manifest

ROOT = hash_block(b"model")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "store", quota=MIB)
    yield opened
    await opened.close()


async def test_pin_says_how_far_it_has_come(store: ModelStore) -> None:
    assert await store.pin(ROOT, "a", "alice") is PinState.WAITING
    await store.pin_failed(ROOT, "nobody holds it")
    assert list(await store.pins()) == [Pin(ROOT, "a", "alice", PinState.FAILED, "nobody holds it")]
    partial = await store.begin_fetch(ROOT, 5)
    assert [pin.state for pin in await store.pins()] == [PinState.FETCHING]
    await store.end_fetch(partial)
    assert [pin.state for pin in await store.pins()] == [PinState.FAILED]
    assert await store.pin(ROOT, "a", "alice") is PinState.WAITING  # asked again
    await store.pin_failed(ROOT, "once more")
    partial = await store.begin_fetch(ROOT, 5)
    await partial.write_run(partial.missing(), [b"model"])
    await store.end_fetch(partial)
    assert list(await store.pins()) == [Pin(ROOT, "a", "alice", PinState.HELD, "")]
    with pytest.raises(Conflict, match="pinned as a"):
        await store.remove(ROOT)
    await store.unpin(ROOT, "a")
    await store.remove(ROOT)


async def test_pin_of_a_manifest_is_held(store: ModelStore) -> None:
    cid = await store.save_manifest(manifest())
    assert await store.pin(cid, "m") is PinState.HELD
