"""How quick the way to a peer is: one chunk there and back, beside the round trip of nothing.

A peer answers one probe in ten seconds; who measured keeps the figure for longer. Must not know
jobs. Source: docs/spec/work.md, "Planning".
"""

import logging
from collections.abc import Iterable
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.inference.gauges import Gauges
from prsm.node.net.interface import Answer, Busy, Channel, Incoming, Network
from prsm.protocol.errors import PrsmError, WireError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.quotes import PROBE_BYTES_MAX, Probe, Probed

PAUSE_MS: Final = 10_000
PROBE_S: Final = 3.0  # 512 KiB at 1.5 Mbit/s; a slower link is no link for tensors
PEERS_MAX: Final = 1_024

log = logging.getLogger(__name__)


class ProbeDesk:
    """Answers `Probe`: the tail goes back."""

    def __init__(self, network: Network, clock: Clock) -> None:
        self._clock = clock
        self._last_ms: dict[PeerId, int] = {}
        network.on_call(Probe, self._answer)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask, peer = incoming.message, incoming.peer
        assert isinstance(ask, Probe)
        if len(incoming.tail) != ask.count:
            raise WireError(f"a tail of {len(incoming.tail)} bytes, {ask.count} were said")
        now_ms = self._clock.monotonic_ms()
        due_ms = self._last_ms.pop(peer, now_ms - PAUSE_MS) + PAUSE_MS
        while len(self._last_ms) >= PEERS_MAX:
            del self._last_ms[next(iter(self._last_ms))]
        if now_ms < due_ms:
            self._last_ms[peer] = due_ms - PAUSE_MS
            raise Busy(f"one probe in {PAUSE_MS} ms", retry_after_ms=due_ms - now_ms)
        self._last_ms[peer] = now_ms
        return Probed(ask.count), incoming.tail


async def probe_peers(
    network: Network, clock: Clock, gauges: Gauges, peers: Iterable[PeerId]
) -> None:
    """Measure the ways to peers whose rate is not known; those that do not answer stay unknown.

    One after the other: side by side they would share our own link.
    """
    rtts = {info.peer: info.rtt_ms for info in network.peers()}
    tail = bytes(PROBE_BYTES_MAX)
    with trio.move_on_after(PROBE_S):
        for peer in peers:
            if gauges.bytes_per_s(peer) is not None:
                continue
            began_ms = clock.monotonic_ms()
            try:
                answer, back = await network.call(
                    peer, Probe(len(tail)), channel=Channel.BULK, tail=tail
                )
            except PrsmError as error:
                log.debug("%s is not measured: %s", peer, error.what)
                continue
            if isinstance(answer, Probed) and len(back) == len(tail):
                spent_ms = clock.monotonic_ms() - began_ms - (rtts.get(peer) or 0)
                gauges.note_bytes(peer, 2 * len(tail), max(1, spent_ms))
