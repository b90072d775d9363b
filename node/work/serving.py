"""Serving joined to a node: its names, its tokenizers, its disk.

Knows: which part of the node stands behind which port of serving. Must not know: how it answers.
"""

from dataclasses import dataclass, field
from pathlib import Path

import trio

from prsm.node.chain.driver import Driver
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.pool import Pool
from prsm.node.inference.serving.service import Serving
from prsm.node.inference.texts import WarmTexts
from prsm.node.models import Models
from prsm.storage.receipts import ReceiptFiles

POINTERS_MAX = 1024


@dataclass(slots=True)
class Pointers:
    """What names mean at this height: a name costs a look at all entries of the ledger."""

    models: Models
    driver: Driver
    _height: int = -1
    _known: dict[str, bytes] = field(default_factory=dict)

    async def resolve(self, ref: str) -> bytes:
        """The CID of a manifest that a reference means now.

        Raises:
            UnknownModel, YankedRelease, BadCid: none.
        """
        height = self.driver.ledger.height
        if height != self._height or len(self._known) >= POINTERS_MAX:
            self._height = height
            self._known.clear()
        found = self._known.get(ref)
        if found is None:
            found = self._known[ref] = (await self.models.find(ref)).cid.raw
        return found


@dataclass(frozen=True, slots=True)
class ServingRoom:
    """Serving of a node, and what it keeps warm."""

    serving: Serving
    texts: WarmTexts | None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.texts is not None:
                await nursery.start(self.texts.run)
            await nursery.start(self.serving.run)
            task_status.started()


def open_serving(
    requester: Requester, models: Models, driver: Driver, pool: Pool | None, *, notes: Path
) -> ServingRoom:
    """Join serving to a node.

    Args:
        requester: what jobs of ours work with.
        models: of this node.
        driver: of the ledger.
        pool: None: no texts, only ready tensors.
        notes: folder that remembers what is locked.
    """
    texts = None if pool is None else WarmTexts(pool)
    pointers = Pointers(models, driver)
    serving = Serving(requester, pointers.resolve, tokeniser=texts, notes=ReceiptFiles(notes))
    return ServingRoom(serving, texts)
