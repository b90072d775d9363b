"""What this node's work for others came to, noted once each unit is over.

The ledger has the money and forgets closed escrows; a person wants to read what was paid for what.
A disk that refuses a note, or a damaged file, costs the note and never the work.

Knows: receipts, verdicts of the ledger, the file. Must not know: how a receipt gets to the ledger.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.telemetry import logs
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import WorkReceipt
from prsm.storage.earnings import EarningsFile, Ended, Sums
from prsm.storage.errors import StoreUnavailable

log: Final = logs.get("earnings")


def ended_of(receipt: WorkReceipt, job: Job | None, *, height: int, time_ms: int) -> Ended:
    """What became of a unit of ours that is over.

    Args:
        receipt: ours.
        job: its escrow; None: the ledger has forgotten it, and with it what was paid.
        height: of the ledger now, for a unit that nobody settled.
        time_ms: of the last block.
    """
    verdict = job.verdicts[receipt.unit] if job is not None else None
    opinions = verdict.opinions if verdict is not None else ()
    ours = next((one for one in opinions if one.worker == receipt.worker), None)
    return Ended(
        job=receipt.job,
        unit=receipt.unit,
        model=receipt.model,
        requester=job.requester if job is not None else b"",
        kind=receipt.kind.name.lower(),
        rows=receipt.measured.rows,
        price_per_row=receipt.price_per_row,
        paid=ours.paid if ours is not None else 0,
        wrong=ours.wrong if ours is not None else 0,
        is_counted=ours is not None,
        height=verdict.height if verdict is not None else height,
        time_ms=time_ms,
    )


class Earnings:
    """The worker's account; open while `run` runs."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._file: EarningsFile | None = None
        self._why = f"{path.name} is not open"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file open until cancelled."""
        try:
            self._file = await EarningsFile.open(self._path)
        except PrsmError as error:
            self._why = error.what
            log.error("what work comes to is not noted", why=error.what)  # noqa: TRY400 - the reason is in it
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            file, self._file = self._file, None
            if file is not None:
                with trio.CancelScope(shield=True):  # bounded: closing a file
                    await file.close()

    async def note(self, ended: Ended) -> None:
        """Note a unit; what is noted of it already stays."""
        try:
            await self._opened().put(ended)
        except PrsmError as error:
            log.warning("a unit's pay is not noted", unit=ended.unit, why=error.what)

    async def page(
        self, limit: int, *, before: int | None, since_ms: int
    ) -> Sequence[tuple[int, Ended]]:
        """As `EarningsFile.page`.

        Raises:
            StoreUnavailable: the file could not be opened, or the disk refused.
        """
        return await self._opened().page(limit, before=before, since_ms=since_ms)

    async def sums(self, *, since_ms: int) -> Sums:
        """As `EarningsFile.sums`.

        Raises:
            StoreUnavailable: the file could not be opened, or the disk refused.
        """
        return await self._opened().sums(since_ms=since_ms)

    def _opened(self) -> EarningsFile:
        if self._file is None:
            raise StoreUnavailable(
                self._why, hint="move data/earnings.db away and start the node again"
            )
        return self._file
