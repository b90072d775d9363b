"""Handlers of storage_: what the disk holds, and whom it may ask for more.

Knows: models, the store behind them. Must not know: transports.
"""

from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import storage as api
from prsm.node.rpc.spec import Caller, NoParams


class StorageApi:
    """Answers about the store."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"storage_getStats": self.stats}

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
