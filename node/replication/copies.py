"""The models of this node as copies: what repair may fetch, keep and give back.

Joins `node/replication` to the shelf of models and the store. What was fetched only to repair is
pinned under one name, and a wish for more copies under another, so both outlive a restart in the
store's own table. Must not know: who should hold what.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from prsm.node.chain.driver import Driver
from prsm.node.config.schema import StorageConfig
from prsm.node.models import Models
from prsm.node.peers.beacons import Beacons
from prsm.node.replication.driver import Parts, Repair
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import Conflict, Full, NotFound
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.manifest import ForeignManifest
from prsm.storage.store.index import State
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
        self._coming: dict[bytes, ModelManifest] = {}
        self._begun: dict[Cid, int] = {}  # files on their way that nobody pinned
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

    async def fetch(self, manifest: bytes, size_bytes: int | None) -> None:
        """Bring a model here whole, and keep it.

        Args:
            manifest: its CID.
            size_bytes: as the ledger says, within the room for copies; None: a person wants it.

        Raises:
            NotFound, SourceFailed, Full, Offline: it is not to be had.
            ForeignManifest: its files have another size than the ledger says.
        """
        read = await self._models.manifest(manifest)
        if size_bytes is not None:
            await self._refresh()
            self._check(read, size_bytes)
        self._coming[manifest] = read
        try:
            # Until they are pinned nothing else keeps those that have come.
            async with self._models.fetching.leased(read):
                known = await self._models.pull(str(decode_cid(manifest)), urgency=Urgency.REPAIR)
                if not known.is_held:
                    raise NotFound(f"{read.name}@{read.semver} did not come into our own store")
                await self._models.keeping.pin(read, REPAIR)
        except PrsmError as error:
            failed: PrsmError | None = error
        else:
            failed = None
        finally:
            self._coming.pop(manifest, None)  # a person may have wanted it beside us
            self._due_ms = 0
        if failed is not None:
            await self._drop_empty(read)
            raise failed
        await self._refresh()

    async def give_back(self, manifest: bytes) -> None:
        """Let a copy go that was kept only to repair; the store may still cache it.

        Raises:
            NotFound: it is not kept so.
        """
        await self._models.keeping.unpin(await self._models.manifest(manifest), REPAIR)
        self._due_ms = 0

    async def room_bytes(self) -> int:
        """Bytes free for copies, those under way and what is left of a cut one among them.

        All compare it with the whole of a model: told less, a node would be next no longer for the
        copy that it makes, or that was cut, and others would make that one, too.
        """
        if self._clock.monotonic_ms() >= self._due_ms:
            await self._refresh()
        return max(0, self._room)

    def _spare(self, wanted: ModelManifest) -> int:
        """Room that neither a copy under way has taken nor what is left of one that was cut."""
        counted = [*self._coming.values(), wanted]
        roots = {decode_cid(file.root) for each in counted for file in each.files}
        left = sum(size for root, size in self._begun.items() if root not in roots)
        return self._room - left - sum(each.total_bytes for each in self._coming.values())

    def _check(self, read: ModelManifest, size_bytes: int) -> None:
        """Refuse what would take more than it was given: only the manifest says what comes."""
        called, size = f"{read.name}@{read.semver}", read.total_bytes
        if size != size_bytes:
            raise ForeignManifest(f"{called} has {size} bytes, the ledger says {size_bytes}")
        if size > (spare := self._spare(read)):
            raise Full(
                f"{called} has {size} bytes, and {max(0, spare)} are free for copies",
                hint="keep more for others with storage.keep_for_others, or raise storage.quota",
            )

    async def _drop_empty(self, manifest: ModelManifest) -> None:
        """Give back the room of files of which nothing came."""
        for root, file in (await self._models.keeping.stored()).items():
            is_empty = file.state is State.PARTIAL and not file.verified_bytes
            if is_empty and any(one.root == root.raw for one in manifest.files):
                with suppress(Conflict, NotFound):  # somebody else wants it
                    await self._store.remove(root)

    async def _refresh(self) -> None:
        keeping = self._models.keeping
        stored = await keeping.stored()
        kept: set[bytes] = set()
        wishes: dict[bytes, int] = {}
        for cid in self._models.held():
            for name in keeping.pins(await self._models.manifest(cid), stored):
                if name == REPAIR:
                    kept.add(cid)
                elif name.startswith(WISH) and name.removeprefix(WISH).isdecimal():
                    wishes[cid] = int(name.removeprefix(WISH))
        kept_bytes = sum(file.size for file in stored.values() if REPAIR in file.pins)
        space = await self._store.space()
        free = space.quota_bytes - space.pinned_bytes - space.reserved_bytes
        self._kept, self._wishes = frozenset(kept), wishes
        self._begun = {
            root: file.size
            for root, file in stored.items()
            if file.state is State.PARTIAL and not file.pins
        }
        self._room = min(free, self._keep_bytes - kept_bytes)
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
