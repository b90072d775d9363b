"""Golden rows asked of a worker before it serves: does it compute what its class id says?

The class a worker claims when it opens a unit is a hash over, among others, its outputs on the
golden rows. So the same rows asked as a request must give just that id. Must not know tabs' lives.
Source: docs/spec/work.md, "Determinism class".
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Final

import trio

from prsm.node.inference.interface import Models
from prsm.node.inference.joining import read_golden, rows_of
from prsm.node.inference.serving.tab import Tab
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.pipe import Loaded, class_id
from prsm.protocol.tensors import Tensor

PROVIDERS: Final = ("cpu", "cuda")
ADAPTER: Final = "adapter.safetensors"  # with one, the class covers more than the shard

log = logging.getLogger(__name__)


def output_root(outputs: Sequence[Tensor]) -> bytes:
    """Digest of outputs on golden rows: names, dtypes, shapes and raw bytes."""
    digest = hashlib.sha256(b"prsm/golden/1")
    for tensor in outputs:
        digest.update(encode(tensor.head))
        digest.update(tensor.data)
    return digest.digest()


async def probe(tab: Tab, worker: bytes, models: Models) -> str | None:
    """Ask a worker for the golden rows in the first slot of its tab.

    Returns:
        Empty: it answered as its class says. Else why not. None: nothing can be said, since the
        rows are not here or do not fit the slot.
    """
    shard = tab.shard
    if any(file.path == ADAPTER for file in tab.manifest.files):
        return None
    try:
        async with models.using(tab.kind.model, shard.golden, holder="probe") as path:
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
    root = output_root(outputs)
    due = {_class_of(tab, options, root) for options in _options_of(tab)}
    return "" if tab.classes[worker] in due else "other outputs than its class id says"


def _class_of(tab: Tab, options: str, root: bytes) -> bytes:
    shard, compute = tab.shard, tab.manifest.compute
    digest = tab.manifest.files[shard.file].sha256
    return class_id(
        Loaded(shard.inputs, shard.outputs, compute.runtime, options, digest, root, rss_bytes=0)
    )


def _options_of(tab: Tab) -> frozenset[str]:
    """Option lines a worker may run this model with: those of the pin, on any provider."""
    words = [w for w in tab.manifest.compute.options.split("; ") if not w.startswith("rows=")]
    return frozenset("; ".join((provider, *words[1:])) for provider in (words[0], *PROVIDERS))
