"""The models of this node as copies: what repair may fetch, keep and give back.

Joins `node/replication` to the shelf of models and the store. What was fetched only to repair is
pinned under one name, and a wish for more copies under another, so both outlive a restart in the
store's own table. Must not know: who should hold what.
"""

from collections.abc import Mapping
from typing import Final

from prsm.node.chain.driver import Driver
from prsm.node.config.schema import StorageConfig
from prsm.node.models import Models
from prsm.node.peers.beacons import Beacons
from prsm.node.replication.driver import Parts, Repair
from prsm.protocol.ids import PeerId
from prsm.storage.cid import decode_cid
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import REPAIR

WISH: Final = "copies="  # name of the pin, with the number behind it
REFRESH_MS: Final = 15_000  # between two looks at pins and room; sooner after changes of our own


class CopyShelf:
    """The shelf of `node/replication` over the models of this node.

    Args:
        models: of this node.
        store: behind them.
        driver: its clock.
        keep_bytes: of copies for others, at most.
    """

    def __init__(
        self, models: Models, store: ModelStore, driver: Driver, *, keep_bytes: int
    ) -> None:
        self._models, self._store, self._clock = models, store, driver.clock
        self._keep_bytes = keep_bytes
        self._kept: frozenset[bytes] = frozenset()
        self._wishes: dict[bytes, int] = {}
        self._room = 0
        self._due_ms = 0

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here."""
        return self._models.held()

    def kept(self) -> frozenset[bytes]:
        """Of them, those that are here only to repair."""
        return self._kept

    def wishes(self) -> Mapping[bytes, int]:
        """How many copies the operator wants of some models."""
        return self._wishes

    async def wish(self, manifest: bytes, copies: int) -> None:
        """Note a wish, 0 takes it back; the model is pinned while there is one.

        Raises:
            NotFound, SourceFailed: its manifest is not to be had.
        """
        read = await self._models.manifest(manifest)
        keeping = self._models.keeping
        for name in keeping.pins(read, await keeping.stored()):
            if name.startswith(WISH):
                await keeping.unpin(read, name)
        if copies:
            await keeping.pin(read, f"{WISH}{copies}")
        await self._refresh()

    async def fetch(self, manifest: bytes) -> None:
        """Bring a model here whole, and keep it.

        Raises:
            NotFound, SourceFailed, Full, Offline: it is not to be had.
        """
        known = await self._models.pull(str(decode_cid(manifest)), urgency=Urgency.REPAIR)
        await self._models.keeping.pin(known.manifest, REPAIR)
        await self._refresh()

    async def give_back(self, manifest: bytes) -> None:
        """Let a copy go that was kept only to repair; the store may still cache it.

        Raises:
            NotFound: it is not kept so.
        """
        await self._models.keeping.unpin(await self._models.manifest(manifest), REPAIR)
        self._due_ms = 0

    async def room_bytes(self) -> int:
        """Bytes free for copies."""
        if self._clock.monotonic_ms() >= self._due_ms:
            await self._refresh()
        return self._room

    async def _refresh(self) -> None:
        names: dict[bytes, set[str]] = {}
        for pin in await self._store.pins():
            if pin.name == REPAIR or pin.name.startswith(WISH):
                names.setdefault(pin.root.raw, set()).add(pin.name)
        kept: set[bytes] = set()
        wishes: dict[bytes, int] = {}
        kept_bytes = 0
        for cid in self._models.held():
            manifest = await self._models.manifest(cid)
            pins = [names.get(file.root, set()) for file in manifest.files]
            for name in set.intersection(*pins) if pins else ():
                if name == REPAIR:
                    kept.add(cid)
                    kept_bytes += manifest.total_bytes
                elif name.removeprefix(WISH).isdecimal():
                    wishes[cid] = int(name.removeprefix(WISH))
        space = await self._store.space()
        free = space.quota_bytes - space.pinned_bytes - space.reserved_bytes
        self._kept, self._wishes = frozenset(kept), wishes
        self._room = max(0, min(free, self._keep_bytes - kept_bytes))
        self._due_ms = self._clock.monotonic_ms() + REFRESH_MS


def make_repair(
    models: Models,
    store: ModelStore,
    driver: Driver,
    beacons: Beacons,
    config: StorageConfig,
    region: str,
) -> Repair:
    """Join repair to a node; before its network runs."""
    view = driver.ledger.view

    def size_of(manifest: bytes) -> int | None:
        model = view.model_by_cid(manifest)
        return None if model is None or view.halted(manifest) else model.total_bytes

    def bonded() -> frozenset[PeerId]:
        return frozenset(PeerId(each.peer_id) for each in driver.validators.validators)

    return Repair(
        Parts(
            announcer=beacons.announcer,
            network=driver.network,
            clock=driver.clock,
            shelf=CopyShelf(models, store, driver, keep_bytes=config.keep_bytes),
            size_of=size_of,
            bonded=bonded,
            region=region,
            copies=config.copies,
            is_willing=config.keep_bytes > 0 and not config.offline,
        )
    )
