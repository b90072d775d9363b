"""Asking for what a batch is checked by, and answering those whom the ledger drew to check it.

What is answered is worth nothing by itself: inputs must have the roots that the requester signed,
outputs those that the worker did. Must not know why something is checked. Source:
docs/spec/work.md, "Audits".
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.evidence import Evidence, Place
from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.interface import Chain, NotNamed, UnknownJob
from prsm.node.inference.transfer import Assembly, check_heads, row_axes
from prsm.node.net.interface import Answer, Channel, Incoming, Network
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import BadSignature, LocalError, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId, Signature
from prsm.protocol.messages.audit import (
    AskBatches,
    AskInputs,
    BatchList,
    InputChunk,
    Side,
    ask_batches_statement,
    ask_inputs_statement,
)
from prsm.protocol.messages.models import Shard
from prsm.protocol.tensors import Tensor

CHUNK_S: Final = 10.0

log = logging.getLogger(__name__)


MaySee = Callable[[bytes, bytes, int, bytes], bool]  # asker, job, unit, worker


class Unserved(LocalError):
    """Nobody who is live gave what a check needs."""

    reason = "unserved"


class Witness:
    """Answers `AskInputs` and `AskBatches` out of what this node keeps."""

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
        network.on_call(AskBatches, self._list)

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

    async def _list(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        assert isinstance(ask, AskBatches)
        self._check(
            ask,
            ask_batches_statement(ask, chain_id=self._chain.chain_id, asker_peer=incoming.peer),
            peer=incoming.peer,
        )
        found = await self._evidence.batches(ask.job, ask.unit, ask.worker)
        if not found:
            raise UnknownJob("nothing of that unit is kept here")
        return BatchList(found), b""

    def _check(self, ask: AskInputs | AskBatches, statement: bytes, *, peer: PeerId) -> None:
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


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for, and the key that was drawn to ask."""

    place: Place
    by: Signer


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Asks requester and worker for what a check needs."""

    network: Network
    chain: Chain
    verifier: Verifier

    async def fetch(self, ask: Ask, shard: Shard, rows: int | None, *, is_right: Check) -> Served:
        """Get one side of a batch: from the worker, else from any peer, as the requester is one.

        Args:
            ask: what, and by whom.
            shard: whose io table the tensors must have.
            rows: of the batch, as locked; None where fewer may have been fed.
            is_right: looks at the roots.

        Raises:
            Unserved: nobody gave it.
        """
        place = ask.place
        for peer in await self._peers(place.worker):
            try:
                served = await self._ask(peer, ask, shard, rows)
            except (trio.TooSlowError, PrsmError) as error:
                log.debug("no inputs of %s: %s", peer, error)
                continue
            if is_right(served):
                return served
            wrong = RemoteError("tensors nobody signed", peer=peer, penalty=20)
            self.network.penalise(peer, wrong)
        raise Unserved(f"nobody serves batch {place.batch} of unit {place.unit}")

    async def batches(self, job: bytes, unit: int, worker: bytes, *, by: Signer) -> tuple[int, ...]:
        """Which batches of a unit its worker did: the requester's word, else the worker's own.

        A worker could name others than it did, and so choose which one is looked at.

        Raises:
            Unserved: nobody says.
        """
        unsigned = AskBatches(job, unit, worker, by.public_key, NO_FEED)
        statement = ask_batches_statement(
            unsigned, chain_id=self.chain.chain_id, asker_peer=self.network.peer_id
        )
        ask = msgspec.structs.replace(unsigned, signature=by.sign(statement))
        for peer in reversed(await self._peers(worker)):
            try:
                with trio.fail_after(CHUNK_S):
                    answer, _ = await self.network.call(peer, ask, channel=Channel.BULK)
            except (trio.TooSlowError, PrsmError) as error:
                log.debug("no batches of %s: %s", peer, error)
                continue
            if isinstance(answer, BatchList) and answer.batches:
                return answer.batches
        raise Unserved(f"nobody says which batches of unit {unit} were done")

    async def _peers(self, worker: bytes) -> Sequence[PeerId]:
        offers = await ask_all(self.network, self.chain, self.verifier)
        first = [offer.peer for offer in offers if offer.worker == worker]
        return (*first, *(info.peer for info in self.network.peers() if info.peer not in first))

    async def _ask(self, peer: PeerId, ask: Ask, shard: Shard, rows: int | None) -> Served:
        first, data = await self._chunk(peer, ask, 0)
        specs = shard.inputs if ask.place.side is Side.IN else shard.outputs
        check_heads(first.tensors, specs, axes={} if rows is None else row_axes(specs, rows))
        assembly = Assembly(first.tensors, first.chunks)
        tensors = assembly.add(0, data)
        for chunk in range(1, first.chunks):
            _, data = await self._chunk(peer, ask, chunk)
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
        with trio.fail_after(CHUNK_S):
            answer, data = await self.network.call(peer, ask, channel=Channel.BULK)
        if not isinstance(answer, InputChunk) or answer.chunk != chunk:
            raise WireError(f"{type(answer).__name__} is not that chunk", peer=peer)
        return answer, data
