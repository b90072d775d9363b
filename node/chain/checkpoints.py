"""When the ledger's log is moved into its file.

Knows: blocks are counted, and what a moment of rest is. Must not know: what a checkpoint does.
"""

from typing import Final

from prsm.storage.ledger import LedgerStore

# Blocks in SQLite's log before it is moved into the file even while there is work to do.
CHECKPOINT_BLOCKS: Final = 1_024
IDLE_SHARE: Final = 32  # of them are enough when nothing else is to do


class Checkpoints:
    """Shortens the ledger's log: some milliseconds, so best when nothing else is to do."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._blocks = 0  # committed since the last one

    def note(self) -> None:
        """One more block was committed."""
        self._blocks += 1

    async def make_due(self, *, is_idle: bool) -> None:
        """Make a checkpoint if it is time; no checkpoint of trio otherwise."""
        if self._blocks >= CHECKPOINT_BLOCKS // (IDLE_SHARE if is_idle else 1):
            self._blocks = 0
            await self._store.checkpoint()
