"""Search over what the ledger registers, joined from its parts.

Knows: where cards, vectors and the model that reads them lie. Must not know: how any of it works.
Everything here idles until somebody searches.
"""

from dataclasses import dataclass

import trio

from prsm.node.chain.driver import Driver
from prsm.node.home import Home
from prsm.node.inference.pool import Pool
from prsm.node.models import Models
from prsm.node.retrieval.catalogue import Reading
from prsm.node.retrieval.embedder import DIMENSION, MiniLm
from prsm.node.retrieval.search import CardSearch
from prsm.node.retrieval.vectors import VectorProcess
from prsm.node.supervise import Supervisor
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.storage.cid import decode_cid


@dataclass(frozen=True, slots=True)
class Search:
    """Search and what it needs running."""

    cards: CardSearch
    embedder: MiniLm
    vectors: VectorProcess

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve searches until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor("embedder").run, self.embedder.run)
            await nursery.start(Supervisor("vectors").run, self.vectors.run)
            task_status.started()


def open_search(home: Home, models: Models, driver: Driver, pool: Pool | None) -> Search:
    """Join search; nothing runs yet."""
    folder = home.data / "search"
    embedder = MiniLm(pool, folder / "model")
    vectors = VectorProcess(folder / "cards.db", dimension=DIMENSION)

    async def block(cid: bytes) -> bytes:
        return await models.fetching.block(decode_cid(cid))

    reading = Reading(
        view=driver.ledger.view,
        manifest=models.manifest,
        block=block,
        chain_id=driver.ledger.genesis.chain_id,
        verifier=Ed25519Verifier(),
    )
    return Search(CardSearch(reading, embedder, vectors), embedder, vectors)
