"""Things made of several files: one that a crash or an error cut is taken back, nothing half stays.

Knows: for each one under way a folder, and a note of what of it is in the store already. Must not
know: what it is (a model, a dataset, a CAR, …).

Invariants: a line of the note is durable before what it names is in the store; the thing is done
when its note is gone. What something else keeps meanwhile (a pin, a model, a lease) stays. One
thing at a time stores, until it is done or taken back, and none before what was left of an
earlier one is taken back: what another one finds here stays here.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import trio

from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid, hash_block, parse_cid
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.manifest import encode_manifest
from prsm.storage.store.intake import Progress
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.sealed import AddedFile
from prsm.storage.wholefile import refused

_NAME: Final = "staging-"
_STALE: Final = ("tmp*", "ring-*")  # folders and files of other work, in which nothing is noted
_NOTE: Final = ".note"
_FILE, _PIN, _BLOCK, _MANIFEST = "file", "pin", "block", "manifest"


class _Line(NamedTuple):
    """What is in the store, or is about to be: a root, digests, or the CID of a manifest."""

    kind: str
    what: str
    name: str


class Stage:
    """One thing under way; `Staging.begin` makes it.

    Attributes:
        folder: empty at first, gone at the end.
    """

    def __init__(
        self, store: ModelStore, folder: Path, leases: AsyncExitStack, turn: AsyncExitStack
    ) -> None:
        self.folder = folder
        self._store = store
        self._note_path = _note_of(folder)
        self._leases = leases
        self._turn = turn  # left last, when all has been taken back
        self._has_turn = False
        self._pins: set[tuple[Cid, str]] | None = None  # read once: there may be thousands

    async def add_file(
        self, path: Path, *, move: bool = False, on_progress: Progress | None = None
    ) -> AddedFile:
        """As `ModelStore.add_file`; nobody removes the file before the thing is done."""
        await self.wait_turn()

        async def note(root: Cid) -> None:
            lease = self._store.leases.hold(root, holder="store", purpose="add")
            await self._leases.enter_async_context(lease)
            if not await self._store.has(root):
                await self._note(_FILE, str(root))

        return await self._store.add_file(path, move=move, on_progress=on_progress, on_root=note)

    async def pin(self, root: Cid, name: str, owner: str) -> None:
        """As `ModelStore.pin`."""
        await self.wait_turn()
        if self._pins is None:
            self._pins = {(pin.root, pin.name) for pin in await self._store.pins()}
        if (root, name) not in self._pins:
            await self._note(_PIN, str(root), name)
            self._pins.add((root, name))
        await self._store.pin(root, name, owner)

    async def put_blocks(self, blocks: Sequence[bytes], owner: str) -> None:
        """As `Blocks.put_many`."""
        await self.wait_turn()
        owned = set(await self._store.blocks.owned(owner))
        digests = [hashlib.sha256(raw).digest() for raw in blocks]
        fresh = [digest.hex() for digest in digests if digest not in owned]
        if fresh:
            await self._note(_BLOCK, " ".join(fresh), owner)
        await self._store.blocks.put_many(blocks, owner=owner)

    async def save_manifest(self, manifest: ModelManifest) -> Cid:
        """As `ModelStore.save_manifest`."""
        await self.wait_turn()
        cid = hash_block(encode_manifest(manifest))
        if cid not in {known for known, _ in await self._store.models()}:
            await self._note(_MANIFEST, str(cid))
        return await self._store.save_manifest(manifest)

    async def wait_turn(self) -> None:
        """Wait for whoever stores now: a pin of his that we found here may go with him.

        Raises:
            Full, StoreUnavailable: what the disk did not let be taken back it still holds.
        """
        if not self._has_turn:
            await self._turn.enter_async_context(self._store.turn)
            self._has_turn = True
            # Whose turn is over and whose note is not: the next start would take that back, and
            # what we had found of it with it.
            for folder in await trio.to_thread.run_sync(_noted, self.folder.parent):
                await _take_back(self._store, folder)

    async def _note(self, kind: str, what: str, name: str = "") -> None:
        line = f"{kind}\t{what}\t{name}\n".encode()
        await trio.to_thread.run_sync(_append, self._note_path, line)


class Staging:
    """What is under way in one store.

    Args:
        store: where it goes.
        scratch: a folder on the store's own file system.
    """

    def __init__(self, store: ModelStore, scratch: Path) -> None:
        self._store = store
        self._scratch = scratch

    async def collect(self) -> None:
        """Take back what an earlier run of the node did not finish; before anything begins.

        Whatever else it has left in the scratch folder is deleted.

        Raises:
            StoreUnavailable: the disk refused.
        """
        for folder in await trio.to_thread.run_sync(_left, self._scratch):
            await _take_back(self._store, folder)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Stage]:
        """Make something in the block: it is there as a whole after it, or not at all.

        What comes before its first file or pin goes on beside others; then it waits for its turn.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        folder = self._scratch / f"{_NAME}{secrets.token_hex(8)}"
        await trio.to_thread.run_sync(_make, folder)
        async with AsyncExitStack() as turn:
            try:
                async with AsyncExitStack() as leases:
                    yield Stage(self._store, folder, leases, turn)
                    await trio.to_thread.run_sync(_finish, folder)
            finally:
                # Bounded: a few rows and names. A note that is gone names nothing to take back.
                with trio.CancelScope(shield=True):
                    await _take_back(self._store, folder)  # noqa: ASYNC102 - shielded above


async def _take_back(store: ModelStore, folder: Path) -> None:
    noted = await trio.to_thread.run_sync(_read, _note_of(folder))
    for line in noted:
        with suppress(NotFound):  # it never came
            await _give_up(store, line)
    files = [parse_cid(line.what) for line in noted if line.kind == _FILE]
    if files:
        models = await store.models()
        named = {decode_cid(file.root) for _, found in models for file in found.files}
        for root in files:
            with suppress(NotFound, Conflict):  # it never came, or something else keeps it
                if root not in named:
                    await store.remove(root)
    await trio.to_thread.run_sync(_delete, folder)


async def _give_up(store: ModelStore, line: _Line) -> None:
    match line.kind:
        case "manifest":
            await store.remove_manifest(parse_cid(line.what))
        case "block":
            digests = [bytes.fromhex(digest) for digest in line.what.split(" ")]
            await store.blocks.delete_many(digests, owner=line.name)
        case "pin":
            await store.unpin(parse_cid(line.what), line.name)
        case _:
            pass  # files go last, when nothing of this keeps them


def _note_of(folder: Path) -> Path:
    """Beside the folder, since who fills it may be a process that is not trusted."""
    return folder.with_name(folder.name + _NOTE)


def _make(folder: Path) -> None:
    with refused(folder):
        folder.mkdir(mode=0o700)
        _note_of(folder).touch(mode=0o600, exist_ok=False)
    PosixDisk().sync_folder(str(folder))


def _append(path: Path, line: bytes) -> None:
    with refused(path), path.open("ab", buffering=0) as file:
        file.write(line)
        os.fdatasync(file.fileno())


def _finish(folder: Path) -> None:
    with refused(folder):
        _note_of(folder).unlink()
    PosixDisk().sync_folder(str(folder))


def _read(path: Path) -> list[_Line]:
    """The whole lines of a note; the one that was cut, or is none, names nothing that came."""
    with refused(path):
        raw = path.read_bytes() if path.exists() else b""
    fields = [line.split("\t") for line in raw.decode(errors="replace").split("\n")[:-1]]
    return [_Line(*parts) for parts in fields if len(parts) == len(_Line._fields)]


def _left(scratch: Path) -> list[Path]:
    """What an earlier run has left; of that, folders without a note are deleted at once."""
    with refused(scratch):
        for pattern in _STALE:
            for path in scratch.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        names = {path.name.removesuffix(_NOTE) for path in scratch.glob(f"{_NAME}*")}
    return [scratch / name for name in sorted(names)]


def _noted(scratch: Path) -> list[Path]:
    """Folders of which something is in the store."""
    found = []
    with refused(scratch):
        for note in sorted(scratch.glob(f"{_NAME}*{_NOTE}")):
            with suppress(FileNotFoundError):  # of one that waited, and ended meanwhile
                if note.stat().st_size:
                    found.append(note.with_name(note.name.removesuffix(_NOTE)))
    return found


def _delete(folder: Path) -> None:
    """The note goes last: what is cut here is taken back again."""
    with refused(folder):
        if folder.exists():
            shutil.rmtree(folder)
        _note_of(folder).unlink(missing_ok=True)
