"""Manifests and files on their way here: whom to ask, how far it is, and when nobody is asked.

Knows: peers, the IPFS daemons of the configuration, offline mode. Must not know: what a model is
for, where its plain bytes lie (`opening`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from prsm.node.models.opening import Opening
from prsm.node.models.records import Tools
from prsm.node.models.tasks import Task
from prsm.node.net.blocks import PeerSource
from prsm.node.net.interface import PeerEvent
from prsm.node.telemetry import logs, metrics
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import NotFound, Offline, SourceCorrupt
from prsm.storage.fetch.exchange import Exchange, Fetched, Urgency
from prsm.storage.interfaces import Source
from prsm.storage.manifest import decode_manifest

log = logs.get("models")

SAMPLE_SECONDS: Final = 0.25  # between two looks at how far a fetch is
_NAMED: Final = 5  # files an error names


async def _seek_nowhere(_root: Cid) -> None:
    await trio.lowlevel.checkpoint()


class Fetching:
    """Brings manifests and files into our store."""

    def __init__(self, tools: Tools, opening: Opening) -> None:
        self._tools = tools
        self._opening = opening
        self.exchange = Exchange(tools.store, on_fault=self._blame)
        self.exchange.is_offline = tools.offline
        # Peers that announced a manifest; they are asked first (node/peers/beacons).
        self.holders: Callable[[bytes], Collection[PeerId]] = lambda _cid: ()
        # Links to peers that may hold a manifest and are not linked yet (node/peers/holders).
        self.seek: Callable[[Cid], Awaitable[None]] = _seek_nowhere
        tools.network.on_peer(self._see_peer)

    async def manifest(self, cid: Cid, *, offline: bool = False) -> ModelManifest:
        """The manifest of a CID, of an extra store or asked of peers when it is not here.

        Raises:
            NotFound, SourceFailed: nobody here or among the peers has it.
            Offline: it is not here, and nobody may be asked.
        """
        try:
            return await self._tools.store.load_manifest(cid)
        except NotFound:
            manifest = decode_manifest(await self._elsewhere(cid, "manifest", offline=offline))
            await self._tools.store.save_manifest(manifest)
            return manifest

    async def block(self, cid: Cid, *, offline: bool = False) -> bytes:
        """A raw block, such as a card; kept as cached when it came from elsewhere.

        Raises:
            NotFound, SourceFailed: nobody here or among the peers has it.
            Offline: it is not here, and nobody may be asked.
        """
        try:
            return await self._tools.store.blocks.get(cid.digest)
        except NotFound:
            raw = await self._elsewhere(cid, "block", offline=offline)
            await self._tools.store.blocks.put(cid.digest, raw)
            return raw

    async def _elsewhere(self, cid: Cid, what: str, *, offline: bool) -> bytes:
        raw = await self._opening.block(cid.digest)
        if raw is None:
            self._refuse_offline(f"the {what} {cid}", offline=offline)
            raw = await self.exchange.fetch_block(cid.digest, self.sources(cid.raw))
        return raw

    async def pull(
        self,
        cid: Cid,
        manifest: ModelManifest,
        *,
        offline: bool,
        task: Task | None,
        urgency: Urgency = Urgency.FOREGROUND,
    ) -> None:
        """Bring a model's files here, those in an extra store left where they are.

        Raises:
            NotFound, SourceFailed, Full: it is not to be had.
            Offline: it is not here whole, and nobody may be asked.
        """
        async with self.leased(manifest):
            await self._pull(cid, manifest, offline=offline, task=task, urgency=urgency)

    @asynccontextmanager
    async def leased(self, manifest: ModelManifest) -> AsyncIterator[None]:
        """Keep a model's files, here already or not, from making room for one another."""
        async with AsyncExitStack() as leases:
            for root in {decode_cid(file.root) for file in manifest.files}:
                hold = self._tools.store.leases.hold(root, holder=manifest.name, purpose="pull")
                await leases.enter_async_context(hold)
            yield

    async def _pull(
        self,
        cid: Cid,
        manifest: ModelManifest,
        *,
        offline: bool,
        task: Task | None,
        urgency: Urgency,
    ) -> None:
        lacking = await self.lacking(manifest)
        missing = sum(file.size for file in lacking)
        if lacking:
            names = ", ".join(f"{file.path} ({file.size})" for file in lacking[:_NAMED])
            self._refuse_offline(
                f"{missing} of {manifest.total_bytes} bytes of {manifest.name}@{manifest.semver}, "
                f"in {len(lacking)} files such as {names},",
                offline=offline,
            )
        done = manifest.total_bytes - missing
        for file in lacking:
            place = (done, manifest.total_bytes)
            await self._fetch(cid.raw, file, task=task, place=place, urgency=urgency)
            done += file.size
        if task is not None:
            task.report(done, manifest.total_bytes)

    async def bring(self, cid: bytes, file: ManifestFile) -> None:
        """Fetch a file unless it is here, or in an extra store.

        Raises:
            NotFound, SourceFailed, Full: it is not to be had.
            Offline: it is not here, and nobody may be asked.
        """
        is_here = await self._tools.store.has(decode_cid(file.root))
        if not is_here and await self._opening.shared(file) is None:
            self._refuse_offline(f"{file.path}, {file.size} bytes,")
            await self._fetch(cid, file, task=None, place=(0, file.size))

    async def lacking(self, manifest: ModelManifest) -> list[ManifestFile]:
        """Files that are whole neither in our store nor in an extra one."""
        lacking = []
        for file in manifest.files:
            is_here = await self._tools.store.has(decode_cid(file.root))
            if not is_here and await self._opening.shared(file) is None:
                lacking.append(file)
        return lacking

    def sources(self, cid: bytes) -> Sequence[Source]:
        """Peers that announced it, other peers, sources outside; nobody while offline."""
        if self._tools.offline:
            return ()
        network, holders = self._tools.network, self.holders(cid)
        live = sorted(network.peers(), key=lambda info: info.peer not in holders)
        peers = [PeerSource(network, info.peer) for info in live]
        outside = self._tools.outside
        return peers if outside is None else outside.sources(peers)

    async def _fetch(
        self,
        cid: bytes,
        file: ManifestFile,
        *,
        task: Task | None,
        place: tuple[int, int],
        urgency: Urgency = Urgency.FOREGROUND,
    ) -> None:
        fault: PrsmError | None = None
        root = decode_cid(file.root)
        sources = {} if task is None else dict(task.sources)
        async with trio.open_nursery() as nursery:
            if task is not None:
                nursery.start_soon(self._watch, task, root, place, sources)
            began = trio.current_time()
            try:
                fetched = await self.exchange.fetch(
                    root, file.size, self.sources(cid), urgency=urgency
                )
                took_s = trio.current_time() - began
                metrics.observe("prsm_storage_fetch_duration_seconds", took_s, _most(fetched))
            except PrsmError as error:  # raised below: as itself, not in a group
                fault = error
            nursery.cancel_scope.cancel()
        if task is not None:
            self._look(task, root, place, sources)
        if fault is not None:
            await self._tools.store.pin_failed(root, fault.what)
            raise fault

    async def _watch(
        self, task: Task, root: Cid, place: tuple[int, int], sources: Mapping[str, int]
    ) -> None:
        while True:
            self._look(task, root, place, sources)
            await trio.sleep(SAMPLE_SECONDS)

    def _look(
        self, task: Task, root: Cid, place: tuple[int, int], sources: Mapping[str, int]
    ) -> None:
        """Tell a task how far the transfer of one of its files is; `sources` is of those before."""
        before, whole = place
        transfer = self.exchange.transfers.find(root)
        if transfer is None:
            task.report(before, whole)
            return
        task.report(before + transfer.verified_bytes, whole)
        for name, count in transfer.bytes_by_source:
            task.sources[name] = sources.get(name, 0) + count

    def _refuse_offline(self, what: str, *, offline: bool = False) -> None:
        if offline or self._tools.offline:
            raise Offline(
                f"{what} is not here, and this node is told to ask nobody",
                hint="fetch it while online: prsm model pull REF; or start without --offline",
            )

    def _see_peer(self, event: PeerEvent) -> None:
        """A peer that connects joins the fetches under way."""
        if event.up and not self._tools.offline:
            self.exchange.join(PeerSource(self._tools.network, event.peer))

    def _blame(self, name: str, error: PrsmError) -> None:
        if isinstance(error, SourceCorrupt):
            metrics.inc("prsm_storage_integrity_failures_total")
        if self._tools.outside is not None:
            self._tools.outside.blame(name, error)
        if isinstance(error, RemoteError) and ":" not in name:  # others are no peers of the network
            self._tools.network.penalise(PeerId(name), error)
        log.warning("source dropped", source=name, why=error.what)


def _most(fetched: Fetched) -> str:
    """The kind of source that sent most of a file; `none` where it was here already."""
    by_source = fetched.bytes_by_source
    if not by_source:
        return "none"
    name = max(by_source, key=lambda each: (by_source[each], each))
    if ":" not in name:  # a bare id: a peer of this network
        return "peer"
    return "bitswap" if name.startswith("bitswap:") else "outside"  # a URL of the configuration
