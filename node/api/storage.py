"""Handlers of storage_: what the disk holds, and whom it may ask for more.

Knows: models, the store behind them. Must not know: transports.
"""

from pathlib import Path

from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import storage as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import LocalError
from prsm.storage.cid import parse_cid


class StorageApi:
    """Answers about the store."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "storage_getStats": self.stats,
            "storage_export": self.export_car,
            "storage_import": self.import_car,
        }

    async def export_car(self, params: api.ExportParams, _caller: Caller) -> api.ExportedCar:
        """Write a file or a directory of files as a CAR, which appears when it is whole."""
        root, path = parse_cid(params.cid), _absolute(params.path)
        done = await self._models.keeping.cars.export(root, path)
        return api.ExportedCar(str(done.root), params.path, done.size, done.blocks)

    async def import_car(self, params: api.ImportParams, _caller: Caller) -> api.ImportedCar:
        """Store the files of a CAR when all of it held."""
        taken = await self._models.keeping.cars.take(_absolute(params.path))
        files = [
            api.ImportedFile(one.path, str(one.cid), str(one.root), one.size, one.profile)
            for one in taken.files
        ]
        return api.ImportedCar(str(taken.root), taken.blocks, tuple(files))

    async def stats(self, _params: NoParams, _caller: Caller) -> api.StorageStats:
        """What the model store holds."""
        stats = await self._models.stats()
        return api.StorageStats(
            files=stats.files,
            used_bytes=stats.used_bytes,
            quota_bytes=stats.quota_bytes,
            models=stats.models,
            offline=stats.offline,
            sources=stats.sources,
        )


def _absolute(path: str) -> Path:
    if not path.startswith("/") or "\0" in path:
        raise LocalError(f"{path[:80]!r} is no absolute path")
    return Path(path)
