"""Fetching from sources that are right, slow, lying or gone; wrong bytes never reach the disk."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.protocol.errors import PrsmError
from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import (
    BadDag,
    Full,
    NotFound,
    SourceCorrupt,
    SourceFailed,
    StoreUnavailable,
)
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.interfaces import Leaf
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.resume import Partial
from tests.tools.sources import MemorySource, Trouble, TroubledSource

MIB = 1 << 20
SIZE = 20 * MIB + 3
DATA = Random(2).randbytes(SIZE)
MEMORY = MemorySource(DATA)
ROOT = MEMORY.root


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "there", quota=100 * MIB)
    yield opened
    await opened.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "here", quota=100 * MIB)
    yield opened
    await opened.close()


def sources(*troubles: Trouble) -> list[TroubledSource]:
    return [
        TroubledSource(MEMORY, trouble, f"{number}-{trouble.value}")
        for number, trouble in enumerate(troubles)
    ]


async def test_fetch_from_three_sources(
    here: ModelStore,
    mock_clock: MockClock,
) -> None:
    """Time stands still: no source is late, whatever the machine does meanwhile."""
    assert mock_clock.rate == 0
    peers = sources(Trouble.NONE, Trouble.NONE, Trouble.BLIND)
    fetched = await Exchange(here).fetch(ROOT, SIZE, peers)
    assert (await here.path(ROOT)).read_bytes() == DATA
    assert sum(fetched.bytes_by_source.values()) == SIZE
    assert len(fetched.bytes_by_source) == 3
    assert fetched.faults == []
    asked = [index for peer in peers for run in peer.asked for index in run]
    assert set(asked) == set(range(21))
    assert max(Counter(asked).values()) <= 2
    assert len(asked) <= 23  # a run nobody has begun may move to another source
    again = await Exchange(here).fetch(ROOT, SIZE, [])
    assert again.bytes_by_source == {}


@pytest.mark.parametrize("trouble", [t for t in Trouble if t not in {Trouble.NONE, Trouble.HANG}])
async def test_fetch_beside_a_troubled_source(here: ModelStore, trouble: Trouble) -> None:
    told: list[str] = []
    exchange = Exchange(here, on_fault=lambda name, _error: told.append(name))
    fetched = await exchange.fetch(ROOT, SIZE, sources(trouble, Trouble.NONE))
    assert (await here.path(ROOT)).read_bytes() == DATA
    blamed = [fault.source for fault in fetched.faults]
    harmless = {Trouble.BLIND, Trouble.ONE, Trouble.ODD}
    assert blamed == told == ([] if trouble in harmless else [f"0-{trouble.value}"])
    if trouble in {Trouble.WRONG, Trouble.SHORT, Trouble.SURPLUS}:
        error = fetched.faults[0].error
        assert isinstance(error, SourceCorrupt)
        assert error.peer == f"0-{trouble.value}"
    assert sum(fetched.bytes_by_source.values()) == SIZE


@pytest.mark.parametrize(
    ("troubles", "error"),
    [
        ((), NotFound),
        ((Trouble.DOWN, Trouble.DOWN), SourceFailed),
        ((Trouble.CUT,), SourceFailed),
        ((Trouble.EMPTY,), SourceFailed),
        ((Trouble.WRONG, Trouble.DOWN), SourceCorrupt),
        ((Trouble.SHORT,), SourceCorrupt),
        ((Trouble.LIAR,), SourceFailed),
        ((Trouble.ODD,), NotFound),
    ],
)
async def test_fetch_says_why_it_failed(
    here: ModelStore,
    troubles: Sequence[Trouble],
    error: type[PrsmError],
) -> None:
    with pytest.raises(error) as caught:
        await Exchange(here).fetch(ROOT, SIZE, sources(*troubles))
    assert type(caught.value) is error
    assert f"of {SIZE} bytes are here" in caught.value.what
    assert not await here.has(ROOT)
    fetched = await Exchange(here).fetch(ROOT, SIZE, [MEMORY])
    here_already = SIZE - sum(fetched.bytes_by_source.values())
    assert here_already == (10 * MIB if troubles == (Trouble.ODD,) else 0)
    assert (await here.path(ROOT)).read_bytes() == DATA


async def test_missing_everywhere_is_not_found(here: ModelStore) -> None:
    for size in (5, 2 * MIB):
        cid = hash_block(b"small")
        root = cid if size == 5 else Cid(type(cid.codec).DAG_PB, cid.digest)
        with pytest.raises(NotFound):
            await Exchange(here).fetch(root, size, sources(Trouble.NONE, Trouble.NONE))


async def test_wrong_bytes_of_every_source_never_reach_the_disk(
    here: ModelStore, tmp_path: Path
) -> None:
    liar = TroubledSource(MEMORY, Trouble.WRONG, "liar")
    honest_nodes = MEMORY

    class Mixed(TroubledSource):
        @override
        async def node(self, digest: bytes) -> bytes:
            return await honest_nodes.node(digest)

    mixed = Mixed(MEMORY, Trouble.WRONG, "mixed")
    with pytest.raises(SourceCorrupt):
        await Exchange(here).fetch(ROOT, SIZE, [mixed, liar])
    partial = tmp_path / "here" / "partial" / str(ROOT)
    assert partial.read_bytes() == bytes(SIZE)


async def test_two_callers_share_a_fetch(here: ModelStore) -> None:
    exchange = Exchange(here)
    peer = sources(Trouble.NONE)[0]
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(exchange.fetch, ROOT, SIZE, [peer])
    assert sorted(index for run in peer.asked for index in run) == list(range(21))


async def test_cancelled_fetch_goes_on_later(here: ModelStore) -> None:
    class Stops(MemorySource):
        """Serves one run, then nothing."""

        served = 0

        @override
        async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
            self.served += 1
            if self.served > 3:
                scope.cancel()
            return await super().fetch(root, wanted)

    with trio.CancelScope() as scope:
        await Exchange(here).fetch(ROOT, SIZE, [Stops(DATA)])
    assert scope.cancelled_caught
    assert not await here.has(ROOT)
    fetched = await Exchange(here).fetch(ROOT, SIZE, [MEMORY])
    assert sum(fetched.bytes_by_source.values()) < SIZE
    assert (await here.path(ROOT)).read_bytes() == DATA


async def test_root_of_a_false_size_is_its_publishers_fault(here: ModelStore) -> None:
    with pytest.raises(BadDag):
        await Exchange(here).fetch(ROOT, SIZE - 1, sources(Trouble.NONE))
    await Exchange(here).fetch(ROOT, SIZE, sources(Trouble.NONE))


@pytest.mark.parametrize("error", [Full, StoreUnavailable])
async def test_our_own_disk_ends_the_fetch_and_blames_nobody(
    here: ModelStore,
    error: type[PrsmError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_self: Partial, _data: bytes, _offset: int) -> None:
        raise OSError(28 if error is Full else 5, "refused")

    monkeypatch.setattr(Partial, "_pwrite", refuse)
    told: list[str] = []
    exchange = Exchange(here, on_fault=lambda name, _error: told.append(name))
    with pytest.raises(error):
        await exchange.fetch(ROOT, SIZE, sources(Trouble.NONE, Trouble.NONE))
    assert told == []
    monkeypatch.undo()
    await exchange.fetch(ROOT, SIZE, sources(Trouble.NONE))


async def test_block_comes_from_the_first_honest_source(here: ModelStore) -> None:
    peers = sources(Trouble.DOWN, Trouble.WRONG, Trouble.NONE)
    block = await Exchange(here).fetch_block(ROOT.digest, peers)
    assert block == await MEMORY.node(ROOT.digest)
    with pytest.raises(SourceCorrupt):
        await Exchange(here).fetch_block(ROOT.digest, peers[:2])
