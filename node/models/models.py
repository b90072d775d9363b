"""The models of this node: which are here, which are known, and how the others come.

Knows: which room does which step of it. Must not know: bytes of a model (the worker's) or of a
block (the store's).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.releases import Release
from prsm.consensus.ledger.view import View
from prsm.node.chain.outbox import Sent
from prsm.node.models.adding import Adding
from prsm.node.models.cards import Cards, FoundCard
from prsm.node.models.datasets import Datasets
from prsm.node.models.fetching import Fetching
from prsm.node.models.finding import find
from prsm.node.models.forms import Forms
from prsm.node.models.keeping import Keeping
from prsm.node.models.mending import Mending
from prsm.node.models.naming import check_name, register_model
from prsm.node.models.opening import Opening
from prsm.node.models.outside import Outside
from prsm.node.models.pushing import push
from prsm.node.models.records import (
    Checked,
    Gone,
    Known,
    OpenFile,
    Pushed,
    Tools,
    Wanted,
    WorkerState,
)
from prsm.node.models.sharing import share
from prsm.node.models.tasks import Task, Tasks
from prsm.node.models.templates import Templates
from prsm.node.net.blocks import BlockServer
from prsm.node.supervise import Supervisor
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.envelope import RING_NAME
from prsm.storage.errors import NotFound
from prsm.storage.fetch.exchange import Urgency
from prsm.storage.interfaces import Source
from prsm.storage.store.scrub import Scrubbed
from prsm.storage.store.space import Collected

REFRESH_SECONDS: Final = 30.0  # between two looks at which models are whole


class Models:
    """Adds, fetches and finds models; serves their blocks to peers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._adding = Adding(tools)
        self._opening = Opening(tools)
        self.fetching = Fetching(tools, self._opening)
        self.keeping = Keeping(tools, self.fetching)
        self.cards = Cards(tools, self.fetching)
        self.datasets = Datasets(tools)
        self.forms = Forms(tools)
        self.templates = Templates(tools, self.using)
        self._held: dict[Cid, ModelManifest] = {}
        self.server = BlockServer(tools.network, tools.store)
        self.tasks = Tasks(tools.driver.clock, tools.tasks)
        self._mending = Mending(tools, self.fetching, self.tasks, self.resolve)

    async def load(self) -> None:
        """Find what the store holds, without what was cut short; before anything else is asked."""
        await self._opening.clear()
        await self._adding.staging.collect()
        await self.refresh()

    async def refresh(self) -> None:
        """Look again which models are here whole: files come, are evicted, or break."""
        store = self._tools.store
        stored = await store.models()
        self._held = {cid: found for cid, found in stored if await store.has_model(found)}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tend the store and do long work until cancelled; then no plain copy is left."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(Supervisor("store").run, self._tools.store.run)
                await nursery.start(self.tasks.run)
                task_status.started()
                while True:
                    await trio.sleep(REFRESH_SECONDS)
                    await self.refresh()
                    await self._mending.look()
        finally:
            with trio.CancelScope(shield=True):
                await self._opening.clear()

    @property
    def view(self) -> View:
        """The ledger as this node knows it."""
        return self._tools.driver.ledger.view

    @property
    def offline(self) -> bool:
        """Whether blocks are asked of nobody."""
        return self._tools.offline

    @property
    def outside(self) -> Outside | None:
        """Sources beyond the network, and the health of all; None where only peers are asked."""
        return self._tools.outside

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here, ascending."""
        return tuple(sorted(cid.raw for cid in self._held))

    def names(self) -> dict[Cid, str]:
        """Names of the models whose files are all here."""
        return {cid: found.name for cid, found in self._held.items()}

    async def manifest(self, cid: bytes) -> ModelManifest:
        """The manifest of a CID, asked of peers when it is not here.

        Raises:
            NotFound, SourceFailed: nobody here or among the peers has it.
            Offline: it is not here, and nobody may be asked.
        """
        return await self.fetching.manifest(decode_cid(cid))

    async def file(self, cid: bytes, index: int) -> Path:
        """Local path of the plain bytes of a file, fetched and verified when it is not here.

        Raises:
            NotFound, SourceFailed, Full: it is not to be had.
            Offline: it is not here, and nobody may be asked.
            NotRecipient, BadEnvelope: it is sealed, and does not open here.
        """
        manifest = await self.manifest(cid)
        file = manifest.files[index]
        rings = [one for one in manifest.files if manifest.sealing and one.path == RING_NAME]
        for one in (file, *rings):
            await self.fetching.bring(cid, one)
        return (await self._opening.open(manifest, file)).path

    @asynccontextmanager
    async def using(self, cid: bytes, index: int, *, holder: str) -> AsyncIterator[Path]:
        """Lease a file for as long as the block runs: the store does not give it up meanwhile.

        Args:
            cid: of the manifest.
            index: of the file.
            holder: who, for people.

        Raises:
            PrsmError: as for `file`.
        """
        manifest = await self.manifest(cid)
        root = decode_cid(manifest.files[index].root)
        async with self._tools.store.leases.hold(root, holder=holder, purpose="run"):
            yield await self.file(cid, index)

    async def open(self, ref: str, *, offline: bool = False) -> tuple[Cid, tuple[OpenFile, ...]]:
        """Where the plain files of a model lie; pulled first when something lacks.

        A model that is here whole costs no network call.

        Raises:
            UnknownModel, NotFound, SourceFailed, Full, Offline: it is not to be had.
            NotRecipient, BadEnvelope: it is sealed, and does not open here.
        """
        cid, manifest = await self._manifest_of(ref, offline=offline)
        try:
            return cid, await self._opening.open_all(manifest)
        except NotFound:
            await self.pull(ref, offline=offline)
            return cid, await self._opening.open_all(manifest)

    async def add(self, wanted: Wanted, *, task: Task | None = None) -> tuple[Known, Sent | None]:
        """Prepare a model in a sandbox, store it, and name it on the ledger.

        Raises:
            LocalError: as for `Adding.prepare` and `register_model`.
        """
        cid, manifest = await self._adding.prepare(wanted, task=task)
        self._held[cid] = manifest
        outbox = self._tools.outbox
        sent = await register_model(outbox, cid, manifest) if wanted.register else None
        is_registered = sent is not None and sent.result is not None
        return Known(cid, manifest, is_held=True, is_registered=is_registered), sent

    async def pull(
        self,
        ref: str,
        *,
        offline: bool = False,
        task: Task | None = None,
        urgency: Urgency = Urgency.FOREGROUND,
    ) -> Known:
        """Bring a model here from peers, every block verified.

        Args:
            ref: which.
            offline: ask nobody.
            task: told how far it is.
            urgency: who waits for it.

        Raises:
            UnknownModel: the ledger does not know the name.
            NotFound, SourceFailed, Full: it is not to be had.
            Offline: it is not here whole, and nobody may be asked.
        """
        cid, manifest = await self._manifest_of(ref, offline=offline, is_sought=True)
        await self.fetching.pull(cid, manifest, offline=offline, task=task, urgency=urgency)
        if await self._tools.store.has_model(manifest):
            self._held[cid] = manifest
        return self._known(cid, manifest)

    async def share(
        self,
        ref: str,
        semver: str,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[bytes] = (),
        register: bool,
    ) -> tuple[Known, Sent | None]:
        """Publish a sealed model for another circle of readers, as another version.

        Raises:
            UnknownModel, Offline: it is not here.
            LocalError: as for `share`, and as for `register_model`.
        """
        _, manifest = await self._manifest_of(ref, offline=True)
        if register:
            us = self._tools.wallet.address
            check_name(self.view, manifest.name, semver, publisher=us)
        cid, changed = await share(
            self._tools, self._opening, manifest, semver, add=add, remove=remove
        )
        outbox = self._tools.outbox
        sent = await register_model(outbox, cid, changed) if register else None
        await self.refresh()
        return self._known(cid, changed), sent

    async def push(self, ref: str, *, task: Task | None = None) -> tuple[Cid, tuple[Pushed, ...]]:
        """Hand a model to the IPFS daemons of the configuration.

        Raises:
            UnknownModel, Offline, NotFound: it is not here.
            Unsupported: no daemon is configured.
        """
        cid, manifest = await self._manifest_of(ref, offline=True)
        outside = self._tools.outside
        takers = () if outside is None else outside.daemons
        return cid, await push(manifest, self._opening, takers, task=task)

    async def scrub(self, *, task: Task | None = None) -> Scrubbed:
        """Hash every leaf of every file, whatever it belongs to."""
        store = self._tools.store
        whole = (await store.space()).used.files
        told = None if task is None else task.counting(0, whole)
        scrubbed = await store.scrub(on_progress=told)
        await self.refresh()
        return scrubbed

    async def collect(self, *, dry_run: bool, partials: bool) -> Collected:
        """Remove what is used least until the store is below its mark; `ModelStore.gc`."""
        collected = await self._tools.store.gc(dry_run=dry_run, partials=partials)
        await self.refresh()
        return collected

    async def verify(self, ref: str, *, task: Task | None = None) -> tuple[Cid, list[Checked]]:
        """Hash every leaf of the files that are in our own store.

        Raises:
            UnknownModel, Offline: the model is not known, or its manifest is not here.
            NotFound: a file of it is not here.
        """
        cid = self.resolve(ref)
        manifest = await self.fetching.manifest(cid, offline=True)
        checked = await self.keeping.verify(manifest, task=task)
        await self.refresh()
        return cid, checked

    async def remove(self, ref: str) -> tuple[Cid, Gone]:
        """Delete a model's files here, but those another model shares.

        Raises:
            UnknownModel, Offline: the model is not known, or its manifest is not here.
            Conflict: a file is pinned, in use or being fetched.
        """
        cid = self.resolve(ref)
        manifest = await self.fetching.manifest(cid, offline=True)
        gone = await self.keeping.remove(cid, manifest)
        await self.refresh()
        return cid, gone

    def resolve(self, ref: str) -> Cid:
        """The manifest of a reference.

        Raises:
            UnknownModel, YankedRelease, BadCid: as `find`.
        """
        return self.look(ref)[0]

    def look(self, ref: str) -> tuple[Cid, Release | None]:
        """The manifest of a reference, and the ledger's word if it was found by name."""
        return find(ref, self._tools.driver.ledger.view, self._held)

    async def known(self) -> list[Known]:
        """Models held here or named on the ledger; unread manifests of others are left out."""
        view = self._tools.driver.ledger.view
        registered = {decode_cid(model.manifest) for model in view.models()}
        registered |= {decode_cid(dataset.manifest) for dataset in view.datasets()}
        stored = dict(await self._tools.store.models())
        return [
            Known(cid, manifest, is_held=cid in self._held, is_registered=cid in registered)
            for cid, manifest in stored.items()
        ]

    async def find(self, ref: str, *, offline: bool = False) -> Known:
        """One model by reference; its manifest is asked of peers when it is not here.

        Raises:
            UnknownModel, NotFound, SourceFailed: it is not known, or not to be had.
            Offline: its manifest is not here, and nobody may be asked.
        """
        return self._known(*await self._manifest_of(ref, offline=offline))

    async def card(self, ref: str, *, offline: bool = False) -> tuple[Cid, FoundCard]:
        """The card of a model.

        Raises:
            UnknownModel, NotFound, SourceFailed, Offline: it is not to be had.
            ForeignManifest: manifest or card are not their publisher's word.
        """
        cid, release = self.look(ref)
        _, manifest = await self._manifest_of(ref, offline=offline)
        return cid, await self.cards.read(manifest, release, offline=offline)

    def worker_state(self) -> WorkerState:
        """State of the program that runs models, for status."""
        pool = self._tools.pool
        if pool is None:
            return "running", 0, "off by configuration"
        return ("running" if pool.runtime else "starting"), 0, ",".join(pool.layers)

    def sources_for(self, cid: bytes) -> Sequence[Source]:
        """Whom to ask for the blocks of a manifest, in this order; nobody while offline."""
        return self.fetching.sources(cid)

    async def _manifest_of(
        self, ref: str, *, offline: bool, is_sought: bool = False
    ) -> tuple[Cid, ModelManifest]:
        """CID and manifest; one found by name is its publisher's word, or refused."""
        cid, release = self.look(ref)
        if is_sought and not (offline or self.offline):
            await self.fetching.seek(cid)
        manifest = await self.fetching.manifest(cid, offline=offline)
        if release is not None:
            self.cards.check(manifest, release)
        return cid, manifest

    def _known(self, cid: Cid, manifest: ModelManifest) -> Known:
        is_registered = self._tools.driver.ledger.view.release_by_cid(cid.raw) is not None
        return Known(cid, manifest, is_held=cid in self._held, is_registered=is_registered)
