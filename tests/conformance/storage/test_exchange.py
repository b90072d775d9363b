"""The battery of a fetch, on sources in memory and on range streams over the memory network."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from prsm.storage.interfaces import Source
from tests.tools.exchange_battery import Act, check_exchange
from tests.tools.paced import PacedSource
from tests.tools.range_peers import faulty_peers
from tests.tools.sources import MemorySource


@asynccontextmanager
async def paced(
    file: MemorySource, acts: Sequence[Act], sent: list[int]
) -> AsyncIterator[Sequence[Source]]:
    sources = [
        PacedSource(file, str(number), leaf_s=act.leaf_s, manner=act.manner, good=act.good)
        for number, act in enumerate(acts)
    ]
    yield sources
    sent[0] = sum(source.sent for source in sources)


async def test_fetch_from_sources_in_memory(autojump_clock: MockClock) -> None:
    await check_exchange(paced)
    assert autojump_clock.current_time() > 10


@pytest.mark.slow
async def test_fetch_from_range_streams(autojump_clock: MockClock) -> None:
    await check_exchange(faulty_peers)
    assert autojump_clock.current_time() > 10
