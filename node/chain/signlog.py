"""Log and guard of a validator as its driver uses them: on the loop or in a thread, by size.

Knows: how quick the disk is, how long a segment may grow. Must not know: what a record says; what
the files mean is node/chain/signfiles.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Final

import trio

from prsm.node.chain.signfiles import SignFiles
from prsm.node.telemetry import logs
from prsm.storage.quickness import Quickness

log = logs.get("signlog")

# A new segment costs two fsyncs and a rename, so records of past heights wait for this many bytes.
SEGMENT_BYTES: Final = 4 * 1024 * 1024


class SignLog:
    """Appends the records of a replica; used by the driver's task only."""

    def __init__(self, files: SignFiles) -> None:
        """Wrap open files."""
        self._files = files
        self._quickness = Quickness()
        self._begun_bytes = 0  # of the present segment, when it was begun here

    async def append(self, records: tuple[bytes, ...]) -> None:
        """`SignFiles.append`.

        A quick disk is waited for here, any other in a thread: two or three appends are in the way
        of each block.
        """
        if self._quickness.is_quick:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._append(records)
        else:
            await trio.to_thread.run_sync(self._append, records)

    @property
    def is_long(self) -> bool:
        """Whether a new segment is worth it; what the last one began with does not count."""
        files = self._files
        return files.size > SEGMENT_BYTES + self._begun_bytes and not files.is_observer

    async def forget(self, height: int, keep: Sequence[bytes]) -> None:
        """`SignFiles.forget`, once the records of past heights fill a segment."""
        if self.is_long:
            await trio.to_thread.run_sync(self._files.forget, height, keep)
            self._begun_bytes = self._files.size

    async def renew(self, height: int, keep: Sequence[bytes] = ()) -> tuple[str, ...]:
        """`SignFiles.renew`: the end of the observer's state."""
        kept = await trio.to_thread.run_sync(self._files.renew, height, keep)
        log.warning("observer no more: log and guard begin afresh", height=height, kept=kept)
        return kept

    async def forbid(self, why: str) -> None:
        """`SignFiles.forbid`: a vote was shown that this log lacks."""
        await trio.to_thread.run_sync(self._files.forbid, why)

    async def forbid_if_blank(self) -> str | None:
        """`SignFiles.forbid_if_blank`, before a state of peers is installed."""
        return await trio.to_thread.run_sync(self._files.forbid_if_blank)

    def close(self) -> None:
        """Close both files."""
        self._files.close()

    def _append(self, records: tuple[bytes, ...]) -> None:
        began = perf_counter()
        self._files.append(records)
        self._quickness.note(perf_counter() - began)
