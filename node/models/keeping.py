"""Models that are here: checked, kept under a name, given up, removed.

Knows: manifests, files that several models share, pins. Must not know: how a file comes here.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from prsm.node.models.cardtext import card_owner
from prsm.node.models.fetching import Fetching
from prsm.node.models.records import Checked, Gone, Pinned, Standing, Tools
from prsm.node.models.tasks import Task
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.store.cardesk import CarDesk
from prsm.storage.store.model_store import StoredFile
from prsm.storage.store.pins import ADDED, REPAIR

Stored = Mapping[Cid, StoredFile]
_OURS: Final = frozenset((ADDED, REPAIR))  # the node's own pins: whoever removes gives them up


class Keeping:
    """Looks after models of our store.

    `cars` writes files of it into CARs, and takes those of others.
    """

    def __init__(self, tools: Tools, fetching: Fetching) -> None:
        self.cars = CarDesk(tools.store, tools.scratch)
        self._tools = tools
        self._fetching = fetching
        # Of two removals at once each would find the other's model, and leave what both share.
        self._removing = trio.Lock()

    async def verify(self, manifest: ModelManifest, *, task: Task | None) -> list[Checked]:
        """Hash every leaf of a model's files in our own store.

        Raises:
            NotFound: a file of it is not here.
        """
        checked, done = [], 0
        for file in manifest.files:
            fault = ""
            told = None if task is None else task.counting(done, manifest.total_bytes)
            try:
                await self._tools.store.verify(decode_cid(file.root), told)
            except Corrupt as error:
                fault = error.what
            checked.append(Checked(file, fault))
            done += file.size
        if task is not None:
            task.report(done, manifest.total_bytes)
        return checked

    async def remove(self, cid: Cid, manifest: ModelManifest) -> Gone:
        """Delete a model's files here, but those another model shares.

        Raises:
            Pinned: a file is.
            Conflict: one is in use or being fetched.
        """
        async with self._removing:
            return await self._remove(cid, manifest)

    async def _remove(self, cid: Cid, manifest: ModelManifest) -> Gone:
        store = self._tools.store
        roots = [decode_cid(file.root) for file in manifest.files]
        shared, rows = await self._shared(cid), await self.stored()
        here = {root for root in roots if root in rows and root not in shared}
        if pins := {pin for root in here for pin in rows[root].pins}.difference(_OURS):
            raise Pinned(f"{manifest.name}@{manifest.semver}", sorted(pins))
        # Asked again when they are claimed: another model may have come to share one since.
        gone = await store.remove_all(here, _OURS, kept=partial(self._shared, cid))
        if manifest.card is not None:
            with suppress(NotFound):  # another's card is only cached
                digest = decode_cid(manifest.card).digest
                await store.blocks.delete(digest, owner=card_owner(manifest))
        await store.remove_manifest(cid)
        shared |= here - gone
        freed = sum(rows[root].size for root in gone)
        return Gone(len(gone), freed, sum(root in shared for root in roots))

    async def _shared(self, cid: Cid) -> set[Cid]:
        """Roots of the files of all other models here."""
        models = await self._tools.store.models()
        return {
            decode_cid(file.root) for other, its in models if other != cid for file in its.files
        }

    async def pin(self, manifest: ModelManifest, name: str) -> None:
        """Keep all files of a model, here already or not, under a name."""
        for file in manifest.files:
            await self._tools.store.pin(decode_cid(file.root), name)

    async def unpin(self, manifest: ModelManifest, name: str) -> tuple[str, ...]:
        """Give a name up; those that are left.

        Raises:
            NotFound: no such pin.
        """
        if name not in self.pins(manifest, await self.stored()):
            raise NotFound(
                f"{manifest.name}@{manifest.semver} is not pinned as {name!r}",
                hint="see: prsm model show REF",
            )
        for file in manifest.files:
            try:
                await self._tools.store.unpin(decode_cid(file.root), name)
            except NotFound:  # another model shares the file, and gave the same name up
                continue
        return self.pins(manifest, await self.stored())

    async def stored(self) -> Stored:
        """Every file that is here by its root: read once, for however many models are looked up."""
        return {row.root: row for row in await self._tools.store.list()}

    def pins(self, manifest: ModelManifest, stored: Stored) -> tuple[str, ...]:
        """Names under which all files of a model are kept."""
        roots = {decode_cid(file.root) for file in manifest.files}
        named = [set(stored[root].pins) for root in roots if root in stored]
        if len(named) < len(roots):
            return ()
        return tuple(sorted(set.intersection(*named)))

    def standing(self, manifest: ModelManifest, stored: Stored) -> tuple[Standing, int]:
        """Where a model is, and how many of its bytes are here, those on their way included."""
        here = shared = 0
        for file in manifest.files:
            row = stored.get(decode_cid(file.root))
            count = row.verified_bytes if row is not None else 0
            here += count
            shared += 0 if count else self._shared_bytes(file)
        if here == manifest.total_bytes:
            return "held", here
        if here + shared == manifest.total_bytes:
            return "shared", here
        if self._tools.offline:
            return "offline", here
        return ("partial" if here else "absent"), here

    def _shared_bytes(self, file: ManifestFile) -> int:
        root = decode_cid(file.root)
        is_there = any(extra.has_file(root, file.size) for extra in self._tools.extra)
        return file.size if is_there else 0
