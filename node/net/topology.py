"""The whole network from one node: every node tells its own links, this one asks and adds up.

Knows how to ask, and what was heard lately. Must not know what people make of it. Peers are asked
directly; nodes that are not linked here are asked through a peer that names them, one step and no
further. Nothing of it is trusted: a view says what a node claims of its own links.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.net.interface import (
    Answer,
    CallRefused,
    Channel,
    Incoming,
    Network,
    PeerEvent,
    PeerInfo,
    PeerUnreachable,
)
from prsm.node.net.links import RoundTrips, cleaned
from prsm.protocol.errors import LocalError
from prsm.protocol.identity import is_circuit
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LINKS_TOLD_MAX
from prsm.protocol.messages.reach import GetView, LinkSeen, ViewTold

SAMPLE_S: Final = 30.0  # as round trips are measured (node/net/calls)
ASK_DEADLINE_S: Final = 3.0
ASK_FOR_OTHERS_S: Final = 2.0
ASKED_AT_ONCE: Final = 16
NODES_MAX: Final = 512
FRESH_MS: Final = 10_000  # a view younger than that is not asked for again for somebody else

log = logging.getLogger(__name__)


class UnknownNode(LocalError):
    """A view was asked for of a node that is not linked here."""

    reason = "unknown_node"


@dataclass(frozen=True, slots=True)
class Heard:
    """One node of the network as this one heard of it.

    Attributes:
        peer: which node.
        view: its own links as it tells them; None: it did not answer.
        via: who passed it on; None: itself.
        why: it did not answer.
    """

    peer: PeerId
    view: ViewTold | None
    via: PeerId | None = None
    why: str = ""


class Topology:
    """This node's view, and those of others.

    Args:
        network: not running yet.
        region: label of this node.
        now_ms: monotonic clock of the node.
    """

    def __init__(self, network: Network, *, region: str, now_ms: Callable[[], int]) -> None:
        self._network = network
        self._region = region
        self._now_ms = now_ms
        self._trips = RoundTrips()
        self._views: dict[PeerId, tuple[ViewTold, int]] = {}  # of linked peers, and when
        network.on_call(GetView, self._on_get)
        network.on_peer(self._on_peer)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note round trips until cancelled."""
        task_status.started()
        while True:
            infos = self._network.peers()
            for info in infos:
                if info.rtt_ms is not None:
                    self._trips.note(info.peer, info.rtt_ms)
            self._trips.keep([info.peer for info in infos])
            await trio.sleep(SAMPLE_S)

    def rtt_ms(self, peer: PeerId) -> int | None:
        """Median round trip to a linked peer; None: not measured yet."""
        rtt_ms, samples = self._trips.median(peer)
        return rtt_ms if samples else None

    def own(self) -> ViewTold:
        """This node's links."""
        links = tuple(self._seen(info) for info in self._network.peers()[:LINKS_TOLD_MAX])
        return ViewTold(region=self._region, age_ms=0, links=links)

    async def gather(self) -> tuple[Heard, ...]:
        """Ask everybody for its links, at most `NODES_MAX` nodes, in some seconds.

        Returns:
            Every node that answers or is named by one that does, in order of the ids.
        """
        heard = {self._network.peer_id: Heard(self._network.peer_id, self.own())}
        linked = [info.peer for info in self._network.peers()]
        await self._ask_all(heard, [(peer, None) for peer in linked])
        await self._ask_all(heard, _unasked(heard, by_linked=True))
        for peer, via in _unasked(heard, by_linked=False):
            heard[peer] = Heard(peer, None, via, "farther away than one step")
        return tuple(heard[peer] for peer in sorted(heard))

    async def _ask_all(
        self, heard: dict[PeerId, Heard], peers: list[tuple[PeerId, PeerId | None]]
    ) -> None:
        room = trio.Semaphore(ASKED_AT_ONCE)

        async def ask(peer: PeerId, via: PeerId | None) -> None:
            async with room:
                heard[peer] = await self._ask(peer, via)

        async with trio.open_nursery() as nursery:
            for peer, via in peers:
                nursery.start_soon(ask, peer, via)

    async def _ask(self, peer: PeerId, via: PeerId | None) -> Heard:
        ask = GetView(of=peer if via else "")
        try:
            with trio.fail_after(ASK_DEADLINE_S):
                answer, _ = await self._network.call(via or peer, ask, channel=Channel.CTL)
        except trio.TooSlowError:
            return Heard(peer, None, via, f"no answer in {ASK_DEADLINE_S:g} s")
        except (PeerUnreachable, CallRefused) as error:
            return Heard(peer, None, via, error.what)
        if not isinstance(answer, ViewTold):
            return Heard(peer, None, via, "an answer of another kind")
        view = cleaned(answer, peer)
        if via is None:
            self._views[peer] = (view, self._now_ms())
        return Heard(peer, view, via)

    async def _on_get(self, incoming: Incoming) -> Answer:
        assert isinstance(incoming.message, GetView)
        await trio.lowlevel.checkpoint()
        of = PeerId(incoming.message.of)
        if of in ("", self._network.peer_id):
            return self.own(), b""
        if not any(info.peer == of for info in self._network.peers()):
            raise UnknownNode(f"{of} is not linked here")
        view, at_ms = self._views.get(of, (None, 0))
        if view is None or self._now_ms() - at_ms > FRESH_MS:
            with trio.move_on_after(ASK_FOR_OTHERS_S):
                await self._ask(of, None)
            view, at_ms = self._views.get(of, (None, 0))
        if view is None:
            raise UnknownNode(f"{of} does not tell its links")
        age_ms = view.age_ms + max(0, self._now_ms() - at_ms)
        return ViewTold(region=view.region, age_ms=age_ms, links=view.links), b""

    def _on_peer(self, event: PeerEvent) -> None:
        if not event.up:
            self._views.pop(event.peer, None)

    def _seen(self, info: PeerInfo) -> LinkSeen:
        rtt_ms, samples = self._trips.median(info.peer)
        if not samples and info.rtt_ms is not None:
            rtt_ms, samples = info.rtt_ms, 1
        return LinkSeen(
            peer=info.peer,
            outbound=info.outbound,
            relayed=is_circuit(info.address),
            rtt_ms=rtt_ms,
            samples=samples,
        )


def _unasked(heard: dict[PeerId, Heard], *, by_linked: bool) -> list[tuple[PeerId, PeerId | None]]:
    """Nodes that are only named, each with one that names it: a linked one, or any."""
    found: dict[PeerId, PeerId | None] = {}
    for teller in sorted(heard):
        known = heard[teller]
        if known.view is None or (by_linked and known.via is not None):
            continue
        for link in known.view.links:
            if PeerId(link.peer) not in heard:
                found.setdefault(PeerId(link.peer), teller)
    return list(found.items())[: max(0, NODES_MAX - len(heard))]
