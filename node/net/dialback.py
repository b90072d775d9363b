"""Whether this node can be dialled: told by peers that see it, and by peers that try.

Knows which peers to ask, when, and whom to dial back for. Must not know how places at relays are
kept (`behind`); it only says that they are needed. A dial back goes to nobody but the caller, at
no ip but the one its connection comes from, seldom: it cannot be turned against others.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.net.interface import (
    Answer,
    Busy,
    CallRefused,
    Channel,
    Incoming,
    Network,
    PeerEvent,
    PeerInfo,
    PeerUnreachable,
)
from prsm.node.net.places import Place, Scope, place_of
from prsm.node.net.scores import TokenBucket
from prsm.node.net.sightings import Sightings, Verdict
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.identity import is_circuit, parse_address, parse_listen
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.reach import DialBack, DialledBack, Seen

ASK_DEADLINE_S: Final = 12.0  # the other side dials for 5 s, and may be busy
ASKED_AT_ONCE: Final = 3
LOOK_S: Final = 5.0
ASK_AGAIN_MS: Final = 10 * 60_000
ASK_SOON_MS: Final = 60_000  # while nothing is known, or nobody gets through
DIALS_PER_S: Final = 1  # for all callers together
DIALS_BURST: Final = 8
DIAL_PAUSE_MS: Final = 10_000  # between two for one caller
CALLERS_MAX: Final = 512

log = logging.getLogger(__name__)


class DialRefused(LocalError):
    """A dial back was asked for that this node does not make."""

    reason = "dial_refused"


@dataclass(frozen=True, slots=True)
class ReachInfo:
    """What is known of this node's being reached.

    Attributes:
        verdict: what enough groups of peers agree on.
        ip: where enough groups see it; None: not known.
        seen: ip -> groups that see it there.
        dialled: verdict -> groups that came to it.
    """

    verdict: Verdict
    ip: str | None
    seen: dict[str, int]
    dialled: dict[str, int]


class DialBacks:
    """Tells peers where they are seen, dials them back, and asks them to do the same.

    Args:
        network: not running yet.
        probe: dials an address and has the peer prove who it is.
        listening: ports this node listens on, as `/ip4/…/tcp/…` texts with or without /p2p/.
        need: told whether nobody can dial this node.
        now_ms: monotonic clock of the node.
    """

    def __init__(
        self,
        network: Network,
        *,
        probe: Callable[[str], Awaitable[PeerId]],
        listening: Callable[[], Sequence[str]],
        need: Callable[[bool], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._network = network
        self._probe = probe
        self._listening = listening
        self._need = need
        self._now_ms = now_ms
        self._sightings = Sightings()
        self._seen_by: dict[PeerId, str] = {}  # at which ip a linked peer sees us
        self._bucket = TokenBucket(rate_per_s=DIALS_PER_S, burst=DIALS_BURST, now_ms=now_ms())
        self._paused_ms: dict[PeerId, int] = {}  # linked peers that gave no answer
        self._dialled_ms: dict[PeerId, int] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._asked_ms = now_ms()  # when somebody was asked last
        network.on_message(Seen, self._on_seen)
        network.on_call(DialBack, self._on_dial_back)
        network.on_peer(self._on_peer)

    def info(self) -> ReachInfo:
        """What is known now."""
        now_ms = self._now_ms()
        seen, dialled = self._sightings.voices(now_ms=now_ms)
        ip = self._sightings.ip(now_ms=now_ms)
        return ReachInfo(self.verdict(), ip, dict(seen), dict(dialled))

    def verdict(self) -> Verdict:
        """Can others dial this node? Not when it listens nowhere."""
        if not self._listening():
            return Verdict.UNREACHABLE
        return self._sightings.verdict(now_ms=self._now_ms())

    def addresses(self) -> tuple[str, ...]:
        """Where it was found to be reachable, beside the addresses it was told to listen on."""
        ip = self._sightings.ip(now_ms=self._now_ms())
        if ip is None or self.verdict() is not Verdict.REACHABLE:
            return ()
        listening = set(self._listening())
        return tuple(address for address in self._at(ip) if address not in listening)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask, as long as there is something to find out, until cancelled."""
        task_status.started()
        while True:
            asked = self._due()
            async with trio.open_nursery() as nursery:
                for info in asked:
                    nursery.start_soon(self._ask, info)
            self._need(self.verdict() is Verdict.UNREACHABLE)
            with trio.move_on_after(LOOK_S):
                await self._changed.park()

    # -- asking

    def _due(self) -> list[PeerInfo]:
        """Peers to be asked now: linked directly, of groups that did not answer lately."""
        if not self._listening():
            return []
        now_ms = self._now_ms()
        again_ms = ASK_AGAIN_MS if self.verdict() is Verdict.REACHABLE else ASK_SOON_MS
        # Each dial back is a handshake for both sides: who is known to be reachable asks a few
        # now and then, not every peer of a network that has just started.
        if again_ms == ASK_AGAIN_MS and now_ms - self._asked_ms < ASK_AGAIN_MS:
            return []
        due: dict[str, PeerInfo] = {}
        for info, group in self._voices():
            if info.peer not in self._seen_by or self._paused_ms.get(info.peer, 0) > now_ms:
                continue
            last_ms = self._sightings.asked_ms(group)
            if last_ms is None or now_ms - last_ms >= again_ms:
                due.setdefault(group, info)
        if due:
            self._asked_ms = now_ms
        return list(due.values())[:ASKED_AT_ONCE]

    def _voices(self) -> list[tuple[PeerInfo, str]]:
        """Peers whose word counts, with their groups: of the widest scope there is.

        A neighbour in the same private network can dial a node that nobody else can.
        """
        places = [
            (info, place)
            for info in self._network.peers()
            if not is_circuit(info.address) and (place := _place(info))
        ]
        widest = max((place.scope for _, place in places), default=Scope.LOOPBACK)
        return [(info, place.group) for info, place in places if place.scope == widest]

    async def _ask(self, info: PeerInfo) -> None:
        ip = self._seen_by.get(info.peer)
        ours = [] if ip is None else self._at(ip)
        if not ours:
            return
        ask = DialBack(address=ours[0])
        group = place_of(info.address).group
        try:
            with trio.fail_after(ASK_DEADLINE_S):
                answer, _ = await self._network.call(info.peer, ask, channel=Channel.CTL)
        except (trio.TooSlowError, PeerUnreachable, CallRefused) as error:
            log.debug("peer %s does not dial back: %s", info.peer, error)
            self._paused_ms[info.peer] = self._now_ms() + ASK_SOON_MS
            return
        if isinstance(answer, DialledBack):
            log.debug("peer %s dialled back: %s %s", info.peer, answer.reached, answer.why)
            self._sightings.dialled(group, reached=answer.reached, now_ms=self._now_ms())

    def _at(self, ip: str) -> list[str]:
        """Where a dial to an ip of ours would find what is listened on; `::` takes both kinds."""
        family = "ip6" if ":" in ip else "ip4"
        ways = [address.split("/") for address in sorted(self._listening())]
        ports = [way[4] for way in ways if way[1] == family or way[2] == "::"]
        us = self._network.peer_id
        return [f"/{family}/{ip}/tcp/{port}/p2p/{us}" for port in dict.fromkeys(ports)]

    # -- answering

    def _on_peer(self, event: PeerEvent) -> None:
        self._seen_by.pop(event.peer, None)
        self._paused_ms.pop(event.peer, None)
        if not event.up:
            return
        info = self._find(event.peer)
        if info is None or info.outbound or is_circuit(info.address):
            return
        for voice, group in self._voices():
            if voice.peer == event.peer:  # it has just shown that this node can be dialled
                self._sightings.dialled(group, reached=True, now_ms=self._now_ms())
        where = parse_address(info.address)
        self._network.send_nowait(event.peer, Seen(address=where.transport), channel=Channel.CTL)

    def _on_seen(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Seen)
        info = self._find(incoming.peer)
        if info is None or is_circuit(info.address) or not info.outbound:
            return
        try:
            ip, _ = parse_listen(incoming.message.address)
        except LocalError as error:
            raise RemoteError(f"seen at {error.what}", peer=incoming.peer, penalty=10) from error
        place = _place(info)
        if place is None or (self._listening() and not self._at(ip)):
            return  # of our way out alone
        self._seen_by[incoming.peer] = ip
        self._sightings.saw(place.group, ip, now_ms=self._now_ms())
        self._changed.unpark_all()

    async def _on_dial_back(self, incoming: Incoming) -> Answer:
        assert isinstance(incoming.message, DialBack)
        await trio.lowlevel.checkpoint()
        address = incoming.message.address
        self._refuse_foreign(incoming.peer, address)
        self._refuse_often(incoming.peer)
        try:
            await self._probe(address)
        except PeerUnreachable as error:
            return DialledBack(reached=False, why=error.what[:200]), b""
        return DialledBack(reached=True, why=""), b""

    def _refuse_foreign(self, caller: PeerId, address: str) -> None:
        """Let nobody make this node dial somebody else.

        Raises:
            DialRefused: through a relay, another peer, or another ip than the caller's.
        """
        info = self._find(caller)
        if info is None or is_circuit(info.address):
            raise DialRefused("only for peers that are linked directly")
        try:
            asked = parse_address(address)
        except LocalError as error:
            raise DialRefused(error.what) from error
        seen = parse_address(info.address)
        if asked.peer != caller or asked.ip != seen.ip or not asked.port:
            raise DialRefused(f"{address[:120]} is not where {caller} is seen, {seen.ip}")

    def _refuse_often(self, caller: PeerId) -> None:
        now_ms = self._now_ms()
        last_ms = self._dialled_ms.get(caller)
        if last_ms is not None and now_ms - last_ms < DIAL_PAUSE_MS:
            raise Busy("dialled back lately", retry_after_ms=DIAL_PAUSE_MS - (now_ms - last_ms))
        if not self._bucket.take(now_ms=now_ms):
            raise Busy("too many dials back for others", retry_after_ms=1000 // DIALS_PER_S)
        self._dialled_ms.pop(caller, None)
        self._dialled_ms[caller] = now_ms
        if len(self._dialled_ms) > CALLERS_MAX:
            del self._dialled_ms[next(iter(self._dialled_ms))]

    def _find(self, peer: PeerId) -> PeerInfo | None:
        return next((info for info in self._network.peers() if info.peer == peer), None)


def _place(info: PeerInfo) -> Place | None:
    """Where a linked peer is; None where nobody can be dialled, such as in a reserved range."""
    try:
        return place_of(info.address)
    except LocalError:
        return None
