"""Serving joined to a node: its names, its tokenizers, its disk.

Knows: which part of the node stands behind which port of serving, and the file of what it remembers
of workers. Must not know: how it answers. A file that cannot be read costs what is in it, never the
start of a node.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.node.chain.driver import Driver
from prsm.node.home import write_private
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.pool import Pool
from prsm.node.inference.serving.health import HealthBook
from prsm.node.inference.serving.healthfile import HEALTH_BYTES_MAX, restore, to_bytes
from prsm.node.inference.serving.service import Serving
from prsm.node.inference.texts import WarmTexts
from prsm.node.models import Models
from prsm.node.telemetry import logs
from prsm.protocol.errors import WireError
from prsm.storage.receipts import ReceiptFiles

POINTERS_MAX: Final = 1024
SAVE_S: Final = 60.0
SAVE_BY_S: Final = 2.0  # at the end; what a disk has not taken by then is lost

log = logs.get("serving")


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
    remembered: Path  # file of what is known of workers

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.texts is not None:
                await nursery.start(self.texts.run)
            await nursery.start(self.serving.run)
            nursery.start_soon(self._remember)
            task_status.started()

    async def _remember(self) -> None:
        """Save what is known of workers now and then, and at the end."""
        saved = to_bytes(self.serving.health)
        try:
            while True:
                await trio.sleep(SAVE_S)
                saved = await self._save(saved)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_BY_S):
                await self._save(saved)

    async def _save(self, saved: bytes) -> bytes:
        """Replace the file where anything changed; returns what is in it."""
        raw = to_bytes(self.serving.health)  # here: nobody changes it meanwhile
        if raw == saved:
            return saved
        try:
            await trio.to_thread.run_sync(write_private, self.remembered, raw)
        except OSError as error:
            log.warning("what is known of workers is not saved", why=error.strerror)
            return saved
        return raw


def open_serving(
    requester: Requester, models: Models, driver: Driver, pool: Pool | None, *, data: Path
) -> ServingRoom:
    """Join serving to a node.

    Args:
        requester: what jobs of ours work with.
        models: of this node.
        driver: of the ledger.
        pool: None: no texts, only ready tensors.
        data: folder of the home: in it `tabs` remembers what is locked, `workers` how well they
            did.
    """
    texts = None if pool is None else WarmTexts(pool)
    pointers = Pointers(models, driver)
    notes = ReceiptFiles(data / "tabs")
    serving = Serving(requester, pointers.resolve, tokeniser=texts, notes=notes)
    remembered = data / "workers"
    load_health(serving.health, remembered)
    return ServingRoom(serving, texts, remembered)


def load_health(book: HealthBook, path: Path) -> None:
    """Read what an earlier process knew of workers into an empty book, where that can be read."""
    try:
        with path.open("rb") as file:
            restore(book, file.read(HEALTH_BYTES_MAX + 1))
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("what was known of workers cannot be read", why=error.strerror)
    except WireError as error:
        log.warning("what was known of workers is damaged, begun anew", why=error.what)
