"""What every HTTP source must make of every fault of one server; the deadline is always kept."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import pytest
import trio

from prsm.storage.cid import hash_block
from prsm.storage.errors import (
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceFailed,
    SourceSlow,
    SourceUnfit,
)
from prsm.storage.interfaces import Leaf, Source
from tests.tools.ipfs_faults import FaultyDaemon

BLOCK: Final = b"block" * 1000
OTHER: Final = b"other" * 900
LEAVES: Final = tuple(
    Leaf(index, sha256(block).digest(), len(block)) for index, block in enumerate((BLOCK, OTHER))
)
DEADLINE_S: Final = 0.4
GRACE_S: Final = 0.5  # after a deadline the caller has its turn again

# What a fault becomes; a source that checks hashes itself may say so in place of wrong bytes.
Outcome = tuple[type[Exception], ...]
FAULTS: Final[Mapping[str, Outcome]] = {
    "cut": (SourceBroken,),
    "huge": (SourceBroken, SourceUnfit),
    "error": (SourceFailed,),
    "html": (SourceFailed,),
    "hang": (trio.TooSlowError, SourceSlow),
    "slow": (trio.TooSlowError, SourceSlow),
    "wrong": (SourceCorrupt,),
    "short": (SourceCorrupt,),
    "trailer": (SourceCorrupt, SourceBroken),
}


async def check_faults(daemon: FaultyDaemon, source: Source) -> None:
    """Run all faults, and cancel at every await; afterwards the source works.

    Args:
        daemon: serves BLOCK and OTHER when nothing is wrong.
        source: asks it.
    """
    root = hash_block(BLOCK)
    daemon.blocks |= {sha256(block).digest(): block for block in (BLOCK, OTHER)}
    for fault, outcomes in FAULTS.items():
        daemon.fault = fault
        await _expect(source, fault, outcomes)
        daemon.fault = ""
        daemon.release.set()
        daemon.release.clear()
        assert list(await source.fetch(root, LEAVES)) == [BLOCK, OTHER], fault
    daemon.fault = "surplus"  # what is behind the announced length is never read
    assert await source.node(LEAVES[0].digest) == BLOCK
    daemon.fault = "cut"
    for cut_at in (1, len(BLOCK) - 1):
        daemon.cut_at = cut_at
        with pytest.raises(SourceBroken):
            await source.node(LEAVES[0].digest)
    daemon.fault = ""
    with pytest.raises(NotFound):
        await source.node(bytes(32))
    await _cancel_everywhere(source)
    assert list(await source.fetch(root, LEAVES)) == [BLOCK, OTHER]


async def _expect(source: Source, fault: str, outcomes: Outcome) -> None:
    began = trio.current_time()
    try:
        with trio.fail_after(DEADLINE_S):
            got = await source.fetch(hash_block(BLOCK), LEAVES)
    except outcomes:
        pass
    else:
        # Sources may hand on what they did not check: then the hash tells the exchange.
        assert SourceCorrupt in outcomes, f"{fault}: {got!r}"
        assert sha256(got[0]).digest() != LEAVES[0].digest, fault
    assert trio.current_time() - began < DEADLINE_S + GRACE_S, fault


async def _cancel_everywhere(source: Source) -> None:
    """Cancel at the first await, at the second, and so on, until the call ends by itself."""
    for turns in range(200):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, scope, turns)
                await source.fetch(hash_block(BLOCK), LEAVES)
                nursery.cancel_scope.cancel()
        if not scope.cancelled_caught:
            return


async def _cancel_after(scope: trio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()
