"""Another node's store beside a room of models, and nobody else to fetch from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid
from prsm.storage.interfaces import Source
from prsm.storage.store.model_store import ModelStore
from tests.tools.model_rooms import Room
from tests.tools.sources import StoreSource
from tests.tools.stores import manifest


@dataclass
class Elsewhere:
    """Another node's store, which a room fetches from."""

    store: ModelStore
    folder: Path

    async def make(self, *sizes: int) -> tuple[Cid, ModelManifest]:
        """A model of files of these sizes, that only this store has."""
        files = []
        for size in sizes:
            raw = Random(size).randbytes(size)
            (self.folder / "raw").write_bytes(raw)
            added = await self.store.add_file(self.folder / "raw")
            files.append(ManifestFile(str(size), added.root.raw, size, added.sha256))
        made = manifest(files=tuple(files))
        return await self.store.save_manifest(made), made

    def serve(self, room: Room) -> None:
        def sources(cid: bytes) -> Sequence[Source]:
            assert cid
            return (StoreSource(self.store),)

        room.models.fetching.sources = sources  # type: ignore[method-assign]  # no peers here
