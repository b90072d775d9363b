"""Asking for one block: one source after the other, the next one before the last has given up.

Knows sources, hashes and deadlines. Must not know files: manifests and interior nodes come so.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import trio

from prsm.protocol.errors import PrsmError
from prsm.storage.errors import NotFound, SourceCorrupt, SourceSlow
from prsm.storage.fetch.faults import Faults
from prsm.storage.interfaces import Source, traits_of

ANSWER_SECONDS: Final = 5.0  # for a block, or for what a source holds
NEXT_SECONDS: Final = 1.0  # without an answer the next source is asked too


class _Race:
    """One block asked of several sources; the first right one counts."""

    def __init__(self, digest: bytes, faults: Faults) -> None:
        self.raw: bytes | None = None
        self._digest = digest
        self._faults = faults
        self._scope = trio.CancelScope()

    async def run(self, sources: Sequence[Source]) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for source in sources:
                    ended = trio.Event()
                    nursery.start_soon(self._ask, source, ended)
                    with trio.move_on_after(NEXT_SECONDS):
                        await ended.wait()

    async def _ask(self, source: Source, ended: trio.Event) -> None:
        raw = await ask_block(source, self._digest, self._faults)
        ended.set()
        if raw is not None:
            self.raw = raw
            self._scope.cancel()


async def block_of(sources: Sequence[Source], digest: bytes, faults: Faults) -> bytes | None:
    """Return a block, checked; None if no source gave it, and `faults` say why.

    Args:
        sources: in the order in which they are asked, earlier tiers first.
        digest: sha2-256 it must have.
        faults: where failures are noted; who failed before is not asked.
    """
    race = _Race(digest, faults)
    able = [source for source in sources if not faults.has(source.name)]
    await race.run(sorted(able, key=lambda source: traits_of(source).tier))
    return race.raw


async def ask_block(source: Source, digest: bytes, faults: Faults) -> bytes | None:
    """Ask one source for a block; None if it does not hold it, or failed."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            raw = await source.node(digest)
    except NotFound:
        return None
    except trio.TooSlowError:
        faults.note(source.name, slow(source.name, f"block {digest.hex()[:16]}"))
        return None
    except PrsmError as error:
        faults.note(source.name, error)
        return None
    got = hashlib.sha256(raw).digest()
    if got != digest:
        what = f"{len(raw)} bytes of {got.hex()} instead of block {digest.hex()}"
        faults.note(source.name, SourceCorrupt(what, penalty=100))
        return None
    return raw


def slow(name: str, what: str) -> SourceSlow:
    """Say who did not send what in time."""
    return SourceSlow(f"{name} did not send {what} within {ANSWER_SECONDS:g} s")
