"""Who could work for us: the answer about ourselves, and the round of questions to our peers.

An answer is signed by the payment key it names and bound to the peer that gave it, so nobody is
paid, or blamed, for another's work. Must not know jobs.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from prsm.node.inference.interface import Chain, Models
from prsm.node.inference.wishes import WorkerOffer
from prsm.node.net.interface import Answer, Channel, Incoming, Network
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import BadSignature, PrsmError, RemoteError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.work import (
    CAPACITY_CLASSES_MAX,
    CAPACITY_MODELS_MAX,
    AskCapacity,
    Capacity,
    ShardClass,
    StageTime,
    capacity_statement,
)

ANSWER_S: Final = 3.0  # a round trip takes 1 ms; a peer that needs longer is not waited for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What this node offers now."""

    price_per_row: int  # micro-FTNS for a row of one stage
    runtime: str  # of the runner; empty while it is away
    slots_free: int  # units that would be accepted
    classes: tuple[ShardClass, ...]  # of the loaded shards
    memory_bytes: int = 0  # one child may take; 0: not said
    waiting_ms: int = 0  # work that waits here
    times: tuple[StageTime, ...] = ()  # measured, by shard


class CapacityDesk:
    """Answers `AskCapacity` for this node."""

    def __init__(
        self, network: Network, chain: Chain, models: Models, *, standing: Callable[[], Standing]
    ) -> None:
        self._network, self._chain, self._models = network, chain, models
        self._standing = standing
        network.on_call(AskCapacity, self._answer)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        assert isinstance(ask, AskCapacity)
        now = self._standing()
        unsigned = Capacity(
            worker=self._chain.address,
            price_per_row=now.price_per_row,
            slots_free=now.slots_free if now.runtime else 0,
            runtime=now.runtime,
            models=self._models.held()[:CAPACITY_MODELS_MAX],
            classes=now.classes[:CAPACITY_CLASSES_MAX],
            memory_bytes=now.memory_bytes,
            waiting_ms=now.waiting_ms,
            times=now.times[:CAPACITY_CLASSES_MAX],
            signature=bytes(64),
        )
        statement = capacity_statement(
            unsigned, chain_id=self._chain.chain_id, peer=self._network.peer_id, nonce=ask.nonce
        )
        signature = self._chain.signer.sign(statement)
        return msgspec.structs.replace(unsigned, signature=signature), b""


async def ask_peer(network: Network, chain: Chain, verifier: Verifier, peer: PeerId) -> Capacity:
    """Ask one peer; the caller sets the deadline.

    Raises:
        PeerUnreachable: it is not connected.
        CallRefused: it does not work for others.
        RemoteError: an answer of another kind, or one its account did not sign.
    """
    nonce = secrets.token_bytes(16)
    answer, _ = await network.call(peer, AskCapacity(nonce), channel=Channel.CTL)
    if not isinstance(answer, Capacity):
        raise WireError(f"{type(answer).__name__} is no capacity", peer=peer)
    statement = capacity_statement(answer, chain_id=chain.chain_id, peer=peer, nonce=nonce)
    if not verifier.verify(answer.worker, statement, answer.signature):
        raise BadSignature("a capacity its account did not sign", peer=peer, penalty=50)
    return answer


def offer_of(answer: Capacity, peer: PeerId, rtt_ms: float | None) -> WorkerOffer:
    """A capacity as an offer of that peer."""
    return WorkerOffer(
        worker=answer.worker,
        peer=peer,
        price_per_row=answer.price_per_row,
        slots_free=answer.slots_free,
        runtime=answer.runtime,
        models=frozenset(answer.models),
        memory_bytes=answer.memory_bytes,
        waiting_ms=answer.waiting_ms,
        row_ms={(t.model, t.stages, t.stage): t.row_us / 1000 for t in answer.times},
        classes={(c.model, c.stages, c.stage): c.class_id for c in answer.classes},
        rtt_ms=rtt_ms,
    )


async def ask_all(network: Network, chain: Chain, verifier: Verifier) -> tuple[WorkerOffer, ...]:
    """Ask all live peers at once; those that do not answer in time are left out.

    Our own account is never an offer, and of two peers with one account the first stays.
    """
    found: dict[bytes, WorkerOffer] = {}
    rtts = {info.peer: info.rtt_ms for info in network.peers()}

    async def ask(peer: PeerId) -> None:
        try:
            answer = await ask_peer(network, chain, verifier, peer)
        except RemoteError as error:
            log.debug("no capacity of %s: %s", peer, error.what)
            if error.penalty:
                network.penalise(peer, error)
            return
        except PrsmError as error:
            log.debug("no capacity of %s: %s", peer, error.what)
            return
        if answer.worker != chain.address:
            found.setdefault(answer.worker, offer_of(answer, peer, rtts.get(peer)))

    with trio.move_on_after(ANSWER_S):
        async with trio.open_nursery() as nursery:
            for info in network.peers():
                nursery.start_soon(ask, info.peer)
    return tuple(sorted(found.values(), key=lambda offer: offer.worker))
