"""Fetching a file from many sources at once: ask, hash, only then write.

Knows: sources, deadlines, who failed how. Must not know: transports. What to ask next is decided
by `wants`; bytes that do not match never reach the disk (`resume`), and the source that sent
them is dropped and reported. Source: docs/spec/storage.md, "Exchange".
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import (
    Full,
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceFailed,
    SourceSlow,
    StoreUnavailable,
)
from prsm.storage.interfaces import Leaf, Source
from prsm.storage.manifest import decode_manifest
from prsm.storage.model_store import ModelStore
from prsm.storage.resume import Partial
from prsm.storage.wants import Ask, Session, plan

RUN_SECONDS: Final = 15.0  # 8 MiB at 0.5 MiB/s

FaultHandler = Callable[[str, PrsmError], None]  # name of the source; called at once


@dataclass(frozen=True, slots=True)
class Fault:
    """A source that was dropped, and why."""

    source: str
    error: PrsmError


@dataclass(slots=True)
class Fetched:
    """What a fetch took: verified bytes by source, and who failed."""

    root: Cid
    size: int
    bytes_by_source: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ended:
    """An ask that came back; `error` is None if all went well."""

    ask: Ask
    missing: tuple[Leaf, ...]
    error: PrsmError | None
    is_ours: bool = False  # our disk failed, not the source


@dataclass(frozen=True, slots=True)
class _Told:
    """A source said which leaves it holds, or why not."""

    source: str
    bitset: bytes | None
    error: PrsmError | None


class Exchange:
    """Brings files into one store."""

    def __init__(
        self,
        store: ModelStore,
        *,
        run_seconds: float = RUN_SECONDS,
        on_fault: FaultHandler | None = None,
    ) -> None:
        """Fetch into a store.

        Args:
            store: where files go.
            run_seconds: how long a source may take for one run, one node or one `have`.
            on_fault: told of every dropped source, so that a corrupt peer can be banned.
        """
        self._store = store
        self._run_seconds = run_seconds
        self._on_fault = on_fault
        self._locks: dict[Cid, trio.Lock] = {}

    async def fetch_model(self, cid: Cid, sources: Sequence[Source]) -> ModelManifest:
        """Bring a manifest and all its files here; what is here already is not asked for.

        Raises:
            NotFound, SourceSlow, SourceCorrupt, SourceFailed: as for `fetch`.
            WireError: the block of that CID is no manifest this node accepts.
            Full, StoreUnavailable: our disk.
        """
        try:
            manifest = await self._store.load_manifest(cid)
        except NotFound:
            manifest = decode_manifest(await self.fetch_block(cid.digest, sources))
            await self._store.save_manifest(manifest)
        for file in manifest.files:
            await self.fetch(decode_cid(file.root), file.size, sources)
        return manifest

    async def fetch_block(self, digest: bytes, sources: Sequence[Source]) -> bytes:
        """Return one block, asked of each source in turn and checked; it is not stored.

        Raises:
            NotFound: every source says it does not hold it, or there is none.
            SourceSlow, SourceCorrupt, SourceFailed: else, the worst that happened.
        """
        faults: list[Fault] = []
        for source in sources:
            raw = await self._node(source, digest, faults)
            if raw is not None:
                return raw
        raise _verdict(f"block {digest.hex()[:16]}", faults)

    async def fetch(self, root: Cid, size: int, sources: Sequence[Source]) -> Fetched:
        """Bring a file here; two callers of the same root share one session.

        Cancelled or failed, what has been verified stays and a later call goes on from there.

        Args:
            root: of the file.
            size: its bytes, as the manifest says.
            sources: whom to ask; each has another name.

        Raises:
            NotFound: every source says it does not hold it, or there is none.
            SourceSlow: some source gave no answer in time, and no other had the rest.
            SourceCorrupt: a source sent wrong bytes, and no other had the rest.
            SourceFailed: sources failed otherwise.
            BadDag: the root is no file of this size: its publisher's fault.
            Full, StoreUnavailable: our disk or quota.
        """
        fetched = Fetched(root, size)
        async with self._locks.setdefault(root, trio.Lock()):
            if await self._store.has(root):
                return fetched
            partial = await self._store.begin_fetch(root, size)
            try:
                live = await self._fetch_nodes(partial, sources, fetched)
                await self._fetch_leaves(partial, live, fetched)
            finally:
                await self._store.end_fetch(partial)  # noqa: ASYNC102 - shields itself
        return fetched

    async def _fetch_nodes(
        self, partial: Partial, sources: Sequence[Source], fetched: Fetched
    ) -> list[Source]:
        """Read the DAG down to its leaves; returns the sources that did not fail meanwhile."""
        live = list(sources)
        while wanted := partial.wanted_nodes():
            raw = None
            for source in list(live):
                faults = len(fetched.faults)
                raw = await self._node(source, wanted[0], fetched.faults)
                if raw is not None:
                    break
                if len(fetched.faults) > faults:
                    live.remove(source)
            if raw is None:
                raise _verdict(f"{partial.root}: node {wanted[0].hex()[:16]}", fetched.faults)
            await partial.put_node(raw)
        return live

    async def _node(self, source: Source, digest: bytes, faults: list[Fault]) -> bytes | None:
        """Ask one source for a block; None if it does not hold it, or failed."""
        try:
            with trio.fail_after(self._run_seconds):
                raw = await source.node(digest)
        except NotFound:
            return None
        except trio.TooSlowError:
            self._fault(source.name, self._slow(source.name, "a block"), faults)
            return None
        except PrsmError as error:
            self._fault(source.name, error, faults)
            return None
        got = hashlib.sha256(raw).digest()
        if got != digest:
            what = f"{len(raw)} bytes of {got.hex()} instead of block {digest.hex()}"
            self._fault(source.name, SourceCorrupt(what, penalty=100), faults)
            return None
        return raw

    async def _fetch_leaves(
        self, partial: Partial, sources: Sequence[Source], fetched: Fetched
    ) -> None:
        session = Session(partial.missing())
        by_name = {source.name: source for source in sources}
        assert len(by_name) == len(sources), "two sources of one name"
        send, receive = trio.open_memory_channel[_Ended | _Told](len(by_name) + 1)
        ours: PrsmError | None = None
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(self._have, source, partial.root, send)
            untold = len(sources)
            while not session.is_finished and ours is None:
                for ask in plan(session):
                    nursery.start_soon(self._run, by_name[ask.source], partial, ask, send)
                if not untold and not session.open_asks:
                    break
                event = await receive.receive()
                if isinstance(event, _Told):
                    untold -= 1
                    self._told(session, event, fetched)
                else:
                    ours = self._ended(session, event, fetched)
            nursery.cancel_scope.cancel()
        if ours is not None:
            raise ours
        if not session.is_finished:
            here = f"{partial.verified_bytes} of {partial.size} bytes are here"
            raise _verdict(f"{partial.root}: {here}", fetched.faults)

    async def _have(
        self, source: Source, root: Cid, send: trio.MemorySendChannel[_Ended | _Told]
    ) -> None:
        error: PrsmError | None = None
        bitset = None
        try:
            with trio.fail_after(self._run_seconds):
                have = await source.have(root)
            bitset = None if have is None else have.bitset
        except trio.TooSlowError:
            error = self._slow(source.name, "what it holds")
        except PrsmError as caught:
            error = caught
        await send.send(_Told(source.name, bitset, error))

    async def _run(
        self,
        source: Source,
        partial: Partial,
        ask: Ask,
        send: trio.MemorySendChannel[_Ended | _Told],
    ) -> None:
        error: PrsmError | None = None
        is_ours = False
        try:
            with trio.fail_after(self._run_seconds):
                blocks = await source.fetch(partial.root, ask.leaves)
        except trio.TooSlowError:
            error = self._slow(source.name, f"{len(ask.leaves)} leaves")
        except PrsmError as caught:
            error = caught
        else:
            if not blocks:
                error = SourceBroken(f"{source.name} answered with nothing")
            try:
                await partial.write_run(ask.leaves, blocks)
            except SourceCorrupt as caught:
                error = caught
            except (Full, StoreUnavailable) as caught:
                error, is_ours = caught, True
        missing = tuple(leaf for leaf in ask.leaves if not partial.holds(leaf))
        await send.send(_Ended(ask, missing, error, is_ours))

    def _told(self, session: Session, event: _Told, fetched: Fetched) -> None:
        if event.error is None:
            session.add_source(event.source, event.bitset)
        elif not isinstance(event.error, NotFound):
            self._fault(event.source, event.error, fetched.faults)

    def _ended(self, session: Session, event: _Ended, fetched: Fetched) -> PrsmError | None:
        """Note how an ask ended; returns the error if it was our own disk's."""
        name = event.ask.source
        lacks = isinstance(event.error, NotFound)
        session.ended(event.ask, missing=event.missing, lacks=lacks)
        came = sum(leaf.size for leaf in event.ask.leaves) - sum(
            leaf.size for leaf in event.missing
        )
        if came:
            fetched.bytes_by_source[name] = fetched.bytes_by_source.get(name, 0) + came
        if event.is_ours:
            return event.error
        if event.error is not None and not lacks:
            session.drop_source(name)
            self._fault(name, event.error, fetched.faults)
        return None

    def _fault(self, name: str, error: PrsmError, faults: list[Fault]) -> None:
        if isinstance(error, SourceCorrupt) and not error.peer:
            error.peer = name
        if all(fault.source != name for fault in faults):
            faults.append(Fault(name, error))
            if self._on_fault is not None:
                self._on_fault(name, error)

    def _slow(self, name: str, what: str) -> SourceSlow:
        return SourceSlow(f"{name} did not send {what} within {self._run_seconds:g} s")


def _verdict(what: str, faults: Sequence[Fault]) -> PrsmError:
    """Say why something did not come: a timeout is never "not found"."""
    if not faults:
        return NotFound(
            f"{what}: no source holds the rest", hint="connect to a node that has it: prsm peers"
        )
    told = "; ".join(f"{fault.source}: {fault.error.what}" for fault in faults)[:1000]
    hint = "try again: what is verified stays and is not fetched twice"
    for fault in faults:
        if isinstance(fault.error, SourceSlow):
            return SourceSlow(f"{what}; {told}", hint=hint)
    for fault in faults:
        if isinstance(fault.error, SourceCorrupt):
            return SourceCorrupt(f"{what}; {told}", hint=hint, peer=fault.source, penalty=0)
    return SourceFailed(f"{what}; {told}", hint=hint)
