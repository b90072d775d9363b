"""Handlers of storage_ about copies of models among the nodes.

Knows: repair, names of models. Must not know: transports, who should hold what.
"""

from prsm.node.models import Models
from prsm.node.replication.driver import Copies, Repair
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import copies as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.storage.cid import decode_cid


class CopiesApi:
    """Answers about copies."""

    def __init__(self, models: Models, repair: Repair) -> None:
        self._models = models
        self._repair = repair

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "storage_getCopies": self.list,
            "storage_repair": self.repair,
            "storage_setCopies": self.want,
        }

    async def list(self, _params: NoParams, _caller: Caller) -> api.AllCopies:
        """All models the network vouches for."""
        return await self._told()

    async def repair(self, params: api.CopyParams, _caller: Caller) -> api.AllCopies:
        """Bring a copy here now."""
        cid = self._models.resolve(params.ref).raw
        await self._repair.repair(cid)
        return await self._told(cid)

    async def want(self, params: api.WantParams, _caller: Caller) -> api.AllCopies:
        """Note how many there should be."""
        cid = self._models.resolve(params.ref).raw
        await self._repair.wish(cid, params.copies)
        return await self._told(cid)

    async def _told(self, only: bytes | None = None) -> api.AllCopies:
        called = {
            known.cid.raw: f"{known.manifest.name}@{known.manifest.semver}"
            for known in await self._models.known()
        }
        rows = [one for one in self._repair.status() if only in {None, one.manifest}]
        return api.AllCopies(items=tuple(_row(one, called.get(one.manifest, "")) for one in rows))


def _row(one: Copies, ref: str) -> api.CopiesOf:
    return api.CopiesOf(
        ref=ref,
        cid=str(decode_cid(one.manifest)),
        copies=one.copies,
        holders=tuple(one.holders),
        assigned=tuple(one.assigned),
        short_ms=one.short_ms,
        here=one.is_here,
        fetching=one.is_fetched,
        why=one.why,
    )
