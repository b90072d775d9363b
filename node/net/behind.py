"""Being reached, and reaching others, through relays: places kept, circuits taken and opened.

Knows which relays keep a place for this node, and how a circuit becomes a connection. Must not
know how a transport secures it (it does: the identity of the other end is proved over the circuit,
so a relay can neither read nor pretend), nor when a place is wanted (`node/net/reach`).
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from prsm.node.net.circuit import CircuitAbused, Circuits, Hop
from prsm.node.net.entry import NotAllowed, PeerFull
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
from prsm.node.net.keepers import VIA
from prsm.node.net.peers import Connection
from prsm.node.net.redials import REFUSED_S
from prsm.node.net.streams import Duplex
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.identity import circuit_address, is_circuit, parse_address, parse_circuit
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.reach import Granted, OpenCircuit, Reserve, TakeCircuit

CALL_DEADLINE_S: Final = 4.0  # a relay gives the other end 3 s; a dial has 5 s in all
UPGRADE_DEADLINE_S: Final = 5.0
CIRCUITS_TAKEN_MAX: Final = 32  # of one relay: each costs a handshake
PLACES_WANTED: Final = 2  # so that the loss of one relay is no silence
LOOK_S: Final = 1.0
REFUSED_FOR_MS: Final = 10 * 60_000  # a peer that is no relay is not asked again for so long
FAILED_FOR_MS: Final = 5_000
TURNED_AWAY_S: Final = 30.0  # such a dial costs a relay a handshake, of each node that wants it
LIFETIME_MS_MIN: Final = 10_000  # less is no place: renewing it would be a flood
LIFETIME_MS_MAX: Final = 24 * 3600_000
RELAYS_DIALLED_MAX: Final = 16  # for the sake of peers behind them, at once

HINT: Final = "relay"  # whose hints these are

log = logging.getLogger(__name__)


class RelayLied(RemoteError):
    """A relay named another peer than the one that was behind its circuit."""

    reason = "relay_lied"


class Line(Duplex, Protocol):
    """A byte stream that can be ended."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        ...

    @property
    def unread_bytes(self) -> int:
        """Sent, and not told to be read by the neighbour; 0 when it has ended."""
        ...

    async def wait_moved(self) -> None:
        """Wait until something was sent, or read there, or it has ended."""
        ...

    async def close(self, why: str) -> None:
        """End it; never raises."""
        ...


class Carrier(Protocol):
    """What a transport does with a circuit: the handshake and the streams of a connection."""

    async def carry_out(self, peer: PeerId, line: Line, address: str) -> Connection:
        """Become the dialling end of a connection.

        Raises:
            PeerUnreachable: the other end is not that peer, or gone.
        """
        ...

    async def carry_in(self, line: Line, relay: str) -> PeerId:
        """Become the dialled end of a connection, which is then served; who the dialler is.

        Raises:
            PeerUnreachable: the other end proved nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class HeldPlace:
    """A place a relay keeps for this node."""

    relay: PeerId
    address: str  # where others dial this node through it
    until_ms: int
    renew_at_ms: int
    bytes_per_s: int


class Behind:
    """This node's places at relays, and its ways through them.

    Args:
        network: not running yet.
        circuits: all hops of this node.
        carrier: the transport.
        now_ms: monotonic clock of the node.
        via: addresses of relays where a place is always kept.
    """

    def __init__(
        self,
        network: Network,
        circuits: Circuits,
        carrier: Carrier,
        *,
        now_ms: Callable[[], int],
        via: Sequence[str] = (),
    ) -> None:
        self._is_needed = False
        self._network, self._circuits = network, circuits
        self._carrier = carrier
        self._now_ms = now_ms
        self._via = {parse_address(address).peer: address for address in via}
        self._places: dict[PeerId, HeldPlace] = {}
        self._asked: set[PeerId] = set()  # for a place, over the link of now
        self._not_before_ms: dict[PeerId, int] = {}
        self._dialled: set[PeerId] = set()  # for others' sake, and linked
        self._dialling: Counter[PeerId] = Counter()
        self._changed = trio.lowlevel.ParkingLot()  # a relay may have come
        self._nursery: trio.Nursery | None = None
        network.on_call(TakeCircuit, self._on_take)
        network.on_peer(self._on_peer)

    def need(self, *, is_needed: bool) -> None:
        """Say whether nobody can dial this node, so that it takes places wherever it can."""
        self._is_needed = is_needed
        self._changed.unpark_all()

    def places(self) -> tuple[HeldPlace, ...]:
        """The places kept for this node now."""
        now_ms = self._now_ms()
        return tuple(
            self._places[relay]
            for relay in sorted(self._places)
            if self._places[relay].until_ms > now_ms
        )

    def addresses(self) -> tuple[str, ...]:
        """Where others can dial this node through its relays."""
        return tuple(place.address for place in self.places())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep places until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for address in self._via.values():
                    nursery.start_soon(self._keep_linked, address)
                for relay in tuple(self._dialled):  # lost since a crash of this part
                    self._settle(relay)
                task_status.started()
                while True:
                    for relay, address in self._due():
                        await self._reserve(relay, address)
                    with trio.move_on_after(LOOK_S):
                        await self._changed.park()
        finally:
            self._nursery = None

    async def dial(self, peer: PeerId, address: str) -> Connection:
        """Open a connection through a relay.

        Raises:
            PeerUnreachable: no relay there, no place at it, or the other end is somebody else.
        """
        where = parse_circuit(address)
        if where.relay in (self._network.peer_id, peer):
            raise PeerUnreachable(f"{address} leads through an end of itself")
        link = await self._link(where.relay, where.relay_address)
        if is_circuit(link.address):
            raise PeerUnreachable(
                f"relay {where.relay} is itself behind a relay: a loop is refused"
            )
        if self._nursery is None:
            raise PeerUnreachable("the network is not running")
        hop = self._circuits.open(where.relay)
        self._watch(hop)
        is_open = False
        try:
            ask = OpenCircuit(circuit=hop.number, peer=peer)
            with trio.fail_after(CALL_DEADLINE_S):
                await self._network.call(where.relay, ask, channel=Channel.CTL)
            connection = await self._carrier.carry_out(peer, hop, address)
            is_open = True
        except trio.TooSlowError:
            raise PeerUnreachable(f"relay {where.relay} did not answer in time") from None
        except CallRefused as error:
            hop.end(error.what)  # the relay never took that number
            raise PeerUnreachable(f"relay {where.relay} refused: {error.what}") from error
        finally:
            if not is_open:
                with trio.move_on_after(CALL_DEADLINE_S, shield=True):
                    await hop.close("the dial failed")
        return connection

    # -- places

    async def _keep_linked(self, address: str) -> None:
        """Dial a configured relay; from the first link on the network redials by itself.

        By a wish of its own: a relay may be a bootstrap peer, too, and those are left.
        """
        while True:
            pause_s = LOOK_S
            try:
                await self._network.connect(address, hint=VIA)
            except PeerUnreachable as error:
                log.debug("relay %s does not answer: %s", address, error.what)
                if isinstance(error, PeerFull | NotAllowed):
                    pause_s = TURNED_AWAY_S
            except PrsmError as error:
                log.error("relay %s is not used: %s", address, error.what)  # noqa: TRY400 - no traceback for a person
                pause_s = REFUSED_S  # until a person does something
            else:
                return
            await trio.sleep(pause_s)

    def _due(self) -> list[tuple[PeerId, str]]:
        """Relays to be asked now, and their addresses: to renew a place, or for a missing one."""
        if not (self._via or self._is_needed or self._places):
            return []
        now_ms = self._now_ms()
        links = {
            info.peer: self._via.get(info.peer, info.address)
            for info in self._network.peers()
            if not is_circuit(info.address) and (info.outbound or info.peer in self._via)
        }
        due = [relay for relay, place in self._places.items() if place.renew_at_ms <= now_ms]
        free = [
            peer
            for peer in sorted(links)
            if peer not in self._places and self._not_before_ms.get(peer, 0) <= now_ms
        ]
        due += [peer for peer in free if peer in self._via]
        missing = PLACES_WANTED - len(self._places) if self._is_needed else 0
        due += [peer for peer in free if peer not in self._via][: max(0, missing)]
        return [(relay, links[relay]) for relay in due if relay in links]

    async def _reserve(self, relay: PeerId, address: str) -> None:
        now_ms = self._now_ms()
        self._asked.add(relay)
        try:
            with trio.fail_after(CALL_DEADLINE_S):
                answer, _ = await self._network.call(relay, Reserve(), channel=Channel.CTL)
        except (trio.TooSlowError, PeerUnreachable):
            wait_ms = FAILED_FOR_MS
        except CallRefused as error:
            log.info("relay %s gives no place: %s", relay, error.what)
            is_busy = error.refusal == Busy.reason and relay in self._via
            wait_ms = FAILED_FOR_MS if is_busy else REFUSED_FOR_MS
        else:
            if isinstance(answer, Granted) and answer.lifetime_ms >= LIFETIME_MS_MIN:
                if relay not in self._places:
                    log.info("reached through relay %s", relay)
                lifetime_ms = min(answer.lifetime_ms, LIFETIME_MS_MAX)
                self._places[relay] = HeldPlace(
                    relay=relay,
                    address=circuit_address(address, self._network.peer_id),
                    until_ms=now_ms + lifetime_ms,
                    renew_at_ms=now_ms + lifetime_ms // 2,
                    bytes_per_s=answer.bytes_per_s,
                )
                return
            wait_ms = REFUSED_FOR_MS  # a relay that grants nothing is none
        self._not_before_ms[relay] = now_ms + wait_ms
        self._places.pop(relay, None)

    def _on_peer(self, event: PeerEvent) -> None:
        if event.up:
            self._not_before_ms.pop(event.peer, None)
            self._changed.unpark_all()
        else:
            self._asked.discard(event.peer)
            self._places.pop(event.peer, None)
            self._settle(event.peer)

    # -- circuits

    async def _link(self, relay: PeerId, address: str) -> PeerInfo:
        """A link to a relay, dialled if need be and then kept while there is room."""
        if info := self._find(relay):
            return info
        if not address:
            raise PeerUnreachable(f"relay {relay} is not linked")
        surplus = self._surplus(relay)
        self._dialling[relay] += 1
        try:
            if surplus is not None:
                self._dialled.discard(surplus)
                await self._let_go(surplus)
            await self._network.connect(address, hint=HINT)
            self._dialled.add(relay)
        except PrsmError as error:
            raise PeerUnreachable(f"relay {relay} cannot be reached: {error.what}") from error
        finally:
            self._dialling[relay] -= 1
            if not self._dialling[relay]:
                del self._dialling[relay]
            self._settle(relay)
        if info := self._find(relay):
            return info
        raise PeerUnreachable(f"relay {relay} went away at once")

    def _settle(self, relay: PeerId) -> None:
        """Let go of a relay that is lost: who wants its circuits again dials it again.

        While it is dialled that is left to the dial: what was lost is another link.
        """
        is_kept = relay in self._dialling or self._find(relay)
        if relay in self._dialled and not is_kept and self._nursery is not None:
            self._dialled.discard(relay)
            self._nursery.start_soon(self._let_go, relay)

    def _surplus(self, relay: PeerId) -> PeerId | None:
        """The relay that gives way to another one, if one has to; it carries nothing.

        Raises:
            PeerUnreachable: all are in use.
        """
        counted = self._dialled | self._dialling.keys()
        if relay in counted or len(counted) < RELAYS_DIALLED_MAX:
            return None
        for known in sorted(self._dialled - self._places.keys()):
            if self._find(known) and not self._circuits.of(known):
                return known
        raise PeerUnreachable(f"relay {relay} is not linked, {RELAYS_DIALLED_MAX} others are used")

    async def _let_go(self, relay: PeerId) -> None:
        with trio.CancelScope(shield=True):  # or nobody would ever do it
            await self._network.disconnect(relay, hint=HINT)

    def _find(self, peer: PeerId) -> PeerInfo | None:
        return next((info for info in self._network.peers() if info.peer == peer), None)

    async def _on_take(self, incoming: Incoming) -> Answer:
        take = incoming.message
        assert isinstance(take, TakeCircuit)
        await trio.lowlevel.checkpoint()
        place = self._places.get(incoming.peer)
        if incoming.peer not in self._asked:
            raise CircuitAbused("a circuit nobody asked for", peer=incoming.peer, penalty=5)
        if place is None or self._nursery is None:
            # The relay's word is on its way, or it was not heard in time: no fault of the relay.
            raise PeerUnreachable("no place is held now")
        if self._circuits.of(incoming.peer) >= CIRCUITS_TAKEN_MAX:
            raise Busy(f"{CIRCUITS_TAKEN_MAX} circuits through one relay", retry_after_ms=1000)
        hop = self._circuits.take(incoming.peer, take.circuit)
        self._watch(hop)
        self._nursery.start_soon(self._welcome, hop, place, PeerId(take.peer))
        return Granted(lifetime_ms=take.lifetime_ms, bytes_per_s=take.bytes_per_s), b""

    async def _welcome(self, hop: Hop, place: HeldPlace, said: PeerId) -> None:
        """Serve what arrives over a circuit; who it is, it has to prove."""
        relay = place.address.partition("/p2p-circuit")[0]
        try:
            with trio.fail_after(UPGRADE_DEADLINE_S):
                proved = await self._carrier.carry_in(hop, relay)
        except (trio.TooSlowError, PeerUnreachable) as error:
            log.info("a circuit through %s came to nothing: %s", hop.peer, error)
            await hop.close("no handshake")
            return
        if proved != said:
            await hop.close("the relay named another peer")
            self._network.penalise(
                hop.peer,
                RelayLied(f"the relay said {said}, it was {proved}", peer=hop.peer, penalty=50),
            )

    def _watch(self, hop: Hop) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._forget, hop)

    async def _forget(self, hop: Hop) -> None:
        await hop.over.wait()
        self._circuits.forget(hop)
