"""A fetch by the clock: who stalls, lies, is busy or late; callers who share, leave, look on."""

from collections.abc import Sequence
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from typing_extensions import override

from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid
from prsm.storage.errors import (
    FetchCancelled,
    Full,
    NotFound,
    Offline,
    SourceCorrupt,
    SourceFailed,
    SourceSlow,
)
from prsm.storage.fetch.exchange import Exchange, Fetched, Urgency
from prsm.storage.fetch.fetching import GRACE_SECONDS, RATE_MIN
from prsm.storage.fetch.transfers import STALLED_MS, State, Transfer
from prsm.storage.interfaces import Source
from tests.tools.landings import MemoryFiles
from tests.tools.paced import GoneSource, Manner, PacedSource
from tests.tools.sources import MemorySource

MIB = 1 << 20
SIZE = 40 * MIB + 3
DATA = (Random(3).randbytes(MIB + 1) * 41)[:SIZE]  # each leaf another one
MEMORY = MemorySource(DATA)
ROOT = MEMORY.root


def paced(
    name: str, manner: Manner = Manner.HONEST, *, good: int = 0, leaf_s: float = 0.01
) -> PacedSource:
    return PacedSource(MEMORY, name, manner=manner, good=good, leaf_s=leaf_s)


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


async def fetch(files: MemoryFiles, *sources: Source) -> Fetched:
    return await Exchange(files).fetch(ROOT, SIZE, sources)


async def test_stalled_source_is_helped_out_within_the_waste_budget(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    stalled = paced("b", Manner.STALLS, good=6)
    fetched = await fetch(files, paced("a"), stalled, paced("c"))
    assert files.files[ROOT] == DATA
    assert (
        autojump_clock.current_time() < 5.5
    )  # what it owed beyond the budget waits for 5 s of silence
    assert fetched.wasted_bytes <= MIB
    assert sum(fetched.bytes_by_source.values()) == SIZE


async def test_source_that_answers_nothing_holds_nobody_up(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    await fetch(files, paced("deaf", Manner.DEAF), paced("a"))
    assert files.files[ROOT] == DATA
    assert autojump_clock.current_time() < 2  # a second, then the next one is asked for the node


@pytest.mark.parametrize(
    ("manner", "error", "within_s"),
    [
        (Manner.DEAF, SourceSlow, 5.1),
        (Manner.STALLS, SourceSlow, 21),
        (Manner.WRONG, SourceCorrupt, 1),
        (Manner.CUT, SourceFailed, 1),
        (Manner.LIES, SourceFailed, 1),
    ],
)
async def test_failure_says_who_and_what_was_awaited(
    files: MemoryFiles,
    autojump_clock: MockClock,
    manner: Manner,
    error: type[PrsmError],
    within_s: float,
) -> None:
    with pytest.raises(error) as caught:
        await fetch(files, paced("peer", manner, good=6))
    assert autojump_clock.current_time() < within_s
    assert ROOT not in files.files
    here = files.partials[ROOT].verified_bytes
    assert f"{here} of {SIZE} bytes are here" in caught.value.what
    if manner in {Manner.DEAF, Manner.STALLS}:
        assert (
            "peer did not send block" in caught.value.what
            or "peer sent nothing for 5 s of leaves" in caught.value.what
        )
    fetched = await fetch(files, paced("good"))
    assert sum(fetched.bytes_by_source.values()) == SIZE - here


async def test_wrong_bytes_cost_one_block_and_are_blamed_once(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    told: list[tuple[str, str]] = []
    wrong = paced("wrong", Manner.WRONG, good=6)
    exchange = Exchange(files, on_fault=lambda name, error: told.append((name, error.reason)))
    fetched = await exchange.fetch(ROOT, SIZE, [wrong, paced("a"), paced("b")])
    assert files.files[ROOT] == DATA
    assert told == [("wrong", "integrity_failed")]
    assert wrong.bad <= 2  # the second was on its way when the first was seen
    assert fetched.wasted_bytes <= 6 * MIB
    assert autojump_clock.current_time() < 30


async def test_liar_about_having_is_reported_and_the_rest_comes(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    fetched = await fetch(files, paced("liar", Manner.LIES), paced("a", leaf_s=0.2))
    assert files.files[ROOT] == DATA
    assert [fault.source for fault in fetched.faults] == ["liar"]
    assert "said 3 times" in fetched.faults[0].error.what
    assert autojump_clock.current_time() < 30


async def test_busy_source_is_asked_again_and_not_blamed(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    fetched = await fetch(files, paced("busy", Manner.BUSY))
    assert fetched.faults == []
    assert 0.5 < autojump_clock.current_time() < 1.2


async def test_fetch_has_a_deadline_of_its_own(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    with pytest.raises(SourceSlow, match="was not whole within") as caught:
        await fetch(files, paced("slow", leaf_s=4.9))
    assert autojump_clock.current_time() == pytest.approx(GRACE_SECONDS + SIZE / RATE_MIN, abs=0.1)
    assert "slow still owed some" in caught.value.what


async def test_source_found_later_joins(files: MemoryFiles, autojump_clock: MockClock) -> None:
    exchange = Exchange(files)
    late = paced("late")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.fetch, ROOT, SIZE, [paced("slow", leaf_s=0.5)])
        await trio.sleep(2)
        exchange.join(late)
    assert autojump_clock.current_time() < 5
    assert late.sent > 20


async def test_lost_peer_that_comes_back_is_asked_again(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            exchange.fetch, ROOT, SIZE, [paced("slow", leaf_s=0.5), GoneSource(MEMORY, "peer")]
        )
        await trio.sleep(2)
        exchange.join(back := paced("peer"))
    assert back.sent > 20
    assert autojump_clock.current_time() < 5


async def test_peer_that_sent_wrong_bytes_is_not_taken_back(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    async with trio.open_nursery() as nursery:
        sources = [paced("slow", leaf_s=0.3), paced("peer", Manner.WRONG)]
        nursery.start_soon(exchange.fetch, ROOT, SIZE, sources)
        await trio.sleep(2)
        exchange.join(back := paced("peer"))
    assert back.sent == 0
    assert autojump_clock.current_time() < 30


async def test_caller_who_waits_goes_on_when_the_first_one_leaves(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    ended: list[Fetched] = []

    async def second() -> None:
        ended.append(await exchange.fetch(ROOT, SIZE, [paced("b", leaf_s=0.1)]))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(second)
            await exchange.fetch(ROOT, SIZE, [paced("a", leaf_s=0.1)])
    assert files.files[ROOT] == DATA
    assert files.begun == 2
    assert 0 < sum(ended[0].bytes_by_source.values()) < SIZE
    assert autojump_clock.current_time() < 30


async def test_callers_share_the_sources_and_the_failure(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    failures: list[PrsmError] = []

    async def call(source: PacedSource) -> None:
        with pytest.raises(SourceSlow) as caught:
            await exchange.fetch(ROOT, SIZE, [source])
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(call, paced(str(number), Manner.STALLS))
    assert len(failures) == 5
    assert files.begun == 1
    assert all(f"{number} sent nothing" in failures[0].what for number in range(5))
    assert autojump_clock.current_time() < 30


async def test_cancel_ends_it_for_all(files: MemoryFiles, autojump_clock: MockClock) -> None:
    exchange = Exchange(files)
    ended = 0

    async def call() -> None:
        nonlocal ended
        with pytest.raises(FetchCancelled):
            await exchange.fetch(ROOT, SIZE, [paced("a", leaf_s=0.1)])
        ended += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        nursery.start_soon(call)
        await trio.sleep(1)
        assert exchange.cancel(ROOT)
    assert ended == 2
    assert not exchange.cancel(ROOT)
    transfer = exchange.transfers.find(ROOT)
    assert transfer is not None
    assert transfer.state is State.CANCELLED
    assert transfer.verified_bytes == files.partials[ROOT].verified_bytes > 0
    assert autojump_clock.current_time() < 30


async def test_offline_asks_nobody(files: MemoryFiles, autojump_clock: MockClock) -> None:
    exchange = Exchange(files)
    exchange.is_offline = True
    source = paced("a")
    with pytest.raises(Offline, match=f"of {SIZE} bytes"):
        await exchange.fetch(ROOT, SIZE, [source])
    with pytest.raises(Offline):
        await exchange.fetch_block(ROOT.digest, [source])
    assert source.asked == []
    assert autojump_clock.current_time() < 30


async def test_own_disk_ends_it_and_says_how_far_it_came(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)

    async def call() -> None:
        with pytest.raises(Full, match=rf"no room; \d+ of {SIZE} bytes are here"):
            await exchange.fetch(ROOT, SIZE, [paced("a")])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(0.1)
        files.partials[ROOT].refuses = Full("no room")
    assert autojump_clock.current_time() < 30


async def test_repair_yields_to_who_waits(files: MemoryFiles, autojump_clock: MockClock) -> None:
    other = MemorySource(DATA[: 20 * MIB])
    exchange = Exchange(files)
    mending = PacedSource(other, "m", leaf_s=0.05)
    async with trio.open_nursery() as nursery:

        async def repair() -> None:
            await exchange.fetch(other.root, 20 * MIB, [mending], urgency=Urgency.REPAIR)

        nursery.start_soon(exchange.fetch, ROOT, SIZE, [paced("a", leaf_s=0.05)])
        nursery.start_soon(repair)
        await trio.sleep(0.5)
        # One ask at a time: what it has asked for it has been sent, but the last run.
        assert 5 < len(set(mending.asked)) <= mending.sent + 8 < 20
    assert set(files.files) == {ROOT, other.root}
    assert autojump_clock.current_time() < 30


async def test_transfer_is_told_while_it_goes_stalls_and_ends(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    told: list[Transfer] = []

    async def look(began: trio.Event) -> None:
        with exchange.transfers.watch() as watch:
            began.set()
            while not told or told[-1].state is State.FETCHING:
                told.append(await watch.next())

    async with trio.open_nursery() as nursery:
        began = trio.Event()
        nursery.start_soon(look, began)
        await began.wait()
        with pytest.raises(SourceSlow):
            await exchange.fetch(ROOT, SIZE, [paced("a", Manner.STALLS, good=20, leaf_s=0.05)])
    moving = [transfer for transfer in told if transfer.eta_ms is not None][2]
    assert 18 * MIB < moving.rate_bytes_per_s < 22 * MIB
    assert 1_000 < (moving.eta_ms or 0) < 2_500
    stalled = [transfer.stalled_ms for transfer in told if transfer.stalled_ms]
    assert stalled[0] >= STALLED_MS
    assert len(stalled) >= 5
    assert told[-1].state is State.FAILED
    assert told[-1].reason == "timeout"
    assert told[-1].bytes_by_source == (("a", told[-1].verified_bytes),)
    assert [transfer.verified_bytes for transfer in told] == sorted(t.verified_bytes for t in told)
    assert autojump_clock.current_time() < 30


async def test_second_fetch_says_what_it_found(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    exchange = Exchange(files)
    with trio.move_on_after(0.2):
        await exchange.fetch(ROOT, SIZE, [paced("a", leaf_s=0.02)])
    found = files.partials[ROOT].verified_bytes
    fetched = await exchange.fetch(ROOT, SIZE, [paced("a")])
    (transfer,) = exchange.transfers.current()
    assert (transfer.state, transfer.resumed_bytes) == (State.DONE, found)
    assert transfer.bytes_by_source == tuple(fetched.bytes_by_source.items())
    assert autojump_clock.current_time() < 30


async def test_sources_without_the_file_are_not_found_at_once(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    other: Sequence[Source] = [MemorySource(b"x", "x"), MemorySource(b"y", "y")]
    with pytest.raises(NotFound):
        await Exchange(files).fetch(ROOT, SIZE, other)
    assert autojump_clock.current_time() < 1


class GrowingSource(PacedSource):
    """Gets the file itself meanwhile: four leaves more each time it is asked what it holds."""

    held = 0

    @override
    async def have(self, root: Cid) -> Have | None:
        self.held += 4
        have = await super().have(root)
        assert have is not None
        bits = (1 << max(0, min(self.held, have.leaves))) - 1
        return Have(have.size, have.leaves, bits.to_bytes(len(have.bitset), "little"))


async def test_source_that_is_fetching_itself_is_asked_again_what_it_holds(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    await fetch(files, GrowingSource(MEMORY, "growing"))
    assert files.files[ROOT] == DATA
    assert autojump_clock.current_time() < 5


async def test_source_that_gets_no_more_is_not_asked_for_ever(
    files: MemoryFiles, autojump_clock: MockClock
) -> None:
    source = GrowingSource(MEMORY, "growing")
    source.held = -1_000_000
    with pytest.raises(NotFound):
        await fetch(files, source)
    assert autojump_clock.current_time() < 1
