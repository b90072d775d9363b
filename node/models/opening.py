"""Where the files of a model lie in the clear: our store, an extra one, the private cache.

Knows: which places are looked at and in which order; never the network. Must not know: how a file
comes here. A sealed file is decrypted once into a file of mode 0600 that lives as long as the
process: the folder is emptied when the node starts and when it stops.
"""

import shutil
from pathlib import Path
from typing import Final

import trio

from prsm.node.models.records import OpenFile, Tools
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import decode_cid
from prsm.storage.envelope import RING_BYTES_MAX, RING_NAME, Ring, decode_ring, open_file, open_ring
from prsm.storage.errors import BadEnvelope, NotFound, NotRecipient

_PLAIN: Final = "plain"


class Opening:
    """Opens files that are here."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._folder = tools.scratch / _PLAIN
        self._lock = trio.Lock()  # one at a time, so that each sees what the last one left free

    async def clear(self) -> None:
        """Remove plain copies of sealed files."""
        await trio.to_thread.run_sync(lambda: shutil.rmtree(self._folder, ignore_errors=True))

    async def stored(self, file: ManifestFile) -> Path | None:
        """Path of a file as it is stored, ours or shared; None if it is not here whole.

        Raises:
            Corrupt: somebody changed it on our disk.
        """
        root = decode_cid(file.root)
        try:
            return await self._tools.store.path(root)
        except NotFound:
            return await self.shared(file)

    async def shared(self, file: ManifestFile) -> Path | None:
        """Path of a file in an extra store, hashed the first time; None if none has it."""
        root = decode_cid(file.root)
        for extra in self._tools.extra:
            path = await trio.to_thread.run_sync(
                extra.find_file, root, file.size, file.sha256, abandon_on_cancel=True
            )
            if path is not None:
                return path
        return None

    async def block(self, digest: bytes) -> bytes | None:
        """A block of an extra store, or None."""
        for extra in self._tools.extra:
            raw = await trio.to_thread.run_sync(extra.find_block, digest, abandon_on_cancel=True)
            if raw is not None:
                return raw
        return None

    async def open_all(self, manifest: ModelManifest) -> tuple[OpenFile, ...]:
        """The plain files of a model.

        Raises:
            NotFound: a file is not here.
            NotRecipient, BadEnvelope, Corrupt: it does not open.
        """
        return tuple([await self.open(manifest, file) for file in manifest.files])

    async def open(self, manifest: ModelManifest, file: ManifestFile) -> OpenFile:
        """One plain file of a model.

        Raises:
            NotFound: it is not here.
            NotRecipient: it is sealed, and not for this node.
            BadEnvelope: it was changed, or has no ring.
            Corrupt: somebody changed it on our disk.
            Full: the disk has no room for a plain copy.
        """
        stored = await self.stored(file)
        if stored is None:
            raise NotFound(
                f"{file.path} of {manifest.name}@{manifest.semver} is not here",
                hint="fetch it: prsm model pull REF",
            )
        if not manifest.sealing or file.path == RING_NAME:
            return OpenFile(file, stored)
        target = self._folder / str(decode_cid(file.root))
        if not target.exists():
            _, key = await self.ring(manifest)
            async with self._lock:
                if not target.exists():
                    async with self._tools.store.budget.beside(file.size):
                        await trio.to_thread.run_sync(_decrypt, stored, target, key)
        return OpenFile(file, target)

    async def ring(self, manifest: ModelManifest) -> tuple[Ring, bytes]:
        """The ring of a sealed model and the key in it, opened with this node's key.

        Raises:
            NotRecipient: it is not for this node.
            BadEnvelope: it was changed, or is not here.
        """
        seed = self._tools.seed
        ring_file = next((file for file in manifest.files if file.path == RING_NAME), None)
        path = None if ring_file is None else await self.stored(ring_file)
        if ring_file is None or path is None or ring_file.size > RING_BYTES_MAX:
            raise BadEnvelope(
                f"{manifest.name}@{manifest.semver} is sealed, and its {RING_NAME} is not here",
                hint="fetch it: prsm model pull REF",
            )
        if seed is None:
            raise NotRecipient("this node has no key of its own", hint="prsm where")
        raw = await trio.to_thread.run_sync(path.read_bytes)
        ring = decode_ring(raw)
        return ring, open_ring(ring, seed)


def _decrypt(stored: Path, target: Path, key: bytes) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    open_file(stored, target, key)
