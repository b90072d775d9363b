"""Wrong bytes of a source: one block of it is taken, whatever it has under way; counted here."""

from collections.abc import Sequence
from random import Random

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.storage.cid import Cid
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.interfaces import Leaf
from tests.tools.landings import MemoryFiles
from tests.tools.paced import PacedSource
from tests.tools.sources import MemorySource

MIB = 1 << 20
SIZE = 20 * MIB + 3
DATA = (Random(3).randbytes(MIB + 1) * 21)[:SIZE]  # each leaf another one
MEMORY = MemorySource(DATA)
ROOT = MEMORY.root
HASHED_S = 0.05  # the clock waits for a thread that hashes a leaf, or the source looks slow


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


class ChorusSource(PacedSource):
    """Answers everything it is asked in one moment, one leaf each; wrong after `good` leaves."""

    @override
    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        now_s = trio.current_time()
        await trio.sleep_until(now_s - now_s % 0.1 + 0.1)
        self.sent += 1
        if self.sent <= self._good:
            return await self._inner.fetch(root, wanted[:1])
        self.bad += 1
        return [bytes(wanted[0].size)]


@pytest.mark.usefixtures("autojump_clock")
async def test_stranger_is_asked_for_one_block_until_a_right_one_came(
    files: MemoryFiles,
) -> None:
    """Counted at the source: what it could send at all."""
    stranger = ChorusSource(MEMORY, "stranger")
    await Exchange(files).fetch(ROOT, SIZE, [stranger, PacedSource(MEMORY, "a")])
    assert files.files[ROOT] == DATA
    assert (stranger.sent, stranger.bad) == (1, 1)


async def test_nothing_of_a_source_is_looked_at_after_its_first_wrong_block(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    """Answers come in one moment, all of them wrong: one is hashed."""
    autojump_clock.autojump_threshold = HASHED_S
    turncoat = ChorusSource(MEMORY, "turncoat", good=1)
    fetched = await Exchange(files).fetch(
        ROOT, SIZE, [turncoat, PacedSource(MEMORY, "a", leaf_s=0.1)]
    )
    assert files.files[ROOT] == DATA
    assert turncoat.bad > 1  # they were under way
    assert len(files.partials[ROOT].wrong) == 1
    assert fetched.wasted_bytes == turncoat.bad * MIB
    assert [fault.source for fault in fetched.faults] == ["turncoat"]


@pytest.mark.usefixtures("autojump_clock")
async def test_wrong_block_of_one_file_ends_the_asks_for_others(
    files: MemoryFiles,
) -> None:
    """Two files at once from one source: the second hears of what it sent for the first."""
    told: list[tuple[str, str]] = []
    exchange = Exchange(files, on_fault=lambda name, error: told.append((name, error.reason)))
    other = MemorySource(DATA[MIB // 2 :])
    wrong = [ChorusSource(memory, "wrong") for memory in (MEMORY, other)]
    good = [PacedSource(memory, "a") for memory in (MEMORY, other)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.fetch, ROOT, SIZE, [wrong[0], good[0]])
        nursery.start_soon(exchange.fetch, other.root, SIZE - MIB // 2, [wrong[1], good[1]])
    assert sum(len(landing.wrong) for landing in files.partials.values()) == 1
    assert told == [("wrong", "integrity_failed")]
    assert wrong[0].bad + wrong[1].bad <= 2
