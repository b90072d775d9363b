"""Golden rows asked of a worker before it serves: does it compute what its class computed?

The class a worker claims when it opens a unit covers its outputs on the golden rows. So the same
rows asked as a request give the same bytes each time, whoever of that class answers. The first
answer of a class is believed: a worker that always lied is found by audits, one that began to, or
that differs from its class, here. Must not know tabs' lives. Source: docs/spec/work.md, "Serving".
"""

import hashlib
import logging
from collections.abc import Sequence

import trio

from prsm.node.inference.interface import Models
from prsm.node.inference.joining import read_golden, rows_of
from prsm.node.inference.serving.health import HealthBook
from prsm.node.inference.serving.tab import Tab
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.tensors import Tensor

log = logging.getLogger(__name__)


def output_root(outputs: Sequence[Tensor]) -> bytes:
    """Digest of outputs on golden rows: names, dtypes, shapes and raw bytes."""
    digest = hashlib.sha256(b"prsm/golden/1")
    for tensor in outputs:
        digest.update(encode(tensor.head))
        digest.update(tensor.data)
    return digest.digest()


async def probe(tab: Tab, worker: bytes, models: Models, health: HealthBook) -> str | None:
    """Ask a worker for the golden rows in the first slot of its tab.

    Returns:
        Empty: it answered as its class did. Else why not. None: nothing can be said, since the
        rows are not here or do not fit the slot.
    """
    try:
        async with models.using(tab.kind.model, tab.shard.golden, holder="probe") as path:
            rows = await trio.to_thread.run_sync(read_golden, path)
    except (PrsmError, OSError) as error:
        log.info("no golden rows of %s here: %s", tab.manifest.name, error)
        return None
    if rows_of(rows) > tab.batch_rows[0]:
        return None
    try:
        outputs = await tab.ask_one(worker, 0, rows)
    except PrsmError as error:
        return error.what
    known = health.golden_of(tab.classes[worker], output_root(outputs))
    return "" if known else "other outputs than its class gave before"
