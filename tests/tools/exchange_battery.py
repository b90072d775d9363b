"""The battery of a fetch from three sources, one of them faulty: bytes, waste, virtual time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random

import trio

from prsm.protocol.errors import PrsmError
from prsm.storage.errors import SourceCorrupt, SourceSlow
from prsm.storage.fetch.exchange import Exchange, Fetched
from prsm.storage.interfaces import Source
from tests.tools.landings import MemoryFiles
from tests.tools.paced import Manner
from tests.tools.sources import MemorySource

MIB = 1 << 20
LEAVES = 48
SIZE = (LEAVES - 1) * MIB + 5
LEAF_S = 0.5
GOOD = 3  # leaves a faulty source sends before it shows


@dataclass(frozen=True)
class Act:
    """What a source of the battery does: a manner, after so many good leaves, at a pace."""

    manner: Manner
    good: int = GOOD
    leaf_s: float = LEAF_S


# Opens sources of a file, one for each act, named "0", "1", …; the list counts leaves sent.
MakeSources = Callable[
    [MemorySource, Sequence[Act], list[int]], AbstractAsyncContextManager[Sequence[Source]]
]


@dataclass
class Seen:
    """What came of a play."""

    fetched: Fetched
    seconds: float
    sent: int
    blamed: list[tuple[str, PrsmError]]


async def check_exchange(make: MakeSources) -> None:
    """Run the battery; under a clock that jumps, and with sources that need no thread."""
    file = MemorySource((Random(4).randbytes(MIB + 1) * LEAVES)[:SIZE])
    honest = await _play(make, file, Manner.HONEST)
    assert honest.sent == LEAVES  # each leaf once
    assert honest.blamed == []
    assert honest.seconds < 1.15 * LEAVES * LEAF_S / 3 + 1
    for manner in (Manner.STALLS, Manner.WRONG, Manner.LIES, Manner.CUT, Manner.BUSY, Manner.DEAF):
        seen = await _play(make, file, manner)
        assert seen.seconds <= 2 * honest.seconds, (manner, seen.seconds, honest.seconds)
        # A doubled leaf, a wrong one, and one that was being read when that was seen.
        assert seen.sent <= LEAVES + 3, (manner, seen.sent)
        assert seen.fetched.wasted_bytes <= 2 * MIB, manner
        assert sum(seen.fetched.bytes_by_source.values()) == SIZE
        blamed = dict(seen.blamed)
        match manner:
            case Manner.WRONG:
                assert isinstance(blamed.pop("0"), SourceCorrupt)
            case Manner.LIES | Manner.CUT:
                assert not isinstance(blamed.pop("0"), SourceCorrupt | SourceSlow)
            case _:
                blamed.pop("0", None)
        assert blamed == {}, manner


async def _play(make: MakeSources, file: MemorySource, manner: Manner) -> Seen:
    files, sent = MemoryFiles(), [0]
    blamed: list[tuple[str, PrsmError]] = []
    acts = (Act(manner), Act(Manner.HONEST), Act(Manner.HONEST))
    async with make(file, acts, sent) as sources:
        names = {source.name: str(number) for number, source in enumerate(sources)}
        exchange = Exchange(files, on_fault=lambda name, e: blamed.append((names[name], e)))
        began = trio.current_time()
        fetched = await exchange.fetch(file.root, SIZE, sources)
        seconds = trio.current_time() - began
    assert await _whole(files, file)
    return Seen(fetched, seconds, sent[0], blamed)


async def _whole(files: MemoryFiles, file: MemorySource) -> bool:
    landing = files.partials[file.root]
    leaves = [await file.leaf(index) for index in range(LEAVES)]
    return files.files[file.root] == b"".join(leaves) and landing.verified_bytes == SIZE
