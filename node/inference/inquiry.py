"""Asking for what a batch is checked by, and answering those whom the ledger drew to check it.

What is answered is worth nothing by itself: inputs must have the roots that the requester signed,
outputs those that the worker did. Must not know why something is checked. Source:
docs/spec/work.md, "Audits".
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.evidence import Evidence, Place
from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.interface import Chain, NotNamed, UnknownJob
from prsm.node.inference.transfer import Assembly, check_heads, row_axes
from prsm.node.net.interface import Answer, Channel, Incoming, Network, PeerUnreachable
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import BadSignature, LocalError, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId, Signature
from prsm.protocol.limits import MIB
from prsm.protocol.messages.audit import (
    AskInputs,
    InputChunk,
    Side,
    ask_inputs_statement,
)
from prsm.protocol.messages.models import Shard, TensorSpec
from prsm.protocol.messages.work import BATCH_BYTES_MAX
from prsm.protocol.tensors import Tensor

CHUNK_S: Final = 10.0
# Of one peer; what it announces may be 64 MiB, and the ledger waits a minute for an audit.
BYTES_PER_S_MIN: Final = 2 * MIB
# So long the likelier peers have by themselves: an honest one has answered, or begun to.
AHEAD_S: Final = 2.0
NAMED_MAX: Final = 3  # each may have a whole batch under way
# What all others may have under way together; 64 KiB or 64 MiB, as each announces.
OTHERS_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX
# Of a caller's deadline the search leaves so much: what follows from it takes blocks.
LEFT_S: Final = 10.0
# A search that is cut after so long has given each peer what the largest batch may take.
SEARCH_S: Final = NAMED_MAX * AHEAD_S + 2 * CHUNK_S + BATCH_BYTES_MAX / BYTES_PER_S_MIN

log = logging.getLogger(__name__)


MaySee = Callable[[bytes, bytes, int, bytes], bool]  # asker, job, unit, worker


class Unserved(LocalError):
    """Nobody who is live gave what a check needs."""

    reason = "unserved"


class NoTimeLeft(LocalError):
    """A search was cut before its peers had their time: it says nothing of them."""

    reason = "deadline_passed"


class Witness:
    """Answers `AskInputs` out of what this node keeps."""

    def __init__(
        self,
        network: Network,
        chain: Chain,
        evidence: Evidence,
        verifier: Verifier,
        *,
        may_see: MaySee,
    ) -> None:
        self._chain, self._evidence, self._verifier = chain, evidence, verifier
        self._may_see = may_see
        network.on_call(AskInputs, self._show)

    async def _show(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        assert isinstance(ask, AskInputs)
        place = Place(ask.job, ask.unit, ask.batch, ask.side, ask.worker)
        self._check(
            ask,
            ask_inputs_statement(ask, chain_id=self._chain.chain_id, asker_peer=incoming.peer),
            peer=incoming.peer,
        )
        found = await self._evidence.chunk(place, ask.chunk)
        if found is None:
            raise UnknownJob("nothing of that batch is kept here")
        return found

    def _check(self, ask: AskInputs, statement: bytes, *, peer: PeerId) -> None:
        if not self._may_see(ask.asker, ask.job, ask.unit, ask.worker):
            raise NotNamed("the ledger drew nobody of that account to check this")
        if not self._verifier.verify(ask.asker, statement, ask.signature):
            raise BadSignature("inputs were asked for in another's name", peer=peer)


@dataclass(frozen=True, slots=True)
class Served:
    """One side of a batch, as somebody gave it."""

    tensors: tuple[Tensor, ...]
    feed: Signature  # the requester's, of inputs


Check = Callable[[Served], bool]  # are these the tensors that were signed?


@dataclass(slots=True)
class Sources:
    """Who is asked in one check, however often it is tried; who was right comes first.

    Attributes:
        named: peers of the worker and of the requester, as far as they say who they are.
        others: all other live peers; the requester may be one of them.
        blamed: for what they gave in this check; asked no more, so no peer is blamed twice.
        missing: places a search that had its time did not find, and none since.
    """

    named: list[PeerId] = field(default_factory=list)
    others: list[PeerId] = field(default_factory=list)
    blamed: set[PeerId] = field(default_factory=set)
    missing: set[Place] = field(default_factory=set)

    def blame(self, peer: PeerId) -> None:
        """It dripped, or gave what nobody signed."""
        self._drop(peer)
        self.blamed.add(peer)

    def defer(self, peer: PeerId) -> None:
        """It gave nothing in time, perhaps for our own queue: nobody waits for it again."""
        self._drop(peer)
        self.others.append(peer)

    def prefer(self, peer: PeerId) -> None:
        """It gave what was asked for."""
        self._drop(peer)
        self.named.insert(0, peer)
        self.others += self.named[NAMED_MAX:]
        del self.named[NAMED_MAX:]

    def _drop(self, peer: PeerId) -> None:
        for peers in (self.named, self.others):
            if peer in peers:
                peers.remove(peer)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for, the key that was drawn to ask, and who is asked."""

    place: Place
    by: Signer
    sources: Sources = field(default_factory=Sources)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One search: what the answer must look like."""

    ask: Ask
    specs: Sequence[TensorSpec]
    rows: int | None
    is_right: Check

    def begin(self, first: InputChunk) -> Assembly:
        """What a first chunk announces, if it is of that io table."""
        axes = {} if self.rows is None else row_axes(self.specs, self.rows)
        check_heads(first.tensors, self.specs, axes=axes)
        return Assembly(first.tensors, first.chunks)


class _Room:
    """Bytes that peers who have not been named may have under way together."""

    def __init__(self, size: int) -> None:
        self._free, self._changed = size, trio.Event()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        while size > self._free:
            await self._changed.wait()
        self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._changed.set()
            self._changed = trio.Event()


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Asks requester and worker for what a check needs."""

    network: Network
    chain: Chain
    verifier: Verifier

    async def begin(self, ask: Ask, requester: bytes) -> None:
        """Find out who is live, at the beginning of each try of a check.

        Args:
            ask: what is asked for first; `dataclasses.replace` makes an ask for another.
            requester: account that locked the job.
        """
        sources = ask.sources
        offers = await ask_all(self.network, self.chain, self.verifier)
        peers = {offer.worker: offer.peer for offer in offers}
        named = [peers[account] for account in (ask.place.worker, requester) if account in peers]
        others = [info.peer for info in self.network.peers() if info.peer not in named]
        sources.named = [peer for peer in named if peer not in sources.blamed]
        sources.others = [peer for peer in others if peer not in sources.blamed]

    async def fetch(self, ask: Ask, shard: Shard, rows: int | None, *, is_right: Check) -> Served:
        """Get one side of a batch from whoever is first to give it whole.

        The worker is asked, a little later the requester too, then every peer; so nobody holds a
        check up by being slow. It ends `LEFT_S` before the caller's deadline.

        Args:
            ask: what, by whom, of whom.
            shard: whose io table the tensors must have.
            rows: of the batch, as locked; None where fewer may have been fed.
            is_right: looks at the roots.

        Raises:
            Unserved: nobody gave it, or what an earlier try looked for, and all had their time.
            NoTimeLeft: nobody gave it, and who was asked may still have done so.
        """
        place, sources = ask.place, ask.sources
        specs = shard.inputs if place.side is Side.IN else shard.outputs
        wanted = _Wanted(ask, specs, rows, is_right)
        found: list[Served] = []
        began = trio.current_time()
        with trio.move_on_at(trio.current_effective_deadline() - LEFT_S) as search:
            await trio.lowlevel.checkpoint()  # too late is too late with nobody to ask, too
            async with trio.open_nursery() as nursery:

                async def ask_one(peer: PeerId, room: _Room, ended: trio.Event) -> None:
                    served = await self._try(peer, wanted, room)
                    ended.set()
                    if served is not None and not found:
                        found.append(served)
                        nursery.cancel_scope.cancel()

                for peer in tuple(sources.named):
                    ended = trio.Event()
                    nursery.start_soon(ask_one, peer, _Room(BATCH_BYTES_MAX), ended)
                    with trio.move_on_after(AHEAD_S):
                        await ended.wait()
                room = _Room(OTHERS_BYTES_MAX)
                for peer in tuple(sources.others):
                    nursery.start_soon(ask_one, peer, room, trio.Event())
        if found:
            sources.missing.discard(place)
            return found[0]
        if not search.cancelled_caught or trio.current_time() - began >= SEARCH_S:
            sources.missing.add(place)
        if not sources.missing:
            raise NoTimeLeft(f"no time to look for batch {place.batch} of unit {place.unit}")
        raise Unserved(f"nobody serves batch {place.batch} of unit {place.unit}")

    async def _try(self, peer: PeerId, wanted: _Wanted, room: _Room) -> Served | None:
        """What a peer gives; None where that is not what was asked for."""
        sources = wanted.ask.sources
        try:
            served = await self._ask(peer, wanted, room)
        except trio.TooSlowError:
            fault = "tensors of a check at a drip"
        except PrsmError as error:
            log.debug("no inputs of %s: %s", peer, error)
            return None
        else:
            if wanted.is_right(served):
                sources.prefer(peer)
                return served
            fault = "tensors nobody signed"
        sources.blame(peer)
        self.network.penalise(peer, RemoteError(fault, peer=peer, penalty=20))
        return None

    async def _ask(self, peer: PeerId, wanted: _Wanted, room: _Room) -> Served:
        try:
            with trio.fail_after(CHUNK_S):
                first, data = await self._chunk(peer, wanted.ask, 0)
        except trio.TooSlowError:
            wanted.ask.sources.defer(peer)
            raise PeerUnreachable(f"no first chunk in {CHUNK_S:.0f} s") from None
        assembly = wanted.begin(first)
        async with room.of(assembly.size):
            tensors = assembly.add(0, data)
            with trio.fail_after(CHUNK_S + assembly.size / BYTES_PER_S_MIN):
                for chunk in range(1, first.chunks):
                    _, data = await self._chunk(peer, wanted.ask, chunk)
                    tensors = assembly.add(chunk, data)
            assert tensors is not None
            return Served(tensors, first.feed)

    async def _chunk(self, peer: PeerId, asked: Ask, chunk: int) -> tuple[InputChunk, bytes]:
        place = asked.place
        unsigned = AskInputs(
            job=place.job,
            unit=place.unit,
            batch=place.batch,
            chunk=chunk,
            side=place.side,
            worker=place.worker,
            asker=asked.by.public_key,
            signature=NO_FEED,
        )
        statement = ask_inputs_statement(
            unsigned, chain_id=self.chain.chain_id, asker_peer=self.network.peer_id
        )
        ask = msgspec.structs.replace(unsigned, signature=asked.by.sign(statement))
        answer, data = await self.network.call(peer, ask, channel=Channel.BULK)
        if not isinstance(answer, InputChunk) or answer.chunk != chunk:
            raise WireError(f"{type(answer).__name__} is not that chunk", peer=peer)
        return answer, data
