"""Long work of the loop, in parts: others get their turns in between.

Knows: trio. Must not know: what the work is.
"""

from collections.abc import Iterable
from typing import Final

import trio

NODES_PER_TURN: Final = 1_024  # of the state tree: a millisecond; a call waits for two turns


async def in_turns(parts: Iterable[int], *, each: int = NODES_PER_TURN) -> None:
    """Go through parts, each told by its size, with a checkpoint where `each` have been done.

    No checkpoint where all of it is smaller.
    """
    done = 0
    for size in parts:
        done += size
        if done >= each:
            done = 0
            await trio.lowlevel.checkpoint()
