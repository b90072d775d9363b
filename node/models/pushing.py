"""A model handed to IPFS daemons of our own, which serve it to all who speak bitswap.

Knows: files of a model, whom to hand them to. Must not know: how a daemon takes a file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from prsm.node.models.opening import Opening
from prsm.node.models.records import Pushed
from prsm.node.models.tasks import Task
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import NotFound


class Taker(Protocol):
    """Somebody files can be handed to; `IpfsRpc` stands here."""

    @property
    def name(self) -> str:
        """Its address, for people."""
        ...

    async def add_file(self, path: Path, *, root: Cid) -> None:
        """Take a file, and arrive at the same CID.

        Raises:
            PrsmError: it did not, or is not there.
        """
        ...


async def push(
    manifest: ModelManifest, opening: Opening, takers: Sequence[Taker], *, task: Task | None
) -> tuple[Pushed, ...]:
    """Hand all files of a model to each taker; sealed ones as the cipher text they are.

    Raises:
        Unsupported: there is nobody to hand them to.
        NotFound: a file is not here.
    """
    if not takers:
        raise Unsupported(
            "no IPFS daemon is configured; peers of this network fetch by themselves",
            hint='set storage.ipfs_rpc = ["/ip4/127.0.0.1/tcp/5001"] in config.toml',
        )
    paths = []
    for file in manifest.files:
        path = await opening.stored(file)
        if path is None:
            raise NotFound(f"{file.path} is not here", hint="fetch it: prsm model pull REF")
        paths.append((file, path))
    whole, done, results = manifest.total_bytes * len(takers), 0, []
    for taker in takers:
        fault, sent = "", 0
        for file, path in paths:
            try:
                await taker.add_file(path, root=decode_cid(file.root))
            except PrsmError as error:
                fault = error.what
                break
            sent += file.size
            if task is not None:
                task.report(done + sent, whole)
        done += manifest.total_bytes
        results.append(Pushed(taker.name, sent, fault))
    return tuple(results)
