"""Bodies of blocks that the replica lacks, from whoever it names: a view does not wait for long.

Knows: what is asked of whom. Must not know: heights, claims, why a body is wanted.

Invariants: one call for a body at a time to a peer; who is silent holds up neither the next peer
nor the next order, which comes again and again while the body is missing: of too many calls the
oldest is given up; what a peer sends is what its hash says, header and body, or it is banned.
Source: docs/spec/wire.md, "Catching up".
"""

from collections.abc import Callable
from typing import Final, final

import trio

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Fetched
from prsm.node.net.interface import Channel, Network
from prsm.node.telemetry import logs
from prsm.protocol.errors import PrsmError, WireError
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import GetBlockByHash, GotBlock

log = logs.get("sync")

SILENCE_SECONDS: Final = 0.25  # after which the next peer is asked too
CALL_SECONDS: Final = 5.0
ORDERS_MAX: Final = 4  # at once
CALLS_MAX: Final = 64  # without an answer

_Call = tuple[PeerId, GetBlockByHash]


@final
class Bodies:
    """Asks for bodies by hash.

    Args:
        network: of the peers.
        deliver: takes what came, once for an order.
    """

    def __init__(self, network: Network, deliver: Callable[[Fetched], None]) -> None:
        self._network, self._deliver = network, deliver
        self._open: set[Fetch] = set()
        self._calls: dict[_Call, trio.CancelScope] = {}
        self._in, self._out = trio.open_memory_channel[Fetch](8)

    def order(self, fetch: Fetch) -> None:
        """Ask for a body; at once, or with the next order if too much is asked for already."""
        try:
            self._in.send_nowait(fetch)
        except trio.WouldBlock:
            log.debug("body fetch dropped; retransmission asks again")

    async def run(self) -> None:
        """Ask until cancelled."""
        self._open.clear()  # of a life before a crash
        self._calls.clear()
        async with trio.open_nursery() as nursery:
            async for fetch in self._out:
                if fetch not in self._open and len(self._open) < ORDERS_MAX:
                    self._open.add(fetch)
                    nursery.start_soon(self._seek, fetch, nursery)

    async def _seek(self, fetch: Fetch, calls: trio.Nursery) -> None:
        """Ask in turn whoever is not silent already, the next one also while one is silent."""
        assert fetch.block_hash is not None
        ask = GetBlockByHash(height=fetch.first, block_hash=fetch.block_hash)
        for peer in map(PeerId, fetch.peers):
            if (peer, ask) in self._calls:
                continue
            if len(self._calls) >= CALLS_MAX:
                self._calls.pop(next(iter(self._calls))).cancel()
            answered, scope = trio.Event(), trio.CancelScope()
            self._calls[peer, ask] = scope
            calls.start_soon(self._call, peer, ask, answered, scope)
            with trio.move_on_after(SILENCE_SECONDS):
                await answered.wait()
            if fetch not in self._open:
                return  # the body is here
        self._open.discard(fetch)

    async def _call(
        self, peer: PeerId, ask: GetBlockByHash, answered: trio.Event, scope: trio.CancelScope
    ) -> None:
        block = None
        with scope:
            block = await self._ask(peer, ask)
        if self._calls.get((peer, ask)) is scope:
            del self._calls[peer, ask]
        answered.set()
        if block is None:
            return
        self._deliver(Fetched(block))
        self._open = {each for each in self._open if each.block_hash != ask.block_hash}
        for (_, other), pending in self._calls.items():
            if other == ask:
                pending.cancel()

    async def _ask(self, peer: PeerId, ask: GetBlockByHash) -> Block | None:
        try:
            with trio.fail_after(CALL_SECONDS):
                answer, _ = await self._network.call(peer, ask, channel=Channel.BULK)
        except (trio.TooSlowError, PrsmError):
            return None
        if not isinstance(answer, GotBlock):
            what = f"{type(answer).__name__} is no answer to what was asked"
            self._network.penalise(peer, WireError(what))
            return None
        block = answer.block
        if block is not None and not (
            block_hash(block.header) == ask.block_hash and is_bound(block)
        ):
            # Passed on, the true header over another body would end the search for the right one.
            what = f"the block it sent for {ask.block_hash.hex()[:16]} is another one"
            self._network.penalise(peer, WireError(what, penalty=100))
            return None
        return block
