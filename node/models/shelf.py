"""The models of this node: which are here, which are known, and how the others come.

Knows: which room does which step of it. Must not know: bytes of a model (the worker's) or of a
block (the store's).
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from prsm.node import logs
from prsm.node.models.adding import Adding
from prsm.node.models.records import Known, Stats, Tools, UnknownModel, Wanted, WorkerState
from prsm.node.net.blocks import BlockServer, PeerSource
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.ids import PeerId, TxId
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid, parse_cid
from prsm.storage.errors import NotFound
from prsm.storage.exchange import Exchange
from prsm.storage.interfaces import Source
from prsm.storage.manifest import decode_manifest

log = logs.get("models")


class Models:
    """Adds, fetches and finds models; serves their blocks to peers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._adding = Adding(tools)
        self._held: dict[Cid, ModelManifest] = {}
        self._exchange = Exchange(tools.store, on_fault=self._blame)
        self.server = BlockServer(tools.network, tools.store)
        # Peers that announced a manifest; they are asked first (node/beacons).
        self.holders: Callable[[bytes], Collection[PeerId]] = lambda _cid: ()

    async def load(self) -> None:
        """Find what the store holds; before anything else is asked."""
        for cid, manifest in await self._tools.store.models():
            if await self._tools.store.has_model(manifest):
                self._held[cid] = manifest

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here, ascending."""
        return tuple(sorted(cid.raw for cid in self._held))

    async def manifest(self, cid: bytes) -> ModelManifest:
        """The manifest of a CID, asked of peers when it is not here.

        Raises:
            NotFound, SourceFailed: nobody here or among the peers has it.
        """
        parsed = decode_cid(cid)
        try:
            return await self._tools.store.load_manifest(parsed)
        except NotFound:
            raw = await self._exchange.fetch_block(parsed.digest, self._sources(cid))
            manifest = decode_manifest(raw)
            await self._tools.store.save_manifest(manifest)
            return manifest

    async def file(self, cid: bytes, index: int) -> Path:
        """Local path of a file of a model, fetched and verified when it is not here.

        Raises:
            NotFound, SourceFailed, Full: it is not to be had.
        """
        manifest = await self.manifest(cid)
        file = manifest.files[index]
        root = decode_cid(file.root)
        if not await self._tools.store.has(root):
            await self._exchange.fetch(root, file.size, self._sources(cid))
        return await self._tools.store.path(root)

    async def add(self, wanted: Wanted) -> tuple[Known, TxId | None]:
        """Prepare a model in a sandbox, store it, and name it on the ledger.

        Raises:
            LocalError: as for `Adding.prepare` and `Adding.register`.
        """
        cid, manifest = await self._adding.prepare(wanted)
        self._held[cid] = manifest
        tx_id = await self._adding.register(cid, manifest) if wanted.register else None
        return Known(cid, manifest, is_held=True, is_registered=tx_id is not None), tx_id

    async def pull(self, ref: str) -> Known:
        """Bring a model here from peers, every block verified.

        Raises:
            UnknownModel: the ledger does not know the name.
            NotFound, SourceFailed, Full: it is not to be had.
        """
        cid = self.resolve(ref)
        manifest = await self._exchange.fetch_model(cid, self._sources(cid.raw))
        self._held[cid] = manifest
        return Known(cid, manifest, is_held=True, is_registered=self._is_registered(cid))

    def resolve(self, ref: str) -> Cid:
        """The manifest of `name@version`, of a name (its newest version), or of a CID.

        Raises:
            UnknownModel: neither the ledger nor this node knows it.
            BadCid: text that looks like a CID and is none.
        """
        name, _, semver = ref.partition("@")
        named = [m for m in self._tools.driver.ledger.view.models() if m.name == name]
        named.sort(key=lambda model: _version(model.semver))
        if semver:
            named = [model for model in named if model.semver == semver]
        if named:
            return decode_cid(named[-1].manifest)
        local = [c for c, m in self._held.items() if ref in {m.name, f"{m.name}@{m.semver}"}]
        if local:
            return local[-1]
        if not semver and ref.startswith(("baf", "Qm")) and len(ref) > 45:
            return parse_cid(ref)
        raise UnknownModel(
            f"no model is called {ref!r}", hint="see: prsm model ls, or add one: prsm model add"
        )

    async def known(self) -> list[Known]:
        """Models held here or named on the ledger; unread manifests of others are left out."""
        registered = {decode_cid(m.manifest) for m in self._tools.driver.ledger.view.models()}
        stored = dict(await self._tools.store.models())
        return [
            Known(cid, manifest, is_held=cid in self._held, is_registered=cid in registered)
            for cid, manifest in stored.items()
        ]

    async def find(self, ref: str) -> Known:
        """One model by reference; its manifest is asked of peers when it is not here.

        Raises:
            UnknownModel, NotFound, SourceFailed: it is not known, or not to be had.
        """
        cid = self.resolve(ref)
        manifest = await self.manifest(cid.raw)
        return Known(
            cid, manifest, is_held=cid in self._held, is_registered=self._is_registered(cid)
        )

    def worker_state(self) -> WorkerState:
        """State of the program that runs models, for status."""
        pool = self._tools.pool
        if pool is None:
            return "running", 0, "off by configuration"
        return ("running" if pool.runtime else "starting"), 0, ",".join(pool.layers)

    async def stats(self) -> Stats:
        """What the store holds."""
        files, peers = await self._tools.store.list(), self._tools.network.peers()
        return Stats(
            files=len(files),
            used_bytes=await self._tools.store.used_bytes(),
            quota_bytes=self._tools.quota_bytes,
            models=len(self._held),
            sources=tuple(peer.peer for peer in peers),
        )

    async def held_bytes(self, manifest: ModelManifest) -> int:
        """Bytes of a model's files that are here, whole."""
        sizes = [
            file.size
            for file in manifest.files
            if await self._tools.store.has(decode_cid(file.root))
        ]
        return sum(sizes)

    def _is_registered(self, cid: Cid) -> bool:
        return self._tools.driver.ledger.view.model_by_cid(cid.raw) is not None

    def _sources(self, cid: bytes) -> Sequence[Source]:
        """Peers that announced it, other peers, the IPFS daemons of the configuration."""
        network, holders = self._tools.network, self.holders(cid)
        live = sorted(network.peers(), key=lambda info: info.peer not in holders)
        return [*(PeerSource(network, info.peer) for info in live), *self._tools.external]

    def _blame(self, name: str, error: PrsmError) -> None:
        if isinstance(error, RemoteError):
            self._tools.network.penalise(PeerId(name), error)
        log.warning("source dropped", source=name, why=error.what)


def _version(semver: str) -> tuple[int, ...]:
    return tuple(int(part) for part in semver.partition("-")[0].split(".") if part.isdecimal())
